// The package's promises, with a fake engine behind the real worker: everything settles, every failure is a
// FanlightError, and what one call does never harms the next.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fakeModel, MODEL } from "../support/fake-model.mjs";
import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const fake = (t, respond) => fakeModel(t, { respond });

test("loads with progress, answers in pieces, and tells what it did", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const phases = [];
    const model = await load(url, { onProgress: ({ phase }) => phases.push(phase) });
    const session = await model.session();
    const pieces = [];
    const answer = session.promptStreaming("What does the red button say?");
    for await (const { text } of answer) pieces.push(text);
    const result = await answer.result;
    const second = await session.prompt("Read the text.");
    model.destroy();
    return { phases, info: model.info, pieces, result, second };
  }, MODEL);
  assert.ok(seen.phases[0] === "resolve" && seen.phases.includes("upload") && seen.phases.includes("compile"));
  assert.equal(seen.info.modelType, "qwen2_5_vl");
  assert.equal(typeof seen.info.adapter.software, "boolean");
  assert.ok(seen.info.loadMs > 0);
  assert.ok(seen.pieces.length > 1);
  assert.equal(seen.pieces.join(""), seen.result.text);
  assert.equal(seen.result.finishReason, "stop");
  assert.ok(seen.second.usage.cachedTokens > 0, "the second prompt continues the first");
});

test("an answer comes with what it locates, and a model reads texts on request", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const session = await model.session();
    const { located } = await session.prompt("Locate it.");
    const info = { original: { width: 40, height: 30 }, resized: { width: 56, height: 28 }, tokens: 2, more: () => {} };
    const read = [
      await model.locate("a text", [info, info]),
      await model.document("<p>a page</p>", info),
      await model.events("a story"),
    ];
    model.destroy();
    return { located, read, after: await caught(model.events("a story")) };
  }, MODEL);
  const labels = seen.located.map(({ kind, at, label }) => [kind, at.length, label]);
  assert.deepEqual(labels, [["box", 4, "Delete"], ["box", 4, "Cancel"]]);
  assert.deepEqual(seen.located[0].at, [154, 98, 308, 196]);
  assert.deepEqual(seen.read, [
    [{ kind: "point", at: [56, 2], label: "a text", image: 0 }],
    [{ tag: "p", box: [0, 0, 40, 30], text: "<p>a page</p>", html: "<p>a page</p>" }],
    [{ start: 1.5, label: "a story" }],
  ]);
  assert.equal(seen.after.code, "aborted");
});

test("an abort ends the answer with what was written, and the session goes on", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const model = await load(url);
    const session = await model.session();
    const stop = new AbortController();
    const answer = session.promptStreaming("wait", { signal: stop.signal });
    let pieces = 0;
    for await (const _ of answer) if (++pieces === 3) stop.abort();
    const before = await session.prompt("wait", { signal: AbortSignal.abort() });
    return { pieces, first: await answer.result, before, next: await session.prompt("Read") };
  }, MODEL);
  assert.equal(seen.first.finishReason, "abort");
  assert.equal(seen.first.text.split(" ").length - 1, seen.pieces);
  assert.equal(seen.before.finishReason, "abort");
  assert.equal(seen.before.text, "");
  assert.equal(seen.next.finishReason, "stop");
});

test("leaving the loop early, or destroying the session, ends the answer too", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const session = await model.session();
    const left = session.promptStreaming("wait");
    for await (const _ of left) break;
    const first = await left.result;
    const pending = session.prompt("wait");
    session.destroy();
    session.destroy();
    return { first, second: await pending, third: await caught(session.prompt("Read")) };
  }, MODEL);
  assert.equal(seen.first.finishReason, "abort");
  assert.equal(seen.second.finishReason, "abort");
  assert.equal(seen.third.code, "aborted");
});

test("an engine's error arrives with its fields, once, and harms nothing else", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load, FanlightError }, url, caught) => {
    const model = await load(url);
    const session = await model.session();
    const direct = await caught(session.prompt("throw"));
    const answer = session.promptStreaming("throw");
    const looped = await caught((async () => { for await (const _ of answer); })());
    const isOurs = await answer.result.catch((e) => e instanceof FanlightError && e instanceof Error);
    return { direct, looped, isOurs, next: await session.prompt("Read") };
  }, MODEL);
  for (const error of [seen.direct, seen.looped]) {
    assert.deepEqual(error, { name: "FanlightError", code: "oom", message: "a fault on order", hint: "", retryable: true });
  }
  assert.equal(seen.isOurs, true);
  assert.equal(seen.next.finishReason, "stop");
});

for (const [what, end] of [
  ["a trap in the engine", "session.prompt('trap').catch(() => {})"],
  ["a worker that dies without a word", "workers[0].terminate()"],
  ["destroy", "model.destroy()"],
]) {
  test(`${what} settles everything that is pending and everything after`, async (t) => {
    const page = await fake(t);
    const body = `async ({ load }, url, caught) => {
      const workers = [];
      const Native = Worker;
      globalThis.Worker = class extends Native { constructor(...a) { super(...a); workers.push(this); } };
      const model = await load(url);
      const session = await model.session();
      const pending = ${what.startsWith("a trap") ? "session.prompt('Read').then(() => session.prompt('silent'))" : "session.prompt('silent')"};
      const queued = ${what.startsWith("a trap") ? "pending" : "model.session()"};
      ${end};
      const reason = await model.closed;
      return { reason: reason.code, all: await Promise.all([pending, queued, session.prompt("Read"), model.session()].map(caught)) };
    }`;
    const seen = await withPackage(page, body, MODEL);
    const code = what === "destroy" ? "aborted" : "internal";
    assert.equal(seen.reason, code);
    assert.deepEqual(seen.all.map((e) => e.code), [code, code, code, code]);
  });
}

