// The demo page as a person uses it, with a fake engine whose answers are known in advance.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, withBrowser } from "./helpers.mjs";
import { startHub } from "./hub-server.mjs";

withBrowser();

const SAMPLE = await readFile(new URL("../../www/public-sample/sample-screen.png", import.meta.url));
/** The boxes of the fake engine's answer to "Locate", in pixels of the 616×392 picture it says it saw. */
const BOXES = [[154, 98, 308, 196], [462, 0, 616, 40]];

const demo = (t, options = {}) => open(t, { path: "", engine: "fake", viewport: { width: 1280, height: 800 }, ...options });
const ready = (page) => page.getByText("Ready.").waitFor();
const answered = (page) => page.locator("#stop").waitFor({ state: "hidden" });
const lastAnswer = (page) => page.locator("#log article").last();

async function ask(page, question) {
  await page.getByLabel("Your question").fill(question);
  await page.keyboard.press("Enter");
}

async function askAndWait(page, question) {
  const before = await page.locator("#log article").count();
  await ask(page, question);
  await page.locator(`#log article:nth-child(${before + 1})[aria-busy=false]`).waitFor();
}

const shows = (page, name) => page.locator(`#image[alt="${name}"]`).waitFor();
const file = (name, buffer = SAMPLE) => ({ name, mimeType: "image/png", buffer });

async function chooseFile(page, button, chosen) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: button }).click();
  await (await chooser).setFiles(chosen);
}

/** How far the drawn boxes are from where they belong, in displayed pixels. */
async function misplacement(page) {
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

test("the sample, a question, a streamed answer and its figures", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: "Use the sample" }).click();
  await page.evaluate(() => {
    globalThis.lengths = new Set();
    new MutationObserver(() => globalThis.lengths.add(document.querySelector("#log .answer")?.textContent.length)).observe(
      document.getElementById("log"),
      { childList: true, characterData: true, subtree: true },
    );
  });
  await askAndWait(page, "What does the red button say?");
  const turn = lastAnswer(page);
  assert.match(await turn.locator(".answer").textContent(), /^Delete account/);
  assert.ok((await page.evaluate(() => globalThis.lengths.size)) > 2, "the answer grew in pieces");
  assert.match(await turn.locator(".facts").textContent(), /308 image tokens.*tokens\/s/);
  assert.match(await page.locator("#status").textContent(), /Loaded in .*Runs on/);
  assert.equal(await page.locator("#log b").count(), 0, "an answer is text, never markup");

  await askAndWait(page, "And the others?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /0 pictures/, "a picture is sent once");
});

test("boxes lie where they belong at every display size", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: "Use the sample" }).click();
  await askAndWait(page, "Locate the buttons.");
  const widths = [];
  for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }, { width: 900, height: 400 }]) {
    await page.setViewportSize(viewport);
    assert.ok((await misplacement(page)) < 1.5);
    widths.push((await page.locator("#image").boundingBox()).width);
  }
  assert.equal(new Set(widths).size, 3, "the picture had three sizes");
  assert.deepEqual(await page.locator("#boxes").getByRole("listitem").allTextContents(), ["Delete", "Cancel"]);
  await askAndWait(page, "Read the text.");
  assert.equal(await page.locator("#boxes > div").count(), 0, "old boxes go with a new question");
});

test("points are dots, polygons outlines, and the page shows the picture that they are in", async (t) => {
  const page = await demo(t);
  await ready(page);
  await chooseFile(page, "Choose a picture", file("one.png"));
  await shows(page, "one.png");
  await askAndWait(page, "Point at the nut and the sign.");
  assert.deepEqual(await page.locator("#boxes").getByRole("listitem").allTextContents(), ["Nut", "Sign"], "what has no pixels is not drawn");
  const image = await page.locator("#image").boundingBox();
  const at = ([x, y]) => [image.x + (x * image.width) / 616, image.y + (y * image.height) / 392];
  const near = ([x, y], [right, down]) => assert.ok(Math.hypot(x - right, y - down) < 1.5, `${[x, y]} for ${[right, down]}`);
  const dot = await page.locator("#boxes .point").boundingBox();
  near([dot.x + dot.width / 2, dot.y + dot.height / 2], at([154, 98]));
  assert.ok(dot.width >= 8 && dot.width <= 20 && Math.abs(dot.width - dot.height) < 0.1, "a dot can be seen and hides little");
  const corners = await page.locator("#boxes polygon.over").evaluate((polygon) => {
    const to = polygon.getScreenCTM();
    return Array.from(polygon.points, (point) => point.matrixTransform(to)).map(({ x, y }) => [x, y]);
  });
  [[308, 196], [462, 220], [440, 300], [320, 280]].forEach((corner, index) => near(corners[index], at(corner)));

  await chooseFile(page, "Add another", file("two.png"));
  await shows(page, "two.png");
  assert.equal(await page.locator("#boxes > div").count(), 0, "nothing was found in the new picture");
  await askAndWait(page, "Point at the nut in a question about 1.");
  await shows(page, "one.png");
  await page.locator("#boxes .point").waitFor();
  await page.getByRole("button", { name: "Picture 2: two.png" }).click();
  await shows(page, "two.png");
  assert.equal(await page.locator("#boxes > div").count(), 0);
});

