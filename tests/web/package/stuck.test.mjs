// A worker that is stuck, and inputs that never arrive: aborted calls settle within a second or two, nothing else waits for them, and a
// model whose worker had to be ended can be used again.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fakeModel, MODEL } from "../support/fake-model.mjs";
import { withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

test("a video that never arrives keeps no other conversation waiting, and its prompt can be aborted", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const [one, two] = [await model.session(), await model.session()];
    const stop = new AbortController();
    const never = { async *[Symbol.asyncIterator]() { await new Promise(() => {}); } };
    const video = [{ role: "user", content: [{ type: "video", video: never }, { type: "text", text: "?" }] }];
    const stuck = caught(one.prompt(video, { signal: stop.signal }));
    const other = await two.prompt("Read");
    const third = await model.session();
    const begin = performance.now();
    stop.abort();
    const aborted = await stuck;
    return { other: other.finishReason, third: (await third.prompt("Read")).finishReason, aborted: aborted.code, ms: performance.now() - begin, again: (await one.prompt("Read")).finishReason };
  }, MODEL);
  assert.deepEqual([seen.other, seen.third, seen.aborted, seen.again], ["stop", "stop", "aborted", "stop"]);
  assert.ok(seen.ms < 5000, `${seen.ms} ms`);
});

test("a <video> that never gets to a time is given up", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const video = document.createElement("video");
    // It says that it has metadata, and never that it has sought.
    Object.defineProperties(video, {
      readyState: { value: 4 }, duration: { value: 3 }, videoWidth: { value: 8 }, videoHeight: { value: 8 },
      currentSrc: { value: "blob:nothing" }, src: { value: "blob:nothing" }, currentTime: { value: 0, writable: true },
    });
    const own = globalThis.setTimeout;
    globalThis.setTimeout = (work, ms, ...rest) => own(work, ms > 10_000 ? 200 : ms, ...rest);
    const session = await model.session();
    return caught(session.prompt([{ role: "user", content: [{ type: "video", video }, { type: "text", text: "?" }] }]));
  }, MODEL);
  assert.equal(seen.code, "bad_video", seen.message);
  assert.match(seen.message, /"seeked" never came/);
});

test("an aborted call settles while the worker is busy in wasm; a worker that stays so is replaced, and the model works again", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const { watch } = await import("/src/page/link.js");
    watch.beatMs = 300;
    const workers = [];
    const Native = Worker;
    globalThis.Worker = class extends Native { constructor(...a) { super(...a); workers.push(this); } };
    const model = await load(url);
    const events = [];
    for (const event of ["devicelost", "recovered"]) model.on(event, ({ message }) => events.push([event, message]));
    const session = await model.session();
    const said = await session.prompt("Read");
    const stop = new AbortController();
    const begin = performance.now();
    const stuck = caught(session.prompt("block", { signal: stop.signal }));
    await new Promise((resolve) => setTimeout(resolve, 200));
    const [behind, before] = [caught(model.session()), caught(session.clone())];
    stop.abort();
    const aborted = await stuck;
    const ms = performance.now() - begin;
    const lost = await before;
    const after = await behind;
    const other = await model.session();
    const again = await other.prompt("Read");
    const old = await caught(session.prompt("Read"));
    const chat = await model.chat.completions.create({ messages: [{ role: "user", content: "Read" }] });
    return { said: said.finishReason, aborted: aborted.code, ms, lost: lost.code, after: after.code, again: again.text === said.text, old, chat: chat.choices[0].finish_reason, events, workers: workers.length };
  }, MODEL);
  assert.equal(seen.aborted, "aborted");
  assert.ok(seen.ms < 2500, `${seen.ms} ms`);
  assert.deepEqual([seen.lost, seen.after], ["aborted", undefined], "what needs no conversation of the old worker is done by the new one");
  assert.equal(seen.again, true);
  assert.equal(seen.old.code, "aborted");
  assert.match(seen.old.hint, /new session/);
  assert.equal(seen.chat, "stop");
  assert.deepEqual(seen.events.map(([event]) => event), ["devicelost", "recovered"]);
  assert.match(seen.events[0][1], /did not answer/);
  assert.equal(seen.workers, 2);
});

test("a worker that is busy for a while, and not for good, keeps its conversations", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const { watch } = await import("/src/page/link.js");
    watch.beatMs = 300;
    const model = await load(url);
    const session = await model.session();
    await session.prompt("Read");
    const busy = await session.prompt("block 1500");
    return { busy: busy.finishReason, said: busy.said.length };
  }, MODEL);
  assert.deepEqual([seen.busy, seen.said], ["stop", 4]);
});

test("chat completions go on after their conversation was lost with a worker", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const { watch } = await import("/src/page/link.js");
    watch.beatMs = 200;
    const model = await load(url);
    const ask = (content, signal) => caught(model.chat.completions.create({ messages: [{ role: "user", content }] }, { signal }));
    const first = await ask("Read");
    const stuck = await ask("block", AbortSignal.timeout(300));
    const next = [await ask("Read"), await ask("Read")];
    return { first: first.code, stuck: stuck.code, next: next.map(({ value, code }) => value?.choices[0].finish_reason ?? code) };
  }, MODEL);
  assert.equal(seen.first, undefined);
  assert.equal(seen.stuck, "aborted");
  assert.equal(seen.next[1], "stop", JSON.stringify(seen.next));
});

for (const call of ["session.plan('trap')", "session.append([{ role: 'user', content: 'synchronous trap' }])"]) {
  test(`a trap in ${call} closes the model at once, as every trap does`, async (t) => {
    const page = await fakeModel(t);
    const body = `async ({ load }, url, caught) => {
      const model = await load(url);
      const session = await model.session();
      const trapped = await caught(${call});
      const reason = await model.closed;
      return [trapped.code, reason.code, (await caught(session.prompt("Read"))).code];
    }`;
    assert.deepEqual(await withPackage(page, body, MODEL), ["internal", "internal", "internal"]);
  });
}

test("half a character in any text becomes the replacement character", async (t) => {
  const page = await fakeModel(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const session = await (await load(url)).session();
    const half = "👋".slice(0, 1);
    const { messages } = await session.prompt([
      { role: "user", content: [{ type: "text", text: `a${half}b 👋 \\ud83d \\\\${half}` }] },
      { role: "assistant", content: "", toolCalls: [{ id: "1", name: "f", arguments: { [half]: half } }] },
      { role: "user", content: "Read" },
    ]);
    return [messages[0].content[0].text, messages[1].toolCalls[0].arguments];
  }, MODEL);
  assert.deepEqual(seen, ["a\ufffdb 👋 \\ud83d \\\\\ufffd", { "\ufffd": "\ufffd" }]);
});
