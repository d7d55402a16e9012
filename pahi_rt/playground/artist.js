// Draws what the state says: a moment after the last change, and the latest wins.

import { Superseded } from "./problem.js";

const PAUSE = 40; // milliseconds: keys that come faster are drawn together

export class Artist {
  /** `stage` shows the pictures; `onDrawn` is told {request, pictures, reply, milliseconds} of what is complete. */
  constructor(backend, state, stage, onDrawn) {
    Object.assign(this, { backend, state, stage, onDrawn });
    this.id = 0;
    this.timer = null;
    state.addEventListener("change", () => this.#plan());
  }

  /** Draw without waiting for a pause. */
  now() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.state.prompt.trim() === "") {
      this.id++;
      this.backend.abort();
      this.stage.clear();
    } else {
      this.#draw(++this.id, this.state.request());
    }
  }

  /** The model is ready: the time until then is not this drawing's. */
  restart() {
    this.started = performance.now();
  }

  #plan() {
    const key = JSON.stringify(this.state.request(), (_, value) => (typeof value === "bigint" ? `${value}` : value));
    if (key === this.key) return;
    this.key = key;
    this.since ??= performance.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), PAUSE);
  }

  async #draw(id, request) {
    this.started = this.since ?? performance.now();
    this.since = null;
    const pictures = [];
    this.stage.begin(id);
    try {
      const reply = await this.backend.draw({ ...request, id }, (picture) => {
        pictures.push(picture);
        if (id === this.id) this.stage.show(id, request, picture, pictures.length - 1);
      });
      if (id !== this.id) return;
      await this.stage.finish(id);
      this.onDrawn({ request, pictures, reply, milliseconds: performance.now() - this.started });
    } catch (error) {
      if (error instanceof Superseded || id !== this.id) return;
      this.stage.fail(error);
    }
  }
}
