// The demo page as a person uses it, with a fake engine whose answers are known in advance.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";

import { open, site, withBrowser } from "../support/helpers.mjs";
import { startHub } from "../support/hub-server.mjs";

withBrowser();

const SAMPLE = await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url));
const FAKE = await readFile(new URL("../support/fake-engine.js", import.meta.url));
const AXE = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
/** The boxes of the fake engine's answer to "Locate", in pixels of the 616×392 picture it says it saw. */
const BOXES = [[154, 98, 308, 196], [462, 0, 616, 40]];

const demo = (t, options = {}) => open(t, { path: "", engine: "fake", viewport: { width: 1280, height: 800 }, ...options });
const ready = (page) => page.getByText("Ready. Loaded").waitFor();
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
const sample = async (page) => {
  await page.getByRole("button", { name: "Use the sample" }).click();
  await shows(page, "the sample screen");
};

async function chooseFile(page, button, ...chosen) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: button }).click();
  await (await chooser).setFiles(chosen);
}

const attached = (page, count) => page.waitForFunction((count) => document.querySelectorAll("#attached li").length === count, count);

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
  await sample(page);
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
  assert.match(await page.locator("#said").textContent(), /^Delete account/, "it is said once, when it is there");
  assert.equal(await turn.getByRole("button", { name: "Picture 1: the sample screen" }).count(), 1, "the picture stands with its question");
  assert.match(await page.locator("#context").textContent(), /of 2,048 tokens/);

  await askAndWait(page, "And the others?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /0 pictures/, "a picture is sent once");
});

test("boxes lie where they belong at every display size", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await askAndWait(page, "Locate the buttons.");
  const widths = [];
  for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }, { width: 900, height: 400 }, { width: 2560, height: 1440 }]) {
    await page.setViewportSize(viewport);
    assert.ok((await misplacement(page)) < 1.5);
    widths.push((await page.locator("#image").boundingBox()).width);
  }
  assert.equal(new Set(widths).size, 4, "the picture had four sizes");
  assert.deepEqual(await page.locator("#boxes").getByRole("listitem").allTextContents(), ["Delete", "Cancel"]);
  await askAndWait(page, "Read the text.");
  assert.equal(await page.locator("#boxes > div").count(), 0, "old boxes go with a new question");
});

test("what is located is brought out in the picture and in the list, by pointer and by keyboard", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await askAndWait(page, "Locate the buttons.");
  const [finding, box] = [page.locator(".finding").nth(1), page.locator("#boxes > div").nth(1)];
  const on = (locator) => locator.evaluate((element) => element.classList.contains("on"));
  await finding.hover();
  assert.deepEqual([await on(box), await on(page.locator("#boxes > div").first())], [true, false]);
  await page.mouse.move(0, 0);
  assert.equal(await on(box), false);
  await page.locator("#boxes button").nth(1).focus();
  assert.equal(await on(finding), true);
  await finding.focus();
  assert.equal(await on(box), true);
  assert.match(await finding.textContent(), /Cancel.*294, 0, 392, 31/, "in pixels of the picture");

  await page.getByRole("button", { name: "Marks" }).click();
  assert.equal(await page.locator("#boxes").isVisible(), false);
});

test("points are dots, polygons outlines, and the page shows the picture that they are in", async (t) => {
  const page = await demo(t);
  await ready(page);
  await chooseFile(page, "Choose a file", file("one.png"));
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

  await chooseFile(page, "Add a picture or a video", file("two.png"));
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
  assert.equal(await page.locator("#send").isVisible(), false);
  await page.getByRole("button", { name: "Stop" }).click();
  await answered(page);
  assert.match(await lastAnswer(page).locator(".facts").textContent(), /stopped/);
  await askAndWait(page, "Read the text.");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /Account settings/);
});

