// The panel: seed, prior, strength, steps and the number of pictures.

import { element, find } from "./dom.js";
import { GAUSSIAN, parseSeed, rollSeed } from "./state.js";

const NAMES = { pahi: "PAHI", hi: "HI", gaussian: "Gaussian" };

export function wireControls(state) {
  wireSeed(state);
  wireChoices(state);
  wireSlider("#strength", state, "strength", () => 1, (value) => `${Math.round(100 * value)} %`);
  wireSlider("#count", state, "count", () => state.mostSeeds, String);
  const compare = find("#compare");
  compare.addEventListener("change", () => state.set({ isCompared: compare.checked }));
  const show = () => {
    compare.checked = state.isCompared;
    for (const row of document.querySelectorAll("[data-needs-prior]")) row.hidden = !state.hasPrior;
  };
  state.addEventListener("change", show);
  show();
}

function wireSeed(state) {
  const field = find("#seed");
  field.addEventListener("input", () => {
    const seed = parseSeed(field.value.trim());
    field.setAttribute("aria-invalid", seed === null);
    if (seed !== null) state.set({ seed });
  });
  const show = () => {
    if (parseSeed(field.value.trim()) === state.seed) return;
    field.value = state.seed;
    field.setAttribute("aria-invalid", false);
  };
  field.addEventListener("blur", () => ((field.value = state.seed), field.setAttribute("aria-invalid", false)));
  find("#dice").addEventListener("click", () => state.set({ seed: rollSeed() }));
  state.addEventListener("change", show);
  show();
}

function wireChoices(state) {
  let shown = null;
  const show = () => {
    if (shown !== state.model) {
      shown = state.model;
      const priors = [...new Set([...shown.priors, GAUSSIAN])];
      fill("#priors", "prior", priors, (prior) => NAMES[prior] ?? prior, (prior) => state.set({ prior }));
      fill("#steps", "steps", shown.steps, String, (steps) => state.set({ steps }));
      find("#priors").hidden = priors.length < 2;
    }
    check("#priors", state.prior);
    check("#steps", state.steps);
  };
  state.addEventListener("change", show);
  show();
}

/** Radio buttons side by side. */
function fill(place, name, values, write, onChoice) {
  const choices = values.map((value) => {
    const input = element("input", { type: "radio", name, value: String(value) });
    input.addEventListener("change", () => onChoice(value));
    return element("label", {}, input, element("span", {}, write(value)));
  });
  find(`${place} .segments`).replaceChildren(...choices);
}

function check(place, value) {
  for (const input of document.querySelectorAll(`${place} input`)) input.checked = input.value === String(value);
}

/** `most` says how far it goes, and `write` what a value is called. */
function wireSlider(place, state, key, most, write) {
  const slider = find(place);
  const output = find(`${place}-value`);
  slider.addEventListener("input", () => state.set({ [key]: Number(slider.value) }));
  const show = () => {
    slider.max = most(); // before the value, which it limits
    slider.value = state[key];
    output.textContent = write(state[key]);
    slider.setAttribute("aria-valuetext", write(state[key]));
    slider.style.setProperty("--filled", (slider.value - slider.min) / (slider.max - slider.min));
  };
  state.addEventListener("change", show);
  show();
}
