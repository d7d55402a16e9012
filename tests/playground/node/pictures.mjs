import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { FOLDER, answer, disk, input, load } from "./input.mjs";

const { Model } = await load("browser/model.js");
const { drawsRight, openEngine } = await load("browser/engine.js");

const site = await disk.readJson("site.json");
const locate = (name) => pathToFileURL(join(FOLDER, name)).href;
const started = performance.now();
const model = await Model.open(site, disk, await openEngine("wasm", site, disk, locate));
await model.session(input.requests[0].steps, input.requests[0].prior);
const load_ms = performance.now() - started;

const pictures = [];
const run_ms = [];
for (const request of input.requests) {
  const ids = model.tokenizer.encode(request.prompt);
  for (const { seed, strength } of model.plan({ ...request, seed: BigInt(request.seed) })) {
    const begun = performance.now();
    const rgb = await model.drawOne(ids, seed, { ...request, strength });
    run_ms.push(performance.now() - begun);
    pictures.push({ seed, strength, rgb: Buffer.from(rgb).toString("base64") });
  }
}
answer({ pictures, load_ms, run_ms, draws_right: await drawsRight(model) });
