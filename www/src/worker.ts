// The worker owns the wasm module, the device and the weights. It answers the calls of protocol.ts one after another;
// aborts are the only thing that overtakes.

import { errorFields, FanlightError } from "./errors.js";
import { takeVideos } from "./footage.js";
import { Grammars } from "./grammar.js";
import type { Call, Calls, FromWorker, PromptOptions, ToWorker, WirePrompt } from "./protocol.js";
import { findGguf, openSource, type Source } from "./source.js";
import { support } from "./support.js";
import type { AdapterInfo, Progress } from "./types.js";
import type { WasmEngine, WasmModule, WasmSession } from "./wasm.js";

type Emit<C extends Call> = (event: Calls[C]["event"]) => void;
type Handler<C extends Call> = (args: Calls[C]["args"], emit: Emit<C>, signal: AbortSignal) => Promise<Calls[C]["result"]>;

let engine: WasmEngine | undefined;
let grammars: Grammars | undefined;
/** Wasm's; it only ever grows. */
let memory: WebAssembly.Memory | undefined;
/** Conversations, and the tokens that they hold. */
const sessions = new Map<number, { live: WasmSession; tokens: number }>();
let lastSession = 0;

const handlers: { [C in Call]: Handler<C> } = {
  async load(args, emit) {
    const start = performance.now();
    const adapter = await usableAdapter();
    const wasm = await module();
    const source = await open(wasm, args, true, emit);
    try {
      // While the network is at work its progress is what one waits for.
      const onProgress = (progress: Progress) => {
        if (progress.phase === "compile" || !source.downloading) emit(progress);
      };
      engine = await wasm.Engine.load(source, args.options, onProgress);
      grammars = new Grammars(engine);
      await source.finish();
    } finally {
      source.close();
    }
    const cache = { ...source.cache, persisted: (await navigator.storage?.persisted?.()) ?? false };
    const commit = source.commit !== undefined ? { commit: source.commit } : {};
    const wasmBytes = memory?.buffer.byteLength ?? 0;
    return { ...engine.info(), ...commit, adapter, cache, wasmBytes, loadMs: performance.now() - start };
  },

  async estimate(args, emit) {
    await usableAdapter();
    const wasm = await module();
    const source = await open(wasm, args, false, emit);
    try {
      return await wasm.estimate(source, args.options);
    } finally {
      source.close();
    }
  },

  async session(options) {
    sessions.set(++lastSession, { live: loaded().session(options), tokens: 0 });
    return lastSession;
  },

  async prompt({ session, options, ...wired }, emit, signal) {
    // Before anything is decoded: a wrong constraint is known at once.
    const spec = loaded().constraint(options);
    const constraint = spec === undefined ? undefined : await grammars?.constraint(spec);
    try {
      const { held, prompt, images, inputs, infos } = await unpacked(session, wired, options, signal);
      const result = await held.live.prompt(prompt, images, inputs, options, emit, () => signal.aborted, constraint);
      held.tokens = result.usage.promptTokens + result.usage.completionTokens;
      return { ...result, videos: infos };
    } finally {
      constraint?.free();
    }
  },

  async plan({ session, options, ...wired }, _, signal) {
    const { held, prompt, images, inputs, infos } = await unpacked(session, wired, options, signal);
    return { ...held.live.plan(prompt, images, inputs, options), videos: infos };
  },

  async locate({ text, pictures }) {
    return loaded().locate(text, pictures);
  },

  async document({ html, picture }) {
    return loaded().document(html, picture);
  },

  async events({ text }) {
    return loaded().events(text);
  },

  async release({ session }) {
    sessions.get(session)?.live.free();
    sessions.delete(session);
    return null;
  },
};

/** A prompt as the engine takes it, the frames of its videos read. */
async function unpacked(
  session: number,
  { messages, images, videos }: WirePrompt,
  { replace }: PromptOptions,
  signal: AbortSignal,
) {
  const held = sessions.get(session);
  if (!held || !engine) throw new FanlightError("aborted", "this session was destroyed");
  const prompt = JSON.stringify(messages);
  const beside = videos.length > 0 ? held.live.tokens(prompt, images) : 0;
  const { inputs, infos } = await takeVideos(await module(), engine, videos, (replace ? 0 : held.tokens) + beside, signal);
  return { held, prompt, images, inputs, infos };
}

function loaded(): WasmEngine {
  if (!engine) throw new FanlightError("internal", "the worker was asked for something before a model was loaded");
  return engine;
}

async function usableAdapter(): Promise<AdapterInfo> {
  const { webgpu, reason, hint, adapter } = await support();
  if (!webgpu || !adapter) throw new FanlightError("webgpu_unavailable", reason ?? "no WebGPU", hint);
  return adapter;
}

async function open(
  wasm: WasmModule,
  args: Calls["load"]["args"],
  loads: boolean,
  onProgress: (progress: Progress) => void,
): Promise<Source> {
  const { place, cache, timeoutMs, options } = args;
  const { weights = "keep", memory: most, contextLength, maxPixels, kvCache } = options;
  const wish = JSON.stringify([weights, ...(weights === "auto" ? [most, contextLength, maxPixels, kvCache] : [])]);
  // What is kept as it is needs nothing prepared.
  const keeping = cache === "quantized" && weights === "keep" ? "opfs" : cache;
  const sha256 = () => new wasm.Sha256();
  const source = await openSource(place, { cache: keeping, wish, loads, timeoutMs, sha256, onProgress });
  if (source.names) Object.assign(options, findGguf(source.names, options.gguf, options.mmproj));
  return source;
}

async function module(): Promise<WasmModule> {
  const script = new URL("../wasm/fanlight.js", import.meta.url);
  try {
    const wasm = (await import(script.href)) as WasmModule;
    ({ memory } = (await wasm.default({ module_or_path: new URL("fanlight_bg.wasm", script) })) ?? {});
    return wasm;
  } catch (error) {
    throw new FanlightError("network", `the engine could not be loaded: ${String(error)}`, "Reload the page.", true);
  }
}

const send = (message: FromWorker): void => postMessage(message);

async function answer<C extends Call>(id: number, call: C, args: Calls[C]["args"], signal: AbortSignal): Promise<void> {
  try {
    // The table pairs each name with its types; TypeScript cannot follow the pairing through a variable.
    const handler = handlers[call] as Handler<C>;
    send({ id, result: await handler(args, (event) => send({ id, event }), signal) });
  } catch (error) {
    send({ id, error: errorFields(error) });
  }
}

let queue = Promise.resolve();
/** Calls that have not been answered. */
const waiting = new Map<number, AbortController>();

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if ("abort" in data) return waiting.get(data.abort)?.abort();
  const { id, call, args } = data;
  const abort = new AbortController();
  waiting.set(id, abort);
  if (data.aborted) abort.abort();
  queue = queue.then(() => answer(id, call, args, abort.signal)).finally(() => waiting.delete(id));
});

// A trap in wasm ends the engine for good, and the promise it happened in never settles by itself.
addEventListener("error", (event) => send({ fatal: errorFields(event.error ?? event.message) }));
addEventListener("unhandledrejection", (event) => send({ fatal: errorFields(event.reason) }));

// The page waits for this lock: getting it means that the worker is gone, however it went.
const alive = `fanlight-worker-${crypto.randomUUID()}`;
void navigator.locks.request(alive, () => {
  send({ alive });
  return new Promise(() => {});
});
