// Shows a recorded answer in browsers that cannot run a model, so that visitors see what the page does.

import { h, part } from "../base/dom.js";
import { stage } from "./stage.js";

/** The recorded answer of the demonstration model about the sample picture. */
const RECORDED = {
  question: "Locate the red button.",
  answer: '[{"bbox_2d": [33, 230, 129, 264], "label": "Cancel"}]',
  box: [33, 230, 129, 264] as [number, number, number, number],
};

const BROWSERS = [
  "Chrome or Edge 113 and newer, on Windows, macOS, ChromeOS and Android",
  "Safari 26, on macOS, iOS and iPadOS",
  "Firefox 141 on Windows, 145 on macOS",
];

export async function showExample(): Promise<void> {
  if (document.getElementById("without")) return;
  part("tiny").hidden = true;
  part("intro").append(
    h(
      "div",
      { class: "stack", attrs: { id: "without" } },
      h("h3", {}, "Where it runs"),
      h("ul", { class: "plain" }, ...BROWSERS.map((name) => h("li", {}, name))),
      h("h3", {}, "What it looks like"),
      h("p", { class: "facts" }, "Recorded with the demonstration model:"),
      h("div", { class: "asked" }, h("p", { class: "question" }, RECORDED.question)),
      h("pre", { attrs: { tabindex: "0" } }, h("code", {}, RECORDED.answer)),
    ),
  );
  try {
    const blob = await (await fetch("public-sample/sample-screen.png")).blob();
    const picture = { kind: "image" as const, blob, url: URL.createObjectURL(blob), name: "the sample screen, recorded" };
    await stage.show(picture, [{ located: { kind: "box", at: RECORDED.box, label: "Cancel", image: 0 }, number: 0, hue: 0 }]);
  } catch {
    // If the picture cannot be shown, the text is enough.
  }
}
