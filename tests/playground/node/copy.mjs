// What a button says that copies, clicked twice: copy.mjs FOLDER; JSON out. The clock is this script's.

import { answer, load } from "./input.mjs";

const timers = new Map(); // number -> [when, what]
let now = 0;
let last = 0;
globalThis.setTimeout = (work, wait) => (timers.set(++last, [now + wait, work]), last);
globalThis.clearTimeout = (number) => timers.delete(number);
let copied = null;
Object.defineProperty(globalThis, "navigator", { value: { clipboard: { writeText: async (text) => (copied = text) } } });

const { copyText } = await load("dom.js");

function button(text) {
  const label = { textContent: text };
  return { label, querySelector: () => label };
}

function pass(milliseconds) {
  now += milliseconds;
  for (const [number, [when, work]] of [...timers]) if (when <= now && timers.delete(number)) work();
}

const copy = button("Copy");
const link = button("Copy link");
const said = [];
const note = () => said.push([copy.label.textContent, link.label.textContent]);
await copyText("x", copy);
await copyText("y", link);
pass(1000);
await copyText("z", copy);
note();
pass(1000);
note();
pass(1000);
note();
answer({ copied, said });