test("pictures by file, drop, paste and camera; several in one question; one taken away; a new conversation", async (t) => {
  const page = await demo(t);
  await ready(page);
  await chooseFile(page, "Choose a file", file("one.png"), file("two.png"), file("three.png"));
  await attached(page, 3);
  await page.getByRole("button", { name: "Remove two.png" }).click();
  await attached(page, 2);
  await askAndWait(page, "What are these?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /2 pictures/);
  assert.deepEqual(
    await lastAnswer(page).locator(".thumb").evaluateAll((all) => all.map((one) => one.ariaLabel)),
    ["Picture 1: one.png", "Picture 2: three.png"],
  );

  for (const [event, field] of [["drop", "dataTransfer"], ["paste", "clipboardData"]]) {
    await page.evaluate(async ([event, field, source]) => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch(source)).blob()], `by ${event}.png`, { type: "image/png" }));
      const kind = event === "drop" ? DragEvent : ClipboardEvent;
      document.body.dispatchEvent(new kind(event, { [field]: data, bubbles: true, cancelable: true }));
    }, [event, field, "public-sample/sample-screen.png"]);
    await shows(page, `by ${event}.png`);
    await askAndWait(page, "What is this?");
    assert.match(await lastAnswer(page).locator(".answer").textContent(), /1 pictures/);
  }

  await page.evaluate(() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 32;
    canvas.getContext("2d").fillRect(0, 0, 32, 32);
    const streams = (globalThis.streams = []);
    navigator.mediaDevices.getUserMedia = async () => {
      streams.push(canvas.captureStream(30));
      return streams[0];
    };
    setInterval(() => canvas.getContext("2d").fillRect(0, 0, 32, 32), 30);
  });
  await page.getByRole("button", { name: "Take a picture with the camera" }).click();
  await page.getByRole("button", { name: "Take the picture" }).click();
  await shows(page, "camera.png");
  // The camera is off again, once its sheet has closed.
  await page.waitForFunction(() => globalThis.streams[0].getTracks()[0].readyState === "ended");

  await page.getByRole("button", { name: "New conversation" }).click();
  assert.equal(await page.locator("#log article").count(), 0);
  await page.locator("#empty").waitFor();
  await askAndWait(page, "What is this?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /0 pictures/);
});

test("an answer can be given again, and the last question changed", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await askAndWait(page, "What does the red button say?");
  await askAndWait(page, "echo:second");
  await lastAnswer(page).getByRole("button", { name: "Again" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#log article[aria-busy=false]").length === 2);
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /^second$/);
  assert.equal(await page.locator("#log article").count(), 2);

  await lastAnswer(page).getByRole("button", { name: "Edit the question" }).click();
  assert.equal(await page.getByLabel("Your question").inputValue(), "echo:second");
  await page.getByRole("button", { name: "Keep it as it was" }).click();
  assert.equal(await page.locator("#log article").count(), 2);
  await lastAnswer(page).getByRole("button", { name: "Edit the question" }).click();
  await ask(page, "echo:third");
  await page.locator("#log").getByText("third", { exact: true }).waitFor();
  await answered(page);
  assert.deepEqual(await page.locator("#log .question").allTextContents(), ["What does the red button say?", "echo:third"]);
});

