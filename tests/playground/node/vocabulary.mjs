import { answer, input, load } from "./input.mjs";

const { Vocabulary, closeMatches } = await load("browser/vocabulary.js");

const vocabulary = new Vocabulary(input.vocabulary);
answer({
  unknown: input.prompts.map((prompt) => vocabulary.unknown(prompt).map(({ word, nearest }) => [word, nearest])),
  close: input.pairs.map(([word, choices]) => closeMatches(word, choices)),
});
