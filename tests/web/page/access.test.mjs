// Whether everybody can use the demonstration page: by keyboard, on a phone, and by what axe finds.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { askAndWait, demo, ready, sample, shows } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";

withBrowser();

const AXE = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

test("everything can be reached by keyboard, and shows that it has the focus", async (t) => {
  const page = await demo(t, { viewport: { width: 320, height: 640 } });
  await ready(page);
  const reached = [];
  for (;;) {
    await page.keyboard.press("Tab");
    const where = await page.evaluate(() => {
      const element = document.activeElement;
      const name = element === document.body ? undefined : element.id || element.textContent;
      // The frame around the question stands for the text field in it.
      const { outlineStyle } = getComputedStyle(element);
      return { name, ring: outlineStyle, framed: getComputedStyle(element.closest("#box") ?? element).boxShadow !== "none" };
    });
    if (!where.name) break;
    assert.ok(where.ring === "solid" && (where.name !== "question" || where.framed), `${where.name} shows that it has the focus`);
    reached.push(where.name);
  }
  for (const id of ["model-pill", "choose", "sample", "question", "send", "panel-toggle", "theme"]) assert.ok(reached.includes(id), `${id} of ${reached}`);
  assert.equal(reached[0], "Skip to the question");
});

// A page of its own: in the one before, Firefox's own buttons have the focus after the last element.
test("everything can be used by keyboard, and nothing is wider than a phone", async (t) => {
  const page = await demo(t, { viewport: { width: 320, height: 640 } });
  await ready(page);
  await page.getByRole("button", { name: "Use the sample" }).press("Enter");
  await shows(page, "the sample screen");
  await askAndWait(page, "Locate it.");
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok((await wide()) <= 0, "no sideways scrolling");
  await page.locator("#panel-toggle").press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.role), "tab");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Sampling");
  assert.ok((await wide()) <= 0);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "panel-toggle");
  await page.locator("#model-pill").press("Enter");
  assert.ok((await page.locator("#models").evaluate((sheet) => sheet.scrollWidth - sheet.clientWidth)) <= 0);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "model-pill");
});

/** What axe has to say, in a line for each element. */
async function faults(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target}: ${failureSummary}`));
  });
}

for (const colorScheme of ["light", "dark"]) {
  for (const [name, viewport] of [["desktop", { width: 1440, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
    test(`axe finds nothing: ${colorScheme}, ${name}`, async (t) => {
      const page = await demo(t, { viewport, colorScheme, reducedMotion: "reduce", bypassCSP: true });
      await ready(page);
      const clean = async (state) => assert.deepEqual(await faults(page), [], state);
      await clean("empty");
      await sample(page);
      await askAndWait(page, "Locate the buttons.");
      await clean("boxes");
      await askAndWait(page, "echo:# A\n\n|a|b|\n|-|-|\n|1|2|\n\n- `x`\n\n```\ny\n```\n\n[z](https://z.example)\n\n> q");
      await askAndWait(page, "throw");
      await clean("an answer and an error");
      await page.locator("#panel-toggle").click();
      for (const tab of ["Answer", "Sampling", "Tools", "Device"]) {
        await page.getByRole("tab", { name: tab }).click();
        await clean(tab);
      }
      await page.locator("#panel-close").click();
      await page.locator("#model-pill").click();
      for (const place of ["Demonstration", "Hugging Face", "Your files", "Address"]) {
        await page.getByRole("dialog").getByRole("button", { name: place, exact: true }).click();
        await clean(place);
      }
    });
  }
}
