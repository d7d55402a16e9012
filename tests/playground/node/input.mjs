// What all scripts here share: JSON from standard input, the page's modules from the folder in the first argument.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export const FOLDER = process.argv[2];
export const input = JSON.parse(readFileSync(0, "utf8"));
export const load = (name) => import(pathToFileURL(join(FOLDER, name)).href);

export function answer(value) {
  process.stdout.write(JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `${item}` : item)));
}

/** A site's files as browser/files.js has them, read from the disk. */
export const disk = {
  async read(names) {
    return names.map((name) => {
      const content = readFileSync(join(FOLDER, name));
      return new Uint8Array(name.endsWith(".gz") ? gunzipSync(content) : content);
    });
  },
  async readJson(name) {
    return JSON.parse(new TextDecoder().decode((await this.read([name]))[0]));
  },
};
