// What the model knows, by category, to click on.

import { element, find } from "./dom.js";

export async function wireGallery(state, backend) {
  let shown = null;
  const show = async () => {
    const { model } = state;
    if (shown === model) return;
    shown = model;
    const vocabulary = await backend.vocabulary(model).catch(() => null);
    if (shown !== model) return; // another one was chosen meanwhile
    find("#gallery").hidden = !vocabulary;
    if (vocabulary) new Gallery(state, vocabulary);
  };
  state.addEventListener("change", show);
  await show();
}

class Gallery {
  constructor(state, { concepts }) {
    Object.assign(this, { state, concepts });
    this.category = concepts[0]?.category;
    this.search = find("#search");
    this.search.value = "";
    this.search.oninput = () => this.#show();
    find("#known").textContent = concepts.length;
    this.#fillCategories();
    this.#show();
  }

  #fillCategories() {
    const categories = [...new Set(this.concepts.map(({ category }) => category))];
    const buttons = categories.map((category) => {
      const input = element("input", { type: "radio", name: "category", value: category, checked: category === this.category });
      input.addEventListener("change", () => ((this.category = category), (this.search.value = ""), this.#show()));
      return element("label", {}, input, element("span", {}, category));
    });
    find("#categories").replaceChildren(...buttons);
  }

  #show() {
    const wanted = this.search.value.trim().toLowerCase();
    const matches = ({ label, synonyms = [], emoji }) => [label, emoji, ...synonyms].some((name) => name.includes(wanted));
    const found = this.concepts.filter((concept) => (wanted ? matches(concept) : concept.category === this.category));
    const chips = found.map(({ emoji, label }) => {
      const face = element("span", { className: "emoji", "aria-hidden": "true" }, emoji);
      const chip = element("button", { type: "button" }, face, label);
      chip.addEventListener("click", () => this.state.set({ prompt: label }));
      return element("li", {}, chip);
    });
    find("#concepts").replaceChildren(...chips);
    find("#nothing").hidden = found.length > 0;
  }
}
