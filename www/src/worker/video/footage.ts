// Videos, as the worker reads them: every source becomes frames with times, of which the engine chooses some. Frames are
// processed one at a time, so only as many are in memory as the decoder needs.

import { type ErrorFields, FanlightError } from "../../errors.js";
import type { FrameReply, FrameRequest, WireVideo } from "../../protocol.js";
import { pixels, type Shot, upright } from "../../shared/pixels.js";
import type { VideoInfo, VideoOptions } from "../../types.js";
import type { PlanOptions, Track, VideoInput, VideoPlan, WasmEngine, WasmModule } from "../wasm.js";
import { aborted, openMovie } from "./container.js";

/** A picture of a list stays encoded; the engine decodes it like any other picture. */
type Frame = Shot | { encoded: Uint8Array; timestamp: number };

/** A video that is open. */
interface Footage {
  track: Track;
  /** How the engine chooses frames. `everyFrame`: the caller has already chosen them. */
  options: PlanOptions;
  /** The frames that were chosen, in order. */
  frames(plan: VideoPlan): AsyncIterable<Frame>;
  /** What was changed while the video was read, in sentences. */
  decisions: string[];
  /** When the first frame is shown on the video's own clock, in seconds, if that is not 0. */
  begin?: number;
  close(): void;
}

/** A `<video>` element does not tell the times of its frames. It is treated as if it had this many frames a second. */
const ASSUMED_FPS = 30;
/** The default of `fps`. */
const FPS = 2;
/** More frames a second than any camera has. */
const ALL_FPS = 240;
/** The default of `maxFrames`. */
const MOST_FRAMES = 768;
/** The most bytes of frames that are kept while a feed is still arriving. */
const MOST_HELD = 256 * 2 ** 20;

/**
 * Reads videos for the engine, and reports how each was read. The videos share the tokens of the context that `held` tokens
 * leave.
 */
export async function takeVideos(
  wasm: WasmModule,
  engine: WasmEngine,
  videos: WireVideo[],
  held: number,
  signal: AbortSignal,
): Promise<{ inputs: VideoInput[]; infos: VideoInfo[] }> {
  const inputs: VideoInput[] = [];
  const infos: VideoInfo[] = [];
  try {
    let left = engine.info().contextLength - held;
    for (const [i, video] of videos.entries()) {
      const mostTokens = Math.max(0, Math.floor(left / (videos.length - i)));
      const { info, promptTokens } = await takeVideo(wasm, engine, video, mostTokens, inputs, signal);
      infos.push(info);
      left -= promptTokens;
    }
    return { inputs, infos };
  } catch (error) {
    for (const input of inputs) input.free();
    throw error;
  } finally {
    for (const { source } of videos) {
      if (source.kind === "list") for (const frame of source.frames) if (frame instanceof VideoFrame) frame.close();
      if ("port" in source) end(source.port);
    }
  }
}

async function takeVideo(
  wasm: WasmModule,
  engine: WasmEngine,
  video: WireVideo,
  mostTokens: number,
  inputs: VideoInput[],
  signal: AbortSignal,
): Promise<{ info: VideoInfo; promptTokens: number }> {
  if (signal.aborted) throw aborted();
  const footage = await open(wasm, video, signal);
  try {
    const plan = engine.planVideo(JSON.stringify(footage.track), JSON.stringify({ ...footage.options, mostTokens }));
    const input = new wasm.VideoInput(plan);
    inputs.push(input);
    const timestamps: number[] = [];
    for await (const frame of footage.frames(plan)) {
      if (signal.aborted) throw aborted();
      if ("encoded" in frame) input.pushEncoded(frame.encoded, frame.timestamp);
      else input.push(frame.rgba, frame.width, frame.height, frame.timestamp);
      timestamps.push(frame.timestamp);
    }
    const { width, height } = footage.track;
    const info = {
      original: { width, height },
      resized: { width: plan.width, height: plan.height },
      frames: timestamps.length,
      timestamps,
      sampleFps: plan.sampleFps,
      tokens: plan.tokens,
      decisions: [...footage.decisions, ...plan.decisions],
      ...(footage.begin && { startsAt: footage.begin }),
    };
    return { info, promptTokens: plan.promptTokens };
  } finally {
    footage.close();
  }
}

async function open(wasm: WasmModule, { source, options }: WireVideo, signal: AbortSignal): Promise<Footage> {
  switch (source.kind) {
    case "file":
      return file(source.file, options, signal);
    case "list":
      return list(wasm, source, options);
    case "feed":
      return feed(new Frames(source.port, signal), options, source.live);
    case "url":
      try {
        return await file(source.url, options, signal);
      } catch (error) {
        if (!source.port || signal.aborted) throw error;
        return element(new Frames(source.port, signal), options);
      }
  }
}

async function file(from: Blob | string, options: VideoOptions, signal: AbortSignal): Promise<Footage> {
  const { track, begin, shots, close } = await openMovie(from, signal);
  return { track, options, frames: ({ indices }) => shots(indices), decisions: [], begin, close };
}

/** A list of pictures, with times or with the list's number of pictures a second. */
async function list(
  wasm: WasmModule,
  { frames, timestamps, fps }: Extract<WireVideo["source"], { kind: "list" }>,
  options: VideoOptions,
): Promise<Footage> {
  const [first] = frames;
  if (!first) throw new FanlightError("bad_video", "this video is an empty list of pictures");
  const size = first instanceof VideoFrame ? upright(first) : wasm.imageSize(first);
  const own = frames.map((frame) => (frame instanceof VideoFrame ? frame.timestamp / 1e6 : Number.NaN));
  const times = timestamps ?? (fps === undefined && ascends(own) ? own : undefined);
  const track = times ? { ...size, times } : { ...size, frames: frames.length, fps: fps ?? FPS };
  return {
    track,
    options: { ...options, everyFrame: true },
    async *frames({ indices, times }) {
      for (const [i, index] of indices.entries()) {
        const [frame, timestamp] = [frames[index], times[i] ?? 0];
        if (frame instanceof VideoFrame) yield { ...(await pixels(frame, undefined, size)), timestamp };
        else if (frame) yield { encoded: frame, timestamp };
      }
    },
    decisions: [],
    close() {},
  };
}

