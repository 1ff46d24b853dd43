// Constrained answers with the real engine, the real grammar module and the embedded model.

import assert from "node:assert/strict";
import { test } from "node:test";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const SCHEMA = {
  type: "object",
  properties: { label: { enum: ["Save", "Cancel", "Delete"] }, box: { type: "array", items: { type: "integer", minimum: 0, maximum: 999 }, minItems: 4, maxItems: 4 } },
  required: ["label", "box"],
  additionalProperties: false,
};

test("answers are what a schema, an expression and a grammar allow; their part is fetched when it is first needed", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const fetched = [];
  page.context().on("request", (request) => fetched.push(new URL(request.url()).pathname));
  const count = () => fetched.filter((path) => path.includes("fanlight_grammar")).length;
  const plain = await withPackage(page, async ({ load }) => {
    globalThis.model = await load("/models/screen-reader/");
    const picture = await (await fetch("/public-sample/sample-screen.png")).blob();
    globalThis.content = [{ type: "image", image: picture }, { type: "text", text: "Locate the red button." }];
    globalThis.session = await model.session();
    return session.prompt([{ role: "user", content }], { maxTokens: 4 });
  });
  assert.equal(plain.parsed, undefined);
  assert.equal(count(), 0, "nothing of it for an answer that may be anything");
  const seen = await withPackage(page, async (_, schema) => {
    const ask = async (responseConstraint, options = {}) => {
      const session = await model.session();
      const deltas = [];
      const answer = session.promptStreaming([{ role: "user", content }], { responseConstraint, maxTokens: 120, ...options });
      for await (const { text } of answer) deltas.push(text);
      session.destroy();
      const result = await answer.result;
      return { ...result, streamed: deltas.join("") };
    };
    const out = { greedy: await ask(schema), drawn: [] };
    for (const seed of [1, 2]) out.drawn.push(await ask(schema, { temperature: 1.5, seed }));
    out.regex = await ask(/(yes|no), #[0-9a-f]{6}/i, { temperature: 1, seed: 3 });
    out.lark = await ask({ lark: 'start: "[" NUMBER ("," NUMBER)* "]"\nNUMBER: /[0-9]{1,3}/' }, { maxTokens: 60 });
    out.cut = await ask(schema, { maxTokens: 3 });
    return out;
  }, SCHEMA);
  for (const result of [seen.greedy, ...seen.drawn]) {
    assert.equal(result.streamed, result.text);
    if (result.finishReason !== "stop") {
      assert.equal(result.finishReason, "length");
      assert.equal(result.parsed, undefined);
      continue;
    }
    assert.deepEqual(result.parsed, JSON.parse(result.text));
    assert.deepEqual(Object.keys(result.parsed).sort(), ["box", "label"]);
    assert.ok(SCHEMA.properties.label.enum.includes(result.parsed.label));
    assert.ok(result.parsed.box.length === 4 && result.parsed.box.every((n) => Number.isInteger(n) && n >= 0 && n <= 999));
  }
  assert.equal(seen.greedy.finishReason, "stop", seen.greedy.text);
  assert.match(seen.regex.text, /^(yes|no), #[0-9a-f]{6}$/i);
  assert.equal(seen.regex.finishReason, "stop");
  assert.equal(seen.regex.parsed, undefined);
  if (seen.lark.finishReason === "stop") assert.match(seen.lark.text, /^\[\d{1,3}(,\d{1,3})*\]$/);
  else assert.match(seen.lark.text, /^\[(\d{1,3},)*\d{0,3}$/);
  assert.deepEqual([seen.cut.finishReason, seen.cut.parsed, seen.cut.tokenIds.length], ["length", undefined, 3]);
  assert.equal(count(), 2, `once, for all of them: ${fetched}`);
});

test("what cannot be a constraint is refused, and the session goes on", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const seen = await withPackage(page, async ({ load }, _, caught) => {
    const model = await load("/models/screen-reader/");
    const session = await model.session();
    const ask = (responseConstraint, options = {}) => caught(session.prompt("Hello", { responseConstraint, maxTokens: 8, ...options }));
    const refused = [];
    for (const wrong of [/(?=a)b/, /(a)\1/, { type: "nothing" }, { oneOf: [{ minimum: 1 }, { maximum: 2 }] }, { lark: "start" }, "text", null, []]) {
      refused.push(await ask(wrong));
    }
    const stop = await ask(/a+/, { stop: ["b"] });
    const circle = {};
    circle.self = circle;
    const cyclic = await ask(circle);
    const after = await ask(/yes|no/);
    const plain = await caught(session.prompt("Hello", { maxTokens: 2 }));
    const tools = [{ type: "function", function: { name: "press", strict: true, parameters: { type: "object", properties: { id: { enum: [7] } }, required: ["id"], additionalProperties: false } } }];
    const calling = await model.session({ tools });
    const call = await caught(calling.prompt("Press it", { toolChoice: "required", maxTokens: 80 }));
    const named = await caught(calling.prompt("Press it", { toolChoice: { type: "function", function: { name: "pull" } } }));
    model.destroy();
    return { refused, stop, cyclic, after, plain, call, named };
  });
  for (const error of [...seen.refused, seen.stop, seen.cyclic, seen.named]) {
    assert.equal(error.code, "bad_request", JSON.stringify(error));
    assert.equal(error.name, "FanlightError");
    assert.ok(error.hint.length > 0 && error.message.length < 900);
  }
  assert.match(seen.refused[0].message, /lookaround/);
  assert.ok(["yes", "no"].includes(seen.after.value.text));
  assert.equal(typeof seen.plain.value.text, "string");
  assert.ok(seen.call.value, JSON.stringify(seen.call));
});
