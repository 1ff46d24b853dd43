// detect, point, ocr and parseDocument: asked as each family was trained to be, answered in the caller's pixels.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { fakeModel, MODEL } from "../support/fake-model.mjs";
import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const fake = (t, config) => fakeModel(t, { config });

/** Runs `body` with a loaded model, a picture of 308 × 196, half of what the fake engine resizes to, and what was asked. */
const withModel = (page, body, argument) =>
  withPackage(
    page,
    `async ({ load }, [url, argument], caught) => {
      const model = await load(url);
      const asked = [];
      new BroadcastChannel("asked").onmessage = ({ data }) => asked.push(data);
      const picture = Object.assign(document.createElement("canvas"), { width: 308, height: 196 });
      picture.getContext("2d").fillRect(0, 0, 9, 9);
      const heard = async (count) => {
        while (asked.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
        return asked;
      };
      return (${body})({ model, picture, heard, caught }, argument);
    }`,
    [MODEL, argument],
  );

for (const [family, detect, point, lines, system] of [
  [
    "qwen3_vl",
    'Locate every object that matches the description "red button" in the image. Report bbox coordinates in JSON format.',
    'Locate every red button with points, report their point coordinates in JSON format like this: {"point_2d": [x, y], "label": "red button"}',
    "Spotting all the text in the image with line-level, and output in JSON format.",
    undefined,
  ],
  [
    "qwen2_5_vl",
    "Outline the position of each red button and output all the coordinates in JSON format.",
    "Locate all red button in the image as points and output their point coordinates in JSON format.",
    "Spotting all the text in the image with line-level, and output in JSON format.",
    /QwenVL Document Parser HTML/,
  ],
]) {
  test(`${family} is asked in its own words, and answers in the picture's pixels`, async (t) => {
    const page = await fake(t, { model_type: family });
    const seen = await withModel(page, async ({ model, picture, heard }) => {
      let told;
      const boxes = await model.detect(picture, "red button", { onResult: (result) => (told = result) });
      const points = await model.point(picture, "red button", { maxTokens: 900, temperature: 0.5 });
      const text = await model.ocr(picture, { maxPixels: 200_704 });
      const page = await model.parseDocument(picture);
      return { boxes, points, text, page, told, asked: await heard(4) };
    });
    const [first, second, third, fourth] = seen.asked;
    const said = ({ messages }) => messages.at(-1).content.at(-1).text;
    assert.equal(said(first), detect);
    assert.equal(said(second), point);
    assert.equal(said(third), lines);
    assert.equal(said(fourth).trim().toLowerCase(), "qwenvl html");
    if (system) assert.match(fourth.messages[0].content, system);
    else assert.equal(fourth.messages.length, 1);
    assert.deepEqual(first.options, { temperature: 0, loopGuard: true });
    assert.deepEqual(second.options, { temperature: 0.5, maxTokens: 900, loopGuard: true });
    assert.deepEqual(third.options, { temperature: 0 });
    assert.equal(new Set(seen.asked.map(({ session }) => session)).size, 4, "each in a conversation of its own");
    const limits = ({ messages }) => messages.at(-1).content[0];
    assert.deepEqual(limits(first), { type: "image", image: 0 });
    assert.deepEqual(limits(third), { type: "image", image: 0, maxPixels: 200_704, minPixels: 200_704 }, "the caller's bound counts");
    assert.equal(limits(fourth).minPixels, 512 * (family === "qwen3_vl" ? 32 : 28) ** 2);

    assert.deepEqual(seen.boxes, [
      { label: "Delete", box: [77, 49, 154, 98] },
      { label: "Cancel", box: [231, 0, 308, 20] },
    ]);
    assert.match(seen.told.text, /bbox_2d/);
    // A polygon's point is its middle; a box in space has none in the picture.
    assert.deepEqual(seen.points, [{ label: "Nut", point: [77, 49] }, { label: "Sign", point: [192.5, 124] }]);
    assert.match(seen.text.text, /^Delete account/);
    assert.deepEqual(seen.text.lines, [{ text: seen.text.text }]);
    assert.deepEqual(seen.page.blocks, [{ tag: "p", box: [0, 0, 308, 196], text: seen.page.html, html: seen.page.html }]);
  });
}

