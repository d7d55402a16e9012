// What was drawn: a strip of small pictures, kept in this browser.

import { element, find } from "./dom.js";
import { parseSeed } from "./state.js";

const KEY = "pahi-history";
const MOST = 24;
const SIDE = 96; // pixels of a small picture
const REST = 1200; // milliseconds: what was shown so long is worth keeping

export class History {
  constructor(state) {
    this.state = state;
    this.entries = read();
    this.place = 0; // of the entry that the page shows
    find("#forget").addEventListener("click", () => this.#keep([]));
    this.#show();
  }

  /** Keep a drawing, if nothing else is drawn within a moment. */
  add(drawn) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#add(drawn), REST);
  }

  /** Go back (1) or forth (-1). */
  step(by) {
    if (this.entries.length > 0) this.#restore(Math.min(Math.max(this.place + by, 0), this.entries.length - 1));
  }

  async #add({ request, pictures }) {
    const { model, prompt, seed, count, steps, prior, prior_strengths: strengths } = request;
    const best = pictures.at(strengths.length - 1); // the first seed at the full strength
    const entry = { model, prompt, seed: String(seed), count, steps, prior, strength: strengths.at(-1), picture: await shrink(best.blob) };
    // One that was brought back stays where it is: from there the arrow keys go on.
    if (!isSame(this.entries[this.place], entry)) this.place = 0;
    const others = this.entries.filter((other) => !isSame(other, entry));
    this.#keep(others.toSpliced(this.place, 0, entry).slice(0, MOST));
  }

  #keep(entries) {
    this.entries = entries;
    try {
      localStorage.setItem(KEY, JSON.stringify(entries));
    } catch {
      // no room, or not allowed: it lasts as long as the page
    }
    this.#show();
  }

  #show() {
    const items = this.entries.map((entry, place) => {
      const small = element("img", { src: entry.picture, alt: `${entry.prompt}, seed ${entry.seed}`, width: SIDE, height: SIDE });
      const button = element("button", { type: "button", title: `${entry.prompt}, seed ${entry.seed}` }, small);
      button.addEventListener("click", () => this.#restore(place));
      return element("li", {}, button);
    });
    find("#strip").replaceChildren(...items);
    find("#history").hidden = items.length === 0;
  }

  #restore(place) {
    clearTimeout(this.timer); // what was drawn last is not what is there
    this.place = place;
    const { model, prompt, seed, count, steps, prior, strength } = this.entries[place];
    const known = this.state.models.find(({ name }) => name === model) ?? this.state.model;
    this.state.set({ model: known, prompt, seed: parseSeed(seed) ?? 0n, count, steps, prior, strength });
  }
}

const isSame = (one, other) => ["model", "prompt", "seed", "steps", "prior"].every((key) => one?.[key] === other[key]);

function read() {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY)) ?? [];
    return entries.filter(({ picture }) => picture.startsWith("data:image/"));
  } catch {
    return [];
  }
}

async function shrink(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = element("canvas", { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const side = Math.min(bitmap.width, bitmap.height);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  return canvas.toDataURL("image/webp", 0.85);
}
