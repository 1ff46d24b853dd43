// The state of conversations, with a fake engine behind the real worker: what clones and appended messages do to it, what
// failures leave of it, and that everything settles whatever happens.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fakeModel as fake, MODEL } from "../support/fake-model.mjs";
import { withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

test("what is appended is part of the conversation, and of its clones", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const model = await load(url);
    const session = await model.session({ messages: [{ role: "system", content: "Be brief." }] });
    const early = await session.clone();
    await session.append([{ role: "user", content: "One." }, { role: "user", content: "Two." }]);
    const clone = await session.clone();
    const first = await session.prompt("Three?");
    const other = await clone.prompt("Four?");
    return {
      first: first.said,
      other: other.said,
      again: (await session.prompt("Five?")).said,
      early: (await early.prompt("Six?")).said,
      cloneOfClone: (await (await clone.clone()).prompt("Seven?")).said,
    };
  }, MODEL);
  const questions = (said) => said.filter((text) => !text.startsWith("Delete account"));
  assert.deepEqual(questions(seen.first), ["Be brief.", "One.", "Two.", "Three?"]);
  assert.deepEqual(questions(seen.other), ["Be brief.", "One.", "Two.", "Four?"]);
  assert.deepEqual(questions(seen.again), ["Be brief.", "One.", "Two.", "Three?", "Five?"]);
  assert.deepEqual(questions(seen.early), ["Be brief.", "Six?"]);
  assert.deepEqual(questions(seen.cloneOfClone), ["Be brief.", "One.", "Two.", "Four?", "Seven?"]);
});

test("contextUsage is true after everything, and contextWindow is the model's", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const session = await model.session();
    const usage = [session.contextUsage];
    const note = async (promise) => {
      const outcome = await caught(promise);
      usage.push(session.contextUsage);
      return outcome;
    };
    await note(session.append([{ role: "user", content: "One." }]));
    const { value: result } = await note(session.prompt("Two?"));
    await note(session.prompt("throw"));
    await note(session.append([{ role: "user", content: "throw" }]));
    const stop = new AbortController();
    const pending = note(session.append([{ role: "user", content: "wait" }], { signal: stop.signal }));
    setTimeout(() => stop.abort(), 50);
    const aborted = await pending;
    const clone = await session.clone();
    const cloned = clone.contextUsage;
    await clone.prompt("Three?");
    return { usage, result, aborted, cloned, grown: clone.contextUsage, window: [session.contextWindow, clone.contextWindow], last: session.contextUsage };
  }, MODEL);
  const { promptTokens, completionTokens } = seen.result.usage;
  const full = promptTokens + completionTokens;
  assert.deepEqual(seen.usage, [0, 20, full, full, full, full]);
  assert.equal(seen.aborted.code, "aborted");
  assert.equal(seen.cloned, full);
  assert.ok(seen.grown > full);
  assert.equal(seen.last, full, "a clone that goes on changes nothing here");
  assert.deepEqual(seen.window, [2048, 2048]);
});

test("calls of a session run in their order, those of its clone beside them", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url) => {
    const model = await load(url);
    const session = await model.session();
    const order = [];
    const note = (name) => (value) => (order.push(name), value);
    const clones = [];
    await Promise.all([
      session.append([{ role: "user", content: "One." }]).then(note("append")),
      session.clone().then(note("clone")).then((clone) => clones.push(clone)),
      session.prompt("Two?").then(note("prompt")),
      session.append([{ role: "user", content: "Three." }]).then(note("append")),
    ]);
    return { order, said: (await clones[0].prompt("Four?")).said };
  }, MODEL);
  assert.deepEqual(seen.order, ["append", "clone", "prompt", "append"]);
  assert.deepEqual(seen.said.slice(0, 2), ["One.", "Four?"], "a clone has what was pending before it, and nothing after");
});

test("an append that is aborted leaves the conversation as it was, wherever it is", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const session = await model.session({ messages: [{ role: "system", content: "Be brief." }] });
    const one = [{ role: "user", content: "wait" }];
    const stop = new AbortController();
    const running = caught(session.append(one, { signal: stop.signal }));
    const queued = caught(session.append(one, { signal: stop.signal }));
    setTimeout(() => stop.abort(), 50);
    const before = caught(session.append(one, { signal: AbortSignal.abort() }));
    const codes = (await Promise.all([running, queued, before])).map(({ code }) => code);
    // While a picture is on its way to the page, which may be for ever.
    const fetching = globalThis.fetch;
    globalThis.fetch = async () => new Response(new ReadableStream({ start() {} }));
    const slow = new AbortController();
    const picture = [{ role: "user", content: [{ type: "image", image: "/slow.png" }] }];
    const reading = caught(session.append(picture, { signal: slow.signal }));
    setTimeout(() => slow.abort(), 50);
    codes.push((await reading).code);
    const other = await model.session();
    const hanging = [caught(other.append(picture)), caught(other.prompt(picture)), caught(other.clone())];
    const result = await session.prompt("Two?");
    globalThis.fetch = fetching;
    setTimeout(() => model.destroy(), 50);
    const ended = (await Promise.all(hanging)).map(({ code }) => code);
    return { codes, said: result.said, ended };
  }, MODEL);
  assert.deepEqual(seen.codes, ["aborted", "aborted", "aborted", "aborted"]);
  assert.deepEqual(seen.said.slice(0, 2), ["Be brief.", "Two?"]);
  assert.deepEqual(seen.ended, ["aborted", "aborted", "aborted"]);
});

