// The files of a site: downloaded with progress, unpacked, and checked against the site's list.

import { Problem } from "../problem.js";

const GZIP = [0x1f, 0x8b];
const KEPT = 256 * 1024 * 1024; // bytes of a file that is kept, for the next graph that needs it

export class Files {
  /** `list` is file -> {size, sha256} as downloaded. `locate` gives a file's URL. `onProgress` is told {loaded, total}. */
  constructor(list, locate, onProgress = () => {}) {
    this.list = list;
    this.locate = locate;
    this.onProgress = onProgress;
    this.loaded = 0;
    this.total = 0;
    this.kept = new Map();
  }

  /** Download all of them at the same time: their unpacked bytes. Throws a Problem. */
  async read(names) {
    const missing = names.filter((name) => !this.kept.has(name));
    this.total += missing.reduce((size, name) => size + this.list[name].size, 0);
    return Promise.all(names.map((name) => this.#readOne(name)));
  }

  async readJson(name) {
    const [bytes] = await this.read([name]);
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  #readOne(name) {
    const known = this.kept.get(name);
    if (known) return known;
    const reading = this.#download(name);
    if (this.list[name].size <= KEPT) this.kept.set(name, reading);
    reading.catch(() => this.kept.delete(name));
    return reading;
  }

  async #download(name) {
    const { size, sha256 } = this.list[name];
    const bytes = await this.#fetch(name);
    const packed = bytes[0] === GZIP[0] && bytes[1] === GZIP[1];
    // A server that knows what .gz means has had it unpacked by the browser; then the size differs.
    if (bytes.length === size) await check(bytes, sha256, name);
    else if (packed || !name.endsWith(".gz")) throw damaged(name);
    return packed && name.endsWith(".gz") ? gunzip(bytes) : bytes;
  }

  async #fetch(name) {
    const held = globalThis.pahiHeld?.contents[name]; // in a page of one file
    if (held) return held;
    const chunks = [];
    let length = 0;
    try {
      const response = await fetch(this.locate(name));
      if (!response.ok) throw new Error(`the server says ${response.status}`);
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        chunks.push(value);
        length += value.length;
        this.loaded += value.length;
        this.onProgress({ loaded: Math.min(this.loaded, this.total), total: this.total });
      }
    } catch (error) {
      throw new Problem(502, `${name} cannot be downloaded`, "check the connection, then reload the page", error.message);
    }
    const bytes = new Uint8Array(length);
    chunks.reduce((place, chunk) => (bytes.set(chunk, place), place + chunk.length), 0);
    return bytes;
  }
}

async function check(bytes, sha256, name) {
  if (!globalThis.crypto?.subtle) return; // a page from http:// has none
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw damaged(name);
}

function damaged(name) {
  return new Problem(502, `${name} is not the file that this page was built with`, "reload the page; if it stays, build the site again");
}

async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
