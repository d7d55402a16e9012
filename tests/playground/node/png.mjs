import { answer, input, load } from "./input.mjs";

const { encodePng, withText } = await load("png.js");

const png = withText(await encodePng(Uint8Array.from(input.rgb), input.width, input.height), input.texts);
answer(Array.from(png));
