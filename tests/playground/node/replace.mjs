import { answer, input, load } from "./input.mjs";

const { replace } = await load("prompt.js");

answer(input.map(({ prompt, word, near }) => replace(prompt, word, near)));
