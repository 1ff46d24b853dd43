// Videos from everything they can come from, through the page and the worker in a real browser: with a fake engine that reads
// off the frames which they are, and with the real one. Times are held against ffprobe's, samples against qwen-vl-utils'.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import * as runner from "node:test";
import { test } from "node:test";

import { clips, COLOR, drawn, HEIGHT, KINDS, WIDTH } from "../support/clips.mjs";
import { chooseFile, SAMPLE } from "../support/demo-page.mjs";
import { MODEL, serving } from "../support/fake-model.mjs";
import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();
const { make, origin, requests } = await clips(runner);

/** In the worker: counts its own frames that are alive, and those from the page that it has closed. */
const COUNTING = `
  const alive = { now: 0, most: 0, closed: 0 };
  const own = new WeakSet();
  const born = (frame) => {
    own.add(frame);
    alive.most = Math.max(alive.most, ++alive.now);
    return frame;
  };
  const NativeFrame = VideoFrame;
  const { close, clone } = NativeFrame.prototype;
  NativeFrame.prototype.close = function () {
    if (this.codedWidth > 0) own.has(this) ? alive.now-- : alive.closed++;
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
      await serving()(p);
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
  // Times count from the first frame.
  const expected = indices.map((index) => times[index] - times[0]);
  for (const [i, { timestamp }] of frames.entries()) {
    assert.ok(Math.abs(timestamp - expected[i]) < 1e-6, `frame ${indices[i]} at ${timestamp} s, not ${expected[i]} s`);
  }
  assert.deepEqual(info.timestamps, frames.map(({ timestamp }) => timestamp));
  assert.equal(info.frames, indices.length);
}

/** Files that Firefox's WebCodecs cannot show, where it is Debian's. */
const WITHOUT = {
  "open-gop.mp4": "its decoder of H.264 gives no frame for those that an open group of pictures begins with",
  "av1.mkv": "its WebCodecs has no decoder of AV1",
};

for (const name of Object.keys(KINDS)) {
  const where = WITHOUT[name] ? notInFirefox(WITHOUT[name]) : {};
  test(`${name}: the planned frames with their own times, few at a time`, where, async (t) => {
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
    assert.ok(seen.afterAll.most > 0 && seen.afterAll.most <= 16, `${seen.afterAll.most} frames were alive at once`);
  });
}

const matrix = notInFirefox("a VideoFrame copied as RGBA ignores the file's matrix and range there");

test("colours are those that the file says, by its own matrix and range", matrix, async (t) => {
  const files = await Promise.all(["bt709.mp4", "bt601.mp4", "full.mp4"].map((name) => make(name)));
  const p = await page(t);
  const texts = files.map(({ bytes }) => bytes.toString("base64"));
  const seen = await p.evaluate(async (texts) => {
    const colors = [];
    for (const text of texts) colors.push((await ask(new Blob([fromBase64(text)]), { nframes: 2 })).frames[1].color);
    return colors;
  }, texts);
  const meant = [0, 2, 4].map((at) => Number.parseInt(COLOR.slice(at, at + 2), 16));
  for (const color of seen) for (const [i, value] of color.entries()) assert.ok(Math.abs(value - meant[i]) <= 4, `${color}, not ${meant}`);
});

test("a file, its bytes, its address and the <video> that plays it are the same video", async (t) => {
  const { bytes, times } = await make("b-frames.mp4");
  const p = await page(t);
  const asked = [];
  p.on("request", (request) => request.url().includes("mediabunny") && asked.push(request.url()));
  await p.evaluate(async () => (await model.session()).prompt("No video yet."));
  assert.deepEqual(asked, [], "a page without videos does not load what reads them");
  const seen = await p.evaluate(async ([text, url]) => {
    const bytes = fromBase64(text);
    const file = new File([bytes], "clip.mp4");
    const element = Object.assign(document.createElement("video"), { src: URL.createObjectURL(file) });
    const sources = {
      file,
      blob: new Blob([bytes]),
      bytes,
      buffer: bytes.buffer,
      view: new DataView(bytes.buffer),
      address: url,
      url: new URL(url),
      whole: url.replace(/[^/]+$/, "whole/$&"),
      blobUrl: URL.createObjectURL(file),
      dataUrl: `data:video/mp4;base64,${text}`,
      element,
    };
    const seen = {};
    for (const [name, source] of Object.entries(sources)) seen[name] = await ask(source, { nframes: 5 });
    return { seen, untouched: element.currentTime === 0 && element.paused, left: bytes.length, alive: await alive() };
  }, [bytes.toString("base64"), `${origin}/b-frames.mp4`]);
  for (const [name, result] of Object.entries(seen.seen)) {
    assertFrames(result, times, spread(5, times.length));
    assert.equal(result.track.fps, 30, name);
  }
  assert.equal(asked.length, 1);
  assert.ok(seen.untouched, "the element was left alone");
  assert.equal(seen.left, bytes.length, "the caller's bytes are still there");
  assert.equal(seen.alive.now, 0);
  assert.deepEqual(seen.seen.file.messages.at(-1).content[0], { type: "video", video: 0, nframes: 5 });
});

test("of a large file on a server only what is needed is fetched", async (t) => {
  const { times } = await make("large.mp4");
  const p = await page(t);
  const before = requests.length;
  const seen = await p.evaluate((url) => ask(url, { nframes: 3 }), `${origin}/large.mp4`);
  assertFrames(seen, times, spread(3, times.length));
  const refused = await p.evaluate((url) => ask(url).catch(({ code, message }) => [code, message]), `${origin}/once/large.mp4`);
  assert.deepEqual(refused, ["auth", `${origin}/once/large.mp4 answered 403`]);
  const sent = requests.slice(before).reduce((sum, request) => sum + request.sent, 0);
  assert.ok(sent > 0 && sent < 30 * 2 ** 20, `${sent} bytes were sent`);
});

const mediaSource = notInFirefox("a VideoFrame of a <video> has the time 0 there where the element plays a MediaSource");

test("a video that begins late is counted from its first frame, as qwen-vl-utils and native programs count", async (t) => {
  const { bytes, times } = await make("late.mp4");
  assert.ok(Math.abs(times[0] - 2.5) < 0.01, `${times[0]}`);
  const p = await page(t);
  const seen = await p.evaluate(async (base64) => {
    const video = new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))]);
    const content = [{ type: "video", video, nframes: 4 }, { type: "text", text: "?" }];
    const { videos, seen } = await (await globalThis.model.session()).prompt([{ role: "user", content }]);
    return { info: videos[0], frames: seen[0].frames.map(({ number, timestamp }) => [number, timestamp]) };
  }, bytes.toString("base64"));
  assert.ok(Math.abs(seen.info.startsAt - 2.5) < 0.01, `${seen.info.startsAt}`);
  const wanted = [0, 30, 59, 89].map((index) => times[index] - times[0]);
  seen.info.timestamps.forEach((time, i) => assert.ok(Math.abs(time - wanted[i]) < 0.001, `${seen.info.timestamps}`));
  assert.deepEqual(seen.frames.map(([number]) => number), [0, 30, 59, 89]);
});

test("a <video> without a file behind it is moved to the times, and is then as it was", mediaSource, async (t) => {
  const { bytes, times } = await make("vp9.webm");
  const p = await page(t);
  const seen = await p.evaluate(async (text) => {
    const media = new MediaSource();
    const element = Object.assign(document.createElement("video"), { src: URL.createObjectURL(media), muted: true });
    document.body.append(element);
    await new Promise((resolve) => media.addEventListener("sourceopen", resolve, { once: true }));
    const buffer = media.addSourceBuffer('video/webm; codecs="vp9"');
    buffer.appendBuffer(fromBase64(text));
    await new Promise((resolve) => buffer.addEventListener("updateend", resolve, { once: true }));
    media.endOfStream();
    element.currentTime = 1.25;
    const result = await ask(element, { nframes: 6 });
    if (element.seeking) await new Promise((resolve) => element.addEventListener("seeked", resolve, { once: true }));
    return { ...result, at: element.currentTime, paused: element.paused, alive: await alive() };
  }, bytes.toString("base64"));
  assertFrames(seen, times, spread(6, times.length));
  assert.deepEqual([seen.at, seen.paused], [1.25, true]);
  assert.deepEqual(seen.alive, { now: 0, most: 0, closed: 6 });
});

for (const way of ["a track processor", "a hidden <video>"]) {
  test(`a MediaStream is watched for a while, by ${way}`, async (t) => {
    const p = await page(t);
    const seen = await p.evaluate(async ([way, width, height, names]) => {
      if (way === "a hidden <video>") delete globalThis.MediaStreamTrackProcessor;
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const context = canvas.getContext("2d");
      let number = 1;
      let drawing = true;
      const draw = () => {
        for (let bit = 0; bit < 12; bit++) {
          context.fillStyle = (number >> bit) & 1 ? "white" : "black";
          context.fillRect((bit % 4) * (width / 4), Math.floor(bit / 4) * (height / 3), width / 4, height / 3);
        }
        number++;
        if (drawing) requestAnimationFrame(draw);
      };
      draw();
      const stream = canvas.captureStream();
      const clones = [];
      const { clone } = MediaStreamTrack.prototype;
      MediaStreamTrack.prototype.clone = function () {
        clones.push(clone.call(this));
        return clones.at(-1);
      };
      const element = Object.assign(document.createElement("video"), { srcObject: stream });
      const direct = await ask(stream, { seconds: 1, fps: 5 });
      const shown = await ask(element, { seconds: 0.5, fps: 10 });
      drawing = false;
      return { direct, shown, last: number, own: stream.getTracks().map((t) => t.readyState), clones: clones.map((t) => t.readyState), alive: await alive() };
    }, [way, WIDTH, HEIGHT]);
    for (const [{ info, frames, options }, seconds, fps] of [[seen.direct, 1, 5], [seen.shown, 0.5, 10]]) {
      assert.ok(info.frames >= 2 && info.frames <= seconds * fps, `${info.frames} frames`);
      assert.equal(info.timestamps[0], 0);
      assert.ok(info.timestamps.every((time, i) => time < seconds && (i === 0 || Math.floor(time * fps + 1e-5) > Math.floor(info.timestamps[i - 1] * fps + 1e-5))));
      assert.ok(frames.every(({ number }, i) => number > (frames[i - 1]?.number ?? 0) && number <= seen.last), "frames in their order");
      assert.equal(options.everyFrame, true);
    }
    assert.deepEqual(seen.own, ["live"], "the caller's track goes on");
    assert.deepEqual(seen.clones, ["ended", "ended"]);
    assert.ok(seen.alive.closed >= seen.direct.info.frames + seen.shown.info.frames);
  });
}

test("what MediaRecorder wrote, without a length in its header, is a video like others", async (t) => {
  const p = await page(t);
  const seen = await p.evaluate(async ([width, height]) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
    const pieces = [];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    recorder.start(100);
    for (let number = 1; number <= 40; number++) {
      for (let bit = 0; bit < 12; bit++) {
        context.fillStyle = (number >> bit) & 1 ? "white" : "black";
        context.fillRect((bit % 4) * (width / 4), Math.floor(bit / 4) * (height / 3), width / 4, height / 3);
      }
      await new Promise(requestAnimationFrame);
    }
    await new Promise((resolve) => {
      recorder.onstop = resolve;
      recorder.stop();
    });
    return ask(new Blob(pieces), { nframes: 4 });
  }, [WIDTH, HEIGHT]);
  assert.equal(seen.frames.length, 4);
  for (const [i, { number, timestamp }] of seen.frames.entries()) {
    assert.ok(number <= 40 && (i === 0 || (number > seen.frames[i - 1].number && timestamp > seen.frames[i - 1].timestamp)));
  }
});

test("VideoFrames: as a list they are moved, from an iterable they are thinned; pictures with times", async (t) => {
  const p = await page(t);
  const pictures = Array.from({ length: 24 }, (_, i) => drawn(i + 100).toString("base64"));
  const seen = await p.evaluate(async ([pictures, width, height]) => {
    const frame = (i, timestamp) => {
      const gray = fromBase64(pictures[i]);
      const rgba = new Uint8Array(4 * gray.length).map((_, at) => (at % 4 === 3 ? 255 : gray[at >> 2]));
      return new VideoFrame(rgba, { format: "RGBA", codedWidth: width, codedHeight: height, timestamp });
    };
    const frames = pictures.slice(0, 4).map((_, i) => frame(i, 250_001 * (i + 3)));
    const list = await ask({ frames });
    const timed = await ask({ frames: pictures.slice(0, 3).map((_, i) => frame(i, 0)), timestamps: [1, 2.5, 9] });
    const rated = await ask({ frames: pictures.slice(0, 3).map((_, i) => frame(i, 0)), fps: 4 });
    let ended = false;
    const own = [];
    async function* decoder() {
      try {
        for (const i of pictures.keys()) yield own[own.push(frame(i, i * 50_000)) - 1];
      } finally {
        ended = true;
      }
    }
    const iterated = await ask(decoder(), { fps: 5 });
    const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    const png = await new Promise((resolve) => canvas.toBlob(resolve));
    const images = await ask({ frames: [png, canvas, png], timestamps: [0, 1, 4] });
    return {
      list, timed, rated, iterated, images, ended,
      moved: [...frames, ...own].every((frame) => frame.format === null),
      alive: await alive(),
    };
  }, [pictures, WIDTH, HEIGHT]);
  assert.deepEqual(seen.list.frames.map(({ number }) => number), [100, 101, 102, 103]);
  assert.deepEqual(seen.list.info.timestamps, [0.750003, 1.000004, 1.250005, 1.500006]);
  assert.equal(seen.list.options.everyFrame, true);
  assert.deepEqual(seen.timed.info.timestamps, [1, 2.5, 9]);
  assert.deepEqual(seen.rated.info.timestamps, [0, 0.25, 0.5]);
  assert.deepEqual(seen.iterated.frames.map(({ number }) => number), [100, 104, 108, 112, 116, 120]);
  assert.deepEqual(seen.iterated.info.timestamps, [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(seen.images.frames.map(({ width, height, timestamp }) => [width, height, timestamp]), [[40, 30, 0], [40, 30, 1], [40, 30, 4]]);
  assert.ok(seen.ended && seen.moved);
  assert.deepEqual(seen.alive, { now: 0, most: 0, closed: 4 + 3 + 3 + 24 });
});

test("the page goes on while a video is read, and takes what comes with it", async (t) => {
  const { bytes } = await make("h264.mp4");
  const p = await page(t);
  const seen = await p.evaluate(async (text) => {
    const file = new Blob([fromBase64(text)]);
    let ticks = 0;
    let going = true;
    const tick = () => going && (ticks++, requestAnimationFrame(tick));
    requestAnimationFrame(tick);
    const before = ticks;
    const session = await model.session();
    const video = { type: "video", video: file, nframes: 90, maxPixels: 1000 };
    const canvas = Object.assign(document.createElement("canvas"), { width: 30, height: 20 });
    canvas.getContext("2d");
    const result = await session.prompt(turn(video, { type: "image", image: canvas }, { ...video, nframes: 3 }));
    going = false;
    return { ticks: ticks - before, result };
  }, bytes.toString("base64"));
  assert.ok(seen.ticks > 2, `${seen.ticks} frames of the page were drawn`);
  const { videos, images, messages } = seen.result;
  assert.deepEqual(videos.map(({ frames }) => frames), [90, 3]);
  assert.equal(images.length, 1);
  assert.deepEqual(seen.result.seen.map(({ options }) => options.mostTokens), [1024, 2048 - 90], "the context is shared");
  assert.deepEqual(messages.at(-1).content.slice(0, 3), [
    { type: "video", video: 0, nframes: 90, maxPixels: 1000 },
    { type: "image", image: 0 },
    { type: "video", video: 1, nframes: 3, maxPixels: 1000 },
  ]);
});

test("an abort while a video is read rejects, closes everything and leaves the conversation as it was", async (t) => {
  const { bytes } = await make("b-frames.mp4");
  const p = await page(t);
  const seen = await p.evaluate(`(async (text) => {
    const caught = (promise) => promise.then((value) => ({ value }), ({ name, code }) => ({ name, code }));
    const file = new Blob([fromBase64(text)]);
    const pushed = new BroadcastChannel("pushed");
    const decoding = new AbortController();
    pushed.onmessage = () => decoding.abort();
    const results = { before: await caught(ask(file, {}, AbortSignal.abort())) };
    results.decoding = await caught(ask(file, { nframes: 90 }, decoding.signal));
    pushed.onmessage = null;

    const feeding = new AbortController();
    let ended;
    const over = new Promise((resolve) => (ended = resolve));
    const own = [];
    async function* feed() {
      try {
        for (let i = 0; ; i++) {
          if (i === 3) feeding.abort();
          own.push(new VideoFrame(new Uint8Array(16 * 16 * 4), { format: "RGBA", codedWidth: 16, codedHeight: 16, timestamp: i * 1e6 }));
          yield own.at(-1);
        }
      } finally {
        ended();
      }
    }
    results.feeding = await caught(ask(feed(), {}, feeding.signal));
    await over;

    const watching = new AbortController();
    const canvas = document.createElement("canvas");
    canvas.getContext("2d");
    const clones = [];
    const { clone } = MediaStreamTrack.prototype;
    MediaStreamTrack.prototype.clone = function () {
      clones.push(clone.call(this));
      watching.abort();
      return clones.at(-1);
    };
    results.watching = await caught(ask(canvas.captureStream(), { seconds: 1000 }, watching.signal));
    // The worker's word that it has ended takes its way.
    while (clones[0].readyState !== "ended") await new Promise((resolve) => setTimeout(resolve));

    const session = await model.session();
    const stop = new AbortController();
    pushed.onmessage = () => stop.abort();
    const ask1 = await caught(session.prompt(turn({ type: "video", video: file, nframes: 90 }), { signal: stop.signal }));
    pushed.onmessage = null;
    const destroyed = await model.session();
    pushed.onmessage = () => destroyed.destroy();
    const ask2 = await caught(destroyed.prompt(turn({ type: "video", video: file, nframes: 90 })));
    pushed.onmessage = null;
    const after = await session.prompt("And now?");
    return { results: { ...results, ask1, ask2 }, after: [after.messages.length, after.videos.length, after.finishReason], alive: await alive() };
  })(${JSON.stringify(bytes.toString("base64"))})`);
  for (const [when, error] of Object.entries(seen.results)) assert.deepEqual(error, { name: "FanlightError", code: "aborted" }, when);
  assert.deepEqual(seen.after, [1, 0, "stop"]);
  assert.equal(seen.alive.now, 0);
});

test("what is no video, or none that this browser can show, is said with code, name and hint", async (t) => {
  const [sound, mpeg4, front, plain] = await Promise.all(["sound.mp4", "mpeg4.mp4", "front.mp4", "h264.mp4"].map((name) => make(name)));
  const damaged = Buffer.from(front.bytes);
  const data = damaged.indexOf("mdat");
  damaged.fill(0xff, data + 400, damaged.length);
  // A document that really is of this machine: one that a test makes up may not show what another port here serves.
  const p = await page(t, { path: "mediabunny/NOTICE.txt" });
  const seen = await p.evaluate(async ([files, origin]) => {
    const caught = (promise) => promise.then((value) => ({ value }), ({ name, code, message, hint }) => ({ name, code, message, hint }));
    const file = (name) => new Blob([fromBase64(files[name])]);
    const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 16 });
    canvas.getContext("2d");
    const closed = new VideoFrame(canvas, { timestamp: 0 });
    closed.close();
    const frame = (timestamp) => new VideoFrame(canvas, { timestamp });
    return {
      notes: await caught(ask(new Blob(["these are notes"]))),
      empty: await caught(ask(new Blob([]))),
      sound: await caught(ask(file("sound"))),
      mpeg4: await caught(ask(file("mpeg4"))),
      cut: await caught(ask(file("plain").slice(0, 3000))),
      short: await caught(ask(file("front").slice(0, files.cutAt), { nframes: 90 })),
      damaged: await caught(ask(file("damaged"), { nframes: 90 })),
      missing: await caught(ask(origin + "/none.mp4")),
      closed: await caught(ask(origin + "/closed/h264.mp4")),
      page: await caught(ask("/blank/")),
      address: await caught(ask("http://[")),
      nothing: await caught(ask({ frames: [] })),
      used: await caught(ask({ frames: [closed] })),
      backwards: await caught(ask([frame(2e6), frame(1e6)])),
      numbers: await caught(ask([1, 2, 3])),
      picture: await caught(ask({ frames: [new Blob(["no picture"])] })),
      element: await caught(ask(document.createElement("video"))),
      broken: await caught(ask(Object.assign(document.createElement("video"), { src: URL.createObjectURL(new Blob(["notes"])) }))),
      foreign: await caught(ask(Object.assign(document.createElement("video"), { src: origin + "/closed/h264.mp4" }))),
      still: await caught(ask(new MediaStream())),
      next: (await ask(file("plain"), { nframes: 2 })).info.frames,
      alive: await alive(),
    };
  }, [
    {
      ...Object.fromEntries(Object.entries({ sound, mpeg4, front, plain }).map(([name, { bytes }]) => [name, bytes.toString("base64")])),
      damaged: damaged.toString("base64"),
      cutAt: data + 400,
    },
    origin,
  ]);
  const { next, alive, ...errors } = seen;
  const codes = { missing: "not_found", closed: "cors", foreign: "cors", address: "bad_request", used: "bad_request", numbers: "bad_request", picture: "bad_image" };
  for (const [what, error] of Object.entries(errors)) {
    assert.equal(error.name, "FanlightError", what);
    assert.equal(error.code, codes[what] ?? "bad_video", what);
  }
  assert.match(errors.mpeg4.message, /mp4v/);
  assert.match(errors.mpeg4.hint, /H\.264/);
  assert.match(errors.sound.message, /no video/);
  assert.match(errors.cut.message, /ends before/);
  assert.equal(next, 2, "and the next video works");
  assert.equal(alive.now, 0);
});

test("on the page a video is shown, asked about, and led through frame by frame; pictures come beside it", async (t) => {
  const [{ bytes, times }, turned] = await Promise.all([make("b-frames.mp4"), make("turned.mp4")]);
  const p = await open(t, { path: "", engine: "fake", viewport: { width: 1280, height: 800 } });
  await p.getByText("Ready. Loaded").waitFor();
  const choose = async (button, name, buffer) => {
    await chooseFile(p, button, { name, mimeType: name.endsWith("mp4") ? "video/mp4" : "image/png", buffer });
  };
  const add = async (name, buffer, count) => {
    await choose("Add a picture or a video", name, buffer);
    await p.waitForFunction((count) => document.querySelectorAll("#attached li").length === count, count);
  };
  const ask = async (question) => {
    const before = await p.locator("#log article").count();
    await p.getByLabel("Your question").fill(question);
    await p.keyboard.press("Enter");
    const turn = p.locator(`#log article:nth-child(${before + 1})[aria-busy=false]`);
    await turn.waitFor();
    return turn.textContent();
  };
  await choose("Choose a file", "clip.mp4", bytes);
  await p.locator('#film[aria-label="clip.mp4"]').waitFor();
  assert.equal(await p.locator("#moments").isVisible(), false);
  assert.match(await ask("What happens?"), /1 videos.*4 video tokens/);
  assert.match(await p.locator("#moments").textContent(), /saw 4 frames/);
  const moments = p.getByRole("list", { name: "Frames the model saw" }).getByRole("button");
  const planned = spread(4, times.length).map((index) => times[index]);
  assert.deepEqual(await moments.allTextContents(), planned.map((time) => `${time.toFixed(2)}\u00a0s`));
  await moments.nth(2).click();
  assert.ok(Math.abs((await p.locator("#film").evaluate((film) => film.currentTime)) - planned[2]) < 1e-3);
  assert.match(await ask("And then?"), /0 videos/, "a video is sent once");

  await add("picture.png", SAMPLE, 1);
  await p.locator('#image[alt="picture.png"]').waitFor();
  assert.equal(await p.locator("#film").isVisible(), false);
  assert.equal(await p.locator("#moments").isVisible(), false);
  await add("turned.mp4", turned.bytes, 2);
  await ask("Locate them.");
  await p.locator('#image[alt="picture.png"]').waitFor();
  assert.equal(await p.locator("#boxes > div").count(), 2, "in the only picture between two videos");
  await p.locator('#log button[title="clip.mp4"]').click();
  await moments.nth(3).waitFor();
  assert.equal(await moments.count(), 4);
  assert.equal(await p.locator("#boxes > div").count(), 0, "boxes belong to pictures");
  await p.setViewportSize({ width: 390, height: 844 });
  assert.ok(await p.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than a phone");

  await choose("Add a picture or a video", "notes.mp4", Buffer.from("these are notes"));
  await p.getByText("notes.mp4 is not a picture or a video").waitFor();
});

