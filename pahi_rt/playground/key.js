// The field for an API key, shown only when the server wants one.

import { find } from "./dom.js";

/** Ask for a key: `give` is called with it. `isWrong` says that the one before did not fit. */
export function askKey({ isWrong, give }) {
  const form = find("#key-form");
  const field = find("#key");
  find("#key-problem").textContent = isWrong ? "That is not one of its keys." : "";
  form.hidden = false;
  form.onsubmit = (event) => {
    event.preventDefault();
    form.hidden = true;
    give(field.value.trim());
  };
  field.select();
  field.focus();
}
