// What addresses make of the page's state: state.mjs FOLDER; JSON in and out.

import { answer, input, load } from "./input.mjs";

const { State } = await load("state.js");

const model = { name: "emoji", steps: [1, 2], priors: ["pahi", "hi", "gaussian"], default_prior: "pahi" };
const OTHER = "prompt=x&seed=1&count=3&steps=2&strength=0.5&prior=hi&compare=0&model=other";

answer(
  input.map(({ address, isNarrow }) => {
    const state = new State([model, { ...model, name: "other" }], address, isNarrow);
    const other = new State([model, { ...model, name: "other" }], OTHER, isNarrow);
    other.read(address);
    return { most: state.mostSeeds, request: state.request(), again: other.request() };
  }),
);
