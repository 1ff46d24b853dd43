// Small videos whose frames say which they are: twelve cells, white or black, are the bits of the frame's number. Made with
// ffmpeg, and timed by ffprobe, which decodes them by itself.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const X264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"];
const VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"];
const NTSC = "30000/1001";
/** Frames whose distances grow, with a hole in the middle. */
const UNEVEN = ["-vf", "settb=1/90000,setpts='(N/30+N*N/4000+1.7*gte(N,40))/TB'", "-fps_mode", "passthrough", "-enc_time_base", "1:90000"];

/** `args` are ffmpeg's for the output; `turn` is how a player turns the frames of an MP4, which are stored turned back. */
export const KINDS = {
  "h264.mp4": { args: [...X264, "-bf", "0", "-g", "30"] },
  "b-frames.mp4": { args: [...X264, "-bf", "3", "-b_strategy", "0", "-g", "48"] },
  "open-gop.mp4": { args: [...X264, "-bf", "3", "-b_strategy", "0", "-x264-params", "open-gop=1:keyint=24:scenecut=0"] },
  "ntsc.mp4": { rate: NTSC, args: [...X264, "-bf", "2", "-g", "60"] },
  "uneven.mp4": { args: [...UNEVEN, ...X264, "-bf", "2", "-g", "30", "-video_track_timescale", "90000"] },
  "fragments.mp4": { args: [...X264, "-bf", "2", "-g", "30", "-movflags", "frag_keyframe+empty_moov"] },
  "turned.mp4": { turn: 90, args: [...X264, "-g", "30"] },
  "upside-down.mov": { turn: 180, args: [...X264, "-g", "30"] },
  "vp9.webm": { args: [...VP9, "-g", "40"] },
  "ntsc.webm": { rate: NTSC, args: [...VP9, "-g", "60"] },
  "uneven.webm": { args: [...UNEVEN, ...VP9, "-g", "30"] },
  // Two passes make it use frames that are never shown.
  "vp8.webm": { passes: 2, args: ["-c:v", "libvpx", "-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "60"] },
  "av1.mkv": { args: ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "30"] },
};
/** One colour, by the matrix that the file says it was made with. */
const colored = (matrix, color, range = "tv") => ({
  args: [
    "-f", "lavfi", "-i", `color=c=0x${color}:s=128x96:r=30:d=1`, "-map", "1:v",
    "-vf", `scale=out_color_matrix=${matrix}:out_range=${range},format=yuv420p`, ...X264, "-qp", "4",
    "-colorspace", matrix, "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", range,
  ],
});
export const COLOR = "c83c14";

/** What cannot be shown, or is served in a special way. */
export const ODD = {
  "large.mp4": { padding: 40 * 2 ** 20, args: [...X264, "-g", "30"] },
  "late.mp4": { args: [...X264, "-bf", "0", "-g", "30", "-output_ts_offset", "2.5", "-avoid_negative_ts", "disabled"] },
  "front.mp4": { args: [...X264, "-g", "30", "-movflags", "+faststart"] },
  "mpeg4.mp4": { args: ["-c:v", "mpeg4"] },
  "bt709.mp4": colored("bt709", COLOR),
  "bt601.mp4": colored("smpte170m", COLOR),
  "full.mp4": colored("bt709", COLOR, "pc"),
  "sound.mp4": { args: ["-f", "lavfi", "-i", "sine=duration=1", "-map", "1:a", "-c:a", "aac"] },
};
export const WIDTH = 128;
export const HEIGHT = 96;

/** A folder of clips that goes with the test file, and a server of them on another origin. */
export async function clips(runner) {
  const folder = await mkdtemp(join(tmpdir(), "fanlight-clips-"));
  const server = await serve(folder);
  runner.after(async () => {
    server.close();
    await rm(folder, { recursive: true, force: true });
  });
  const made = new Map();
  const make = (name, options = KINDS[name] ?? ODD[name]) => {
    if (!made.has(name)) made.set(name, makeClip(join(folder, name), options));
    return made.get(name);
  };
  return { make, origin: `http://localhost:${server.address().port}`, requests: server.requests };
}

/** The clip's bytes, and when its frames are shown, in seconds. */
async function makeClip(file, { passes = 1, turn = 0, padding = 0, args, ...options }) {
  for (let pass = 1; pass <= passes; pass++) {
    const which = passes === 1 ? [] : ["-pass", pass, "-passlogfile", `${file}.log`];
    await encode({ turn, ...options }, [...args, ...which, ...(pass < passes ? ["-f", "null", "-"] : [file])]);
  }
  if (turn !== 0) await writeFile(file, withMatrix(await readFile(file), turn));
  if (padding > 0) {
    const free = Buffer.alloc(padding);
    free.writeUInt32BE(padding);
    free.write("free", 4);
    await appendFile(file, free);
  }
  const show = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=best_effort_timestamp_time", "-of", "csv=p=0"];
  const { stdout } = await promisify(execFile)("ffprobe", [...show, file]);
  const times = stdout.split("\n").map((line) => Number.parseFloat(line)).filter((time) => !Number.isNaN(time));
  return { bytes: await readFile(file), times };
}

async function encode({ frames = 90, rate = "30", turn }, output) {
  const size = turn % 180 === 0 ? `${WIDTH}x${HEIGHT}` : `${HEIGHT}x${WIDTH}`;
  const input = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", size, "-r", rate, "-i", "-"];
  const ffmpeg = spawn("ffmpeg", ["-v", "error", "-y", ...input, ...output], { stdio: ["pipe", "inherit", "inherit"] });
  const ended = once(ffmpeg, "close");
  // It may want fewer of them.
  ffmpeg.stdin.on("error", () => {});
  for (let number = 0; number < frames; number++) {
    await new Promise((resolve) => ffmpeg.stdin.write(turnedBack(drawn(number), turn), resolve));
  }
  ffmpeg.stdin.end();
  const [code] = await ended;
  if (code !== 0) throw new Error(`ffmpeg ${output.join(" ")} failed`);
}

export function drawn(number) {
  const pixels = Buffer.alloc(WIDTH * HEIGHT);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      const bit = Math.floor((4 * x) / WIDTH) + 4 * Math.floor((3 * y) / HEIGHT);
      pixels[y * WIDTH + x] = (number >> bit) & 1 ? 235 : 16;
    }
  }
  return pixels;
}

