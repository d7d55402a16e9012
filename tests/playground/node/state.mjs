// What addresses make of the page's state: state.mjs FOLDER; JSON in and out.

import { answer, input, load } from "./input.mjs";

const { State } = await load("state.js");

const model = { name: "emoji", steps: [1, 2], priors: ["pahi", "hi", "gaussian"], default_prior: "pahi" };

answer(
  input.map(({ address, isNarrow }) => {
    const state = new State([model, { ...model, name: "other" }], address, isNarrow);
    return { most: state.mostSeeds, request: state.request() };
  }),
);
