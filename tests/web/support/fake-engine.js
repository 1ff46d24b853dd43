// Stands in for wasm/fanlight.js where a test is about the package or the page and not about the engine: same exports,
// answers known in advance. A prompt may carry orders: "wait" (until aborted), "block" (compute for ever, or "block N" milliseconds), "trap", "synchronous trap", "throw", "silent", "echo:" (what follows is
// the answer; boxes in it are located), "think:" (the same, thought), "use the calculator", "lose N" (the device is lost N times,
// each after another word). The channel "device" loses it at any moment and says how reloading goes. Where config.json
// has `probes`, it asks whether those files are there. Where it has a `plan` of reads, it reads that as the engine would, and `info` has the sha256 of everything it got. Of videos it takes
// `nframes` frames (4) at equal distances, or each, and reads the numbers that clips.mjs draws on frames: `seen` in the result.
// What every prompt was asked goes to the BroadcastChannel "asked". "think" has it think first, "call" makes it call the first
// tool, once or "twice", "json …" has it say that; options are heeded as far as they change an answer's shape: `logprobs`, `maxTokens`, `replace`.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export default async function init() {}

/** The device of now. Reloading goes as the next of `reloads` says: "ok", "slow", "lost", "none" (no adapter), "offline". */
const device = { lost: undefined, tell: () => {}, opened: 0, reloads: [] };

function lose(message) {
  device.lost = message;
  device.tell(message);
}

/** For the page: `{ lose: MESSAGE }` and `{ reloads: [...] }`; answers with what it knows. */
const deviceChannel = new BroadcastChannel("device");
deviceChannel.onmessage = ({ data }) => {
  if (data.lose) lose(data.lose);
  if (data.reloads) device.reloads = data.reloads;
  deviceChannel.postMessage({ opened: device.opened });
};

function useDevice() {
  if (device.lost) throw fault("device_lost", `the GPU device was lost: ${device.lost}`, true);
}

const fault = (code, message, retryable = false) => Object.assign(new Error(message), { code, hint: "", retryable });

const bytesOf = async (parts) => new Uint8Array(await new Blob(parts).arrayBuffer());

export class Sha256 {
  #parts = [];

  update(bytes) {
    this.#parts.push(bytes.slice());
  }

