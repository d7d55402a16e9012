// The backend of a site without a server: a Worker draws, with the files that lie beside this page.

import { Problem, Superseded } from "../problem.js";

/** Open the backend. `onState` is told of {progress}, {ready} and {failed}. Throws a Problem. */
export async function open(onState) {
  const base = document.baseURI;
  const held = globalThis.pahiHeld; // in a page of one file
  const site = JSON.parse(new TextDecoder().decode(await read("site.json", base)));
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
    if (!this.site.vocabulary) return null;
    const bytes = await read(this.site.vocabulary, this.base);
    const isPacked = bytes[0] === 0x1f;
    const stream = new Blob([bytes]).stream();
    return new Response(isPacked ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).json();
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

async function read(name, base) {
  const held = globalThis.pahiHeld?.contents[name];
  return held ?? new Uint8Array(await (await fetch(new URL(name, base))).arrayBuffer());
}
