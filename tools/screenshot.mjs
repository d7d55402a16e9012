// screenshot.mjs FOLDER CHROMIUM ADDRESS PICTURE: what a page shows when its pictures are drawn. FOLDER has node_modules.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [folder, executablePath, address, path] = process.argv.slice(2);
const { chromium } = createRequire(join(resolve(folder), "screenshot.js"))("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
await page.goto(address);
await page.waitForSelector(".tile img");
await page.waitForFunction(() => [...document.images].every((image) => image.complete));
await page.waitForTimeout(1000); // what moves comes to rest
await page.screenshot({ path });
await browser.close();
