// Models on the demonstration page: opened, measured, kept, removed, lost and brought back.

import assert from "node:assert/strict";
import { test } from "node:test";

import { answered, ask, askAndWait, demo, lastAnswer, ready, sample, shows } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";
import { startHub } from "../support/hub-server.mjs";

withBrowser();

test("a missing model and a browser without WebGPU are explained, and a second try works", async (t) => {
  let there = false;
  const page = await demo(t, {
    path: "?model=models/none/",
    setup: (p) =>
      p.route("**/models/none/*", (route) => (there ? route.fulfill({ body: "{}" }) : route.fulfill({ status: 404 }))),
  });
  await page.getByRole("alert").getByText("config.json is missing").waitFor();
  assert.equal(await page.locator("#send").isEnabled(), false);
  there = true;
  await page.getByRole("button", { name: "Try again" }).click();
  await ready(page);
  assert.equal(await page.locator("#tiny").isVisible(), false, "the note is about the page's own model only");

  const hidden = "Object.defineProperty(navigator, 'gpu', { value: undefined });\n";
  const without = await demo(t, {
    setup: (p) =>
      p.route("**/src/worker/worker.js", async (route) => {
        const response = await route.fetch();
        return route.fulfill({ response, body: hidden + (await response.text()) });
      }),
  });
  await without.getByRole("alert").getByText("This browser has no WebGPU").waitFor();
  await without.getByText("Use a recent Chrome").first().waitFor();
  await without.getByRole("heading", { name: "What it looks like" }).waitFor();
  await shows(without, "the sample screen, recorded");
  assert.equal(await without.locator("#boxes > div").count(), 1);
});

test("a model on another machine is fetched only after a click", async (t) => {
  const page = await demo(t, { path: "?model=https://models.example/folder/" });
  await page.getByText("folder from models.example is not loaded yet").first().waitFor();
  assert.ok(await page.getByRole("button", { name: "Load the model" }).isVisible());
});

test("a repository is measured, loaded, kept and removed", async (t) => {
  const files = { "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl" })), "README.md": Buffer.from("-") };
  const hub = await startHub(t, { files });
  const query = new URLSearchParams({ model: "Org/Model", endpoint: hub.endpoint, revision: "main", weights: "auto" });
  const page = await demo(t, { path: `?${query}`, servers: hub.servers });
  await page.getByText(`Org/Model from ${new URL(hub.endpoint).host} is not loaded yet`).waitFor();
  assert.equal(hub.requests.length, 0, "a link alone fetches nothing");
  await page.getByRole("button", { name: "How large is it?" }).click();
  const sheet = page.getByRole("dialog", { name: "Models" });
  await sheet.getByText("7.5\u00a0GB to download").waitFor();
  await sheet.getByText("4.2\u00a0GB on the device").waitFor();
  await sheet.getByText("Text: q4 because 12.0 GiB in all exceed 8.0 GiB.").waitFor();
  assert.equal(await sheet.getByLabel("Name on the Hub").inputValue(), "Org/Model");
  await sheet.getByRole("button", { name: "Download 7.5\u00a0GB" }).click();
  await ready(page);
  await sheet.waitFor({ state: "hidden" });
  assert.deepEqual(Object.fromEntries(new URL(page.url()).searchParams), Object.fromEntries(query), "the address leads here again");

  await page.getByRole("button", { name: /^Org\/Model/ }).click();
  const kept = sheet.getByRole("region", { name: "Models on this device" });
  await kept.getByText("Org/Model", { exact: true }).waitFor();
  await kept.getByText(/in all/).waitFor();
  await kept.getByRole("button", { name: "Remove Org/Model" }).click();
  await kept.getByRole("button", { name: "Keep", exact: true }).click();
  await kept.getByRole("button", { name: "Remove Org/Model" }).click();
  await kept.getByRole("button", { name: /^Delete/ }).click();
  await kept.getByText("Nothing is kept yet").waitFor();
  assert.deepEqual(hub.requests.filter(({ file }) => file).map(({ file }) => file), ["config.json"]);
});

test("a model that is kept is opened by its link without a question", async (t) => {
  const plan = [{ file: "model.safetensors", start: 8, end: 1000 }];
  const files = { "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl", plan })), "model.safetensors": Buffer.alloc(1000) };
  const hub = await startHub(t, { files });
  const query = new URLSearchParams({ model: "Org/Model", endpoint: hub.endpoint });
  const page = await demo(t, { path: `?${query}`, servers: hub.servers });
  await page.getByRole("button", { name: "Load the model" }).click();
  await ready(page);
  await page.reload();
  await ready(page);
});

test("a load can be cancelled and gone on with; files of a person's own are opened", async (t) => {
  const page = await demo(t, { before: "globalThis.slowly = 500;" });
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("Loading was canceled").waitFor();
  await page.getByRole("button", { name: "Go on loading" }).click();
  await ready(page);

  await page.locator("#model-pill").click();
  const sheet = page.getByRole("dialog", { name: "Models" });
  await sheet.getByRole("button", { name: "Your files" }).click();
  const chooser = page.waitForEvent("filechooser");
  await sheet.getByRole("button", { name: "Choose files" }).click();
  await (await chooser).setFiles([{ name: "config.json", mimeType: "application/json", buffer: Buffer.from("{}") }]);
  await sheet.getByText("config.json: 1 file").waitFor();
  await sheet.getByRole("button", { name: "Open", exact: true }).click();
  await sheet.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: /^config.json/ }).waitFor();
});

test("when the engine dies the page says so, can load it again, and the conversation goes on", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await askAndWait(page, "What does the red button say?");
  await ask(page, "trap");
  await page.getByRole("alert").getByText("The model has stopped.").waitFor();
  await answered(page);
  assert.ok(await lastAnswer(page).locator(".problem").isVisible());
  await page.getByRole("button", { name: "Load it again" }).click();
  await ready(page);
  await askAndWait(page, "And then?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /1 pictures.*<b>3<\/b> messages/, "what was said is told again");
});

test("a lost device is told of while it comes back, and the answer goes on", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.evaluate(() => {
    globalThis.told = [];
    new MutationObserver(() => globalThis.told.push(document.getElementById("notices").textContent)).observe(document.getElementById("notices"), { childList: true });
  });
  await askAndWait(page, "Say it, lose 1.");
  assert.ok((await page.evaluate(() => globalThis.told)).some((text) => text.includes("The graphics card was lost.")));
  await page.locator("#notices .notice").waitFor({ state: "detached" });
  assert.equal(await lastAnswer(page).locator(".problem").count(), 0);
  await askAndWait(page, "Read the text.");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /Account settings/);
  await askAndWait(page, "Say it, lose 3.");
  assert.match(await lastAnswer(page).locator(".problem").textContent(), /lost/);
});
