import { answer, input, load } from "./input.mjs";
import { disk } from "./input.mjs";

const { Tokenizer } = await load("browser/tokenizer.js");

const tokenizer = new Tokenizer(await disk.readJson(input.file), input.max_length, input.pad_id);
answer(
  input.prompts.map((prompt) => {
    try {
      return Array.from(tokenizer.encode(prompt), Number);
    } catch (problem) {
      if (problem.name !== "Problem") throw problem;
      return problem.toJSON();
    }
  }),
);
