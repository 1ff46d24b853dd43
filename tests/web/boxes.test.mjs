// Boxes out of answers: pure functions, no browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import { boxes } from "../../www/dist/src/boxes.js";

const size = (width, height) => ({ width, height });
const image = { original: size(1000, 500), resized: size(500, 280) };

test("boxes are scaled from the picture the model saw to the picture itself", () => {
  const text = 'Here:\n```json\n[\n  {"bbox_2d": [50, 28, 100, 140], "label": "OK"},\n{"bbox_2d":[0,0,500,280]}\n]\n```';
  assert.deepEqual(boxes(text, image), [
    { x: 100, y: 50, width: 100, height: 200, label: "OK" },
    { x: 0, y: 0, width: 1000, height: 500, label: "" },
  ]);
});

test("a cut-off end, swapped corners and corners outside are tolerated; nonsense is left out", () => {
  const text =
    '[{"bbox_2d":[100,140,50,28],"text_content":"a"},{"bbox_2d":[-9,0,9999,28]},{"bbox_2d":[1,2,3]},{"bbox_2d":["1",2,3,4]},{"bbox_2d":[1,2,';
  assert.deepEqual(boxes(text, image), [
    { x: 100, y: 50, width: 100, height: 200, label: "a" },
    { x: 0, y: 0, width: 1000, height: 50, label: "" },
  ]);
  assert.deepEqual(boxes("no boxes here", image), []);
});