for (const [what, end, code] of [
  ["a trap in the engine", "session.prompt('trap').catch(() => {})", "internal"],
  ["a worker that dies without a word", "workers[0].terminate()", "internal"],
  ["destroying the model", "model.destroy()", "aborted"],
]) {
  test(`${what} settles what is appended and cloned`, async (t) => {
    const page = await fake(t);
    const body = `async ({ load }, url, caught) => {
      const workers = [];
      const Native = Worker;
      globalThis.Worker = class extends Native { constructor(...a) { super(...a); workers.push(this); } };
      const model = await load(url);
      const [session, other] = [await model.session(), await model.session()];
      const turn = [{ role: "user", content: "silent" }];
      const all = ${what.startsWith("a trap") ? "[]" : "[other.append(turn), other.clone(), other.prompt('Read')]"};
      if (!all.length) all.push(session.prompt("Read").then(() => session.append(turn)));
      ${end};
      const reason = await model.closed;
      all.push(session.append(turn), session.clone(), session.prompt("Read"));
      return { reason: reason.code, all: await Promise.all(all.map(caught)) };
    }`;
    const seen = await withPackage(page, body, MODEL);
    assert.equal(seen.reason, code);
    assert.ok(seen.all.length >= 4 && seen.all.every((outcome) => outcome.code === code), JSON.stringify(seen.all));
  });
}

test("destroying a session settles what it was at, and not its clone", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    const model = await load(url);
    const session = await model.session();
    await session.append([{ role: "user", content: "One." }]);
    const clone = await session.clone();
    const pending = [caught(session.append([{ role: "user", content: "wait" }])), caught(session.prompt("wait")), caught(session.clone())];
    session.destroy();
    const after = [caught(session.append([])), caught(session.clone()), caught(session.prompt("Read"))];
    const [append, prompt, copy] = await Promise.all(pending);
    return {
      append,
      prompt: prompt.value.finishReason,
      copied: copy.value !== undefined,
      after: (await Promise.all(after)).map(({ code }) => code),
      said: (await clone.prompt("Two?")).said,
    };
  }, MODEL);
  assert.equal(seen.append.code, "aborted");
  assert.equal(seen.prompt, "abort");
  assert.equal(seen.copied, true, "it was asked for before");
  assert.deepEqual(seen.after, ["aborted", "aborted", "aborted"]);
  assert.deepEqual(seen.said.slice(0, 2), ["One.", "Two?"]);
});

test("storms of calls that are aborted at random settle, and leave two models usable", async (t) => {
  const page = await fake(t);
  const seen = await withPackage(page, async ({ load }, url, caught) => {
    // The same storm every time.
    let state = 12345;
    const random = () => (state = (state * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
    const models = await Promise.all([load(url), load(url)]);
    const sessions = await Promise.all(models.flatMap((model) => [model.session(), model.session()]));
    const texts = ["Read", "wait", "throw", "Locate it.", "wait", "One."];
    const outcomes = [];
    for (let i = 0; i < 200; i++) {
      const which = Math.floor(random() * 4);
      const session = sessions[which];
      const text = texts[Math.floor(random() * texts.length)];
      const stop = new AbortController();
      const kind = random();
      const message = [{ role: "user", content: text }];
      const call = async () => {
        if (kind < 0.3) return session.append(message, { signal: stop.signal }).then(() => "appended");
        if (kind < 0.4) return session.clone().then((clone) => (clone.destroy(), "cloned"));
        if (kind < 0.7) return session.prompt(text, { signal: stop.signal }).then(({ finishReason }) => finishReason);
        const stream = session.promptStreaming(text, { signal: stop.signal });
        for await (const _ of stream) if (random() < 0.1) break;
        return (await stream.result).finishReason;
      };
      outcomes.push(caught(call()));
      // What waits, waits for this. Some of the others come to their end, if their turn comes before.
      if (text === "wait" || random() < 0.4) setTimeout(() => stop.abort(), random() < 0.2 ? 0 : random() * 300);
      if (random() < 0.3) await new Promise((resolve) => setTimeout(resolve, random() * 5));
    }
    const settled = await Promise.all(outcomes);
    const counts = {};
    for (const { value, code } of settled) counts[value ?? code] = (counts[value ?? code] ?? 0) + 1;
    const after = await Promise.all(sessions.map((session) => session.prompt("Read")));
    const usage = sessions.map(({ contextUsage }) => contextUsage);
    return { counts, after: after.map(({ finishReason }) => finishReason), usage, said: after.map(({ usage: u }) => u.promptTokens + u.completionTokens) };
  }, MODEL);
  assert.equal(Object.values(seen.counts).reduce((sum, n) => sum + n), 200);
  assert.deepEqual(Object.keys(seen.counts).sort(), ["abort", "aborted", "appended", "cloned", "oom", "stop"]);
  assert.deepEqual(seen.after, ["stop", "stop", "stop", "stop"]);
  assert.deepEqual(seen.usage, seen.said);
});
