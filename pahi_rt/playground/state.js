// What the page draws, and its address: everything that decides the pictures is in the part after "#".

const LIMIT = 1n << 64n;
const MOST_PICTURES = 16; // of a request, as in pahi_rt/serve/limits.py
const LONGEST_PROMPT = 2000; // as in index.html; an address may hold more
export const GAUSSIAN = "gaussian";
const FIRST = { prompt: "a grinning cat", seed: 7n, count: 1, steps: 1, strength: 1 };

/** The choices of the page. Listeners of "change" are told of every change. */
export class State extends EventTarget {
  /** `models` are those of the backend; `address` is the part of the address after "#". */
  constructor(models, address, isNarrow) {
    super();
    Object.assign(this, { models, isNarrow });
    this.read(address);
  }

  /** Choose what an address says; what it leaves out is as on a new page, so that a link brings the same everywhere. */
  read(address) {
    const fields = new URLSearchParams(address);
    const model = this.models.find(({ name }) => name === fields.get("model")) ?? this.models[0];
    this.set({ ...FIRST, model, prior: model.default_prior, isCompared: !this.isNarrow, ...choices(fields) });
  }

  /** Change some of the choices. What the model cannot do is replaced by what it can. */
  set(change) {
    Object.assign(this, change);
    this.#fit();
    this.dispatchEvent(new Event("change"));
  }

  get hasPrior() {
    return this.prior !== GAUSSIAN;
  }

  /** The prior strengths that every seed is drawn with. */
  get strengths() {
    if (!this.hasPrior) return [0];
    return this.isCompared ? [0, this.strength] : [this.strength];
  }

  /** The most that `count` can be: each seed makes a picture of every strength. */
  get mostSeeds() {
    return Math.floor(MOST_PICTURES / this.strengths.length);
  }

  /** A request for the backend, without its id. */
  request() {
    const { prompt, seed, count, steps, prior } = this;
    return { model: this.model.name, prompt, seed, count, steps, prior, prior_strengths: this.strengths, format: "png" };
  }

  /** The part of the address after "#", from which the same pictures come. */
  toAddress() {
    const { prompt, seed, count, steps, prior, strength, isCompared } = this;
    const fields = { prompt, seed, count, steps, prior, strength, compare: isCompared ? 1 : 0 };
    if (this.models.length > 1) fields.model = this.model.name;
    return new URLSearchParams(Object.entries(fields).map(([key, value]) => [key, String(value)])).toString();
  }

  #fit() {
    const { steps, priors, default_prior } = this.model;
    this.prompt = this.prompt.slice(0, LONGEST_PROMPT).toWellFormed(); // JSON holds no half of a character
    if (!steps.includes(this.steps)) this.steps = steps[0];
    if (![...priors, GAUSSIAN].includes(this.prior)) this.prior = default_prior;
    this.count = Math.round(clamp(this.count, 1, this.mostSeeds));
    this.strength = clamp(this.strength, 0, 1);
    const last = LIMIT - BigInt(this.count);
    if (this.seed > last) this.seed = last;
  }
}

/** The choices that are in an address, whether or not the model has them. */
function choices(fields) {
  const found = {};
  for (const key of ["prompt", "prior"]) if (fields.has(key)) found[key] = fields.get(key);
  for (const key of ["count", "steps", "strength"]) {
    if (fields.has(key) && Number.isFinite(Number(fields.get(key)))) found[key] = Number(fields.get(key));
  }
  if (fields.has("compare")) found.isCompared = fields.get("compare") === "1";
  const seed = parseSeed(fields.get("seed"));
  return seed === null ? found : { ...found, seed };
}

/** A seed of 0 .. 2^64 - 1 as a BigInt; null for any other text. */
export function parseSeed(text) {
  if (!/^\d{1,20}$/.test(text ?? "")) return null;
  const seed = BigInt(text);
  return seed < LIMIT ? seed : null;
}

/** A seed that is short enough to be told. */
export function rollSeed() {
  return BigInt(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
}

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
