// Light, dark, or as the system has it.

import { find } from "./dom.js";

const KEY = "pahi-theme";
const ORDER = ["auto", "light", "dark"];

export function wireTheme() {
  const button = find("#theme");
  let theme = stored();
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.title = `Colours: ${theme === "auto" ? "as the system" : theme}`;
    button.setAttribute("aria-label", button.title);
  };
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // not allowed: it lasts as long as the page
    }
    show();
  });
  show();
}

function stored() {
  try {
    const theme = localStorage.getItem(KEY);
    return ORDER.includes(theme) ? theme : ORDER[0];
  } catch {
    return ORDER[0];
  }
}
