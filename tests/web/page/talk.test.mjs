// Questions about pictures on the demonstration page, and what is done with the answers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { answered, ask, askAndWait, attached, chooseFile, demo, file, lastAnswer, misplacement, ready, sample, shows } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";

withBrowser();

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
      const happened = new kind(event, { [field]: data, bubbles: true, cancelable: true });
      // Firefox gives no files to a ClipboardEvent that a script makes.
      if (!happened[field]?.files.length) Object.defineProperty(happened, field, { value: data });
      document.body.dispatchEvent(happened);
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
