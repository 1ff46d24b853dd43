// The worker owns the wasm module, the device and the weights. It answers the calls of protocol.ts one after another; only
// aborts are handled, and pictures and videos read, at once. The code in this folder runs in the worker; video/ reads videos.

import * as glue from "../../wasm/fanlight.js";
import { findGguf } from "../checkpoint/gguf.js";
import { keeping, wishOf } from "../checkpoint/keys.js";
import { openSource } from "../checkpoint/open.js";
import type { Source } from "../checkpoint/source.js";
import { errorFields, FanlightError } from "../errors.js";
import type { Call, Calls, FromWorker, PromptOptions, ToWorker, WireTurn } from "../protocol.js";
import { randomName } from "../shared/random.js";
import { support } from "../shared/support.js";
import { fetched, unusable } from "../shared/wasm-file.js";
import type { AdapterInfo, Progress, Result } from "../types.js";
import { Grammars } from "./grammar.js";
import { isLost, Recovery } from "./recovery.js";
import { takeVideos } from "./video/footage.js";
import type { WasmEngine, WasmModule, WasmSession } from "./wasm.js";

type Emit<C extends Call> = (event: Calls[C]["event"]) => void;
type Handler<C extends Call> = (
  args: Calls[C]["args"],
  emit: Emit<C>,
  signal: AbortSignal,
  turnOf: () => Promise<void>,
) => Promise<Calls[C]["result"]>;

let engine: WasmEngine | undefined;
let grammars: Grammars | undefined;
/** The memory of the wasm module. It never shrinks. */
let memory: WebAssembly.Memory | undefined;
/** A conversation, and its number of tokens. */
interface Conversation {
  readonly live: WasmSession;
  tokens: number;
}

const sessions = new Map<number, Conversation>();
/** Begins anywhere, so that a session of a worker that was ended is not taken for one of the worker that replaced it. */
let lastSession = 2 * (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) * 2 ** 16;

/** The arguments with which the model was loaded. */
let loading: Calls["load"]["args"] | undefined;

const recovery = new Recovery({
  async reload() {
    if (!loading) throw new FanlightError("internal", "a device was lost before a model was loaded");
    const live = loaded();
    const source = await open(await module(), loading, true, () => {});
    try {
      await live.reload(source, loading.options);
      await source.finish();
    } finally {
      source.close();
    }
    watch(live);
  },
  tell(notice, info) {
    send({ notice, info });
  },
});

/** Notices when the device is lost while no call runs. */
function watch(live: WasmEngine): void {
  live.lost().then((message) => recovery.lost(message), () => {});
}