/** As a camera stores what a player is to turn clockwise by `turn`. */
function turnedBack(pixels, turn) {
  if (turn === 0) return pixels;
  if (turn === 180) return Buffer.from(pixels).reverse();
  const stored = Buffer.alloc(pixels.length);
  // The stored picture is HEIGHT wide: its pixel (x, y) is shown at (WIDTH - 1 - y, x).
  for (let y = 0; y < WIDTH; y++) for (let x = 0; x < HEIGHT; x++) stored[y * HEIGHT + x] = pixels[x * WIDTH + WIDTH - 1 - y];
  return stored;
}

/** Writes a turn into the matrix of the only track's header: versions of ffmpeg differ in how one asks them for it. */
function withMatrix(mp4, turn) {
  const at = mp4.indexOf("tkhd");
  const matrix = at + 4 + (mp4[at + 4] === 1 ? 52 : 40);
  const [cos, sin] = [Math.round(Math.cos((turn * Math.PI) / 180)), Math.round(Math.sin((turn * Math.PI) / 180))];
  for (const [i, value] of [[0, cos], [1, sin], [3, -sin], [4, cos]]) mp4.writeInt32BE(value * 0x10000, matrix + 4 * i);
  return mp4;
}

/**
 * `/NAME`: in ranges, for everybody; `/whole/NAME`: as if ranges were unknown; `/closed/NAME`: for its own origin alone;
 * `/once/NAME`: the first time only.
 */
async function serve(folder) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const [, way, name] = /^\/(?:(whole|closed|once)\/)?([\w.-]+)$/.exec(request.url) ?? [];
    const seen = { url: request.url, range: request.headers.range, sent: 0 };
    requests.push(seen);
    const bytes = name && (await readFile(join(folder, name)).catch(() => undefined));
    const open = way === "closed" ? {} : { "access-control-allow-origin": "*" };
    if (way === "once" && requests.filter(({ url }) => url === request.url).length > 1) {
      return response.writeHead(403, open).end();
    }
    if (!bytes) return response.writeHead(404, open).end();
    const from = way === "whole" ? undefined : /^bytes=(\d+)-(\d*)$/.exec(seen.range ?? "");
    const [start, end] = from ? [Number(from[1]), from[2] ? Number(from[2]) + 1 : bytes.length] : [0, bytes.length];
    const type = name.endsWith("webm") ? "video/webm" : "video/mp4";
    const headers = { ...open, "content-type": type, "content-length": end - start };
    if (from) headers["content-range"] = `bytes ${start}-${end - 1}/${bytes.length}`;
    response.writeHead(from ? 206 : 200, headers);
    for (let at = start; at < end && !response.destroyed; at += 65_536) {
      const piece = bytes.subarray(at, Math.min(end, at + 65_536));
      seen.sent += piece.length;
      await new Promise((resolve) => response.write(piece, resolve));
    }
    response.end();
  });
  server.requests = requests;
  server.listen(0, "localhost");
  await once(server, "listening");
  return server;
}
