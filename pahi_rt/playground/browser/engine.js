// What runs the graph: ONNX Runtime on WebGPU where that is there and draws right, else on WebAssembly.

import { Problem } from "../problem.js";

const MOST_THREADS = 4;
const ERRORS = 3; // the level from which a session tells what it does
const WITHIN = 2; // levels of 255 that a picture may differ from Python's

/** Open ONNX Runtime: `name` is "wasm" or "webgpu". `locate` gives a file's URL. */
export async function openEngine(name, site, files, locate) {
  const { module, binary } = site.engines[name];
  const [bytes] = await files.read([binary]);
  const ort = await import(locate(module));
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = bytes.buffer;
  ort.env.wasm.numThreads = countThreads();
  return {
    name,
    ort,
    threads: ort.env.wasm.numThreads,
    load: (content, externalData) => load(ort, name, content, externalData),
  };
}

/** The engine to try first: `wanted`, or WebGPU where the page may use a real GPU. */
export async function chooseEngine(site, wanted) {
  if (wanted && wanted in site.engines) return wanted;
  if (!("webgpu" in site.engines) || !globalThis.navigator?.gpu) return "wasm";
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  return adapter && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter) ? "webgpu" : "wasm";
}

/** Whether the model draws the picture that Python has drawn when the site was built. */
export async function drawsRight(model) {
  const { prompt, seed, steps, prior, strength, picture } = model.site.check;
  try {
    const [expected] = await model.files.read([picture]);
    const drawn = await model.drawOne(model.tokenizer.encode(prompt), BigInt(seed), { steps, prior, strength });
    return drawn.length === expected.length && drawn.every((value, index) => Math.abs(value - expected[index]) <= WITHIN);
  } catch {
    return false; // the driver, or too little memory on the GPU
  }
}

function countThreads() {
  return globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency ?? 1, MOST_THREADS) : 1;
}

async function load(ort, name, content, externalData) {
  try {
    return await ort.InferenceSession.create(content, { executionProviders: [name], externalData, logSeverityLevel: ERRORS });
  } catch (error) {
    throw new Problem(500, "the model cannot be loaded", "close other tabs to free memory, then reload the page", error.message);
  }
}
