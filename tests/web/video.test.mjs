// Videos from everything they can come from, through the page and the worker in a real browser, with a fake engine that
// reads off the frames which they are. Times are held against ffprobe's.

import assert from "node:assert/strict";
import * as runner from "node:test";
import { test } from "node:test";

import { clips, drawn, HEIGHT, KINDS, WIDTH } from "./clips.mjs";
import { open, withBrowser, withPackage } from "./helpers.mjs";

withBrowser();
const { make, origin, requests } = await clips(runner);

const MODEL = "/models/fake/";

/** In the worker: counts the frames that are alive, of which every one must be closed in the end. */
const COUNTING = `
  const alive = { now: 0, most: 0 };
  const born = (frame) => {
    alive.most = Math.max(alive.most, ++alive.now);
    return frame;
  };
  const NativeFrame = VideoFrame;
  const { close, clone } = NativeFrame.prototype;
  NativeFrame.prototype.close = function () {
    if (this.codedWidth > 0) alive.now--;
    close.call(this);
  };
  NativeFrame.prototype.clone = function () { return born(clone.call(this)); };
  globalThis.VideoFrame = new Proxy(NativeFrame, { construct: (target, args) => born(new target(...args)) });
  const NativeDecoder = VideoDecoder;
  globalThis.VideoDecoder = class extends NativeDecoder {
    constructor({ output, error }) { super({ output: (frame) => output(born(frame)), error }); }
  };
  new BroadcastChannel("alive").onmessage = ({ target, data }) => data === "?" && target.postMessage(alive);
`;

/** A page with the model, and \`ask\` to send videos: the test's own functions find both on \`globalThis\`. */
async function page(t, options = {}) {
  const page = await open(t, {
    engine: "fake",
    before: COUNTING,
    servers: [origin],
    setup: async (p) => {
      await p.route(`**${MODEL}*`, (route) => {
        const config = route.request().url().endsWith("config.json");
        return route.fulfill(config ? { body: JSON.stringify({ model_type: "qwen2_5_vl" }) } : { status: 404 });
      });
      // What decodes on the page would block it.
      await p.addInitScript(() => {
        globalThis.VideoDecoder = class { constructor() { throw new Error("decoded on the page"); } };
        VideoFrame.prototype.copyTo = () => { throw new Error("copied on the page"); };
      });
    },
    ...options,
  });
  await withPackage(page, async ({ load }, url) => {
    const model = await load(url);
    const channel = new BroadcastChannel("alive");
    Object.assign(globalThis, {
      model,
      turn: (...parts) => [{ role: "user", content: [...parts, { type: "text", text: "?" }] }],
      async ask(video, options = {}, signal) {
        const session = await model.session();
        const { videos, seen, messages } = await session.prompt(turn({ type: "video", video, ...options }), { signal });
        return { info: videos[0], ...seen[0], messages };
      },
      alive: () =>
        new Promise((resolve) => {
          channel.onmessage = ({ data }) => resolve(data);
          channel.postMessage("?");
        }),
      fromBase64: (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)),
    });
  }, MODEL);
  return page;
}

/** The indices that the fake engine plans. */
const spread = (count, total) => Array.from({ length: count }, (_, i) => Math.round((i * (total - 1)) / Math.max(1, count - 1)));

function assertFrames({ frames, info }, times, indices) {
  assert.deepEqual(frames.map(({ number }) => number), indices, "the frames that were planned");
  const expected = indices.map((index) => times[index]);
  for (const [i, { timestamp }] of frames.entries()) {
    assert.ok(Math.abs(timestamp - expected[i]) < 1e-6, `frame ${indices[i]} at ${timestamp} s, not ${expected[i]} s`);
  }
  assert.deepEqual(info.timestamps, frames.map(({ timestamp }) => timestamp));
  assert.equal(info.frames, indices.length);
}

for (const name of Object.keys(KINDS)) {
  test(`${name}: the planned frames with their own times, few at a time`, async (t) => {
    const { bytes, times } = await make(name);
    const p = await page(t);
    const seen = await p.evaluate(async ([name, text]) => {
      const file = new File([fromBase64(text)], name);
      const some = await ask(file, { nframes: 7 });
      const afterSome = await alive();
      const all = await ask(file, { nframes: 90 });
      return { some, all, afterSome, afterAll: await alive() };
    }, [name, bytes.toString("base64")]);
    assertFrames(seen.some, times, spread(7, times.length));
    assertFrames(seen.all, times, spread(90, times.length));
    for (const { width, height } of seen.all.frames) assert.deepEqual([width, height], [WIDTH, HEIGHT], "upright");
    assert.deepEqual(seen.some.info.original, { width: WIDTH, height: HEIGHT });
    assert.equal(seen.some.track.fps, name.startsWith("uneven") ? undefined : name.startsWith("ntsc") ? 30_000 / 1001 : 30);
    assert.deepEqual([seen.afterSome.now, seen.afterAll.now], [0, 0], "every frame was closed");
    console.log(name, seen.afterSome.most, seen.afterAll.most);
    assert.ok(seen.afterSome.most <= 8, `${seen.afterSome.most} frames were alive at once`);
  });
}
