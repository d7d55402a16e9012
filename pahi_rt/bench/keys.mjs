// What a page takes from a key to its picture, in Chromium by Playwright.

/** Begin to note when keys are pressed, and when their pictures are there. */
export async function watchKeys(page) {
  await page.evaluate(() => {
    globalThis.waits = [];
    const prompt = document.querySelector("#prompt");
    const pressed = new Map(); // prompt -> when the key that completed it was pressed
    let last = null;
    prompt.addEventListener("keydown", () => (last = performance.now()));
    prompt.addEventListener("input", () => pressed.set(prompt.value, last));
    new MutationObserver((changes) => {
      const images = changes.flatMap(({ addedNodes }) => [...addedNodes]).filter(({ tagName }) => tagName === "IMG");
      for (const { alt } of images) {
        const key = alt.split(", seed ")[0];
        const since = pressed.get(key);
        pressed.delete(key);
        if (since) requestAnimationFrame(() => waits.push(performance.now() - since));
      }
    }).observe(document.querySelector("#plates"), { childList: true, subtree: true });
  });
}

/** Type a text, and wait for its picture: milliseconds from each key to the frame after the one with its picture. */
export async function pressKeys(page, text, delay) {
  await page.fill("#prompt", "");
  await page.evaluate(() => (globalThis.waits = []));
  await page.type("#prompt", text, { delay });
  await drawn(page, text);
  await page.evaluate(() => new Promise(requestAnimationFrame));
  return page.evaluate(() => waits);
}

/** Wait until the page has told of a picture. */
export const drawn = (page, text) => page.waitForFunction((text) => document.querySelector("#spoken").textContent.includes(text), text);
