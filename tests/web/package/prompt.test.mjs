// What goes with a prompt to the engine and comes back, with a fake engine behind the real worker.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fakeModel as fake, MODEL } from "../support/fake-model.mjs";
import { withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const LOOK = { type: "function", function: { name: "look", parameters: { type: "object", properties: { place: { type: "string" } } } } };

test("calls come back, and everything of a message reaches the engine", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, { url, tools }) => {
    const model = await load(url);
    const session = await model.session({ tools });
    const answer = session.promptStreaming("call it twice");
    const deltas = [];
    for await (const { toolCall } of answer) if (toolCall) deltas.push(toolCall);
    const { finishReason, toolCalls } = await answer.result;
    const asked = new Promise((resolve) => new BroadcastChannel("asked").addEventListener("message", ({ data }) => resolve(data)));
    await session.prompt([
      { role: "assistant", content: "", reasoning: "Hm.", toolCalls },
      { role: "tool", content: [{ type: "text", text: "a door" }], toolCallId: toolCalls[0].id },
      { role: "assistant", content: "I see", prefix: true },
    ], { toolChoice: "none", logitBias: { 3: -100 }, loopGuard: true });
    const plain = await model.session();
    const none = await plain.prompt("call it");
    model.destroy();
    return { deltas, finishReason, toolCalls, asked: await asked, none };
  }, { url: MODEL, tools: [LOOK] });
  const calls = [0, 1].map((number) => ({ id: `call_${number}`, name: "look", arguments: { number } }));
  assert.deepEqual([seen.deltas, seen.toolCalls, seen.finishReason], [calls, calls, "tool_calls"]);
  assert.deepEqual(seen.asked.messages, [
    { role: "assistant", content: "", reasoning: "Hm.", toolCalls: calls },
    { role: "tool", content: [{ type: "text", text: "a door" }], toolCallId: "call_0" },
    { role: "assistant", content: "I see", prefix: true },
  ]);
  assert.deepEqual(seen.asked.options, { toolChoice: "none", logitBias: { 3: -100 }, loopGuard: true });
  assert.deepEqual(seen.asked.tools, [LOOK]);
  assert.equal(seen.none.toolCalls, undefined, "nobody offered a tool");
});

test("a plan asks the engine what a prompt would, and changes nothing", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, { url, tools }) => {
    const canvas = new OffscreenCanvas(40, 30);
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    const image = await canvas.convertToBlob();
    const messages = [{ role: "system", content: "Be brief." }];
    const prompt = [{ role: "user", content: [{ type: "image", image }, { type: "text", text: "What?" }] }];
    const model = await load(url);
    const alone = await model.plan(prompt, { messages, tools, maxTokens: 5 });
    const session = await model.session({ messages });
    const first = await session.plan(prompt);
    const answer = await session.prompt(prompt);
    const second = await session.plan("And?");
    model.destroy();
    return { alone, first, answer, second };
  }, { url: MODEL, tools: [LOOK] });
  const [plan] = [seen.alone];
  assert.deepEqual(plan.asked.options, { maxTokens: 5, tools: [LOOK] });
  assert.deepEqual(plan.asked.messages.map(({ role }) => role), ["system", "user"]);
  assert.deepEqual([plan.images[0].original, plan.images[0].warnings, plan.videos], [{ width: 40, height: 30 }, ["small"], []]);
  assert.deepEqual(seen.first.asked.messages, plan.asked.messages);
  assert.equal(seen.first.promptTokens, seen.answer.usage.promptTokens);
  assert.deepEqual(seen.second.asked.messages, [{ role: "user", content: "And?" }], "the first messages have been told");
});

test("a JSON answer comes with its value", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const session = await (await load(url)).session();
    const whole = await session.prompt("json {\"a\": [1]}", { responseConstraint: { type: "object" } });
    const other = await session.prompt("json {\"a\": [1]}");
    const cut = await session.prompt("json {\"a\": [1]}", { responseConstraint: { type: "object" }, maxTokens: 1 });
    return { whole, other, cut };
  }, MODEL);
  assert.deepEqual(seen.whole.parsed, { a: [1] });
  assert.ok(!("parsed" in seen.other) && !("parsed" in seen.cut));
});