  async finish() {
    const digest = await crypto.subtle.digest("SHA-256", await bytesOf(this.#parts));
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

export async function estimate(reader) {
  await reader.read("config.json", 0, await reader.size("config.json"));
  return {
    parameters: 3.75e9, downloadBytes: 7.5e9, weightBytes: { vision: 1e9, text: 2e9 }, kvBytes: 6e8, activationBytes: { vision: 5e8, prefill: 2e8 },
    totalBytes: 4.2e9, fits: true, contextLength: 4096, maxPixels: 2e6,
    reason: "it fits 8.0 GiB", decisions: ["text: q4 because 12.0 GiB in all exceed 8.0 GiB"],
  };
}

async function readPlan(reader, plan) {
  const sha256 = new Sha256();
  for (const file of new Set(plan.map(({ file }) => file))) await reader.read(file, 0, 8);
  await reader.expect(plan);
  for (const { file, start, end } of plan) sha256.update(await reader.read(file, start, end));
  return sha256.finish();
}

export class Engine {
  static async load(reader, options, onProgress) {
    const size = await reader.size("config.json");
    if (size === undefined) throw Object.assign(new Error("config.json is missing"), { code: "not_found", hint: "" });
    const config = JSON.parse(new TextDecoder().decode(await reader.read("config.json", 0, size)));
    for (const file of config.probes ?? []) await reader.size(file);
    if (config.plan) config.digest = await readPlan(reader, config.plan);
    device.opened++;
    device.lost = undefined;
    if (config.losesLoads >= device.opened) throw fault("device_lost", "lost while loading", true);
    const total = 5_200_000;
    for (let loaded = 0; loaded <= total; loaded += total / 8) {
      onProgress({ phase: "upload", loaded, total });
      await pause(globalThis.slowly ?? options.slowly ?? 10);
    }
    onProgress({ phase: "compile", loaded: 1, total: 2 });
    return new Engine(config);
  }

  constructor(config) {
    this.config = config;
  }

  async reload(reader) {
    const how = device.reloads.shift() ?? "ok";
    if (how === "none") throw fault("webgpu_unavailable", "no GPU adapter");
    if (how === "offline") throw fault("network", "no connection", true);
    await reader.read("config.json", 0, await reader.size("config.json"));
    if (how === "slow") await pause(300);
    device.opened++;
    if (how === "lost") throw fault("device_lost", "lost again", true);
    device.lost = undefined;
  }

  lost() {
    return new Promise((resolve) => (device.tell = resolve));
  }

  info() {
    const { model_type: modelType = "qwen2_5_vl", digest } = this.config;
    return { digest, weights: "keep", kvCache: "f32", decisions: [], taskPrompts: this.config.taskPrompts ?? {}, maxPixels: 1_003_520, modelType, parameters: 3_100_000, weightBytes: 6_300_000, contextLength: 2048 };
  }

  session() {
    return new Session();
  }

  /** Answers here may be anything, whatever was asked for. */
  constraint() {}

  planVideo(trackJson, optionsJson) {
    const [track, options] = [JSON.parse(trackJson), JSON.parse(optionsJson)];
    const times = track.times ?? Array.from({ length: track.frames }, (_, i) => i / track.fps);
    const wanted = options.everyFrame ? times.length : (options.nframes ?? 4);
    const indices = Array.from({ length: wanted }, (_, i) => Math.round((i * (times.length - 1)) / Math.max(1, wanted - 1)));
    const sampleFps = wanted / (times.at(-1) - times[0]);
    return { track, options, indices, times: indices.map((i) => times[i]), sampleFps, width: 56, height: 28, tokens: wanted, promptTokens: wanted, decisions: [] };
  }

  // What they were asked, to show that it arrives.
  locate(text, pictures) {
    return [{ kind: "point", at: [pictures[0].resized.width, pictures.length], label: text, image: 0 }];
  }

  document(html, picture) {
    return [{ tag: "p", box: [0, 0, picture.original.width, picture.original.height], text: html, html }];
  }

  events(text) {
    return [{ start: 1.5, label: text }];
  }
}

const pushed = new BroadcastChannel("pushed");
const asked = new BroadcastChannel("asked");
let sessions = 0;

export class VideoInput {
  frames = [];

  constructor(plan) {
    this.plan = plan;
  }

  push(rgba, width, height, timestamp) {
    if (rgba.length !== 4 * width * height) throw new Error("not the pixels of one frame");
    const color = [...rgba.subarray(0, 3)];
    this.frames.push({ number: numberOn(rgba, width, height), color, width, height, timestamp });
    pushed.postMessage(this.frames.length);
  }

  pushEncoded(bytes, timestamp) {
    this.frames.push({ ...measured(bytes).original, timestamp });
  }

  free() {}
}

/** Twelve bits, white or black, in three rows of four. */
function numberOn(rgba, width, height) {
  let number = 0;
  for (let bit = 0; bit < 12; bit++) {
    const [x, y] = [((bit % 4) + 0.5) * (width / 4), (Math.floor(bit / 4) + 0.5) * (height / 3)];
    if (rgba[4 * (Math.floor(y) * width + Math.floor(x))] > 127) number |= 1 << bit;
  }
  return number;
}

export const imageSize = (bytes) => measured(bytes).original;

class Session {
  #tokens = 0;
  #number = ++sessions;
  /** What was said, as a text for each message. */
  #said = [];
  /** JSON of the messages that took the place of others. */
  #given = [];

  tokens() {
    return 0;
  }

  clone() {
    const other = new Session();
    other.#tokens = this.#tokens;
    other.#said = [...this.#said];
    other.#pictures = [...this.#pictures];
    return other;
  }

  async append(json, images, videos, options, cancelled) {
    const messages = JSON.parse(json);
    const text = messages.map(textOf).join("\n");
    const seen = images.map(measured);
    await obey(text, cancelled);
    if (text.includes("lose")) lose("on order");
    return this.#run((_, cancelled) => {
      if (cancelled()) throw fault("aborted", "cancelled");
      useDevice();
      const videoTokens = videos.reduce((sum, { plan }) => sum + plan.tokens, 0);
      this.#tokens += 20 * messages.length + seen.reduce((sum, { tokens }) => sum + tokens, 0) + videoTokens;
      this.#pictures.push(...seen.map(({ original }) => original));
      this.#said.push(...messages.map(textOf));
      return this.#tokens;
    }, undefined, cancelled);
  }

  /** What `resume` goes on with. */
  #work;

  async #run(work, onDelta, cancelled) {
    this.#work = work;
    return work(onDelta, cancelled);
  }

  async resume(onDelta, cancelled) {
    return this.#work(onDelta, cancelled);
  }

  #resized = { width: 616, height: 392 };
  /** Sizes of the conversation's pictures. */
  #pictures = [];

  async prompt(json, images, videos, options, onDelta, cancelled) {
    const messages = JSON.parse(json);
    const whole = textOf(messages.at(-1));
    const [text, order, given] = /^([\s\S]*?)(?:(echo|think):([\s\S]*))?$/.exec(whole)?.slice(1) ?? [whole];
    const { tools = [], ...others } = options;
    asked.postMessage({ session: this.#number, tools, messages, options: others, images: images.map((bytes) => bytes.length), videos: videos.length });
    const seen = images.map(measured);
    if (options.replace) {
      const said = messages.map((message) => JSON.stringify(message));
      const differs = said.findIndex((message, i) => message !== this.#given[i]);
      this.#tokens = 30 * (differs < 0 ? said.length : differs);
      [this.#given, this.#said, this.#pictures] = [said, [], []];
    }
    this.#pictures.push(...seen.map(({ original }) => original));
    const cachedTokens = this.#tokens;
    const imageTokens = seen.reduce((sum, { tokens }) => sum + tokens, 0);
    const videoTokens = videos.reduce((sum, { plan }) => sum + plan.tokens, 0);
    await obey(text.replace("wait", ""), cancelled);
    const located = given === undefined ? this.#located(text) : boxesIn(given);
    const answer = given !== undefined
      ? given
      : located.length > 0
      ? "```json\n" + JSON.stringify(located.map(({ at, label }) => ({ bbox_2d: at, label }))) + "\n```"
      : text.startsWith("json ")
      ? text.slice(5)
      : text.includes("Read")
        ? "Account settings\nYour name\nAda\nSave\nCancel\nDelete account"
        : `Delete account (${images.length} pictures, ${videos.length} videos, <b>${messages.length}</b> messages)`;
    const calls = [];
    const reasoning = text.includes("think") ? "Let me see." : null;
    if (reasoning) onDelta({ text: "", reasoning });
    if (tools.length > 0 && options.toolChoice !== "none" && text.includes("call")) {
      for (let i = 0; i < (text.includes("twice") ? 2 : 1) && !cancelled(); i++) {
        // "call with JSON": these are the arguments, and their text.
        const [, argumentsText] = /call with (\{.*\})/.exec(text) ?? [];
        const given = argumentsText ? { arguments: JSON.parse(argumentsText), argumentsText } : { arguments: { number: i } };
        const toolCall = { id: `call_${i}`, name: tools[0].function.name, ...given };
        calls.push(toolCall);
        onDelta({ text: "", toolCall });
        await pause(5);
      }
    }
    const all = text.includes("wait") ? Array(100_000).fill("word ") : calls.length > 0 ? [] : (answer.match(/[\s\S]{1,4}/g) ?? []);
    const pieces = all.slice(0, options.maxTokens);
    const written = [];
    const token = (text, id) => ({ id, token: text, bytes: [...new TextEncoder().encode(text)], logprob: -(id + 1) / 8 });
    const logprobs = [];
    let losses = Number(/lose (\d+)/.exec(text)?.[1] ?? 0);
    return this.#run(async (onDelta, cancelled) => {
      if (!cancelled()) useDevice();
      while (written.length < pieces.length) {
        if (cancelled()) break;
        // A long answer comes as fast as it can.
        if (pieces.length < 200 || text.includes("wait")) await pause(text.includes("wait") ? 20 : 5);
        useDevice();
        const piece = pieces[written.length];
        const top = Array.from({ length: options.logprobs ?? 0 }, (_, id) => token(`t${id}`, id));
        logprobs.push({ ...token(piece, written.length), top });
        onDelta(order === "think" ? { text: "", reasoning: piece } : { text: piece, ...(options.logprobs !== undefined && { logprobs: logprobs.slice(-1) }) });
        written.push(piece);
        if (losses-- > 0) lose("on order");
      }
      // The token that ends an answer writes nothing.
      if (pieces.length === all.length) logprobs.push({ ...token("", written.length), top: [] });
      if (text.includes("use the calculator") && messages.at(-1).role === "user") {
        calls.push({ id: "call_0", name: "calculator", arguments: { expression: "6 * 7" } });
      }
      this.#said.push(...messages.map(textOf), written.join(""));
      this.#tokens += 30 + imageTokens + videoTokens + written.length;
      return {
        text: order === "think" ? "Thought about." : written.join(""),
        located,
        tokenIds: written.map((_, index) => index),
        reasoning: order === "think" ? given : reasoning,
        ...(calls.length > 0 && { toolCalls: calls }),
        ...(options.logprobs !== undefined && { logprobs }),
        finishReason: cancelled() ? "abort" : calls.length > 0 ? "tool_calls" : pieces.length < all.length ? "length" : "stop",
        usage: { promptTokens: cachedTokens + 30 + imageTokens + videoTokens, imageTokens, videoTokens, completionTokens: written.length, cachedTokens },
        timings: { imageMs: 200, prefillMs: 400, ttftMs: 620, decodeMs: 500, decodeTps: 41.7 },
        images: seen.map(({ original, tokens }) => ({ original, resized: this.#resized, tokens })),
        seen: videos.map(({ plan: { track, options }, frames }) => ({ track, options, frames })),
        messages,
        said: [...this.#said],
        // What arrived, of what is small.
        files: images.map((bytes) => (bytes.length < 400_000 ? Array.from(bytes) : undefined)),
      };
    }, onDelta, cancelled);
  }

  /** What it was asked is in `asked`. */
  plan(json, images, videos, options) {
    if (json.includes("trap")) trap();
    const tokens = images.reduce((sum, image) => sum + measured(image).tokens, 0);
    return {
      promptTokens: this.#tokens + 30 + tokens, imageTokens: tokens, videoTokens: 0, cachedTokens: this.#tokens, contextWindow: 2048,
      fits: true, left: 2018 - this.#tokens - tokens, bytes: 1e6, flops: 1e9,
      images: images.map((image) => ({ ...measured(image), resized: this.#resized, warnings: ["small"] })),
      videos: [],
      asked: { messages: JSON.parse(json), options },
    };
  }

  /** Two boxes for "Locate"; a point and a polygon for "Point", in the picture "about N" if that is said. */
  #located(text) {
    const image = Number(/about (\d+)/.exec(text)?.[1] ?? this.#pictures.length) - 1;
    const { width, height } = this.#pictures[image] ?? this.#resized;
    const place = ([x, y]) => [(x * width) / this.#resized.width, (y * height) / this.#resized.height];
    const box = (x1, y1, x2, y2, label) => ({ kind: "box", at: [...place([x1, y1]), ...place([x2, y2])], label, image });
    if (/Locate|Outline|Detect/.test(text) && !text.includes("points")) return [box(154, 98, 308, 196, "Delete"), box(462, 0, 616, 40, "Cancel")];
    if (!/Point|points/.test(text)) return [];
    const polygon = [[308, 196], [462, 220], [440, 300], [320, 280]].map(place);
    return [
      { kind: "point", at: place([154, 98]), label: "Nut", image },
      { kind: "polygon", at: polygon, label: "Sign", image },
      { kind: "box3d", at: [0, 0, 2, 1, 1, 1, 0, 0, 0], label: "Chair", image },
    ];
  }

  free() {}
}

const textOf = ({ content }) =>
  typeof content === "string" ? content : content.filter((p) => p.type === "text").map((p) => p.text).join("");

/** A trap of wasm: the body of the only function is `unreachable`. */
function trap() {
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11];
  new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes))).exports.f();
}

/** Orders in a text: "block",  "throw", "trap", "silent", "wait". */
async function obey(text, cancelled) {
  if (text.includes("synchronous trap")) trap();
  // As wasm does that computes: nothing else runs in the worker. Without a number, for ever.
  const [, busy] = /block ?(\d*)/.exec(text) ?? [];
  if (busy !== undefined) for (const begin = performance.now(); busy === "" || performance.now() - begin < Number(busy); );
  if (text.includes("throw")) throw fault("oom", "a fault on order", true);
  if (text.includes("trap")) queueMicrotask(() => unreachable());
  if (/trap|silent/.test(text)) await new Promise(() => {});
  while (text.includes("wait") && !cancelled()) await pause(5);
}

/** What an answer in JSON points at. */
function boxesIn(text) {
  try {
    const found = [JSON.parse(text)].flat().filter((one) => Array.isArray(one?.bbox_2d));
    return found.map(({ bbox_2d: at, label }) => ({ kind: "box", at, label, image: 0 }));
  } catch {
    return [];
  }
}

/** The size a PNG says it has, or a BMP as pixels come in. */
function measured(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (bytes.length >= 122 && view.getUint16(0) === 0x424d) {
    return { original: { width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true)) }, tokens: 308 };
  }
  if (bytes.length < 24 || view.getUint32(0) !== 0x89504e47) {
    throw Object.assign(new Error("this is no picture Fanlight can read"), { code: "bad_image", hint: "Use a PNG." });
  }
  return { original: { width: view.getUint32(16), height: view.getUint32(20) }, tokens: 308 };
}
