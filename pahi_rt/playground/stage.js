// The pictures: one plate for each prior strength, and on it a tile for each seed.

import { element, find } from "./dom.js";

const SLOW = 250; // milliseconds after which the page says that it is drawing

export class Stage {
  /** `onPick` is told the seed of a tile that somebody picks. */
  constructor(state, onPick) {
    Object.assign(this, { state, onPick });
    this.plates = find("#plates");
    this.message = find("#message");
    this.tiles = [];
    this.layout = "";
    this.newest = 0; // the drawing whose pictures are shown
  }

  /** A drawing has begun: the pictures stay until the new ones come. */
  begin() {
    this.loading = [];
    clearTimeout(this.slow);
    this.slow = setTimeout(() => this.plates.classList.add("waiting"), SLOW);
    this.#lay();
    for (const tile of this.tiles) tile.classList.remove("fresh");
  }

  /** Show a picture of the drawing `id`, unless a newer one is shown, or the tiles are laid out for another number. */
  show(id, request, picture, index) {
    const tile = this.tiles[index];
    if (id < this.newest || request.count * request.prior_strengths.length !== this.tiles.length) return;
    const url = URL.createObjectURL(picture.blob);
    const shown = new Image();
    shown.src = url;
    shown.alt = describe(request, picture);
    const ready = shown.decode().then(
      () => id >= this.newest && this.#put(id, tile, shown, picture),
      () => {},
    );
    this.loading.push(ready);
  }

  async finish(id) {
    await Promise.all(this.loading);
    if (id < this.newest) return;
    this.#settle();
    this.message.hidden = true;
  }

  fail(problem) {
    this.#settle();
    this.say(problem.message, problem.fix, "problem");
  }

  /** Show a sentence in place of the pictures, and below it what to do. */
  say(text, fix = "", kind = "hint") {
    this.message.replaceChildren(element("strong", {}, text), ...(fix ? [element("span", {}, fix)] : []));
    this.message.className = kind;
    this.message.hidden = false;
  }

  /** Take the pictures away: those of `id` and before do not come back. */
  clear(id) {
    this.#settle();
    this.newest = id + 1;
    this.layout = "";
    this.#lay();
    this.say("An empty prompt", "Type a few words, or pick something from what it knows.");
  }

  #settle() {
    clearTimeout(this.slow);
    this.plates.classList.remove("waiting");
  }

  #put(id, tile, shown, { seed }) {
    this.newest = id;
    const old = tile.querySelector("img");
    if (old) URL.revokeObjectURL(old.src);
    tile.replaceChildren(shown, element("span", { className: "seed" }, String(seed)));
    tile.classList.add("fresh");
    tile.disabled = this.state.count === 1;
    tile.onclick = () => this.onPick(seed);
  }

  /** Lay out plates and tiles for the state, if they are not: in the order in which the pictures come. */
  #lay() {
    const { strengths, count, model, prior } = this.state;
    const layout = JSON.stringify([strengths.length, count, model.name]);
    this.plates.querySelectorAll("figcaption").forEach((caption, index) => caption.replaceChildren(...title(prior, strengths[index])));
    if (layout === this.layout) return;
    this.layout = layout;
    const tiles = strengths.map(() => Array.from({ length: count }, () => this.#tile()));
    this.tiles = tiles[0].flatMap((_, seed) => tiles.map((plate) => plate[seed]));
    this.plates.replaceChildren(...strengths.map((strength, index) => plate(title(prior, strength), tiles[index])));
    this.plates.style.setProperty("--columns", Math.ceil(Math.sqrt(count)));
    this.plates.style.setProperty("--ratio", model.width / model.height);
    this.plates.dataset.count = count === 1 ? "one" : "several";
    this.plates.dataset.plates = strengths.length;
  }

  #tile() {
    return element("button", { type: "button", className: "tile", disabled: true, title: this.state.count > 1 ? "Keep this seed" : "" });
  }
}

function plate(caption, tiles) {
  return element("figure", { className: "plate" }, element("div", { className: "tiles" }, ...tiles), element("figcaption", {}, ...caption));
}

function title(prior, strength) {
  const isGaussian = strength === 0 || strength === undefined;
  const name = isGaussian ? "Gaussian" : prior.toUpperCase();
  const share = isGaussian || strength === 1 ? "" : `, ${Math.round(100 * strength)} %`;
  return [element("b", {}, name), ` noise${share}`];
}

function describe({ prompt, prior }, { seed, strength }) {
  return `${prompt}, seed ${seed}, ${strength > 0 ? `${prior.toUpperCase()} prior at ${Math.round(100 * strength)} %` : "Gaussian noise"}`;
}
