// Other containers and formats of weights in the browser: a GGUF pair gives the ids of transformers' goldens
// (tests/golden/make_gguf.py), and floats are quantized on the way where the page asks for it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, withBrowser, withPackage } from "./helpers.mjs";

withBrowser();

const golden = new URL("../golden/", import.meta.url);

/** One tensor of 4-byte integers of a safetensors file. */
async function integers(file, name) {
  const bytes = await readFile(new URL(file, golden));
  const length = Number(bytes.readBigUInt64LE(0));
  const [start, end] = JSON.parse(bytes.subarray(8, 8 + length).toString())[name].data_offsets;
  return Array.from({ length: (end - start) / 4 }, (_, i) => bytes.readInt32LE(8 + length + start + 4 * i));
}

async function answer(page, model, options, messages, maxTokens) {
  return withPackage(page, async ({ load }, { model, options, messages, maxTokens }, caught) => {
    const loading = await caught(load(model, options));
    if (loading.code) return loading;
    const session = await loading.value.session();
    const result = await caught(session.prompt(messages, { maxTokens, temperature: 0 }));
    const { info } = loading.value;
    loading.value.destroy();
    return { ...result, info };
  }, { model, options, messages, maxTokens });
}

test("a GGUF file with its mmproj answers as transformers", async (t) => {
  const page = await open(t);
  const messages = JSON.parse(await readFile(new URL("models/base/text.messages.json", golden), "utf8"));
  const expected = await integers("models/base/text.safetensors", "greedy_ids");
  const { value } = await answer(page, "/golden/gguf/base.gguf", { mmproj: "base-mmproj.gguf" }, messages, 24);
  assert.ok(value.tokenIds.length > 3, "the golden continuation does not end at once");
  assert.deepEqual(value.tokenIds, expected.slice(0, value.tokenIds.length));
});

test("every element type of GGUF in one model answers as transformers", async (t) => {
  const page = await open(t);
  const messages = JSON.parse(await readFile(new URL("gguf/every_type.messages.json", golden), "utf8"));
  const expected = await integers("gguf/every_type.safetensors", "greedy_ids");
  const { value, info } = await answer(page, "/golden/gguf/every_type.gguf", {}, messages, 24);
  assert.equal(info.modelType, "qwen2");
  assert.ok(value.tokenIds.length > 3);
  assert.deepEqual(value.tokenIds, expected.slice(0, value.tokenIds.length));
});

test("a text model refuses a picture in words", async (t) => {
  const page = await open(t);
  const picture = `data:image/png;base64,${(await readFile(new URL("images/page_308x196.png", golden))).toString("base64")}`;
  const content = [{ type: "image", image: picture }, { type: "text", text: "What is this?" }];
  const { code, message } = await answer(page, "/golden/gguf/every_type.gguf", {}, [{ role: "user", content }], 4);
  assert.equal(code, "bad_request");
  assert.match(message, /no vision tower/);
});

test("weights are quantized on the way", async (t) => {
  const page = await open(t);
  const ask = [{ role: "user", content: "Hello" }];
  const load = (weights) => answer(page, "/models/screen-reader/", { weights }, ask, 1);
  const [kept, q8, mixed] = [await load(undefined), await load("q8"), await load({ text: "q4", embeddings: "q8" })];
  assert.ok(q8.info.weightBytes < 0.6 * kept.info.weightBytes, `${q8.info.weightBytes} of ${kept.info.weightBytes}`);
  assert.ok(mixed.info.weightBytes < kept.info.weightBytes && mixed.info.weightBytes > 0.3 * kept.info.weightBytes);
  const wrong = await load("q3");
  assert.equal(wrong.code, "bad_request");
});
