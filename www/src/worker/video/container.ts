// Reads video files: lists their frames and times, and decodes some of them. Mediabunny reads the container, the browser
// decodes. Mediabunny is loaded with the first video, so pages without videos never download it.

import { FanlightError } from "../../errors.js";
import { shown as shownAddress } from "../../shared/address.js";
import { pixels, type Shot, type Turn, upright } from "../../shared/pixels.js";
import type { Track } from "../wasm.js";

// The few parts of Mediabunny's interface that are used here. Its own types include types of WebCodecs that contradict
// TypeScript's.
interface Mediabunny {
  Input: new (options: { source: object; formats: object[] }) => Input;
  BlobSource: new (blob: Blob, options: object) => object;
  UrlSource: new (url: string, options: object) => object;
  EncodedPacketSink: new (track: InputTrack) => {
    /** Packets in the order in which they are decoded. */
    packets(start: undefined, end: undefined, options: { metadataOnly: boolean }): AsyncIterable<Packet>;
    /** The last key packet before this time. */
    getKeyPacket(seconds: number): Promise<Packet | null>;
    getNextPacket(packet: Packet): Promise<Packet | null>;
  };
  /** Gives a frame for each of these times. If the times ascend, each packet is decoded at most once. */
  VideoSampleSink: new (track: InputTrack) => { samplesAtTimestamps(times: number[]): AsyncGenerator<Sample | null> };
  UnsupportedInputFormatError: new () => Error;
  MP4: object;
  QTFF: object;
  MATROSKA: object;
  WEBM: object;
}

interface Input {
  getPrimaryVideoTrack(): Promise<InputTrack | null>;
  getTracks(): Promise<object[]>;
  dispose(): void;
}

interface InputTrack {
  getCodec(): Promise<string | null>;
  getCodecParameterString(): Promise<string | null>;
  getInternalCodecId(): Promise<string | number | Uint8Array | null>;
  getCodedWidth(): Promise<number>;
  getCodedHeight(): Promise<number>;
  /** Clockwise rotation. It is applied before `getFlip`, which mirrors left to right. */
  getRotation(): Promise<Turn["rotation"]>;
  getFlip(): Promise<boolean>;
  getDecoderConfig(): Promise<VideoDecoderConfig | null>;
  /** Ticks a second of the container's clock. */
  getTimeResolution(): Promise<number>;
  canDecode(): Promise<boolean>;
}

interface Packet {
  /** In seconds. A packet with a negative time is decoded but not shown. */
  timestamp: number;
  data: Uint8Array;
  sequenceNumber: number;
  toEncodedVideoChunk(): EncodedVideoChunk;
}

interface Sample {
  toVideoFrame(): VideoFrame;
  close(): void;
}

/** A video file that is open. */
export interface Movie {
  /** The size of its frames, upright. */
  track: Track;
  /** When the first frame is shown on the file's own clock, in seconds. All other times count from there. */
  begin: number;
  /** Decodes frames. Indices must ascend. The pixels of a shot are valid until the next shot is requested. */
  shots(indices: number[]): AsyncGenerator<Shot>;
  close(): void;
}

const PLAYABLE = "Use an MP4 with H.264 or AV1, or a WebM with VP8, VP9 or AV1.";
const DAMAGED = "The file may be damaged or not complete: check that it plays, and choose it again.";
/**
 * A larger file at an address is read in parts, where they are needed; a smaller one is downloaded whole, with one request.
 */
const LARGE = 32 * 2 ** 20;
/** How often a broken connection is tried again, and after how many seconds the first time. */
const [RETRIES, PAUSE] = [4, 0.4];
/** The most packets that wait for a decoder. */
const MOST_QUEUED = 8;
/** WebCodecs counts in microseconds; containers may be more precise. */
const TICK = 2e-6;

