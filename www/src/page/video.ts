// Videos, as the page sends them to the worker. Files and frames are handed over. What only the page can read (a `<video>`
// element, a camera) is sent over a port, frame by frame, when the worker asks.

import { errorFields, FanlightError } from "../errors.js";
import type { FrameReply, FrameRequest, WireVideo } from "../protocol.js";
import type { VideoFrames, VideoOptions, VideoPart, VideoSource } from "../types.js";
import { isBase64, shown } from "../shared/address.js";
import { imageBytes } from "./media.js";

/** How many seconds of a stream are captured, and how long to wait for its first frame. */
const SECONDS = 4;
const PATIENCE_MS = 15_000;
/** How long to wait for the next frame of a caller, who may compute frames. */
const FRAME_MS = 60_000;

export interface Outgoing {
  video: WireVideo;
  /** Objects that are moved to the worker with the video. */
  transfer: Transferable[];
  /** Called when the prompt has settled, successfully or not. Frees what was used. */
  release(): void;
}

/** The options of a video part, without the video itself. */
export function videoOptions(part: VideoPart): VideoOptions {
  const { type: _, video: __, seconds: ___, ...options } = part;
  return options;
}

export async function outgoing(part: VideoPart): Promise<Outgoing> {
  const { source, transfer, release } = await prepared(part.video, part.seconds ?? SECONDS);
  return { video: { options: videoOptions(part), source }, transfer, release };
}

type Prepared = { source: WireVideo["source"] } & Pick<Outgoing, "transfer" | "release">;

async function prepared(video: VideoSource, seconds: number): Promise<Prepared> {
  if (video instanceof Blob) return whole({ kind: "file", file: video });
  if (video instanceof ArrayBuffer || ArrayBuffer.isView(video)) {
    return whole({ kind: "file", file: new Blob([video as BlobPart]) });
  }
  if (typeof video === "string" || video instanceof URL) return whole({ kind: "url", url: absolute(video) });
  if (video instanceof HTMLVideoElement) return element(video, seconds);
  if (video instanceof MediaStream) return watching(video, seconds);
  if ("frames" in video) return list(video);
  if (Symbol.asyncIterator in video || Symbol.iterator in video) return feed(iterated(video), false);
  throw new FanlightError("bad_request", "this value is not a video source", "See the type VideoSource.");
}

const whole = (source: WireVideo["source"]): Prepared => ({ source, transfer: [], release() {} });

function absolute(url: string | URL): string {
  const text = String(url);
  if (text.trim() === "") throw new FanlightError("bad_request", "the address of a video is an empty text", "Give the video's address, or a Blob.");
  if (isBase64(text)) {
    const message = `this text of ${text.length} characters is a file in base64, not the address of a video`;
    throw new FanlightError("bad_request", message, 'Write "data:video/mp4;base64," in front of it, with the type of the video, or give a Blob.');
  }
  try {
    return new URL(url, document.baseURI).href;
  } catch {
    throw new FanlightError("bad_request", `"${shown(text)}" is not a valid address of a video`);
  }
}

async function list({ frames, timestamps, fps }: VideoFrames): Promise<Prepared> {
  const ready = frames.map((frame) => (frame instanceof VideoFrame ? frame : imageBytes(frame)));
  const sent = await Promise.all(ready);
  const transfer = sent.map((frame) => (frame instanceof VideoFrame ? frame : frame.buffer));
  const times = { ...(timestamps && { timestamps }), ...(fps !== undefined && { fps }) };
  return { source: { kind: "list", frames: sent, ...times }, transfer, release() {} };
}

/** A `<video>` element by the file behind it. If the worker cannot read that file, it asks for frames of the element. */
function element(video: HTMLVideoElement, seconds: number): Prepared {
  if (video.srcObject instanceof MediaStream) return watching(video.srcObject, seconds);
  if (!video.currentSrc && !video.src) {
    throw new FanlightError("bad_video", "this <video> has no source", "Set its src, and wait for its event `canplay`.");
  }
  const seeker = new Seeker(video);
  const answer = async (request: FrameRequest): Promise<FrameReply> =>
    typeof request === "object" ? seeker.frame(request.at) : { size: await seeker.size() };
  const { port, close } = served(answer, () => seeker.restore());
  return { source: { kind: "url", url: video.currentSrc || video.src, port }, transfer: [port], release: close };
}

function watching(stream: MediaStream, seconds: number): Prepared {
  const over = new AbortController();
  return feed(watched(stream, seconds, over), true, () => over.abort());
}

function feed(frames: AsyncGenerator<VideoFrame>, live: boolean, stop = () => {}): Prepared {
  const answer = async (): Promise<FrameReply> => {
    const silent = () => new FanlightError("bad_video", `the video's source sent no frame for ${FRAME_MS / 1000} s`, "End the source after its last frame.");
    const { value, done } = await within(frames.next(), FRAME_MS, silent);
    return done ? "end" : { frame: value, timestamp: value.timestamp / 1e6 };
  };
  const { port, close } = served(answer, () => {
    stop();
    frames.return(undefined).catch(() => {});
  });
  return { source: { kind: "feed", port, live }, transfer: [port], release: close };
}

/** The result of a promise, or an error if it takes longer than this. */
async function within<T>(promise: Promise<T>, ms: number, late: () => FanlightError): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(late()), ms)));
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}

