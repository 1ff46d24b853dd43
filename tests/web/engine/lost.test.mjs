// A lost device: what the package does about it, with a fake engine behind the real worker; then with the real engine and a GPU
// process that crashes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser(["--disable-gpu-process-crash-limit", "--disable-domain-blocking-for-3d-apis"]);

const MODEL = "/models/fake/";
const fake = (t, config = {}) =>
  open(t, {
    engine: "fake",
    setup: (page) =>
      page.route(`**${MODEL}*`, (route) => {
        const name = new URL(route.request().url()).pathname.slice(MODEL.length);
        const body = JSON.stringify({ model_type: "qwen2_5_vl", ...config });
        return name === "config.json" ? route.fulfill({ body }) : route.fulfill({ status: 404 });
      }),
  });

/** As `withPackage`; `tell` sends to the fake device and gives what it knows, `events` are those of a model. */
const withDevice = (page, body, argument) =>
  withPackage(page, `(fanlight, argument, caught) => {
    const channel = new BroadcastChannel("device");
    const tell = (message) => new Promise((resolve) => {
      channel.onmessage = ({ data }) => resolve(data);
      channel.postMessage(message);
    });
    const listen = (model) => {
      const events = [];
      for (const event of ["devicelost", "recovered"]) model.on(event, ({ message }) => events.push(event + ": " + message));
      return events;
    };
    return (${body})(fanlight, argument, caught, tell, listen);
  }`, argument);

test("an answer goes on on another device, nothing of it twice", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell, listen) => {
    const model = await load(url);
    const events = listen(model);
    const ask = async (text) => {
      const session = await model.session();
      const answer = session.promptStreaming(text);
      const pieces = [];
      for await (const { text } of answer) pieces.push(text);
      return { pieces, result: await answer.result, session };
    };
    const plain = await ask("Say it.");
    const once = await ask("Say it, lose 1.");
    const twice = await ask("Say it, lose 2.");
    const next = await twice.session.prompt("And?");
    const { opened } = await tell({});
    return { plain: plain.pieces, once: once.pieces, twice: twice.pieces, texts: [plain, once, twice].map(({ result }) => result.text), said: next.said, events, opened };
  }, MODEL);
  assert.deepEqual(seen.once, seen.plain);
  assert.deepEqual(seen.twice, seen.plain);
  assert.equal(new Set(seen.texts).size, 1);
  assert.deepEqual(seen.said.slice(0, 3), ["Say it, lose 2.", seen.texts[0], "And?"]);
  assert.equal(seen.opened, 4);
  assert.deepEqual(seen.events.map((event) => event.split(":")[0]), Array(3).fill(["devicelost", "recovered"]).flat());
});

test("a device that is lost again and again rejects with what to do, and the session stays as it was", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell, listen) => {
    const model = await load(url);
    const events = listen(model);
    const session = await model.session();
    await session.prompt("Before.");
    const usage = session.contextUsage;
    const lost = await caught(session.prompt("Say it, lose 3."));
    const after = await caught(session.prompt("After."));
    return { lost, after, events, usage: [usage, session.contextUsage], clone: (await session.clone()).contextUsage, opened: (await tell({})).opened };
  }, MODEL);
  for (const error of [seen.lost, seen.after]) {
    assert.equal(error.name, "FanlightError");
    assert.equal(error.code, "device_lost");
    assert.match(error.hint, /Reload the page/);
  }
  assert.deepEqual(seen.events.map((event) => event.split(":")[0]), ["devicelost", "recovered", "devicelost", "recovered", "devicelost"]);
  assert.equal(seen.usage[1], seen.usage[0]);
  assert.equal(seen.clone, seen.usage[0]);
  assert.equal(seen.opened, 3);
});

test("what an answer between losses proves counts", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell) => {
    const model = await load(url);
    const session = await model.session();
    const reasons = [];
    for (let i = 0; i < 4; i++) reasons.push((await session.prompt("Say it, lose 2.")).finishReason);
    return { reasons, opened: (await tell({})).opened };
  }, MODEL);
  assert.deepEqual(seen.reasons, ["stop", "stop", "stop", "stop"]);
  assert.equal(seen.opened, 9);
});

test("a device lost while nothing runs is told of at once and recovered by the next call", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell, listen) => {
    const model = await load(url);
    const events = listen(model);
    let told;
    const first = new Promise((resolve) => (told = resolve));
    const off = model.on("devicelost", told);
    const session = await model.session();
    await session.append([{ role: "user", content: "One." }]);
    await tell({ lose: "asleep" });
    await first;
    off();
    off();
    const before = [...events];
    // What needs no device works meanwhile.
    const between = [await model.events("a story"), (await session.clone()).contextUsage];
    const { said } = await session.prompt("Two?");
    await tell({ lose: "asleep again" });
    await session.append([{ role: "user", content: "Three, lose" }]);
    return { before, events, between, said, usage: session.contextUsage };
  }, MODEL);
  assert.deepEqual(seen.before, ["devicelost: asleep"]);
  assert.deepEqual(seen.events.map((event) => event.split(":")[0]), Array(2).fill(["devicelost", "recovered"]).flat());
  assert.deepEqual(seen.said.slice(0, 2), ["One.", "Two?"]);
  assert.ok(seen.usage > 50);
});

