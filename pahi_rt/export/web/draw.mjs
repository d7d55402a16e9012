// Draws pictures with a site's modules in Node.js: draw.mjs SITE, where SITE also holds a package.json of modules.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

const MOST = 6; // pictures, of which the first does not count
const LONGEST = 5000; // milliseconds after which no further one is begun

const locate = (name) => pathToFileURL(join(process.argv[2], name)).href;
const { Model } = await import(locate("browser/model.js"));
const { openEngine } = await import(locate("browser/engine.js"));

/** The site's files as browser/files.js has them. */
const disk = {
  async read(names) {
    return names.map((name) => {
      const content = readFileSync(join(process.argv[2], name));
      return new Uint8Array(name.endsWith(".gz") ? gunzipSync(content) : content);
    });
  },
  async readJson(name) {
    return JSON.parse(new TextDecoder().decode((await this.read([name]))[0]));
  },
};

const site = await disk.readJson("site.json");
const { prompt, seed, ...request } = site.check;
const begun = performance.now();
const model = await Model.open(site, disk, await openEngine("wasm", site, disk, locate));
await model.session(request.steps, request.prior);
const load_ms = performance.now() - begun;

const ids = model.tokenizer.encode(prompt);
const run_ms = [];
const started = performance.now();
while (run_ms.length < 2 || (run_ms.length < MOST && performance.now() - started < LONGEST)) {
  const before = performance.now();
  await model.drawOne(ids, BigInt(seed), request);
  run_ms.push(performance.now() - before);
}
console.log(JSON.stringify({ load_ms, run_ms, node: process.versions.node }));