const handlers: { [C in Call]: Handler<C> } = {
  async load(args, emit) {
    const start = performance.now();
    const adapter = await usableAdapter();
    const wasm = await module(args.wasm);
    const [live, source] = await load(wasm, args, emit).catch((error: unknown) => {
      // Most likely there is another device. What has been downloaded is kept.
      if (isLost(error)) return load(wasm, args, emit);
      throw error;
    });
    [engine, loading] = [live, args];
    grammars = new Grammars(live);
    watch(live);
    const cache = { ...source.cache, persisted: (await navigator.storage?.persisted?.()) ?? false };
    const commit = source.commit !== undefined ? { commit: source.commit } : {};
    const wasmBytes = memory?.buffer.byteLength ?? 0;
    return { ...live.info(), ...commit, adapter, cache, wasmBytes, loadMs: performance.now() - start };
  },

  async estimate(args, emit) {
    await usableAdapter();
    const wasm = await module(args.wasm);
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

  async clone({ session }) {
    const { live, tokens } = conversation(session);
    sessions.set(++lastSession, { live: live.clone(), tokens });
    return lastSession;
  },

  async prompt({ session, options, ...turn }, emit, signal, turnOf) {
    const held = conversation(session);
    // Checked before anything is decoded, so that a wrong constraint is reported at once.
    const spec = loaded().constraint(options);
    const constraint = spec === undefined ? undefined : await grammars?.constraint(spec);
    try {
      const { messages, inputs, infos } = await taken(held, turn, options, signal);
      await turnOf();
      const cancelled = () => signal.aborted;
      const result = await recovery.run(
        () => held.live.prompt(messages, turn.images, inputs, options, emit, cancelled, constraint),
        () => held.live.resume(emit, cancelled) as Promise<Result>,
        signal,
      );
      held.tokens = result.usage.promptTokens + result.usage.completionTokens;
      return { ...result, videos: infos };
    } finally {
      constraint?.free();
    }
  },

  async plan({ session, options, ...turn }, _, signal, turnOf) {
    const held = conversation(session);
    const { messages, inputs, infos } = await taken(held, turn, options, signal);
    await turnOf();
    return { ...held.live.plan(messages, turn.images, inputs, options), videos: infos };
  },

  async append({ session, options, ...turn }, _, signal, turnOf) {
    const held = conversation(session);
    const { messages, inputs } = await taken(held, turn, options, signal);
    await turnOf();
    const cancelled = () => signal.aborted;
    held.tokens = await recovery.run(
      () => held.live.append(messages, turn.images, inputs, options, cancelled),
      () => held.live.resume(() => {}, cancelled) as Promise<number>,
      signal,
    );
    return held.tokens;
  },

  async locate({ text, pictures }) {
    return loaded().locate(text, pictures);
  },

  async document({ html, picture }) {
    return loaded().document(html, picture);
  },

  async sizesFor({ modelType, images, limits }) {
    const wasm = await module();
    return images.map((bytes, i) => {
      const { width, height } = wasm.imageSize(bytes);
      return wasm.sizesFor(modelType, width, height, limits[i] ?? {});
    });
  },

  async locateFor({ modelType, text, pictures }) {
    return (await module()).locateFor(modelType, text, pictures);
  },

  async documentFor({ modelType, html, picture }) {
    return (await module()).documentFor(modelType, html, picture);
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

async function load(
  wasm: WasmModule,
  args: Calls["load"]["args"],
  emit: (progress: Progress) => void,
): Promise<[WasmEngine, Source]> {
  const source = await open(wasm, args, true, emit);
  try {
    // While files are being downloaded, report only the progress of the download.
    const onProgress = (progress: Progress) => {
      if (progress.phase === "compile" || !source.downloading) emit(progress);
    };
    const live = await wasm.Engine.load(source, args.options, onProgress);
    await source.finish();
    return [live, source];
  } finally {
    source.close();
  }
}

function conversation(id: number): Conversation {
  const held = sessions.get(id);
  if (!held) {
    const message = "this session was destroyed, or it was lost with a worker that had to be ended";
    throw new FanlightError("aborted", message, "Begin a new session.");
  }
  return held;
}

/** Messages in the form that the engine takes, with the frames of their videos. */
async function taken(
  { live, tokens }: Conversation,
  { messages, images, videos }: WireTurn,
  { replace, tools }: PromptOptions,
  signal: AbortSignal,
) {
  const json = jsonOf(messages);
  const beside = videos.length > 0 ? live.tokens(json, images, tools ? jsonOf(tools) : "") : 0;
  const before = replace ? 0 : tokens;
  return { messages: json, ...(await takeVideos(await module(), loaded(), videos, before + beside, signal)) };
}

/**
 * JSON that Rust reads. A text that was cut in the middle of a character has half of a surrogate pair, which is no text in Rust: it
 * becomes U+FFFD, as in every encoder of the web. `JSON.stringify` writes such halves, and nothing else, as escapes `\\ud800` to `\\udfff`.
 */
const jsonOf = (value: unknown): string =>
  JSON.stringify(value).replace(/(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/g, "$1\ufffd");

function loaded(): WasmEngine {
  if (!engine) throw new FanlightError("internal", "the worker received a call before a model was loaded");
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
  const sha256 = () => new wasm.Sha256();
  const source = await openSource(place, {
    cache: keeping(cache, options),
    wish: wishOf(options),
    loads,
    timeoutMs,
    sha256,
    onProgress,
  });
  if (source.names) Object.assign(options, findGguf(source.names, options.gguf, options.mmproj));
  return source;
}

let started: Promise<WasmModule> | undefined;

/** The engine's module: from the first call that has one, or from the file in this package. */
function module(wasm?: string | WebAssembly.Module): Promise<WasmModule> {
  started ??= start(wasm ?? new URL("../../wasm/fanlight_bg.wasm", import.meta.url).href);
  return started;
}

async function start(wasm: string | WebAssembly.Module): Promise<WasmModule> {
  // The generated types say `any` where wasm.ts has exact types.
  const module = glue as unknown as WasmModule;
  const own = typeof wasm === "string" ? await fetched(wasm) : wasm;
  try {
    ({ memory } = (await module.default({ module_or_path: own })) ?? {});
    return module;
  } catch (error) {
    throw unusable(typeof wasm === "string" ? wasm : "the module given as `wasm`", error);
  }
}

const send = (message: FromWorker): void => postMessage(message);

/**
 * Calls are answered one after another, but what they read before they need the engine is read at once, so that a video that never
 * arrives keeps no other conversation waiting. A call that waits for its turn calls the function that it gets as the last argument.
 */
let queue: Promise<unknown> = Promise.resolve();
/** Calls that read pictures and videos before they need the engine. */
const READS: ReadonlySet<Call> = new Set<Call>(["prompt", "plan", "append"]);

async function answer<C extends Call>(id: number, call: C, args: Calls[C]["args"], signal: AbortSignal): Promise<void> {
  let leave = () => {};
  /** Waits until all calls that have taken a turn before are answered. */
  const turnOf = async () => {
    const before = queue;
    queue = new Promise<void>((resolve) => (leave = resolve)).then(() => before);
    await before;
  };
  try {
    if (!READS.has(call)) await turnOf();
    // `Calls` pairs each name with its types; TypeScript cannot follow that through a variable.
    const handler = handlers[call] as Handler<C>;
    send({ id, result: await handler(args, (event) => send({ id, event }), signal, turnOf) });
  } catch (error) {
    // After a trap, in whichever call it was, the engine must not be used again.
    if (isTrap(error)) send({ fatal: errorFields(error) });
    else send({ id, error: errorFields(error) });
  } finally {
    leave();
  }
}

/** Whether wasm was stopped in the middle of its work: by a trap, or because its stack was used up. */
const isTrap = (error: unknown): boolean =>
  error instanceof WebAssembly.RuntimeError || (error instanceof Error && /call stack|too much recursion/i.test(error.message));

/** Calls that have not been answered. */
const waiting = new Map<number, AbortController>();

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if ("ping" in data) return send({ pong: data.ping });
  if ("abort" in data) return waiting.get(data.abort)?.abort();
  const { id, call, args } = data;
  const abort = new AbortController();
  waiting.set(id, abort);
  if (data.aborted) abort.abort();
  void answer(id, call, args, abort.signal).finally(() => waiting.delete(id));
});

// A trap in wasm ends the engine for good, and the promise in which it happened never settles by itself.
addEventListener("error", (event) => send({ fatal: errorFields(event.error ?? event.message) }));
addEventListener("unhandledrejection", (event) => send({ fatal: errorFields(event.reason) }));

// The page waits for this lock. When the page gets it, the worker has ended, for whatever reason.
const alive = `fanlight-worker-${randomName()}`;
const living = () => {
  send({ alive });
  return new Promise<never>(() => {});
};
// Pages over plain http have no locks.
if (navigator.locks) void navigator.locks.request(alive, living);
else void living();