for (const [how, message, hint] of [
  ["none", /gives no other one/, /Reload the page.*restart the browser/],
  ["offline", /could not be loaded again: no connection/, /^$/],
]) {
  test(`where reloading ends with "${how}" the call says so, and a later one may succeed`, async (t) => {
    const page = await fake(t);
    const seen = await withDevice(page, async ({ load }, { url, how }, caught, tell, listen) => {
      const model = await load(url);
      const events = listen(model);
      const session = await model.session();
      await tell({ reloads: [how] });
      const failed = await caught(session.prompt("Say it, lose 1."));
      const appended = await caught(session.append([{ role: "user", content: "One." }]));
      return { failed, appended, said: (await session.prompt("Two?")).said, events };
    }, { url: MODEL, how });
    assert.equal(seen.failed.code, "device_lost");
    assert.match(seen.failed.message, message);
    assert.match(seen.failed.hint, hint);
    assert.equal(seen.appended.code, undefined);
    assert.deepEqual(seen.said.slice(0, 2), ["One.", "Two?"]);
    assert.deepEqual(seen.events.map((event) => event.split(":")[0]), ["devicelost", "recovered"]);
  });
}

test("a new device that is lost at once counts as another loss", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell) => {
    const model = await load(url);
    const session = await model.session();
    await tell({ reloads: ["lost", "ok"] });
    const first = await session.prompt("Say it, lose 1.");
    await tell({ reloads: ["lost", "lost"] });
    return { first: first.finishReason, second: await caught(session.prompt("Say it, lose 1.")) };
  }, MODEL);
  assert.equal(seen.first, "stop");
  assert.equal(seen.second.code, "device_lost");
});

test("an abort does not wait for the new device", async (t) => {
  const page = await fake(t);
  const seen = await withDevice(page, async ({ load }, url, caught, tell, listen) => {
    const model = await load(url);
    const events = listen(model);
    const session = await model.session();
    await tell({ reloads: ["slow", "slow", "slow"] });
    const ended = async (start) => {
      const stop = new AbortController();
      const off = model.on("devicelost", () => stop.abort());
      const outcome = await caught(start(stop.signal));
      const recovered = events.at(-1).startsWith("recovered");
      off();
      return { outcome, recovered };
    };
    const prompt = await ended((signal) => session.prompt("Say it, lose 1.", { signal }));
    const append = await ended((signal) => session.append([{ role: "user", content: "One, lose" }], { signal }));
    const other = await model.session();
    await other.prompt("Read");
    const pending = caught(session.prompt("Say it, lose 1."));
    await new Promise((resolve) => model.on("devicelost", resolve));
    session.destroy();
    const destroyed = await pending;
    return { prompt, append, destroyed, next: await other.prompt("Read") , events };
  }, MODEL);
  assert.equal(seen.prompt.outcome.value.finishReason, "abort");
  assert.equal(seen.prompt.outcome.value.text.length, 4, "what was written before");
  assert.equal(seen.prompt.recovered, false);
  assert.equal(seen.append.outcome.code, "aborted");
  assert.equal(seen.append.recovered, false);
  assert.equal(seen.destroyed.value.finishReason, "abort");
  assert.equal(seen.next.finishReason, "stop");
});

test("a device lost while loading is no reason to fail, twice is", async (t) => {
  for (const [losesLoads, code] of [[1, undefined], [2, "device_lost"]]) {
    const page = await fake(t, { losesLoads });
    const seen = await withDevice(page, async ({ load }, url, caught) => {
      const outcome = await caught(load(url).then(async (model) => (await model.session()).prompt("Read")));
      return { code: outcome.code, finish: outcome.value?.finishReason };
    }, MODEL);
    assert.equal(seen.code, code);
    assert.equal(seen.finish, code ? undefined : "stop");
  }
});

test("destroying the model and a dying worker settle calls that wait for a device", async (t) => {
  for (const end of ["model.destroy()", "workers[0].terminate()"]) {
    const page = await fake(t);
    const body = `async ({ load }, url, caught, tell) => {
      const workers = [];
      const Native = Worker;
      globalThis.Worker = class extends Native { constructor(...a) { super(...a); workers.push(this); } };
      const model = await load(url);
      const [one, two] = [await model.session(), await model.session()];
      await tell({ reloads: ["slow"] });
      const lost = new Promise((resolve) => model.on("devicelost", resolve));
      const all = [one.prompt("Say it, lose 1."), one.append([]), two.prompt("Read"), two.clone()].map(caught);
      await lost;
      ${end};
      return (await Promise.all(all)).map(({ code }) => code);
    }`;
    const codes = await withDevice(page, body, MODEL);
    assert.equal(new Set(codes).size, 1);
    assert.match(codes[0], /aborted|internal/);
  }
});