/** What qwen-vl-utils itself takes of a video: `[frames, fps, height, width, patch, options, [indices, sampleFps, …]]`. */
const SAMPLES = JSON.parse(await readFile(new URL("../../golden/video.json", import.meta.url), "utf8"));
/** The clip to take them of, by frames and rate. */
const SAMPLED = {
  "300 30.0": ["long.mp4", { ...KINDS["b-frames.mp4"], frames: 300 }],
  "300 29.97002997002997": ["long-ntsc.webm", { ...KINDS["ntsc.webm"], frames: 300 }],
  "240 23.976023976023978": ["film.mp4", { ...KINDS["h264.mp4"], rate: "24000/1001", frames: 240 }],
  "250 25.0": ["long-25.mp4", { ...KINDS["b-frames.mp4"], rate: "25", frames: 250 }],
};

test("with the real engine: qwen-vl-utils' samples, a conversation about them, and what fits the context", async (t) => {
  const made = {};
  for (const [of, [name, options]] of Object.entries(SAMPLED)) made[of] = await make(name, options);
  // One case for each set of options that does not ask for more frames than are quickly looked at.
  const cases = SAMPLES.filter(([frames, fps, , , patch, options, taken]) => {
    const sampling = Object.keys(options).every((name) => /fps|frames|video_/.test(name));
    return made[`${frames} ${fps}`] && patch === 14 && sampling && taken !== null && taken[0].length <= 20;
  }).map(([frames, fps, , , , options, [indices, sampleFps]]) => ({ of: `${frames} ${fps}`, options, indices, sampleFps: Number(sampleFps) }));
  assert.ok(cases.length >= 10, `${cases.length} cases`);
  const p = await open(t);
  p.setDefaultTimeout(0);
  const camel = (options) =>
    Object.fromEntries(Object.entries(options).map(([name, value]) => [name.replace(/_./g, ([, c]) => c.toUpperCase()), value]));
  const files = Object.fromEntries(Object.entries(made).map(([of, { bytes }]) => [of, bytes.toString("base64")]));
  const seen = await withPackage(
    p,
    async ({ load }, { files, cases }, caught) => {
      const file = (of) => new Blob([Uint8Array.from(atob(files[of]), (c) => c.charCodeAt(0))]);
      const model = await load("/models/screen-reader/", { contextLength: 512 });
      const about = (...parts) => [{ role: "user", content: [...parts, { type: "text", text: "What is it?" }] }];
      const small = { minPixels: 784, maxPixels: 4 * 784 };
      const sampled = [];
      for (const { of, options } of cases) {
        const session = await model.session();
        const { videos, usage } = await session.prompt(about({ type: "video", video: file(of), ...options, ...small }), { maxTokens: 1 });
        sampled.push({ ...videos[0], usage });
        session.destroy();
      }
      const session = await model.session();
      const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 40 });
      canvas.getContext("2d").fillRect(0, 0, 9, 9);
      const pictures = { frames: [canvas, canvas, canvas], timestamps: [0, 1, 4] };
      const image = { type: "image", image: canvas, ...small };
      const video = { type: "video", video: file("300 30.0"), nframes: 4, ...small };
      const three = await session.prompt(about(video, image, { type: "video", video: pictures, ...small }), { maxTokens: 2 });
      const broken = await caught(session.prompt(about({ type: "video", video: new Blob(["notes"]) })));
      const contradiction = await caught(session.prompt(about({ ...video, fps: 2 })));
      const then = await session.prompt("And then?", { maxTokens: 1 });
      const tight = await (await model.session()).prompt(about({ type: "video", video: file("300 30.0") }), { maxTokens: 1 });
      return { sampled, three, broken, contradiction, then, tight };
    },
    { files, cases: cases.map((one) => ({ ...one, options: camel(one.options) })) },
  );
  for (const [i, { of, options, indices, sampleFps }] of cases.entries()) {
    const { timestamps, sampleFps: told, tokens, resized, usage } = seen.sampled[i];
    const expected = indices.map((index) => made[of].times[index]);
    const what = `${of} ${JSON.stringify(options)}`;
    assert.equal(timestamps.length, expected.length, what);
    assert.ok(timestamps.every((time, j) => Math.abs(time - expected[j]) < 1e-6), what);
    assert.equal(told, sampleFps, what);
    assert.equal(tokens, (indices.length / 2) * (resized.width / 28) * (resized.height / 28), what);
    assert.equal(usage.videoTokens, tokens, what);
  }
  const { three, then, tight } = seen;
  assert.deepEqual([three.videos.length, three.images.length], [2, 1]);
  assert.deepEqual(three.videos[1].timestamps, [0, 1, 4]);
  assert.deepEqual(three.videos[1].original, { width: 60, height: 40 });
  assert.equal(three.usage.videoTokens, three.videos[0].tokens + three.videos[1].tokens);
  assert.deepEqual([seen.broken.code, seen.contradiction.code], ["bad_video", "bad_request"]);
  assert.equal(then.videos.length, 0);
  assert.ok(then.usage.cachedTokens >= three.usage.promptTokens, "the videos are part of the conversation and not looked at again");
  assert.ok(tight.usage.promptTokens < 512 && tight.videos[0].decisions.length > 0);
  assert.match(tight.videos[0].decisions[0], /instead of/);
});
