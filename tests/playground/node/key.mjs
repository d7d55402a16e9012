// A page whose server wants an API key, in Chromium: key.mjs FOLDER, where FOLDER holds node_modules; JSON in and out.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { FOLDER, answer, input } from "./input.mjs";

const { chromium } = createRequire(join(FOLDER, "key.js"))("playwright-core");
const AXE = readFileSync(join(FOLDER, "node_modules/axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath: input.chromium, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: input.width, height: 860 }, colorScheme: input.scheme });
const page = await context.newPage();
page.setDefaultTimeout(input.patience_s * 1000);
const errors = [];
page.on("pageerror", (error) => errors.push(String(error)));

const enter = async (key) => {
  await page.waitForSelector("#key-form:not([hidden])");
  await page.keyboard.press("Control+A");
  await page.keyboard.type(key);
  if (input.shots) await page.screenshot({ path: join(input.shots, `key-${input.width}-${input.scheme}.png`) });
  await page.keyboard.press("Enter");
};
await page.goto(input.url);
await enter("a-key-that-is-wrong");
await page.waitForFunction(() => document.querySelector("#key-problem").textContent !== "");
const problem = await page.textContent("#key-problem");
await page.evaluate(AXE);
const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
await enter(input.key);
await page.waitForSelector(".tile img");
const isHidden = await page.isHidden("#key-form");
const shown = await page.content();
await page.reload();
await page.waitForSelector(".tile img");
const gallery = await page.locator("#concepts li").count();
await browser.close();
answer({ problem, axe: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`), isHidden, isShown: shown.includes(input.key), gallery, errors });