/** Answers requests until the page or the worker ends the connection. */
function served(answer: (request: FrameRequest) => Promise<FrameReply>, stop: () => void) {
  const { port1: own, port2: port } = new MessageChannel();
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    own.close();
    stop();
  };
  own.onmessage = async ({ data: request }: MessageEvent<FrameRequest>) => {
    if (request === "end") return close();
    const reply = await answer(request).catch((error: unknown): FrameReply => ({ error: errorFields(error) }));
    const frame = typeof reply === "object" && "frame" in reply ? reply.frame : undefined;
    if (open) own.postMessage(reply, frame ? [frame] : []);
    else frame?.close();
  };
  return { port, close };
}

/** A `<video>` element that seeks to one time after another, and is restored afterwards. */
class Seeker {
  readonly #video: HTMLVideoElement;
  #before: { time: number; playing: boolean } | undefined;

  constructor(video: HTMLVideoElement) {
    this.#video = video;
  }

  async size() {
    const video = this.#video;
    if (video.preload === "none") video.preload = "metadata";
    if (video.readyState < HTMLMediaElement.HAVE_METADATA) await this.#until("loadedmetadata");
    return { width: video.videoWidth, height: video.videoHeight, duration: video.duration };
  }

  async frame(at: number): Promise<FrameReply> {
    const video = this.#video;
    this.#before ??= { time: video.currentTime, playing: !video.paused };
    video.pause();
    // A page that is not being drawn gets no callbacks for frames, but the decoded frame is the right one.
    const drawn = document.visibilityState === "visible" && new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    const sought = this.#until("seeked");
    video.currentTime = at;
    await sought;
    if (drawn) await Promise.race([drawn, new Promise((resolve) => setTimeout(resolve, 500))]);
    try {
      const frame = new VideoFrame(video);
      return { frame, timestamp: frame.timestamp / 1e6 };
    } catch (error) {
      const hint = "A video from another site can be read only if that site sends Access-Control-Allow-Origin and the element has crossOrigin set.";
      throw new FanlightError("cors", `the frames of this <video> cannot be read: ${String(error)}`, hint);
    }
  }

  restore(): void {
    if (!this.#before) return;
    this.#video.currentTime = this.#before.time;
    if (this.#before.playing) this.#video.play().catch(() => {});
    this.#before = undefined;
  }

  #until(event: "seeked" | "loadedmetadata"): Promise<void> {
    const video = this.#video;
    const late = () => new FanlightError("bad_video", `this <video> did not get there within ${PATIENCE_MS / 1000} s: its event "${event}" never came`, "Check that the video plays.");
    const happened = new Promise<void>((resolve, reject) => {
      const done = new AbortController();
      const { signal } = done;
      const fail = () => {
        done.abort();
        reject(new FanlightError("bad_video", `this <video> cannot be played: ${video.error?.message || "no reason given"}`));
      };
      if (video.error) return fail();
      video.addEventListener("error", fail, { signal });
      video.addEventListener(event, () => (done.abort(), resolve()), { signal });
    });
    return within(happened, PATIENCE_MS, late);
  }
}

/** The frames of a caller's iterable. They are checked here, because the worker could not give a helpful error. */
async function* iterated(frames: Iterable<VideoFrame> | AsyncIterable<VideoFrame>): AsyncGenerator<VideoFrame> {
  for await (const frame of frames) {
    if (!(frame instanceof VideoFrame)) {
      throw new FanlightError("bad_request", "a video's frames must be VideoFrames", "Give pictures as { frames: [...] }.");
    }
    yield frame;
  }
}

/** Reads the frames of a stream in Chromium and Safari. TypeScript has no types for it. */
declare const MediaStreamTrackProcessor:
  | (new (init: { track: MediaStreamTrack }) => { readable: ReadableStream<VideoFrame> })
  | undefined;

/** The frames of a stream from now on, for `seconds`. The caller's own track continues. */
async function* watched(stream: MediaStream, seconds: number, over: AbortController): AsyncGenerator<VideoFrame> {
  const track = stream.getVideoTracks()[0]?.clone();
  if (!track) throw new FanlightError("bad_video", "this stream has no video in it", "Ask for video with getUserMedia.");
  const frames = typeof MediaStreamTrackProcessor === "undefined" ? played : processed;
  const stop = () => over.abort();
  // A stream whose picture does not change sends no frames, so a timer ends it.
  let timer = setTimeout(stop, PATIENCE_MS);
  let first: number | undefined;
  try {
    for await (const frame of frames(track, over.signal)) {
      if (first === undefined) {
        first = frame.timestamp;
        clearTimeout(timer);
        timer = setTimeout(stop, 1000 * seconds);
      } else if (frame.timestamp - first >= 1e6 * seconds) {
        frame.close();
        return;
      }
      yield frame;
    }
  } finally {
    clearTimeout(timer);
    stop();
    track.stop();
  }
}

async function* processed(track: MediaStreamTrack, over: AbortSignal): AsyncGenerator<VideoFrame> {
  if (over.aborted || typeof MediaStreamTrackProcessor === "undefined") return;
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  over.addEventListener("abort", () => reader.cancel().catch(() => {}));
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** For browsers without a track processor in pages: plays the stream in a `<video>` element and reads its frames. */
async function* played(track: MediaStreamTrack, over: AbortSignal): AsyncGenerator<VideoFrame> {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, srcObject: new MediaStream([track]) });
  const ended = new Promise<undefined>((resolve) => {
    for (const [target, event] of [[over, "abort"], [track, "ended"]] as const) {
      target.addEventListener(event, () => resolve(undefined));
    }
  });
  // A stream that never shows a frame never begins to play.
  await Promise.race([video.play(), ended]);
  while (!over.aborted && track.readyState === "live") {
    const next = new Promise<number>((resolve) => video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime)));
    const time = await Promise.race([next, ended]);
    if (time !== undefined) yield new VideoFrame(video, { timestamp: Math.round(1e6 * time) });
  }
}
