// Other containers and formats of weights in the browser: a GGUF pair gives the ids of transformers' goldens
// (tests/golden/make_gguf.py), and floats are quantized on the way where the page asks for it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";
import { startHub } from "../support/hub-server.mjs";

withBrowser();

const golden = new URL("../../golden/", import.meta.url);

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
    const result = await caught(session.prompt(messages, { maxTokens, temperature: 0, repetitionPenalty: 1 }));
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

test("keys and values in 8 bits answer nearly as transformers", async (t) => {
  const page = await open(t);
  const messages = JSON.parse(await readFile(new URL("models/base/text.messages.json", golden), "utf8"));
  const expected = await integers("models/base/text.safetensors", "greedy_ids");
  const options = { mmproj: "base-mmproj.gguf", kvCache: "q8" };
  const { value, info } = await answer(page, "/golden/gguf/base.gguf", options, messages, 24);
  assert.equal(info.kvCache, "q8");
  assert.equal(value.tokenIds[0], expected[0]);
  const { code, message } = await answer(page, "/golden/gguf/base.gguf", { ...options, kvCache: "q5" }, messages, 4);
  assert.equal(code, "bad_request");
  assert.match(message, /f32 or q8/);
});

/** A golden's messages as a page writes them: pictures by their addresses, a video as a list of them. */
function onPage(messages) {
  const address = (path) => `/golden/images/${path.split("/").at(-1)}`;
  const part = (p) => {
    if (p.type === "image") return { ...p, image: address(p.image) };
    if (p.type !== "video") return p;
    const { video, min_pixels: minPixels, sample_fps: fps, timestamps } = p;
    return { type: "video", video: { frames: video.map(address), fps, timestamps }, minPixels };
  };
  return messages.map((m) => ({ ...m, content: typeof m.content === "string" ? m.content : m.content.map(part) }));
}

for (const model of ["base", "qwen2_vl", "qwen3_vl"]) {
  test(`a picture and a video answer as transformers: ${model}`, async (t) => {
    const page = await open(t);
    for (const name of ["image", "video"]) {
      const messages = onPage(JSON.parse(await readFile(new URL(`models/${model}/${name}.messages.json`, golden), "utf8")));
      const expected = await integers(`models/${model}/${name}.safetensors`, "greedy_ids");
      const prompt = await integers(`models/${model}/${name}.safetensors`, "input_ids");
      const { value } = await answer(page, `/golden/models/${model}/`, {}, messages, 24);
      assert.equal(value.usage.promptTokens, prompt.length, name);
      assert.ok(value.tokenIds.length > 3, name);
      assert.deepEqual(value.tokenIds, expected.slice(0, value.tokenIds.length), name);
    }
  });
}

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

test("what loading takes is known before, and auto keeps to a given memory", async (t) => {
  const page = await open(t);
  const asked = [];
  page.on("request", (request) => asked.push(request.headers().range ?? request.url()));
  const plan = (options) =>
    withPackage(page, async ({ estimate }, options, caught) => caught(estimate("/models/screen-reader/", options)), options);
  const { value: kept } = await plan({});
  const sum = ({ weightBytes }) => Object.values(weightBytes).reduce((total, bytes) => total + bytes, 0);
  assert.ok(kept.fits && kept.downloadBytes > 9e6 && sum(kept) > 9e6 && kept.totalBytes > sum(kept) + kept.kvBytes);
  assert.ok(kept.largestBuffer.bytes < kept.largestBuffer.limit);
  assert.ok(!asked.some((range) => range === `bytes=0-${kept.downloadBytes}`), "only the beginnings of large files are read");
  const memory = Math.round(0.8 * kept.totalBytes);
  const { value: less } = await plan({ weights: "auto", memory });
  assert.ok(less.fits && less.totalBytes <= memory && less.decisions.length > 0, less.reason);
  const { value: nothing } = await plan({ weights: "auto", memory: 1_000_000 });
  assert.equal(nothing.fits, false);
  const { value: light } = await plan({ kvCache: "q8" });
  assert.deepEqual([kept.kvCache, light.kvCache], ["f32", "q8"]);
  assert.ok(light.kvBytes < 0.4 * kept.kvBytes && light.fits, light.reason);

  const load = (options) =>
    withPackage(page, async ({ load }, options, caught) => {
      const loaded = await caught(load("/models/screen-reader/", options));
      loaded.value?.destroy();
      return loaded.value ? { info: loaded.value.info } : loaded;
    }, options);
  const { info } = await load({ weights: "auto", memory });
  assert.equal(info.weightBytes, sum(less));
  assert.equal(info.contextLength, less.contextLength);
  assert.deepEqual(info.decisions, less.decisions);
  const refused = await load({ weights: "auto", memory: 1_000_000 });
  assert.equal(refused.code, "oom");
  assert.match(refused.hint, /lower|smaller/i);
});

test("quantized weights are kept in place of the files, and the next start reads only them", async (t) => {
  const files = Object.fromEntries(
    await Promise.all(
      ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"].map(
        async (name) => [name, await readFile(new URL(`../../../models/screen-reader/${name}`, import.meta.url))],
      ),
    ),
  );
  const hub = await startHub(t, { files, token: "hf_secret" });
  const page = await open(t, { servers: hub.servers });
  const picture = `data:image/png;base64,${(await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url))).toString("base64")}`;
  const content = [{ type: "image", image: picture }, { type: "text", text: "What does the red button say?" }];
  const ask = () => {
    const options = { endpoint: hub.endpoint, token: "hf_secret", cache: "quantized", weights: { text: "q8", embeddings: "q8" } };
    return answer(page, hub.repo, options, [{ role: "user", content }], 16);
  };
  const first = await ask();
  assert.equal(first.info?.cache.kind, "quantized", first.message ?? first.info?.cache.reason);
  const elsewhere = hub.requests.filter(({ place }) => place === "cdn");
  assert.ok(elsewhere.length > 0 && elsewhere.every(({ authorization }) => authorization === undefined), "the token stays at the endpoint");
  const kept = () => withPackage(page, async ({ models }) => ({ list: await models.list(), size: await models.size() }));
  const { list, size } = await kept();
  assert.equal(list[0].complete, true);
  assert.ok(size < files["model.safetensors"].length, `${size} bytes are kept`);
  hub.requests.length = 0;
  const second = await ask();
  assert.deepEqual(second.value.tokenIds, first.value.tokenIds);
  assert.equal(second.info.weightBytes, first.info.weightBytes);
  assert.equal(second.info.cache.networkBytes, 0);
  assert.deepEqual(hub.requests.map(({ path }) => path), [`/api/models/${hub.repo}/revision/main`]);
  const available = (options) =>
    withPackage(page, async ({ availability }, [repo, options]) => availability(repo, options), [hub.repo, { endpoint: hub.endpoint, ...options }]);
  hub.requests.length = 0;
  assert.equal(await available({ cache: "quantized", weights: { text: "q8", embeddings: "q8" } }), "available");
  assert.equal(await available({ cache: "quantized", weights: "q8" }), "downloadable", "other formats need the files again");
  assert.equal(await available({}), "downloadable", "the files are gone");
  assert.equal(hub.requests.length, 0);
  await withPackage(page, async ({ models }) => models.remove("Org/Model"));
  assert.equal((await kept()).size, 0);
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
