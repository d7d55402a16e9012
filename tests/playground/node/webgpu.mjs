// Pictures of a page in Chromium whose GPU is emulated: webgpu.mjs FOLDER, which holds node_modules; JSON in and out.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { drawn } from "../../../pahi_rt/bench/keys.mjs";
import { FOLDER, answer, input } from "./input.mjs";

const { chromium } = createRequire(join(FOLDER, "webgpu.js"))("playwright-core");
const args = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const browser = await chromium.launch({ executablePath: input.chromium, args });
const complaints = [];

/** The alternative text of the picture that is shown after prompts that came faster than pictures. */
async function hurry(page, prompts) {
  for (const prompt of prompts) {
    await page.fill("#prompt", prompt);
    await page.waitForTimeout(60);
  }
  await drawn(page, `of ${prompts.at(-1)}, seed`);
  return page.getAttribute(".tile img", "alt");
}

async function draw(engine, prompts) {
  const page = await browser.newPage();
  page.setDefaultTimeout(input.patience_s * 1000);
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(`${input.url}?${engine ? `engine=${engine}` : ""}#seed=${input.seed}&compare=0`);
  const has_gpu = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
  const pictures = [];
  for (const prompt of has_gpu ? prompts : []) {
    await page.fill("#prompt", prompt);
    await drawn(page, `of ${prompt}, seed`);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    pictures.push(readFileSync(await download.path()).toString("base64"));
  }
  const hurried = has_gpu ? await hurry(page, input.prompts.toReversed()) : null;
  const said = await page.textContent("#engine");
  await page.close();
  return { has_gpu, said, pictures, hurried };
}

const asked = await draw("webgpu", input.prompts);
const chosen = await draw(null, input.prompts.slice(0, 1));
await browser.close();
answer({ asked, chosen, complaints });