test("qwen2_vl points at the middles of its boxes, and says that it writes no pages", async (t) => {
  const page = await fake(t, { model_type: "qwen2_vl" });
  const seen = await withModel(page, async ({ model, picture, heard, caught }) => {
    const points = await model.point(picture, "the $& sign");
    return { points, refused: await caught(model.parseDocument(picture)), own: await model.parseDocument(picture, { prompt: "Write HTML." }), asked: await heard(2) };
  });
  assert.deepEqual(seen.points, [{ label: "Delete", point: [115.5, 73.5] }, { label: "Cancel", point: [269.5, 10] }]);
  assert.equal(seen.asked[0].messages[0].content[1].text, "Detect the bounding box of the $& sign.");
  assert.equal(seen.asked[1].messages[0].content[1].text, "Write HTML.");
  assert.equal(seen.refused.code, "unsupported");
  assert.match(seen.refused.hint, /prompt/);
});

test("a checkpoint that names its questions is asked those, and nothing else", async (t) => {
  const page = await fake(t, { model_type: "qwen2_5_vl", taskPrompts: { detect: "Locate the {what}.", ocr: "Read the text." } });
  const seen = await withModel(page, async ({ model, picture, heard, caught }) => {
    const boxes = await model.detect(picture, "red button");
    const read = await model.ocr(picture);
    const own = await model.detect(picture, "red button", { prompt: "Locate {what} and {what}" });
    return { boxes, read, own, refused: await caught(model.parseDocument(picture)), asked: await heard(3) };
  });
  assert.deepEqual(seen.asked.map(({ messages }) => messages[0].content[1].text), ["Locate the red button.", "Read the text.", "Locate red button and red button"]);
  assert.equal(seen.boxes.length, 2);
  assert.deepEqual(seen.read.lines.map(({ text }) => text), ["Account settings", "Your name", "Ada", "Save", "Cancel", "Delete account"]);
  assert.equal(seen.refused.code, "unsupported");
});

test("a task is aborted by its signal; its errors are typed, and it leaves no conversation behind", async (t) => {
  const page = await fake(t, { model_type: "qwen2_5_vl" });
  const seen = await withModel(page, async ({ model, picture, caught }) => {
    const stop = new AbortController();
    const waiting = model.detect(picture, "wait", { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    const text = new TextEncoder().encode("no picture");
    return {
      stopped: await caught(waiting),
      broken: await caught(model.ocr(text)),
      thrown: await caught(model.point(picture, "throw")),
      next: await model.detect(picture, "anything"),
    };
  });
  assert.deepEqual([seen.stopped.code, seen.broken.code, seen.thrown.code], ["aborted", "bad_image", "oom"]);
  assert.equal(seen.next.length, 2);
});

test("the embedded model finds the red button, points at it, and reads the screen", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const seen = await withPackage(page, async ({ load }, _, caught) => {
    const model = await load("/models/screen-reader/");
    const sample = await (await fetch("/public-sample/sample-screen.png")).blob();
    const bitmap = await createImageBitmap(sample);
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const red = [width, height, 0, 0];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [r, g, b] = data.subarray(4 * (y * width + x));
        if (r < 180 || g > 80 || b > 80) continue;
        red[0] = Math.min(red[0], x);
        red[1] = Math.min(red[1], y);
        red[2] = Math.max(red[2], x + 1);
        red[3] = Math.max(red[3], y + 1);
      }
    }
    const options = { maxTokens: 64 };
    return {
      red,
      boxes: await model.detect(sample, "red button", options),
      points: await model.point(sample, "red button", options),
      read: await model.ocr(sample, options),
      page: await caught(model.parseDocument(sample)),
      info: model.info,
    };
  });
  assert.equal(seen.boxes.length, 1, JSON.stringify(seen.boxes));
  const [{ label, box }] = seen.boxes;
  assert.equal(label, "Cancel");
  const area = ([left, top, right, bottom]) => Math.max(0, right - left) * Math.max(0, bottom - top);
  const [a, b] = [box, seen.red];
  const both = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  const overlap = both / (area(a) + area(b) - both);
  assert.ok(overlap > 0.5, `${a} for ${b}: ${overlap}`);
  assert.deepEqual(seen.points[0].point, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]);
  assert.deepEqual(seen.read.lines.map(({ text }) => text), ["Checkout", "Name", "Clara", "Total", "$48.90", "Cancel", "Buy now"]);
  assert.equal(seen.page.code, "unsupported");
  assert.equal(seen.info.taskPrompts.detect, "Locate the {what}.");
  assert.equal(seen.info.maxPixels, 200_704);
});
