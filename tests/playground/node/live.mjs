// What the page makes of a WebSocket that closes: live.mjs FOLDER; JSON out.

import { answer, load } from "./input.mjs";
import { server, sockets, soon } from "./network.mjs";

const { Artist } = await load("artist.js");
const { State } = await load("state.js");
const { open } = await load("server.js");

server.models = [{ name: "emoji", steps: [1], priors: ["pahi"], default_prior: "pahi" }];
const told = [];
const backend = await open((news) => told.push(news));
const state = new State(backend.models, "seed=7&count=2&compare=1", false);
const shown = [];
const stage = { begin() {}, show: (id, request, { seed }, index) => shown.push([index, seed]), finish: async () => {} };
const drawn = new Promise((resolve) => new Artist(backend, state, stage, resolve).now());

/** Open the newest socket, and bring as many of the four pictures. */
function bring(pictures) {
  const socket = sockets.at(-1);
  socket.open();
  socket.say({ id: 1, pictures: Array(4).fill({ width: 1, height: 1, type: "image/png" }) });
  socket.give(pictures);
}

bring(3);
sockets.at(-1).close();
await soon();
bring(4);
const { pictures } = await drawn;

told.length = 0;
for (let attempt = 0; attempt < 6; attempt++) {
  sockets.at(-1).close();
  await soon();
}
const closed = told.splice(0);
sockets.at(-1).open();
answer({ shown, pictures: pictures.map(({ seed, strength }) => [seed, strength]), closed, opened: told });
