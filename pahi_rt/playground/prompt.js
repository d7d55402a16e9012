// The prompt, and below it the words that the model does not know.

import { element, find } from "./dom.js";
import { rollSeed } from "./state.js";

const INSIDE = "(?<=[\\p{L}\\p{N}])(?=[\\p{L}\\p{N}])"; // a place between two letters: within a word

export function wirePrompt(state, history) {
  const field = find("#prompt");
  find(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address holds the choices, and no place of the page
    field.focus();
  });
  field.addEventListener("input", () => state.set({ prompt: field.value.replace(/\s*\n\s*/g, " ") }));
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault();
      state.set({ seed: rollSeed() });
    }
    const isAtEdge = field.selectionStart === field.selectionEnd && !field.value.includes("\n");
    if ((event.key === "ArrowUp" || event.key === "ArrowDown") && isAtEdge && event.altKey) {
      event.preventDefault();
      history.step(event.key === "ArrowUp" ? 1 : -1);
    }
  });
  const show = () => {
    if (field.value !== state.prompt) field.value = state.prompt;
    document.title = state.prompt ? `${state.prompt} - pahi-rt` : "pahi-rt";
  };
  state.addEventListener("change", show);
  show();
}

/** Show the words that the model does not know, each with the nearest that it knows, to click on. */
export function showUnknown(state, unknown) {
  const lines = unknown.slice(0, 3).map(({ word, nearest }) => {
    const known = nearest.map((near) => {
      const button = element("button", { type: "button", className: "word" }, near);
      button.addEventListener("click", () => mend(state, word, near));
      return button;
    });
    return element("li", {}, element("q", {}, word), ...(known.length ? known : ["(nothing like it)"]));
  });
  find("#unknown").replaceChildren(...lines);
  find("#unknown-title").hidden = lines.length === 0;
}

function mend(state, word, near) {
  state.set({ prompt: replace(state.prompt, word, near) });
  find("#prompt").focus();
}

/** `near` wherever the prompt has `word`, with the article that fits, as pahi_rt/vocabulary.py does it. */
export function replace(prompt, word, near) {
  const article = /^[aeiou]/.test(near) ? "an" : "a";
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const found = new RegExp(`(?:(?!${INSIDE})(a)n?(\\s+))?(?!${INSIDE})${escaped}(?!${INSIDE})`, "giu");
  return prompt.replace(found, (_, a, space) => (a ? a + article.slice(1) + space + near : near));
}
