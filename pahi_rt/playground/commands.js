// The same pictures from elsewhere: as a command line, with curl, in Python.

import { GAUSSIAN } from "./state.js";

const DEFAULT_BUNDLE = "emoji";

export const WAYS = [
  { id: "shell", label: "Command line", write: commandLine },
  { id: "curl", label: "curl", write: curl },
  { id: "python", label: "Python", write: python },
];

/** `isUnknown`: the prompt has words that the model does not know, which `generate` would replace. */
function commandLine(state, server, isUnknown) {
  const isOption = state.prompt.startsWith("-");
  const words = ["pahi-rt", "generate", ...(isOption ? [] : [quote(state.prompt)]), "--seed", state.seed];
  if (state.count > 1) words.push("-n", state.count);
  if (state.steps > 1) words.push("--steps", state.steps);
  if (state.prior !== state.model.default_prior) words.push("--prior", state.prior);
  if (state.hasPrior && state.strength < 1) words.push("--prior-strength", state.strength);
  if (state.model.name !== DEFAULT_BUNDLE) words.push("--bundle", quote(state.model.name));
  if (isUnknown) words.push("--literal");
  if (isOption) words.push("--", quote(state.prompt));
  return words.join(" ");
}

/** `server` is where `pahi-rt serve` listens; `hasKey`, whether it wants an API key, which is not shown. */
function curl(state, server, isUnknown, hasKey) {
  const { prompt, count, steps, prior } = state;
  const body = { model: state.model.name, prompt, count, steps, prior };
  if (state.hasPrior) body.prior_strength = state.strength;
  const text = JSON.stringify(body).replace(/}$/, `,"seed":${state.seed}}`); // as a number, however large
  const file = `${slug(prompt)}-${state.seed}${count > 1 ? ".json" : ".png"}`;
  const key = hasKey ? ['"Authorization: Bearer $PAHI_KEY"'] : [];
  // curl's --json would accept JSON alone, so that a picture came as JSON.
  const headers = ['"Content-Type: application/json"', ...key].map((header) => `  --header ${header} \\`);
  return [`curl ${server}/v1/pictures \\`, ...headers, `  --data ${quote(text)} \\`, `  --output ${file}`].join("\n");
}

function python(state) {
  const options = [];
  if (state.steps > 1) options.push(`steps=${state.steps}`);
  if (state.prior !== state.model.default_prior) options.push(`prior=${JSON.stringify(state.prior)}`);
  const call = [literal(state.prompt), `seed=${state.seed}`];
  if (state.count > 1) call.push(`count=${state.count}`);
  if (state.hasPrior && state.strength < 1) call.push(`prior_strength=${state.strength}`);
  return [
    "from pahi_rt import Pipeline",
    "",
    `pipeline = Pipeline.load(${[literal(state.model.name), ...options].join(", ")})`,
    `${state.count > 1 ? "images" : "image"} = pipeline(${call.join(", ")})`,
  ].join("\n");
}

/** The text chunks of a PNG, by which `pahi-rt generate --like FILE` draws it again (pahi_rt/drawing.py). */
export function drawingText(state, { seed, strength }, version) {
  const texts = {
    prompt: state.prompt,
    seed: String(seed),
    count: "1",
    steps: String(state.steps),
    bundle: state.model.name,
    "bundle-sha256": state.model.sha256,
    "pahi-rt": version,
  };
  if (state.prior === GAUSSIAN) return texts;
  return { ...texts, prior: state.prior, "prior-strength": String(strength) };
}

/** A file name for a prompt, without its ending, as pahi_rt/files.py makes it. */
export function slug(prompt) {
  const words = (prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join("-");
  return Array.from(words).slice(0, 48).join("").replace(/^-+|-+$/g, "") || "picture";
}

/** Quoted for a shell. */
const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

/** A string of Python: JSON's escapes are Python's too, except for pairs of surrogates, which it leaves alone. */
const literal = (text) => JSON.stringify(text);
