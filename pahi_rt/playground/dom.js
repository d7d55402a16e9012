/** A new element: its tag, its properties (attributes where a name has a dash, or is "role"), and its children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export const find = (selector) => document.querySelector(selector);

const SHOWN = 1500; // milliseconds that a button says what it did
const SVG = "http://www.w3.org/2000/svg";

/** An icon of index.html's list. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(use);
  return drawing;
}

/** Copy text, and say so on the button for a moment. */
export async function copyText(text, button) {
  const label = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(text);
    flash(label, "Copied");
  } catch {
    flash(label, "Press Ctrl+C"); // no clipboard on pages from http://
    getSelection().selectAllChildren(document.getElementById(button.getAttribute("aria-controls")));
  }
}

const flashed = new WeakMap(); // label -> its own text, and the timer that brings it back

/** Show a text on a label for a moment, which begins anew if there is one already. */
function flash(label, text) {
  const { own, timer } = flashed.get(label) ?? { own: label.textContent };
  clearTimeout(timer);
  label.textContent = text;
  flashed.set(label, { own, timer: setTimeout(() => (label.textContent = own), SHOWN) });
}
