// Under the pictures: download, a link, and the same picture from a command line, curl or Python.

import { WAYS, drawingText, slug } from "./commands.js";
import { copyText, element, find } from "./dom.js";
import { withText } from "./png.js";
import { GAUSSIAN } from "./state.js";

const SERVER = "http://127.0.0.1:8000";

/** Returns a function that takes whether the prompt has unknown words, once a picture tells. */
export function wireElsewhere(state, backend) {
  let way = WAYS[0];
  let isUnknown = false;
  const code = find("#code");
  const server = backend.needsServer ? location.origin : SERVER;
  const show = () => (code.textContent = way.write(state, server, isUnknown, backend.hasKey));
  const tabs = WAYS.map((one) => {
    const input = element("input", { type: "radio", name: "way", value: one.id, checked: one === way });
    input.addEventListener("change", () => ((way = one), show()));
    return element("label", {}, input, element("span", {}, one.label));
  });
  find("#ways").replaceChildren(...tabs);
  find("#copy").addEventListener("click", ({ currentTarget }) => copyText(code.textContent, currentTarget));
  find("#link").addEventListener("click", ({ currentTarget }) => {
    const address = `${location.href.split("#")[0]}#${state.toAddress()}`;
    find("#address").textContent = address;
    copyText(address, currentTarget);
  });
  state.addEventListener("change", show);
  show();
  return (unknown) => ((isUnknown = unknown), show());
}

/** Save pictures as PNG files that say how they were drawn, with the seed in their names. `version` is null if they say it. */
export async function download({ request, pictures }, model, version) {
  for (const picture of pictures) {
    const texts = version === null ? {} : drawingText({ ...request, model }, picture, version);
    const file = new Blob([withText(new Uint8Array(await picture.blob.arrayBuffer()), texts)], { type: "image/png" });
    const isGaussian = request.prior !== GAUSSIAN && picture.strength === 0;
    save(file, `${slug(request.prompt)}-seed-${picture.seed}${isGaussian ? "-gaussian" : ""}.png`);
  }
}

function save(file, name) {
  const link = element("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
