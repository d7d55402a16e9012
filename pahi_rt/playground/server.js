// The backend of `pahi-rt serve`: a WebSocket, on which a newer request takes the place of the one before.

import { Door } from "./door.js";
import { Problem, Superseded } from "./problem.js";

const PATIENCE = [250, 500, 1000, 2000, 5000]; // milliseconds until the connection is tried again
const TRIES = 3; // sockets in a row that do not open, before the page says so
const NOT_OPEN = new Problem(
  502,
  "the server answers, but its WebSocket does not open",
  "let the proxy in between pass WebSockets on, as deploy/nginx.conf does",
);

/** Open the backend. `onState` is told of {ready}, {lost}, {failed}, and {locked} where a key is needed. Throws a Problem. */
export async function open(onState) {
  const door = new Door((locked) => onState({ locked }));
  return new Server(door, await listModels(door), onState);
}

async function listModels(door) {
  return (await door.get("v1/models")).data.map((model) => ({ ...model, name: model.name ?? model.id }));
}

class Server {
  constructor(door, models, onState) {
    Object.assign(this, { door, models, onState });
    this.version = null; // its pictures say how they were drawn
    this.needsServer = true;
    this.waiting = new Map();
    this.attempt = 0;
    this.tries = 0;
    this.#connect();
  }

  /** Whether it wants an API key. */
  get hasKey() {
    return this.door.key !== null;
  }

  /** Draw: `onPicture(picture, index)` gets each, then this resolves to the reply. Rejects with Superseded or a Problem. */
  draw(request, onPicture) {
    return new Promise((resolve, reject) => {
      this.waiting.set(request.id, { request, resolve, reject, onPicture });
      if (this.socket.readyState === WebSocket.OPEN) this.#send(request);
    });
  }

  /** Forget what is waiting. The server finishes what it has begun; nobody looks at it. */
  abort() {
    for (const id of [...this.waiting.keys()]) this.#settle(id).reject(new Superseded());
  }

  /** The content of the bundle's vocabulary.json; null if it has none. */
  async vocabulary(model) {
    return model.vocabulary ? this.door.get(`v1/models/${encodeURIComponent(model.name)}/vocabulary`) : null;
  }

  /** The server has just answered over HTTP. */
  #connect() {
    this.tries++;
    const address = new URL("v1/live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address, this.door.protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("open", () => this.#opened());
    this.socket.addEventListener("close", () => this.#closed());
    this.socket.addEventListener("message", ({ data }) => (typeof data === "string" ? this.#told(JSON.parse(data)) : this.#picture(data)));
  }

  #opened() {
    this.attempt = 0;
    this.tries = 0;
    this.onState({ ready: { engine: "server" } });
    const newest = Math.max(...this.waiting.keys());
    for (const [id, { request }] of this.waiting) id === newest ? this.#send(request) : this.#settle(id).reject(new Superseded());
  }

  #closed() {
    this.reply = null;
    if (this.tries === TRIES) this.onState({ failed: NOT_OPEN });
    this.#lost();
  }

  #lost() {
    if (this.attempt === 0) this.onState({ lost: true }); // once: screen readers say it
    const wait = PATIENCE[Math.min(this.attempt++, PATIENCE.length - 1)];
    setTimeout(() => this.#connectAgain(), wait);
  }

  /** The server may have been started anew, with another key, other models or another page. */
  async #connectAgain() {
    try {
      const models = await listModels(this.door);
      if (JSON.stringify(models) === JSON.stringify(this.models)) this.#connect();
      else location.reload(); // the address holds all choices
    } catch {
      this.#lost();
    }
  }

  #send(request) {
    // As a number, however large: JSON.stringify takes no BigInt, and a double holds only 53 bits.
    const { seed, ...rest } = request;
    this.socket.send(JSON.stringify(rest).replace(/}$/, `,"seed":${seed}}`));
  }

  #told(message) {
    if (message.superseded) this.#settle(message.id)?.reject(new Superseded());
    else if (message.error) this.#settle(message.id)?.reject(Problem.from({ ...message.error, title: message.error.detail }));
    else this.reply = { ...message, received: 0 };
  }

  /** A picture's bytes: they follow their reply, in its order. */
  #picture(bytes) {
    const { reply } = this;
    const index = reply.received++;
    const { width, height, type } = reply.pictures[index];
    const waiting = this.waiting.get(reply.id);
    const picture = { width, height, blob: new Blob([bytes], { type }) };
    waiting?.onPicture({ ...this.#asked(waiting.request, index), ...picture }, index);
    if (reply.received === reply.pictures.length) this.#settle(reply.id)?.resolve(reply);
  }

  /** The seed as it was asked for, since JSON's numbers would round it: for each seed come all strengths. */
  #asked({ seed, prior_strengths: strengths }, index) {
    return { seed: seed + BigInt(Math.floor(index / strengths.length)), strength: strengths[index % strengths.length] };
  }

  #settle(id) {
    const request = this.waiting.get(id);
    this.waiting.delete(id);
    return request;
  }
}
