// A typing session on the page in Chromium: session.mjs FOLDER, where FOLDER holds node_modules; JSON in and out.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { drawn, pressKeys, watchKeys } from "../../../pahi_rt/bench/keys.mjs";
import { FOLDER, answer, input } from "./input.mjs";

const { chromium } = createRequire(join(FOLDER, "session.js"))("playwright-core");
const AXE = readFileSync(join(FOLDER, "node_modules/axe-core/axe.min.js"), "utf8");
const PATIENCE = { timeout: input.patience_s * 1000 };

const browser = await chromium.launch({ executablePath: input.chromium, args: ["--no-sandbox"] });
const complaints = [];

async function open(width, colorScheme, address = "") {
  const isMobile = width < 500;
  const context = await browser.newContext({ viewport: { width, height: 860 }, colorScheme, isMobile, hasTouch: isMobile });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE.timeout);
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(input.url + address);
  return page;
}

const findings = async (page) => {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
};

async function save(page) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  return { name: download.suggestedFilename(), png: readFileSync(await download.path()).toString("base64") };
}

const page = await open(1280, "light", "#compare=0&seed=7");
await page.waitForSelector(".tile img");
const engine = await page.textContent("#engine");
await watchKeys(page);
const waits_ms = await pressKeys(page, input.typed, input.delay_ms);
const saved = await save(page);
const fields = await page.inputValue("#seed");

await page.fill("#seed", "18446744073709551612");
await page.fill("#count", "4");
await drawn(page, "4 pictures");
const tiles = await page.$$eval(".tile img", (images) => images.map(({ alt }) => alt));
const grid = await findings(page);

await page.fill("#prompt", "a grinning catt");
await page.click("button.word >> nth=0");
await page.waitForFunction(() => document.querySelector("#unknown").children.length === 0);
const mended = await page.inputValue("#prompt");
await page.fill("#prompt", " ");
await page.waitForSelector("#message:not([hidden])");
const empty = await page.textContent("#message");
await page.fill("#prompt", "rocket");
await drawn(page, "of rocket");
const address = await page.evaluate(() => location.hash);
await page.focus("#prompt");
const focusable = [];
for (let step = 0; step < 20; step++) {
  await page.keyboard.press("Tab");
  focusable.push(await page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.className));
}
await page.context().close();

const axe = { grid };
for (const [width, scheme] of input.looks) {
  const other = await open(width, scheme, "#prompt=a+blue+frogg&compare=1&strength=0.5");
  await drawn(other, "a blue frogg");
  axe[`${width} ${scheme}`] = await findings(other);
  const overflow = await other.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) complaints.push(`${width} ${scheme}: ${overflow} pixels too wide`);
  if (input.shots) await other.screenshot({ path: join(input.shots, `${width}-${scheme}.png`), fullPage: width < 500 });
  await other.context().close();
}
await browser.close();
answer({ engine, waits_ms, saved, seed: fields, tiles, mended, empty, address, focusable, axe, complaints });