test("loading can be aborted before and while it runs", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const stop = new AbortController();
    const onProgress = ({ phase }) => phase === "upload" && stop.abort();
    return [
      await caught(load(url, { signal: AbortSignal.abort() })),
      await caught(load(url, { signal: stop.signal, onProgress })),
    ];
  }, MODEL);
  assert.deepEqual(seen.map(({ code }) => code), ["aborted", "aborted"]);
});

const codeOf = async (t, respond, setup) => {
  const page = await fakeModel(t, { respond, setup });
  return withPackage(page, async ({ load }, url, caught) => caught(load(url)), MODEL);
};
const withoutEngine = notInFirefox("a module that Playwright answers with an error never ends loading there; Firefox by itself reports it");

test("an engine that is not there is named", withoutEngine, async (t) => {
  const noEngine = await codeOf(t, undefined, (p) => p.route("**/wasm/fanlight.js", (route) => route.fulfill({ status: 404 })));
  assert.equal(noEngine.code, "network");
});

test("failures while loading name what failed", async (t) => {
  const missing = await codeOf(t, (route) => route.fulfill({ status: 404 }));
  assert.equal(missing.code, "not_found");
  const broken = await codeOf(t, (route) => route.fulfill({ body: "<!doctype html>" }));
  assert.equal(broken.code, "internal", "the fake engine lets its own parse error through");
  const refused = await codeOf(t, (route) => route.abort());
  assert.equal(refused.code, "network");
  assert.equal(refused.retryable, true);
  const login = await codeOf(t, (route) => route.fulfill({ status: 403 }));
  assert.equal(login.code, "auth");
  assert.match(login.hint, /token/);
  const noWorker = await codeOf(t, undefined, (p) => p.route("**/src/worker/worker.js", (route) => route.fulfill({ status: 404 })));
  assert.equal(noWorker.code, "network");
  assert.match(noWorker.message, /src\/worker\/worker\.js answered 404/);
  const hidden = "Object.defineProperty(navigator, 'gpu', { value: undefined });\n";
  const noGpu = await codeOf(t, undefined, (p) =>
    p.route("**/src/worker/worker.js", async (route) => {
      const response = await route.fetch();
      return route.fulfill({ response, body: hidden + (await response.text()) });
    }),
  );
  assert.equal(noGpu.code, "webgpu_unavailable");
  assert.match(noGpu.hint, /Chrome/);
});

test("pictures of every kind arrive as encoded bytes; what is none is refused", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const canvas = Object.assign(document.createElement("canvas"), { width: 30, height: 20 });
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    const bytes = await blob.arrayBuffer();
    const image = new Image();
    image.src = canvas.toDataURL();
    await image.decode();
    const sources = [
      blob, bytes, new Uint8Array(bytes), new DataView(bytes), URL.createObjectURL(blob), new URL(URL.createObjectURL(blob)),
      canvas, canvas.getContext("2d").getImageData(0, 0, 30, 20), await createImageBitmap(canvas), image,
      new OffscreenCanvas(30, 20),
    ];
    const sizes = [];
    for (const source of sources) {
      const session = await model.session();
      const content = [{ type: "image", image: source, maxPixels: 100_000 }, { type: "text", text: "What is it?" }];
      const { images } = await session.prompt([{ role: "user", content }]);
      sizes.push(images[0].original);
      session.destroy();
    }
    const session = await model.session();
    const ask = (...images) =>
      caught(session.prompt([{ role: "user", content: [...images.map((image) => ({ type: "image", image })), { type: "text", text: "?" }] }]));
    return {
      sizes,
      broken: await ask(new Blob(["no picture"])),
      gone: await ask("/no-such-picture.png"),
      empty: await ask(new OffscreenCanvas(0, 0)),
      two: await ask(blob, canvas),
    };
  }, MODEL);
  for (const size of seen.sizes) assert.deepEqual(size, { width: 30, height: 20 });
  assert.equal(seen.broken.code, "bad_image");
  assert.equal(seen.gone.code, "not_found");
  assert.equal(seen.empty.code, "bad_image");
  assert.equal(seen.two.value.images.length, 2);
});

test("support() tells what this browser has", async (t) => {
  const page = await open(t);
  const there = await withPackage(page, ({ support }) => support());
  assert.equal(there.webgpu, true);
  assert.ok(there.limits.maxStorageBufferBindingSize >= 128 * 1024 * 1024);
  const gone = await withPackage(page, ({ support }) => {
    Object.defineProperty(navigator, "gpu", { value: undefined });
    return support();
  });
  assert.equal(gone.webgpu, false);
  assert.ok(gone.reason && gone.hint);
});