test("what is no picture is said to be none, by the page or by the engine", async (t) => {
  const page = await demo(t);
  await ready(page);
  await sample(page);
  await askAndWait(page, "What is this?");
  await chooseFile(page, "Add a picture or a video", file("notes.png", Buffer.from("these are notes")));
  await page.getByText("notes.png is not a picture").waitFor();
  assert.equal(await page.locator("#log article").count(), 1, "the conversation stays");

  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>');
  await chooseFile(page, "Add a picture or a video", { name: "drawing.svg", mimeType: "image/svg+xml", buffer: svg });
  await shows(page, "drawing.svg");
  await askAndWait(page, "What is this?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /1 pictures/, "what the browser can draw, the model can see");
  await askAndWait(page, "throw");
  assert.match(await lastAnswer(page).locator(".problem").textContent(), /A fault on order\. Choose smaller weights/);
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
  await page.getByRole("alert").getByText("The regular expression is none").waitFor();
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

test("everything can be reached and used by keyboard, and nothing is wider than a phone", async (t) => {
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

/**
 * The site on another port, with the fake engine and some files replaced: what a server is that gets a new version. A service
 * worker's requests pass the routes of a page by, so that the engine has to be replaced here.
 */
async function mirror(t) {
  const held = { files: { "wasm/fanlight.js": FAKE }, listed: {} };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://-").pathname.slice(1) || "index.html";
    const answer = await fetch(site() + path, { headers: request.headers.range ? { range: request.headers.range } : {} });
    let body = held.files[path] ?? Buffer.from(await answer.arrayBuffer());
    if (path === "sw.js") {
      const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
      const listed = { ...held.files, ...held.listed };
      const files = JSON.parse(/const FILES = (.*);/.exec(body)[1]);
      for (const [name, bytes] of Object.entries(listed)) files[name] = hash(bytes);
      const text = String(body).replace(/const FILES = .*;/, `const FILES = ${JSON.stringify(files)};`);
      body = text.replace(/const VERSION = .*;/, `const VERSION = "${hash(JSON.stringify(files)).slice(0, 16)}";`);
    }
    const type = answer.headers.get("content-type");
    const range = answer.headers.get("content-range");
    response.writeHead(held.files[path] ? 200 : answer.status, { "content-type": type, "cache-control": "no-cache", ...(range && { "content-range": range }) });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  t.after(() => server.close());
  t.after(() => server.closeAllConnections());
  return { held, origin: `http://localhost:${server.address().port}` };
}

/** Opens the page and waits until its service worker has everything. */
async function installed(page, origin) {
  await page.goto(`${origin}/`);
  await ready(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
}

test("after the first visit the page opens and answers without a network", async (t) => {
  const { origin } = await mirror(t);
  const page = await open(t, { serviceWorkers: "allow", servers: [origin], viewport: { width: 1280, height: 800 } });
  await installed(page, origin);
  const urls = await page.evaluate(async () => {
    const caches = await Promise.all((await globalThis.caches.keys()).map((name) => globalThis.caches.open(name)));
    return (await Promise.all(caches.map((cache) => cache.keys()))).flat().map(({ url }) => url);
  });
  assert.deepEqual(urls.filter((url) => !url.startsWith(origin)), []);
  await page.context().setOffline(true);
  await page.reload();
  await page.getByText("Offline", { exact: true }).waitFor();
  await ready(page);
  await sample(page);
  await askAndWait(page, "What does the red button say?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /^Delete account \(1 pictures/);
  const got = await page.evaluate(async () => {
    const lengths = ["wasm/fanlight_bg.wasm", "models/screen-reader/model.safetensors", "models/screen-reader/tokenizer.json", "mediabunny/mediabunny.js"].map(
      async (file) => (await (await fetch(file)).arrayBuffer()).byteLength,
    );
    const piece = await fetch("models/screen-reader/config.json", { headers: { range: "bytes=2-5" } });
    const whole = await (await fetch("models/screen-reader/config.json")).text();
    return { lengths: await Promise.all(lengths), status: piece.status, same: (await piece.text()) === whole.slice(2, 6) };
  });
  assert.ok(got.lengths.every((length) => length > 10_000), "the engine and the model are there");
  assert.deepEqual([got.status, got.same], [206, true], "also pieces of files");
  await assert.rejects(page.evaluate(() => fetch("nothing")), "what is no file of the page is not answered");
  await page.context().setOffline(false);
});

test("a new version is taken whole, when it is asked for and no other tab is at work, or not at all", async (t) => {
  const { held, origin } = await mirror(t);
  const index = await (await fetch(site())).text();
  const titled = (title) => index.replace(/<title>.*<\/title>/, `<title>${title}</title>`);
  held.files = { ...held.files, "index.html": Buffer.from(titled("one")) };
  const page = await open(t, { serviceWorkers: "allow", servers: [origin], viewport: { width: 1280, height: 800 } });
  await installed(page, origin);
  await page.reload();
  await ready(page);

  // A server between two versions: the list is new, a file is not.
  held.listed = { "demo/styles/base.css": Buffer.from("new") };
  const failed = await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    await registration.update().catch(() => {});
    const next = registration.installing ?? registration.waiting;
    while (next && !["redundant", "installed", "activated"].includes(next.state)) await new Promise((resolve) => setTimeout(resolve, 20));
    return next?.state ?? "none";
  });
  assert.ok(["redundant", "none"].includes(failed), failed);
  await page.reload();
  assert.equal(await page.title(), "one");
  await ready(page);

  held.listed = {};
  held.files = { ...held.files, "index.html": Buffer.from(titled("two")) };
  const other = await page.context().newPage();
  await other.goto(`${origin}/`);
  await page.reload();
  assert.equal(await page.title(), "one", "what is kept is shown");
  await page.getByText("A new version of this page is ready.").waitFor();
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("Close the other tabs").waitFor();
  assert.equal(await page.title(), "one");
  await other.close();
  await page.getByRole("button", { name: "Use it" }).click();
  await page.waitForFunction(() => document.title === "two");
  await ready(page);
  assert.equal(await page.evaluate(async () => (await caches.keys()).length), 1, "nothing is left of the version before");
  await askAndWait(page, "Read the text.");
});
