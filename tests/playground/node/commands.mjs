import { answer, input, load } from "./input.mjs";

const { WAYS, drawingText, slug } = await load("commands.js");
const { State } = await load("state.js");

const model = { name: "emoji", steps: [1, 2], priors: ["pahi", "hi", "gaussian"], default_prior: "pahi", sha256: "0" };
const { addresses, server = "http://127.0.0.1:8000" } = input;
answer(
  addresses.map((address) => {
    const state = new State([model, { ...model, name: "other bundle" }], address, false);
    return {
      ...Object.fromEntries(WAYS.map(({ id, write }) => [id, write(state, server)])),
      locked: WAYS[1].write(state, server, false, true),
      unknown: WAYS[0].write(state, "", true),
      address: state.toAddress(),
      slug: slug(state.prompt),
      texts: drawingText(state, { seed: state.seed, strength: state.strengths.at(-1) }, "1"),
    };
  }),
);
