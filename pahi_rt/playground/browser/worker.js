// The Worker: loads the model once, and draws. A new request takes the place of the one before.

import { encodePng } from "../png.js";
import { Problem } from "../problem.js";
import { chooseEngine, drawsRight, openEngine } from "./engine.js";
import { Files } from "./files.js";
import { Model } from "./model.js";

let opening = null;
let current = null; // the id of the request that is wanted
let turn = Promise.resolve(); // when the request before has ended: on WebGPU, two at once would hang

self.addEventListener("message", ({ data }) => {
  if (data.open) begin(data.open);
  if (data.abort) current = null;
  if (data.draw) {
    const arrived = performance.now();
    current = data.draw.id;
    turn = turn.then(() => draw(data.draw, arrived));
  }
});

function begin(given) {
  opening = open(given);
  opening.catch((error) => post({ failed: describe(error) }));
}

async function open({ site, base, engine }) {
  const locate = (name) => globalThis.pahiHeld?.urls[name] ?? new URL(name, base).href;
  const files = new Files(site.files, locate, (progress) => post({ progress }));
  const name = await chooseEngine(site, engine);
  const model = await load(name, site, files, locate);
  post({ ready: { engine: model.engine.name, threads: model.engine.threads, tried: name } });
  return model;
}

/** The model with the first graph loaded; on WebAssembly if the GPU draws wrong. */
async function load(name, site, files, locate) {
  const model = await Model.open(site, files, await openEngine(name, site, files, locate));
  if (name !== "wasm" && !(await drawsRight(model))) return load("wasm", site, files, locate);
  await model.session(site.check.steps, site.check.prior); // the one that the page draws with first
  return model;
}

async function draw(request, arrived) {
  const { id } = request;
  try {
    const reply = await drawAll(await opening, request, arrived, () => current === id);
    if (current !== id) return post({ superseded: id });
    current = null;
    post({ id, reply });
  } catch (error) {
    if (current !== id) return post({ superseded: id });
    current = null;
    post({ id, error: describe(error) });
  }
}

async function drawAll(model, request, arrived, isWanted) {
  await breathe();
  const timing = { queue_ms: performance.now() - arrived, tokenise_ms: 0, run_ms: 0, encode_ms: 0 };
  const ids = await timed(timing, "tokenise_ms", () => model.tokenizer.encode(request.prompt));
  const { width, height } = model.site.model;
  for (const [index, { seed, strength }] of model.plan(request).entries()) {
    if (!isWanted()) return null;
    const rgb = await timed(timing, "run_ms", () => model.drawOne(ids, seed, { ...request, strength }));
    const png = await timed(timing, "encode_ms", () => encodePng(rgb, width, height));
    post({ id: request.id, index, picture: { seed, strength, width, height, png } }, [png.buffer]);
    await breathe();
  }
  return { timing, unknown_words: model.vocabulary?.unknown(request.prompt) ?? [] };
}

async function timed(timing, stage, work) {
  const started = performance.now();
  const result = await work();
  timing[stage] += performance.now() - started;
  return result;
}

/** Let waiting messages in: a graph runs without a pause, and a newer request may have come meanwhile. */
function breathe() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => (port1.close(), resolve());
    port2.postMessage(null);
  });
}

function describe(error) {
  const problem = error instanceof Problem ? error : new Problem(500, "the picture cannot be drawn", "reload the page", String(error));
  return problem.toJSON();
}

function post(message, transfer = []) {
  self.postMessage(message, transfer);
}