/** Opens a file or an address. Reads when each frame is shown, but decodes nothing. */
export async function openMovie(from: Blob | string, signal: AbortSignal): Promise<Movie> {
  const bunny = await mediabunny();
  const file = typeof from === "string" ? await located(from, signal) : from;
  const options = {
    fetchFn: (url: string, init: RequestInit) => fetched(url, init),
    getRetryDelay: (failures: number, error: unknown) =>
      failures > RETRIES || (error instanceof FanlightError && !error.retryable) ? null : PAUSE * 2 ** failures,
    // Reads that are still running when the input is disposed may fail. Without this handler, that would end the worker.
    handleUnhandledError: () => {},
  };
  const source = file instanceof Blob ? new bunny.BlobSource(file, options) : new bunny.UrlSource(file, options);
  const input = new bunny.Input({ source, formats: [bunny.MP4, bunny.QTFF, bunny.MATROSKA, bunny.WEBM] });
  const close = () => {
    signal.removeEventListener("abort", close);
    input.dispose();
  };
  signal.addEventListener("abort", close);
  const explained = (error: unknown) => {
    if (signal.aborted) return aborted();
    if (error instanceof FanlightError) return error;
    if (error instanceof bunny.UnsupportedInputFormatError) {
      return bad("this is not a video file that can be opened", `${PLAYABLE} MOV and Matroska can be opened too.`);
    }
    return bad(`the video could not be read: ${String(error)}`, DAMAGED);
  };
  try {
    const video = await trackOf(input);
    const { times: own, hidden } = await shown(bunny, video);
    // A video may begin late on its container's clock. The models were trained with times that count from the first frame, and so do
    // `videoStart`, `videoEnd` and native programs.
    const begin = own[0] ?? 0;
    const times = own.map((time) => time - begin);
    const turn: Turn = { rotation: await video.getRotation(), flip: await video.getFlip() };
    const [width, height] = [await video.getCodedWidth(), await video.getCodedHeight()];
    const fps = rate(times, await video.getTimeResolution());
    const size = turn.rotation % 180 === 0 ? { width, height } : { width: height, height: width };
    return {
      track: fps === undefined ? { ...size, times } : { ...size, frames: times.length, fps },
      begin,
      async *shots(indices) {
        const wanted = indices.map((index) => own[index] ?? Number.NaN);
        const frames = (hidden ? decoded : sampled)(bunny, video, wanted);
        try {
          for await (const shot of shots(frames, wanted, turn, signal)) yield { ...shot, timestamp: shot.timestamp - begin };
        } catch (error) {
          throw explained(error);
        } finally {
          await frames.return(undefined);
        }
      },
      close,
    };
  } catch (error) {
    close();
    throw explained(error);
  }
}

async function* shots(
  frames: AsyncGenerator<VideoFrame>,
  times: number[],
  turn: Turn,
  signal: AbortSignal,
): AsyncGenerator<Shot> {
  let size: { width: number; height: number } | undefined;
  for (const time of times) {
    const frame = (await frames.next()).value;
    if (!frame) throw bad(`the frame at ${time} s cannot be decoded`, DAMAGED);
    try {
      if (signal.aborted) throw aborted();
      size ??= upright(frame);
      // Use the container's own time. The frame has it only in whole microseconds.
      const timestamp = Math.abs(frame.timestamp / 1e6 - time) < TICK ? time : frame.timestamp / 1e6;
      yield { ...(await pixels(frame, turn, size)), timestamp };
    } finally {
      frame.close();
    }
  }
}

/** The video track, in a codec that this browser can decode. */
async function trackOf(input: Input): Promise<InputTrack> {
  const track = await input.getPrimaryVideoTrack();
  if (!track) {
    if ((await input.getTracks()).length === 0) throw bad("this file ends before its video begins", DAMAGED);
    throw bad("this file has no video track", "Use a file that has video, not only sound.");
  }
  const codec = await track.getCodec();
  if (codec !== null && (await track.canDecode())) return track;
  const name = codec && (await track.getCodecParameterString());
  const words = name ? `${codec} (${name})` : String((await track.getInternalCodecId()) ?? "one without a name");
  throw bad(`this browser cannot decode the video's codec, ${words}`, PLAYABLE);
}

/** When frames are shown, in seconds, ascending; and whether some packets show no frame. */
async function shown({ EncodedPacketSink }: Mediabunny, track: InputTrack): Promise<{ times: number[]; hidden: boolean }> {
  const times: number[] = [];
  let hidden = false;
  // Only VP8 has packets that show nothing and only help to decode others. The data of the packet says so.
  const vp8 = (await track.getCodec()) === "vp8";
  const packets = new EncodedPacketSink(track).packets(undefined, undefined, { metadataOnly: !vp8 });
  for await (const { timestamp, data } of packets) {
    if (vp8 && ((data[0] ?? 0) & 0x10) === 0) hidden = true;
    else if (timestamp > -TICK) times.push(timestamp);
  }
  if (times.length === 0) throw bad("the video has no frames", DAMAGED);
  return { times: times.sort((a, b) => a - b), hidden };
}

/** The frames at these times, decoded by Mediabunny, which handles the differences between the browsers' decoders. */
async function* sampled({ VideoSampleSink }: Mediabunny, track: InputTrack, times: number[]): AsyncGenerator<VideoFrame> {
  for await (const sample of new VideoSampleSink(track).samplesAtTimestamps(times)) {
    if (!sample) return;
    const frame = sample.toVideoFrame();
    sample.close();
    yield frame;
  }
}

