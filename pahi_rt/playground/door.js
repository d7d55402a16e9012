// The way to the server: requests with the API key, where it wants one. The key is kept until the tab is closed.

import { Problem } from "./problem.js";

const KEPT = "pahi-key";
const LIVE = "pahi-live";

export class Door {
  /** `onLocked` is told {isWrong, give} when a key is needed: whether there was one, and what to call with another. */
  constructor(onLocked) {
    this.onLocked = onLocked;
    this.key = recall();
  }

  /** Get JSON. Where the server wants a key, the page is asked until it gives one that fits. Throws a Problem. */
  async get(path) {
    const { key } = this;
    const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
    const response = await fetch(new URL(path, document.baseURI), { headers }).catch(() => null);
    if (response?.ok) return response.json();
    if (response?.status !== 401) {
      throw new Problem(response?.status ?? 503, "the server does not answer", "start `pahi-rt serve`, then reload the page");
    }
    if (key === this.key) await this.#ask(); // else another request has asked meanwhile
    return this.get(path);
  }

  /** The subprotocols of a WebSocket: browsers send a key in no other way. */
  get protocols() {
    return this.key === null ? [LIVE] : [LIVE, `pahi-key.${encode(this.key)}`];
  }

  async #ask() {
    this.asked ??= new Promise((give) => this.onLocked({ isWrong: this.key !== null, give }));
    this.key = await this.asked;
    this.asked = null;
    keep(this.key);
  }
}

/** In base64url. */
function encode(key) {
  return btoa(key).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function recall() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null; // storage is not allowed
  }
}

function keep(key) {
  try {
    sessionStorage.setItem(KEPT, key);
  } catch {
    // it lasts as long as the page
  }
}
