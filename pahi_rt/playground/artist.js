// Draws what the state says: a moment after the last change, and the latest wins.

import { Superseded } from "./problem.js";

const BUSY = [429, 503, 504]; // the server has too much to do, or is about to start or end
const LATER = 1500; // milliseconds until it is asked again
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
      this.backend.abort();
      this.stage.clear(++this.id);
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
    this.stage.begin();
    try {
      const reply = await this.backend.draw({ ...request, id }, (picture, index) => {
        pictures[index] = picture; // those of a reply that was cut off come again
        // Also when a newer request waits: who types fast sees pictures on the way.
        this.stage.show(id, request, picture, index);
      });
      if (id !== this.id) return;
      await this.stage.finish(id);
      this.onDrawn({ request, pictures, reply, milliseconds: performance.now() - this.started });
    } catch (error) {
      if (error instanceof Superseded || id !== this.id) return;
      this.stage.fail(error);
      if (BUSY.includes(error.status)) this.timer = setTimeout(() => this.now(), LATER);
    }
  }
}
