// The demonstration page as a person uses it: what its tests do again and again. The engine behind it is the fake one, whose answers
// are known in advance.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { open } from "./helpers.mjs";

export const SAMPLE = await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url));
export const FAKE = await readFile(new URL("fake-engine.js", import.meta.url));
/** The boxes of the fake engine's answer to "Locate", in pixels of the 616×392 picture it says it saw. */
export const BOXES = [[154, 98, 308, 196], [462, 0, 616, 40]];

export const demo = (t, options = {}) => open(t, { path: "", engine: "fake", viewport: { width: 1280, height: 800 }, ...options });
export const ready = (page) => page.getByText("Ready. Loaded").waitFor();
export const answered = (page) => page.locator("#stop").waitFor({ state: "hidden" });
export const lastAnswer = (page) => page.locator("#log article").last();

export async function ask(page, question) {
  await page.getByLabel("Your question").fill(question);
  await page.keyboard.press("Enter");
}

export async function askAndWait(page, question) {
  const before = await page.locator("#log article").count();
  await ask(page, question);
  await page.locator(`#log article:nth-child(${before + 1})[aria-busy=false]`).waitFor();
}

export const shows = (page, name) => page.locator(`#image[alt="${name}"]`).waitFor();
export const file = (name, buffer = SAMPLE) => ({ name, mimeType: "image/png", buffer });
export const sample = async (page) => {
  await page.getByRole("button", { name: "Use the sample" }).click();
  await shows(page, "the sample screen");
};

/** Presses a button that opens the browser's dialog for files, and chooses some. */
export async function chooseFile(page, button, ...chosen) {
  // In place of the dialog: Firefox without a screen never closes its first one, and then opens no second.
  await page.evaluate(() => {
    HTMLInputElement.prototype.click = function () {
      globalThis.asked = this;
    };
  });
  await page.getByRole("button", { name: button }).click();
  const input = await page.waitForFunction(() => globalThis.asked);
  await page.evaluate(() => {
    delete HTMLInputElement.prototype.click;
    delete globalThis.asked;
  });
  await input.asElement().setInputFiles(chosen);
}

export const attached = (page, count) => page.waitForFunction((count) => document.querySelectorAll("#attached li").length === count, count);

/** How far the drawn boxes are from where they belong, in displayed pixels. */
export async function misplacement(page) {
  const image = await page.locator("#image").boundingBox();
  const drawn = await page.locator("#boxes > div").all();
  assert.equal(drawn.length, BOXES.length);
  const distances = await Promise.all(
    drawn.map(async (element, index) => {
      const box = await element.boundingBox();
      const [x1, y1, x2, y2] = BOXES[index];
      const [sx, sy] = [image.width / 616, image.height / 392];
      return Math.max(
        Math.abs(box.x - (image.x + x1 * sx)),
        Math.abs(box.y - (image.y + y1 * sy)),
        Math.abs(box.width - (x2 - x1) * sx),
        Math.abs(box.height - (y2 - y1) * sy),
      );
    }),
  );
  return Math.max(...distances);
}
