// A server and the way to it, played for the page's modules in Node. Timers end at once.

export const server = { wanted: null, models: [{ id: "emoji" }] }; // the key that it wants, and what it draws with
export const sockets = [];
export const events = [];
export const kept = new Map(); // what the page keeps in its tab

class Socket extends EventTarget {
  static OPEN = 1;
  constructor(address, protocols) {
    super();
    Object.assign(this, { address: String(address), protocols, readyState: 0, sent: [] });
    sockets.push(this);
  }
  send(text) {
    this.sent.push(text);
  }
  open() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }
  close() {
    this.readyState = 3;
    this.dispatchEvent(new Event("close"));
  }
  say(message) {
    this.#bring(JSON.stringify(message));
  }
  /** Bring pictures of one byte. */
  give(count) {
    for (let picture = 0; picture < count; picture++) this.#bring(new ArrayBuffer(1));
  }
  #bring(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }
}

Object.assign(globalThis, {
  WebSocket: Socket,
  document: { baseURI: "http://localhost/" },
  location: { reload: () => events.push("reload") },
  sessionStorage: { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) },
  fetch: async (address, { headers }) => {
    const isOpen = server.wanted === null || headers.Authorization === `Bearer ${server.wanted}`;
    events.push(`${new URL(address).pathname} ${headers.Authorization ?? "no key"}`);
    return { ok: isOpen, status: isOpen ? 200 : 401, json: async () => ({ data: server.models }) };
  },
});
globalThis.setTimeout = ((real) => (work) => real(work, 1))(setTimeout);

/** When the page has done what it does next. */
export const soon = () => new Promise((resolve) => setTimeout(() => setTimeout(() => setTimeout(resolve))));
