// The page's way to a server, with a server that this script plays: server.mjs FOLDER; JSON out.

import { answer, load } from "./input.mjs";

const KEY = "0123456789-key??>>";
let wanted = null; // the key that the server wants
let models = [{ id: "emoji" }];
const sockets = [];
const events = [];
const kept = new Map();

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
    this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) }));
  }
}

Object.assign(globalThis, {
  WebSocket: Socket,
  document: { baseURI: "http://localhost/" },
  location: { reload: () => events.push("reload") },
  sessionStorage: { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) },
  fetch: async (address, { headers }) => {
    const isOpen = wanted === null || headers.Authorization === `Bearer ${wanted}`;
    events.push(`${new URL(address).pathname} ${headers.Authorization ?? "no key"}`);
    return { ok: isOpen, status: isOpen ? 200 : 401, json: async () => ({ data: models }) };
  },
});
globalThis.setTimeout = ((real) => (work) => real(work, 1))(setTimeout);
const soon = () => new Promise((resolve) => setTimeout(() => setTimeout(() => setTimeout(resolve))));

const { open } = await load("server.js");

wanted = KEY;
const gives = [" wrong", KEY];
const backend = await open(({ locked, lost }) => {
  if (lost) events.push("lost");
  if (!locked) return;
  events.push(locked.isWrong ? "wrong" : "asked");
  locked.give(gives.shift());
});
await Promise.all([backend.vocabulary({ name: "a/b", vocabulary: true }), backend.vocabulary({ name: "c", vocabulary: true })]);
const first = { events: events.splice(0), kept: kept.get("pahi-key"), protocols: sockets.at(-1).protocols, hasKey: backend.hasKey };

const refused = backend.draw({ id: 1, prompt: "a cat", seed: 7n }, () => {}).catch((problem) => ({ ...problem.toJSON() }));
sockets.at(-1).open();
sockets.at(-1).say({ id: 1, error: { status: 400, title: "Bad Request", detail: "the prompt is empty", fix: "write" } });
const problem = await refused;

wanted = "another-key-after-a-restart"; // the same models: it only connects again
gives.push(wanted, wanted);
sockets.at(-1).close();
await soon();
const again = { events: events.splice(0), sockets: sockets.length };

models = [{ id: "another" }];
sockets.at(-1).close();
await soon();
answer({ first, problem, again, changed: { events: events.splice(0), sockets: sockets.length } });