/** The same for videos with hidden packets. Mediabunny expects one frame for each packet and would return wrong frames. */
async function* decoded({ EncodedPacketSink }: Mediabunny, track: InputTrack, times: number[]): AsyncGenerator<VideoFrame> {
  const sink = new EncodedPacketSink(track);
  const wanted = [...times];
  const ready: VideoFrame[] = [];
  let fault: unknown;
  const output = (frame: VideoFrame) => {
    let uses = 0;
    for (; wanted[0] !== undefined && frame.timestamp / 1e6 > wanted[0] - TICK; uses++) wanted.shift();
    for (let copies = 1; copies < uses; copies++) ready.push(frame.clone());
    if (uses > 0) ready.push(frame);
    else frame.close();
  };
  const decoder = new VideoDecoder({ output, error: (error) => (fault = error) });
  let last: Packet | undefined;
  const decode = async (packet: Packet) => {
    decoder.decode(packet.toEncodedVideoChunk());
    last = packet;
    while (decoder.decodeQueueSize > MOST_QUEUED && !fault) {
      await new Promise((resolve) => decoder.addEventListener("dequeue", resolve, { once: true }));
    }
    if (fault) throw fault;
  };
  try {
    decoder.configure((await track.getDecoderConfig()) ?? { codec: "" });
    for (const time of times) {
      const key = await sink.getKeyPacket(time);
      if (key && (!last || key.sequenceNumber > last.sequenceNumber)) {
        // The decoder may be waiting for packets that are skipped here.
        if (last) await decoder.flush();
        await decode(key);
      }
      while (last) {
        const next = await sink.getNextPacket(last);
        if (!next || next.timestamp > time) break;
        await decode(next);
        for (let frame = ready.shift(); frame; frame = ready.shift()) yield frame;
      }
    }
    await decoder.flush();
    for (let frame = ready.shift(); frame; frame = ready.shift()) yield frame;
  } finally {
    if (decoder.state !== "closed") decoder.close();
    for (const frame of ready) frame.close();
  }
}

/**
 * Frames a second, if all frames are equally far apart, apart from rounding by the container's clock. Returns the exact
 * rate that was meant, because sampling multiplies with it and rounds down. Undefined if the distances differ.
 */
export function rate(times: number[], resolution: number): number | undefined {
  const [first = 0, last = 0] = [times[0], times.at(-1)];
  const mean = (times.length - 1) / (last - first);
  if (times.length < 2 || !Number.isFinite(mean)) return undefined;
  const most = 0.51 / resolution + 1e-9;
  const meant = [Math.round(mean), (Math.round(mean * 1.001) * 1000) / 1001, Math.round(mean * 1000) / 1000, mean];
  return meant.find((fps) => fps > 0 && times.every((time, i) => Math.abs(time - first - i / fps) <= most));
}

/** The file at an address. For a large file whose server sends ranges, the address itself. */
async function located(url: string, signal: AbortSignal): Promise<Blob | string> {
  try {
    const response = await fetched(url, { headers: /^https?:/.test(url) ? { range: "bytes=0-" } : {}, signal });
    if (response.status !== 206 || Number(response.headers.get("content-length")) <= LARGE) return await response.blob();
    await response.body?.cancel();
    return url;
  } catch (error) {
    if (signal.aborted) throw aborted();
    if (error instanceof FanlightError) throw error;
    throw new FanlightError("network", `${shownAddress(url)} stopped sending data (${String(error)})`, "Check the connection.", true);
  }
}

async function fetched(url: string, init: RequestInit): Promise<Response> {
  const { protocol, origin } = new URL(url);
  let response: Response;
  try {
    response = await fetch(url, { ...init, referrerPolicy: "no-referrer" });
  } catch (error) {
    if (/^https?:$/.test(protocol) && origin !== location.origin && navigator.onLine) {
      const hint = "Another site's video can be read only if that site sends Access-Control-Allow-Origin.";
      throw new FanlightError("cors", `${origin} did not let this page read the video (${String(error)})`, hint, true);
    }
    throw new FanlightError("network", `${shownAddress(url)} could not be read (${String(error)})`, "Check the connection.", true);
  }
  if (response.ok) return response;
  response.body?.cancel().catch(() => {});
  const { status } = response;
  const code = status === 404 ? "not_found" : status === 401 || status === 403 ? "auth" : "network";
  throw new FanlightError(code, `${shownAddress(url)} answered ${status}`, "Check the address of the video.", status >= 500);
}

let loaded: Promise<Mediabunny> | undefined;

function mediabunny(): Promise<Mediabunny> {
  const script = new URL("../../../mediabunny/mediabunny.js", import.meta.url).href;
  // Bundlers copy the file that the line above names. They must not follow this import.
  loaded ??= (import(/* @vite-ignore */ /* webpackIgnore: true */ script) as Promise<Mediabunny>).catch((error: unknown) => {
    loaded = undefined;
    throw new FanlightError("network", `the module that reads video files could not be loaded: ${String(error)}`, "Try again.", true);
  });
  return loaded;
}

const bad = (message: string, hint: string) => new FanlightError("bad_video", message, hint);

export const aborted = () => new FanlightError("aborted", "the prompt was aborted while its video was read");
