// The backend of a site without a server: a Worker draws, with the files that lie beside this page.

import { Problem, Superseded } from "../problem.js";

/** Open the backend. `onState` is told of {progress}, {ready} and {failed}. Throws a Problem. */
export async function open(onState) {
  const base = document.baseURI;
  const held = globalThis.pahiHeld; // in a page of one file
  const site = await readJson("site.json", base);
  const worker = held?.startWorker() ?? new Worker(new URL("browser/worker.js", base), { type: "module" });
  const backend = new Local(site, worker, base, onState);
  worker.postMessage({ open: { site, base, engine: new URLSearchParams(location.search).get("engine") } });
  return backend;
}

class Local {
  constructor(site, worker, base, onState) {
    Object.assign(this, { site, worker, base, onState });
    this.models = [site.model];
    this.version = site.version;
    this.needsServer = false;
    this.waiting = new Map();
    worker.addEventListener("message", ({ data }) => this.#receive(data));
    worker.addEventListener("error", () => this.#fail({ title: "the Worker cannot start", fix: "use a newer browser" }));
  }

  /** Draw: `onPicture(picture, index)` gets each, then this resolves to the reply. Rejects with Superseded or a Problem. */
  draw(request, onPicture) {
    return new Promise((resolve, reject) => {
      this.waiting.set(request.id, { resolve, reject, onPicture });
      this.worker.postMessage({ draw: request });
    });
  }

  abort() {
    this.worker.postMessage({ abort: true });
    for (const { reject } of this.waiting.values()) reject(new Superseded());
    this.waiting.clear();
  }

  /** The content of the bundle's vocabulary.json; null if it has none. */
  async vocabulary() {
    return this.site.vocabulary ? readJson(this.site.vocabulary, this.base) : null;
  }

  #receive({ id, picture, index, reply, error, superseded, ...state }) {
    if (picture) this.waiting.get(id)?.onPicture({ ...picture, blob: new Blob([picture.png], { type: "image/png" }) }, index);
    else if (reply) this.#settle(id)?.resolve(reply);
    else if (error) this.#settle(id)?.reject(Problem.from(error));
    else if (superseded !== undefined) this.#settle(superseded)?.reject(new Superseded());
    else if (state.failed) this.#fail(state.failed);
    else this.onState(state);
  }

  #settle(id) {
    const request = this.waiting.get(id);
    this.waiting.delete(id);
    return request;
  }

  #fail(failed) {
    this.onState({ failed: Problem.from(failed) });
    for (const id of [...this.waiting.keys()]) this.#settle(id).reject(Problem.from(failed));
  }
}

/** The JSON in a file of the site, packed or not. Throws a Problem. */
async function readJson(name, base) {
  try {
    const bytes = globalThis.pahiHeld?.contents[name] ?? (await download(new URL(name, base)));
    const isPacked = bytes[0] === 0x1f;
    const stream = new Blob([bytes]).stream();
    return await new Response(isPacked ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).json();
  } catch (error) {
    throw new Problem(502, `${name} cannot be read`, "check the connection, then reload the page", error.message);
  }
}

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
