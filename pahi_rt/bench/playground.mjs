// Types on a page in Chromium, a few times anew: playground.mjs FOLDER, which holds node_modules; JSON in and out.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pressKeys, watchKeys } from "./keys.mjs";

const { url, program, texts, delay_ms, patience_s } = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(join(process.argv[2], "anything.js"))("playwright-core");
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
page.setDefaultTimeout(patience_s * 1000);
await page.goto(`${url}#compare=0&seed=7`);
await page.waitForSelector(".tile img");
await watchKeys(page);
const waits_ms = [];
for (const text of texts) waits_ms.push(...(await pressKeys(page, text, delay_ms)));
console.log(JSON.stringify({ browser: browser.version(), engine: await page.textContent("#engine"), waits_ms }));
await browser.close();