test("Stop ends an answer and the next question works", async (t) => {
  const page = await demo(t);
  await ready(page);
  await ask(page, "wait");
  await page.getByText("word word").waitFor();
  assert.equal(await page.locator("#send").isEnabled(), false);
  await page.getByRole("button", { name: "Stop" }).click();
  await answered(page);
  assert.match(await lastAnswer(page).locator(".facts").textContent(), /stopped/);
  await askAndWait(page, "Read the text.");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /Account settings/);
});

test("pictures by file, drop and paste; two in one conversation; a new conversation", async (t) => {
  const page = await demo(t);
  await ready(page);
  await chooseFile(page, "Choose a picture", file("one.png"));
  await shows(page, "one.png");
  await chooseFile(page, "Add another", file("two.png"));
  await page.getByRole("button", { name: "Picture 2: two.png" }).waitFor();
  await askAndWait(page, "What are these?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /2 pictures/);

  for (const [event, field] of [["drop", "dataTransfer"], ["paste", "clipboardData"]]) {
    await page.evaluate(async ([event, field, source]) => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch(source)).blob()], `by ${event}.png`, { type: "image/png" }));
      const kind = event === "drop" ? DragEvent : ClipboardEvent;
      document.body.dispatchEvent(new kind(event, { [field]: data, bubbles: true, cancelable: true }));
    }, [event, field, "public-sample/sample-screen.png"]);
    await shows(page, `by ${event}.png`);
    assert.equal(await page.locator("#log article").count(), 0, "another picture begins a new conversation");
    await askAndWait(page, "What is this?");
    assert.match(await lastAnswer(page).locator(".answer").textContent(), /1 pictures/);
  }
  await page.getByRole("button", { name: "New conversation" }).click();
  await askAndWait(page, "What is this?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /1 pictures/, "the picture is sent again");
});

test("what is no picture is said to be none, by the page or by the engine", async (t) => {
  const page = await demo(t);
  await ready(page);
  await page.getByRole("button", { name: "Use the sample" }).click();
  await askAndWait(page, "What is this?");
  await chooseFile(page, "Choose a picture", file("notes.png", Buffer.from("these are notes")));
  await page.getByText("notes.png is not a picture").waitFor();
  assert.equal(await page.locator("#log article").count(), 1, "the conversation stays");

  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>');
  await chooseFile(page, "Choose a picture", { name: "drawing.svg", mimeType: "image/svg+xml", buffer: svg });
  await shows(page, "drawing.svg");
  await askAndWait(page, "What is this?");
  assert.match(await lastAnswer(page).locator(".problem").textContent(), /no picture Fanlight can read.*Use a PNG/);
  assert.equal(await page.getByText("notes.png is not").isVisible(), false);
});

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
      p.route("**/src/worker.js", async (route) => {
        const response = await route.fetch();
        return route.fulfill({ response, body: hidden + (await response.text()) });
      }),
  });
  await without.getByRole("alert").getByText("This browser has no WebGPU").waitFor();
  await without.getByText("Use a recent Chrome").waitFor();
});

test("a model on another machine is fetched only after a click", async (t) => {
  const page = await demo(t, { path: "?model=https://models.example/folder/" });
  await page.getByText("A model from models.example is not loaded yet").waitFor();
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
  await page.getByText("It downloads 7.5\u00a0GB and takes 4.2\u00a0GB on the device: 3.0\u00a0GB of weights").waitFor();
  await page.getByText("Text: q4 because 12.0 GiB in all exceed 8.0 GiB.").waitFor();
  await page.getByRole("button", { name: "Load the model" }).click();
  await ready(page);
  const kept = page.getByRole("region", { name: "Models on this device" });
  await kept.getByText("Org/Model (main,").waitFor();
  await kept.getByRole("button", { name: "Remove" }).click();
  await kept.waitFor({ state: "hidden" });
  assert.deepEqual(hub.requests.filter(({ file }) => file).map(({ file }) => file), ["config.json"]);
});

test("when the engine dies the page says so and can load it again", async (t) => {
  const page = await demo(t);
  await ready(page);
  await ask(page, "trap");
  await page.getByText("The model has stopped.").waitFor();
  await answered(page);
  assert.ok(await lastAnswer(page).locator(".problem").isVisible());
  await page.getByRole("button", { name: "Load it again" }).click();
  await ready(page);
  await askAndWait(page, "Read the text.");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /Account settings/);
});

test("everything can be reached and used by keyboard, and nothing is wider than a phone", async (t) => {
  const page = await demo(t, { viewport: { width: 320, height: 640 } });
  await ready(page);
  const reached = [];
  for (;;) {
    await page.keyboard.press("Tab");
    const where = await page.evaluate(() => {
      const element = document.activeElement;
      const name = element === document.body ? undefined : element.id || element.textContent;
      return { name, ring: getComputedStyle(element).outlineStyle };
    });
    if (!where.name) break;
    assert.equal(where.ring, "solid", `${where.name} shows that it has the focus`);
    reached.push(where.name);
  }
  for (const id of ["choose", "sample", "question", "send", "address"]) assert.ok(reached.includes(id), `${id} of ${reached}`);
  await page.getByRole("button", { name: "Use the sample" }).press("Enter");
  await shows(page, "the sample screen");
  await askAndWait(page, "Locate it.");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
});
