// The page and the package with the real engine and the embedded model: what the fake engine cannot show.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

test("the page loads the embedded model, answers about the sample and draws the boxes of the answer", async (t) => {
  const page = await open(t, { path: "" });
  page.setDefaultTimeout(0);
  await page.getByText("Ready.").waitFor();
  await page.getByRole("button", { name: "Use the sample" }).click();
  await page.evaluate(() => {
    globalThis.lengths = new Set();
    const tell = () => globalThis.lengths.add(document.querySelector("#log .answer")?.textContent.length);
    new MutationObserver(tell).observe(document.getElementById("log"), { childList: true, characterData: true, subtree: true });
  });
  await page.getByRole("button", { name: "Locate the red button." }).click();
  await page.locator("#log article[aria-busy=false]").waitFor();
  const text = await page.locator("#log .answer").textContent();
  assert.ok(text.trim().length > 0);
  assert.ok((await page.evaluate(() => globalThis.lengths.size)) > 2, "the answer grew in pieces");
  const written = text.match(/"bbox_2d": \[\d+, \d+, \d+, \d+\]/g) ?? [];
  assert.equal(await page.locator("#boxes > div").count(), written.length);
  assert.match(await page.locator("#log .facts").textContent(), /image tokens/);
});

test("what an answer locates is in the picture's own pixels; pages and events are read on request", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const seen = await withPackage(
    page,
    async ({ load }, _, caught) => {
      const picture = await (await fetch("/public-sample/sample-screen.png")).blob();
      const model = await load("/models/screen-reader/");
      const session = await model.session();
      const content = [{ type: "image", image: picture }, { type: "text", text: "Locate the red button." }];
      const result = await session.prompt([{ role: "user", content }], { maxTokens: 64 });
      const sizes = { original: { width: 200, height: 100 }, resized: { width: 100, height: 50 } };
      return {
        result,
        again: await model.locate(result.text, result.images),
        other: await model.locate('[{"bbox_2d": [10, 20, 30, 40], "label": "a"}, {"point_2d": [5, 6]}]', [sizes]),
        none: await model.locate('{"point_2d": [5, 6]}', []),
        page: await model.document('<p class="text" data-bbox="10 20 30 40">a &amp; <b>b</b></p><p>c', sizes),
        events: await model.events('```json\n[{"start": "00:12.5", "end": "01:00", "event": "a"}]'),
        broken: await caught(model.document("", { original: { width: 200 }, resized: sizes.resized })),
      };
    },
  );
  const [first] = seen.result.located;
  const [{ original, resized }] = seen.result.images;
  const corners = /\[(\d+), (\d+), (\d+), (\d+)\]/.exec(seen.result.text)?.slice(1).map(Number);
  assert.ok(first && corners, seen.result.text);
  const scaled = corners.map((value, i) => (i % 2 === 0 ? (value * original.width) / resized.width : (value * original.height) / resized.height));
  first.at.forEach((value, i) => assert.ok(Math.abs(value - scaled[i]) < 1e-6, `${first.at} for ${scaled}`));
  assert.deepEqual(seen.again, seen.result.located);
  assert.deepEqual(seen.other, [{ kind: "box", at: [20, 40, 60, 80], label: "a", image: 0 }, { kind: "point", at: [10, 12], image: 0 }]);
  assert.deepEqual(seen.none, []);
  assert.deepEqual(seen.page, [
    { tag: "p", class: "text", box: [20, 40, 60, 80], text: "a & b", html: "a &amp; <b>b</b>" },
    { tag: "p", text: "c", html: "c" },
  ]);
  assert.deepEqual(seen.events, [{ start: 12.5, end: 60, label: "a" }]);
  assert.equal(seen.broken.code, "bad_request");
});

test("a conversation goes on after a cancelled answer and a broken picture, without looking again", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const sample = (await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url))).toString("base64");
  const seen = await withPackage(
    page,
    async ({ load }, sample, caught) => {
      const picture = Uint8Array.from(atob(sample), (c) => c.charCodeAt(0));
      const model = await load("/models/screen-reader/");
      const session = await model.session();
      const about = (text, ...images) => [
        { role: "user", content: [...images.map((image) => ({ type: "image", image })), { type: "text", text }] },
      ];
      const stop = new AbortController();
      const first = session.promptStreaming(about("Read the text.", picture), { signal: stop.signal, maxTokens: 200 });
      for await (const _ of first) stop.abort();
      const broken = await caught(session.prompt(about("What is this?", picture.slice(0, 900))));
      const second = await session.prompt("What does the red button say?", { maxTokens: 16 });

      const pair = await model.session({ addVisionId: true });
      const two = await pair.prompt(about("What are these?", picture, picture), { maxTokens: 4 });
      const options = { maxTokens: 8 };
      const [fresh, again] = [await model.session(), await model.session()];
      const same = [
        await fresh.prompt(about("What does the red button say?", picture), options),
        await again.prompt(about("What does the red button say?", picture), options),
      ];
      return { first: await first.result, broken, second, two, same };
    },
    sample,
  );
  assert.equal(seen.first.finishReason, "abort");
  assert.equal(seen.broken.code, "bad_image");
  assert.equal(seen.second.images.length, 0);
  assert.equal(seen.second.usage.imageTokens, seen.first.usage.imageTokens, "the picture is part of the conversation");
  assert.ok(seen.second.usage.cachedTokens >= seen.first.usage.promptTokens, "and is not looked at again");
  assert.equal(seen.two.images.length, 2);
  assert.equal(seen.two.usage.imageTokens, 2 * seen.first.usage.imageTokens);
  assert.deepEqual(seen.same[0].tokenIds, seen.same[1].tokenIds);
});

test("what is read ahead is not read again, and a clone answers as the original does", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const seen = await withPackage(page, async ({ load }, _, caught) => {
    const picture = await (await fetch("/public-sample/sample-screen.png")).blob();
    const model = await load("/models/screen-reader/");
    const options = { maxTokens: 12, temperature: 0 };
    const about = [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: "This is a screen." }] }];
    const question = "What does the red button say?";
    const plain = await (await model.session()).prompt([...about, { role: "user", content: question }], options);
    const session = await model.session();
    await session.append(about);
    const usage = session.contextUsage;
    const early = new AbortController();
    const pending = caught(session.append([{ role: "user", content: "word ".repeat(100) }], { signal: early.signal }));
    early.abort();
    const aborted = await pending;
    const after = session.contextUsage;
    const clone = await session.clone();
    const first = await session.prompt(question, options);
    const second = await clone.prompt(question, options);
    const full = await caught(clone.append([{ role: "user", content: "word ".repeat(50_000) }]));
    const then = [clone.contextUsage, await caught(clone.prompt("And?", { maxTokens: 1 }))];
    return { plain, first, second, usage, after, aborted, full, then, window: clone.contextWindow, clonedUsage: second.usage.promptTokens + second.usage.completionTokens };
  });
  assert.equal(seen.first.usage.cachedTokens, seen.usage);
  assert.equal(seen.after, seen.usage);
  assert.equal(seen.aborted.code, "aborted");
  for (const answer of [seen.first, seen.second]) {
    assert.deepEqual(answer.tokenIds, seen.plain.tokenIds);
    assert.equal(answer.usage.promptTokens, seen.plain.usage.promptTokens);
  }
  assert.equal(seen.full.code, "context_full");
  assert.ok(seen.full.message.includes(String(seen.window)), seen.full.message);
  assert.equal(seen.then[0], seen.clonedUsage);
  assert.equal(seen.then[1].code, undefined);
});
