// A visit of the page in Chromium, beyond typing: visit.mjs FOLDER, where FOLDER holds node_modules; JSON in and out.

import { createRequire } from "node:module";
import { join } from "node:path";
import { drawn } from "../../../pahi_rt/bench/keys.mjs";
import { FOLDER, answer, input } from "./input.mjs";

const { chromium } = createRequire(join(FOLDER, "visit.js"))("playwright-core");
const browser = await chromium.launch({ executablePath: input.chromium, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
page.setDefaultTimeout(input.patience_s * 1000);

/** Whether a field has a value soon. */
const becomes = (place, value) =>
  page
    .waitForFunction(([place, value]) => document.querySelector(place).value === value, [place, value], { timeout: 5000 })
    .then(() => true, () => false);

async function links() {
  await page.goto(`${input.url}#prompt=an+octopus&compare=0`);
  await drawn(page, "an octopus");
  await page.evaluate(() => (location.hash = "prompt=a+rocket&seed=3&compare=0"));
  const there = [await becomes("#prompt", "a rocket"), await becomes("#seed", "3")];
  await page.goBack();
  return { there, back: await becomes("#prompt", "an octopus") };
}

async function skip() {
  await page.focus(".skip");
  await page.keyboard.press("Enter");
  return page.evaluate(() => ({ focus: document.activeElement.id, address: location.hash }));
}

/** How what is chosen looks, and what is not, in the colours of Windows' contrast themes. */
async function contrast() {
  await page.emulateMedia({ forcedColors: "active", reducedMotion: "reduce" });
  await page.fill("#strength", "0.5");
  await page.mouse.move(0, 0);
  const look = async (place) => (await page.locator(place).first().screenshot()).toString("base64");
  const pairs = {};
  for (const group of ["priors", "steps", "categories", "ways"]) {
    pairs[group] = [await look(`#${group} :checked + span`), await look(`#${group} :not(:checked) + span`)];
  }
  pairs.compare = [await look("#compare:not(:checked)"), await page.check("#compare").then(() => look("#compare"))];
  const slider = await look("#strength");
  await page.emulateMedia({ forcedColors: "none" });
  return { pairs, slider };
}

/** Three drawings, and then back through them, with a pause after each. */
async function history() {
  for (const prompt of ["panda", "a red apple", "a rocket", "an octopus"]) {
    await page.fill("#prompt", prompt);
    await page.waitForSelector(`#strip li:first-child img[alt^="${prompt},"]`);
    if (prompt === "panda") await page.click("#forget");
  }
  const seen = [];
  for (const key of ["ArrowUp", "ArrowUp", "ArrowDown"]) {
    await page.focus("#prompt");
    await page.keyboard.press(`Alt+${key}`);
    seen.push(await page.inputValue("#prompt"));
    await drawn(page, seen.at(-1));
    await page.waitForTimeout(1000); // more than from then until it is kept
  }
  return { seen, kept: await page.$$eval("#strip img", (images) => images.map(({ alt }) => alt.split(",")[0])) };
}

/** A word that is part of another one, replaced. */
async function mend() {
  await page.fill("#prompt", "a happy app");
  await page.click("button.word >> text=happy");
  return page.inputValue("#prompt");
}

/** How many things the page knows, when the words of a model that is no longer chosen come last. */
async function models() {
  let release = null;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/v1/models/contract/vocabulary", (route) => held.then(() => route.continue()));
  const known = await page.textContent("#known");
  await Promise.all([page.waitForRequest("**/v1/models/contract/vocabulary"), page.selectOption("#model", "contract")]);
  await Promise.all([page.waitForResponse("**/v1/models/emoji/vocabulary"), page.selectOption("#model", "emoji")]);
  const late = page.waitForResponse("**/v1/models/contract/vocabulary");
  release();
  await (await late).finished();
  await page.waitForTimeout(200);
  return { known, later: await page.textContent("#known") };
}

/** The most pictures, side by side: where the slider ends, and what comes. */
async function most() {
  await page.fill("#prompt", "panda");
  await page.check("#compare");
  await page.focus("#count");
  await page.keyboard.press("End");
  await page.waitForFunction(
    () => document.querySelectorAll(".tile img").length === 16 || !document.querySelector("#message").hidden,
  );
  const [count, max] = [await page.inputValue("#count"), await page.getAttribute("#count", "max")];
  await page.uncheck("#compare");
  return { count, max, alone: await page.getAttribute("#count", "max"), filled: await filled() };
}

const filled = () => page.$eval("#count", ({ style }) => Number(style.getPropertyValue("--filled")).toFixed(3));

const linked = await links();
const skipped = await skip();
const contrasts = await contrast();
const past = await history();
const mended = await mend();
const vocabularies = await models();
const sideBySide = await most();
await browser.close();
answer({ linked, skipped, contrasts, past, mended, vocabularies, sideBySide });
