// The panel of the demonstration page, and the forms that an answer can take: a schema, tools, reasoning, Markdown.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ask, askAndWait, demo, lastAnswer, ready, sample } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";

withBrowser();

test("an answer in a form: the schema is checked, sent, and its value is a table", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("The answer is").selectOption("json");
  const schema = page.getByLabel("Schema");
  await schema.fill('{"type": ');
  await page.getByRole("alert").getByText("The schema is not JSON").waitFor();
  await ask(page, "echo:{}");
  await page.locator("#picture-problem").getByText("The schema is not JSON").waitFor();
  assert.equal(await page.locator("#log article").count(), 0, "nothing is asked with a broken schema");
  await page.getByRole("button", { name: "Receipt" }).click();
  assert.equal(await page.getByRole("tabpanel").getByText("The schema is not JSON").count(), 0);
  assert.ok(JSON.parse(await schema.inputValue()).properties.total);

  const value = { items: [{ name: "Tea", price: 9 }, { name: "Pot", price: 24.5 }], paid: true };
  await askAndWait(page, `echo:${JSON.stringify(value)}`);
  const parsed = lastAnswer(page).locator(".parsed");
  assert.deepEqual(await parsed.locator("tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))), [
    ["Tea", "9"],
    ["Pot", "24.5"],
  ]);
  assert.equal(await lastAnswer(page).locator(".answer code").textContent(), JSON.stringify(value));
});

test("settings and the colours survive a reload, also a broken one", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByRole("tab", { name: "Sampling" }).click();
  await page.getByLabel("Temperature").fill("0.7");
  await page.getByLabel("Top-p").fill("7");
  assert.equal(await page.getByLabel("Top-p").getAttribute("aria-invalid"), "true");
  await page.reload();
  await ready(page);
  assert.equal(await page.locator("html").getAttribute("data-theme"), "light");
  assert.equal(await page.getByLabel("Temperature").inputValue(), "0.7");
  assert.equal(await page.getByLabel("Top-p").inputValue(), "", "what is none was not kept");
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByRole("tab", { name: "Sampling" }).click();
  await page.getByRole("button", { name: "Back to the model" }).click();
  assert.equal(await page.getByLabel("Temperature").inputValue(), "");

  for (const broken of ["{", "null", '{"sampling":{"temperature":"hot","__proto__":{"x":1}},"theme":7,"output":[],"picker":"x"}']) {
    await page.evaluate((broken) => localStorage.setItem("fanlight.settings", broken), broken);
    await page.reload();
    await ready(page);
    await askAndWait(page, "Read the text.");
  }
});

test("what a question takes is said before it is sent; parameters, stops and the form are sent with it", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await page.locator("#plan").getByText("392×308 seen as 616×392").waitFor();
  assert.match(await page.locator("#plan").textContent(), /308\u00a0tokens.*338\u00a0tokens to read, 1,710 left.*Small\./);

  await page.evaluate(() => {
    globalThis.asked = new Promise((resolve) => (new BroadcastChannel("asked").onmessage = ({ data }) => resolve(data)));
  });
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByLabel("The answer is").selectOption("regex");
  await page.getByLabel("Expression").fill("(");
  await page.getByRole("alert").getByText("The regular expression is not valid").waitFor();
  await page.getByLabel("Expression").fill("(yes|no)");
  await page.getByRole("tab", { name: "Sampling" }).click();
  const fields = { Temperature: 0.5, "Top-p": 0.9, "Top-k": 20, "Min-p": 0.05, "Longest answer": 64, "Repetition penalty": 1.1, "Presence penalty": 0.2, "Frequency penalty": -0.3, Seed: 7 };
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label).fill(String(value));
  await page.getByLabel("Stop at").fill("END\n\\n\\n");
  await page.getByLabel("End an answer that only repeats itself").check();
  await page.getByLabel("Instructions").fill("Be brief.");
  await askAndWait(page, "echo:yes");
  const { options, messages } = await page.evaluate(() => globalThis.asked);
  const { responseConstraint, ...sent } = options;
  assert.deepEqual(sent, {
    temperature: 0.5, topP: 0.9, topK: 20, minP: 0.05, maxTokens: 64, repetitionPenalty: 1.1, presencePenalty: 0.2,
    frequencyPenalty: -0.3, seed: 7, stop: ["END", "\n\n"], loopGuard: true,
  });
  assert.ok(responseConstraint, "the form goes with it");
  assert.deepEqual(messages[0], { role: "system", content: "Be brief." });
});

test("tools of the page are called and what they give goes back", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByRole("tab", { name: "Tools" }).click();
  await page.getByLabel("Let the model call tools").check();
  await askAndWait(page, "use the calculator");
  assert.match(await lastAnswer(page).locator(".tool").textContent(), /calculator.*6 \* 7.*42$/);
  assert.equal(await lastAnswer(page).locator(".answer").count(), 2, "and the model went on with it");
});

test("reasoning is folded away; Markdown is headings, lists, tables, code and checked links", async (t) => {
  const page = await demo(t);
  await ready(page);
  await askAndWait(page, "think:because **so**");
  const thinking = lastAnswer(page).locator("details.thinking");
  assert.equal(await thinking.evaluate((details) => details.open), false);
  await thinking.locator("summary").click();
  assert.equal(await thinking.locator("strong").textContent(), "so");
  assert.equal(await lastAnswer(page).locator(".answer").textContent(), "Thought about.");

  const markdown = [
    "# Title", "", "One **two *three*** `four` ~~five~~ [six](https://six.example/a) https://seven.example.", "",
    "| a | b |", "|---|--:|", "| 1 \\| 2 | `3` |", "", "1. x", "   - y", "2. z", "", "> q", "", "```js", "<b>&</b>", "```", "", "snake_case_name 2 * 3 * 4",
  ];
  await askAndWait(page, `echo:${markdown.join("\n")}`);
  const answer = lastAnswer(page).locator(".answer");
  const text = (selector) => answer.locator(selector).allTextContents();
  assert.deepEqual(await text("h3"), ["Title"]);
  assert.deepEqual(await text("strong"), ["two three"]);
  assert.deepEqual(await text("strong em"), ["three"]);
  assert.deepEqual(await text("p code"), ["four"]);
  assert.deepEqual(await text("del"), ["five"]);
  assert.deepEqual(await text("th, td"), ["a", "b", "1 | 2", "3"]);
  assert.deepEqual(await text("ol > li > ul > li"), ["y"]);
  assert.equal(await answer.locator("ol > li").count(), 2);
  assert.deepEqual(await text("blockquote"), ["q"]);
  assert.deepEqual(await text("pre code"), ["<b>&</b>"]);
  assert.deepEqual(
    await answer.locator("a").evaluateAll((links) => links.map(({ href, rel, textContent }) => [href, rel, textContent])),
    [
      ["https://six.example/a", "noopener noreferrer", "six (six.example)"],
      ["https://seven.example/", "noopener noreferrer", "https://seven.example/"],
    ],
  );
  assert.equal(await answer.locator(":scope > p").last().textContent(), "snake_case_name 2 * 3 * 4");
});
