// The page's way to a server, with a server that this script plays: server.mjs FOLDER; JSON out.

import { answer, load } from "./input.mjs";
import { events, kept, server, sockets, soon } from "./network.mjs";

const KEY = "0123456789-key??>>";
const { open } = await load("server.js");

server.wanted = KEY;
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

server.wanted = "another-key-after-a-restart"; // the same models: it only connects again
gives.push(server.wanted, server.wanted);
sockets.at(-1).close();
await soon();
const again = { events: events.splice(0), sockets: sockets.length };

server.models = [{ id: "another" }];
sockets.at(-1).close();
await soon();
answer({ first, problem, again, changed: { events: events.splice(0), sockets: sockets.length } });