// ── The real engine ─────────────────────────────────────────────────────────────────────────────────────────────────

const sample = (await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url))).toString("base64");

/** As `withPackage`, with `crash()` for the GPU process, `about(text)` the sample picture, and `SCREEN_READER`'s address. */
async function withCrashes(page, body) {
  page.setDefaultTimeout(0);
  const cdp = await page.context().browser().newBrowserCDPSession();
  await page.exposeFunction("crash", () => cdp.send("Browser.crashGpuProcess").then(() => {}));
  return withPackage(page, `(fanlight, sample, caught) => {
    const picture = Uint8Array.from(atob(sample), (c) => c.charCodeAt(0));
    const about = (text) => [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text }] }];
    const listen = (model) => {
      const events = [];
      for (const event of ["devicelost", "recovered"]) model.on(event, () => events.push(event));
      return events;
    };
    return (${body})(fanlight, about, listen, caught);
  }`, sample);
}

const crashing = notInFirefox("only Chromium's DevTools protocol can crash the GPU process on request");

test("a GPU process that crashes in the middle of an answer changes nothing of it", crashing, async (t) => {
  const page = await open(t);
  const seen = await withCrashes(page, async ({ load }, about, listen) => {
    const model = await load("/models/screen-reader/");
    const events = listen(model);
    const options = { maxTokens: 40, temperature: 0.7, seed: 5 };
    const ask = async (session, input, at) => {
      const answer = session.promptStreaming(input, options);
      const pieces = [];
      for await (const { text } of answer) if (pieces.push(text) === at) await crash();
      const { text, tokenIds, finishReason, usage } = await answer.result;
      return { text, tokenIds, finishReason, usage, told: pieces.join("") };
    };
    const talk = async (first, second) => {
      const session = await model.session();
      await session.append(about("This is a screen."));
      return [await ask(session, "Read the text.", first), await ask(session, "What does the red button say?", second)];
    };
    const plain = await talk();
    const crashed = await talk(5, 3);
    return { plain, crashed, events };
  });
  assert.deepEqual(seen.events, ["devicelost", "recovered", "devicelost", "recovered"]);
  for (const [i, answer] of seen.crashed.entries()) {
    const { usage, ...rest } = answer;
    const { usage: expected, ...plain } = seen.plain[i];
    assert.deepEqual(rest, plain);
    assert.equal(usage.promptTokens, expected.promptTokens);
    assert.equal(answer.told, answer.text);
    assert.ok(answer.tokenIds.length > 5);
  }
});

test("a crash while a picture is encoded, while nothing runs, and while the model is loaded", crashing, async (t) => {
  const page = await open(t);
  const seen = await withCrashes(page, async ({ load }, about, listen) => {
    let crashes = 0;
    const onProgress = ({ phase }) => {
      if (phase === "upload" && crashes++ === 0) void crash();
    };
    const model = await load("/models/screen-reader/", { onProgress });
    const events = listen(model);
    const options = { maxTokens: 12, temperature: 0 };
    const session = await model.session();
    const expected = await session.prompt(about("Read the text."), options);
    const early = await model.session();
    const picture = about("Read the text.")[0];
    // Not the same pixels, so that it has to be encoded.
    picture.content[0] = { ...picture.content[0], maxPixels: 120_000 };
    const small = await early.prompt([picture], options);
    early.destroy();
    const again = await model.session();
    const pending = again.prompt([picture], options);
    await new Promise((resolve) => setTimeout(resolve, 30));
    await crash();
    const crashed = await pending;
    const lost = new Promise((resolve) => model.on("devicelost", resolve));
    await crash();
    await lost;
    const idle = events.at(-1);
    const next = await session.prompt("And what does the red button say?", options);
    const fresh = await model.session();
    await fresh.prompt(about("Read the text."), options);
    const plain = await fresh.prompt("And what does the red button say?", options);
    return { small: small.tokenIds, crashed: crashed.tokenIds, idle, next: next.tokenIds, plain: plain.tokenIds, expected: expected.tokenIds, cached: next.usage.cachedTokens, events };
  });
  assert.deepEqual(seen.crashed, seen.small);
  assert.equal(seen.idle, "devicelost");
  assert.deepEqual(seen.next, seen.plain);
  assert.equal(seen.cached, 0, "the conversation was computed again");
  assert.equal(seen.events.at(-1), "recovered");
});