const ascends = (times: number[]) =>
  times.length > 1 && times.every((time, i) => i === 0 || time > (times[i - 1] ?? Number.NaN));

/** Frames that arrive by themselves. They are read to the end, and sampled at `fps` on the way. */
async function feed(frames: Frames, options: VideoOptions, live: boolean): Promise<Footage> {
  const { nframes, maxFrames = MOST_FRAMES } = options;
  const fps = nframes === undefined ? (options.fps ?? FPS) : ALL_FPS;
  let step = 1 / fps;
  let kept: Shot[] = [];
  let origin: number | undefined;
  let last = Number.NEGATIVE_INFINITY;
  let held = 0;
  for (;;) {
    const reply = await frames.ask("next");
    if (reply === "end") break;
    if (!("frame" in reply)) throw unexpected();
    const { frame, timestamp } = reply;
    try {
      if (timestamp <= last && !live) {
        const message = `a frame with timestamp ${timestamp} s follows one with timestamp ${last} s`;
        throw new FanlightError("bad_video", message, "The timestamps of frames must be ascending.");
      }
      origin ??= timestamp;
      const due = kept.length === 0 || slot(timestamp - origin, step) > slot(last - origin, step);
      if (!due) continue;
      last = timestamp;
      const { rgba, width, height } = await pixels(frame, undefined, kept[0]);
      kept.push({ rgba: rgba.slice(), width, height, timestamp: live ? timestamp - origin : timestamp });
      held += rgba.length;
    } finally {
      frame.close();
    }
    while ((held > MOST_HELD || kept.length > maxFrames) && kept.length > 2) {
      kept = kept.filter((_, i) => i % 2 === 0);
      held = kept.reduce((sum, { rgba }) => sum + rgba.length, 0);
      step *= 2;
    }
  }
  const [first] = kept;
  if (!first) throw new FanlightError("bad_video", "the video source sent no frame", "Check that the source is not muted and not at its end.");
  const { width, height } = first;
  const room = `${maxFrames} frames and ${MOST_HELD / 2 ** 20} MiB`;
  const thinned = `One frame every ${step} seconds was kept instead of one every ${1 / fps}, to stay within ${room}.`;
  return {
    track: { width, height, times: kept.map(({ timestamp }) => timestamp) },
    options: { ...options, everyFrame: nframes === undefined },
    async *frames({ indices }) {
      for (const index of indices) {
        const shot = kept[index];
        if (shot) yield shot;
      }
    },
    decisions: step > 1 / fps ? [thinned] : [],
    close() {},
  };
}

/** The number of the sampling interval in which this time is. */
const slot = (seconds: number, step: number) => Math.floor(seconds / step + 1e-6);

/** A `<video>` element that seeks from one time to the next. */
async function element(frames: Frames, options: VideoOptions): Promise<Footage> {
  const reply = await frames.ask("size");
  if (reply === "end" || !("size" in reply)) throw unexpected();
  const { width, height, duration } = reply.size;
  if (!Number.isFinite(duration)) {
    const hint = "Give its MediaStream instead, for example from captureStream().";
    throw new FanlightError("bad_video", "this <video> has no known duration, so its frames cannot be sampled", hint);
  }
  return {
    track: { width, height, frames: Math.max(1, Math.floor(duration * ASSUMED_FPS)), fps: ASSUMED_FPS },
    options,
    async *frames({ times }) {
      for (const at of times) {
        // Seek to the middle of the frame, because the time at which it begins may be rounded either way.
        const reply = await frames.ask({ at: at + 0.5 / ASSUMED_FPS });
        if (reply === "end" || !("frame" in reply)) throw unexpected();
        const { frame, timestamp } = reply;
        try {
          yield { ...(await pixels(frame, undefined, { width, height })), timestamp };
        } finally {
          frame.close();
        }
      }
    },
    decisions: [],
    close() {},
  };
}

/** Frames that the page sends over a port. */
class Frames {
  readonly #port: MessagePort;
  readonly #signal: AbortSignal;

  constructor(port: MessagePort, signal: AbortSignal) {
    this.#port = port;
    this.#signal = signal;
  }

  async ask(request: FrameRequest): Promise<Exclude<FrameReply, { error: ErrorFields }>> {
    const signal = this.#signal;
    if (signal.aborted) throw aborted();
    const reply = await new Promise<FrameReply>((resolve, reject) => {
      const stop = () => reject(aborted());
      signal.addEventListener("abort", stop);
      this.#port.onmessage = ({ data }: MessageEvent<FrameReply>) => {
        signal.removeEventListener("abort", stop);
        resolve(data);
      };
      this.#port.postMessage(request);
    });
    if (typeof reply === "object" && "error" in reply) throw FanlightError.from(reply.error);
    return reply;
  }
}

/** Tells the page to stop, and closes frames that still arrive. */
function end(port: MessagePort): void {
  port.onmessage = ({ data }: MessageEvent<FrameReply>) => {
    if (typeof data === "object" && "frame" in data) data.frame.close();
  };
  port.postMessage("end" satisfies FrameRequest);
}

const unexpected = () => new FanlightError("internal", "the page sent something other than a frame");
