// What a page sends and gets. These types are the documentation of the API.

/** Anything a picture can come from. A string is a URL. */
export type ImageSource =
  | Blob
  | BufferSource
  | URL
  | string
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | VideoFrame
  | OffscreenCanvas;

/** How large the model sees a picture, in pixels after resizing. Fewer pixels are faster and blurrier. */
export interface PixelLimits {
  minPixels?: number;
  maxPixels?: number;
}

export interface TextPart {
  type: "text";
  text: string;
}

export interface ImagePart extends PixelLimits {
  type: "image";
  image: ImageSource;
  /** An exact size instead of one derived from the limits; rounded to what the model can see. */
  resizedWidth?: number;
  resizedHeight?: number;
}

/** Pictures in order as a video. Without `timestamps` (seconds, ascending) they lie `1 / fps` apart; 2 a second if not given. */
export interface VideoFrames {
  /** `VideoFrame`s are moved to the worker and closed, as `postMessage` moves them: give a `clone()` of what is still needed. */
  frames: (ImageSource | VideoFrame)[];
  timestamps?: number[];
  fps?: number;
}

/**
 * Anything a video can come from.
 *
 * - A file (MP4, MOV, WebM, Matroska), its bytes, or its URL: its frames and their times are read exactly, and only
 *   what the sampled frames need is decoded, in the worker. A string is a URL.
 * - A `<video>`: the file behind it, if this page may read that; otherwise (Media Source Extensions) the element is moved to
 *   the times that a video of 30 frames a second would be sampled at, and back afterwards. Its `srcObject` is watched as:
 * - A `MediaStream`, for example a camera, whose video is watched for `seconds` from when the prompt is reached.
 * - Pictures in order. Lists are not thinned, unless the model's context asks for it.
 * - `VideoFrame`s as they come from somewhere else, for example a decoder; they are closed after use, and thinned to `fps`.
 */
export type VideoSource =
  | Blob
  | BufferSource
  | URL
  | string
  | HTMLVideoElement
  | MediaStream
  | VideoFrames
  | Iterable<VideoFrame>
  | AsyncIterable<VideoFrame>;

/**
 * Which frames the model sees, and how large: the names, rules and defaults of qwen-vl-utils, so that a model sees what it
 * was trained with. Sizes are in pixels after resizing.
 */
export interface VideoOptions extends PixelLimits {
  /** Frames a second that are looked at: 2. */
  fps?: number;
  /** How many frames are looked at, in place of `fps`. */
  nframes?: number;
  /** Bounds on what `fps` makes of the length: 4 and 768. */
  minFrames?: number;
  maxFrames?: number;
  /** Only what lies between these, in seconds. */
  videoStart?: number;
  videoEnd?: number;
  /** Pixels of all frames together. `minPixels` and `maxPixels` are of one frame. */
  totalPixels?: number;
  /** An exact size in place of the limits; rounded to what the model can see. */
  resizedWidth?: number;
  resizedHeight?: number;
}

export interface VideoPart extends VideoOptions {
  type: "video";
  video: VideoSource;
  /** How long a `MediaStream` is watched: 4 seconds. */
  seconds?: number;
}

export type Part = TextPart | ImagePart | VideoPart;

export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string | Part[];
  /** What an assistant thought before it said that; given to models that are told again. */
  reasoning?: string;
  /** What an assistant asked to be called, as a result has it. */
  toolCalls?: ToolCall[];
  /** Of role "tool": the call that this answers. A turn's answers come in the order of its calls. */
  toolCallId?: string;
  /** The last message, of role "assistant": the model goes on writing it in place of beginning a new one. */
  prefix?: true;
}

/** A JSON schema. */
export type JsonSchema = Record<string, unknown>;

/** Something that the model may ask to be called, in OpenAI's form. */
export interface Tool {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** A schema of its arguments, which are an object. */
    parameters?: JsonSchema;
    /** Arguments can be nothing but what the schema allows. */
    strict?: boolean;
  };
}

export interface ToolCall {
  id: string;
  name: string;
  arguments: Record<string, unknown>;
}

/** Whether the model calls a tool: as it likes, never, at least one, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/** What an answer may be: JSON of a schema, a text that a regular expression matches as a whole, or a grammar in llguidance's Lark. */
export type ResponseConstraint = JsonSchema | RegExp | { lark: string };

/** What floats become on the device: themselves, or blocks of 32 in 8.5 or 5 bits each. */
export type WeightFormat = "keep" | "q8" | "q4";

export type KvCacheFormat = "f32" | "q8";

export type Keeping = "opfs" | "quantized" | "none";

export interface LoadOptions extends PixelLimits {
  /** Branch, tag or commit of a repository on the Hub; `main` if not given. It is looked up once and pinned for the load. */
  revision?: string;
  /** A server that speaks the Hub's paths, instead of https://huggingface.co. */
  endpoint?: string;
  /** For gated and private repositories. Sent to the endpoint's own origin alone, and never stored. */
  token?: string;
  /**
   * Quantizes f32, f16 and bf16 weights while they are loaded, for a device that cannot hold what the checkpoint stores.
   * A part that is not named keeps its weights; so does everything in a GGUF file that is quantized already.
   */
  weights?: "auto" | WeightFormat | { vision?: WeightFormat; text?: WeightFormat; embeddings?: WeightFormat };
  /**
   * How a session keeps the keys and values of its tokens: "f32" as they are computed, or "q8" in 8 bits with a scale for
   * every 16, in 31 % of the memory. Not given: "f32", unless `weights: "auto"` finds that it has to be "q8".
   */
  kvCache?: KvCacheFormat;
  /**
   * Bytes that the model may take, for `weights: "auto"`, which then lowers formats (those of the weights to 8 bits, the
   * cache's, those of the weights to 4), context and max_pixels, in this order, until all fits. WebGPU does not say how much there is: not given, it is half of `navigator.deviceMemory`, or 4 GiB.
   */
  memory?: number;
  /** The `.gguf` file of a repository or folder that has several. */
  gguf?: string;
  /** The file of the vision tower of a GGUF model, in the same folder. Where files can be listed, the only one is found. */
  mmproj?: string;
  /** Tokens a session may hold, picture and answer included. The checkpoint's own limit if not given. */
  contextLength?: number;
  /**
   * What is kept for next time, in the origin's private file system: the files as they are; or where `weights` are
   * quantized, for a repository on the Hub, only what that makes of them, so that the next start with the same options reads
   * no more than that, and the large files are removed again; or nothing.
   */
  cache?: Keeping;
  /** A connection that brings nothing for this long is tried again: 30 000 ms. */
  timeoutMs?: number;
  /**
   * Makes the worker, where a bundler has to see `new Worker(…)` itself or its script lies elsewhere:
   * `() => new Worker(new URL("fanlight/worker", import.meta.url), { type: "module" })`.
   */
  worker?: () => Worker;
  /** The engine's wasm, where it is not beside the package's own files. A response is used up. */
  wasm?: URL | string | Response | WebAssembly.Module;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface FileProgress {
  file: string;
  loaded: number;
  total: number;
  /** Nothing of it came over the network. */
  fromCache: boolean;
}

export interface Progress {
  /** Finding out what there is; fetching it; moving what is there to the device; quantizing on that way; preparing kernels. */
  phase: "resolve" | "download" | "upload" | "quantize" | "compile";
  /** Bytes. `total` is 0 while it is unknown, and for "compile", which has none. */
  loaded: number;
  total: number;
  /** Nothing of it came over the network. */
  fromCache?: boolean;
  /** What the network brings, smoothed over about a second. */
  bytesPerSecond?: number;
  files?: FileProgress[];
  /** Another tab is fetching a file that this one will read when it is there. */
  waiting?: true;
}

/** What loading would take, known before a weight is fetched. Bytes, all of them. */
export interface MemoryPlan {
  modelType: string;
  parameters: number;
  downloadBytes: number;
  /** On the device. `vision` is absent for a model without eyes. */
  weightBytes: { vision?: number; text?: number; embeddings?: number };
  /** Keys and values of a conversation of `contextLength` tokens. */
  kvBytes: number;
  /** While a picture of `maxPixels` is encoded, and while a prompt is computed: one at a time. */
  activationBytes: { vision: number; prefill: number };
  stagingBytes: number;
  totalBytes: number;
  largestBuffer: { name: string; bytes: number; limit: number };
  fits: boolean;
  /** Why, in words; where it does not fit, with what to lower. */
  reason: string;
  contextLength: number;
  maxPixels: number | null;
  /** What it was held against, if that is known. */
  memoryBytes: number | null;
  weights: { vision: string; text: string; embeddings: string };
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
}

/** What became of the wish to keep the files. */
export interface CacheInfo {
  kind: Keeping;
  /** Why not, where they could not be kept. */
  reason?: string;
  /** Whether the browser has promised not to clear them by itself. */
  persisted: boolean;
  /** Bytes that came over the network. */
  networkBytes: number;
}

/** A checkpoint whose files were kept. */
export interface CachedModel {
  id: string;
  /** `ORG/NAME` on the Hub, or an address. */
  model: string;
  endpoint?: string;
  commit?: string;
  revisions: string[];
  /** Bytes on the disk. Files that two checkpoints share are counted for both. */
  bytes: number;
  /** Everything that the last load needed is there. */
  complete: boolean;
  lastUsed: Date;
}

export interface SessionOptions {
  /** Messages before the first prompt, for example a system message. */
  messages?: Message[];
  /** Number the pictures in the text ("Picture 1: …"), as the model was trained to with several of them. */
  addVisionId?: boolean;
  tools?: Tool[];
}

export interface GenerateOptions {
  maxTokens?: number;
  /** 0 takes the likeliest token each time. Not given: the checkpoint's generation_config.json. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  /** Subtracted from the logit of every token of the answer so far, once or as often as it came. */
  presencePenalty?: number;
  frequencyPenalty?: number;
  /** Added to the logits of these token ids: −100 bans one, 100 makes it win. */
  logitBias?: Record<number, number>;
  /** Give the log-probability of every token of the answer, and of so many of the likeliest (0 to 20) at its place. */
  logprobs?: number;
  seed?: number;
  /** Generation ends before the first of these; it is not part of the text. */
  stop?: string[];
  /** The answer can be nothing else; what a model thinks before it is free. `finishReason: "length"` if it was cut off. */
  responseConstraint?: ResponseConstraint;
  toolChoice?: ToolChoice;
  /** Ends an answer that only repeats itself: `finishReason: "repetition"`. Nothing is changed until then. */
  loopGuard?: boolean;
  /**
   * Ends the answer early: it resolves with what was written so far and `finishReason: "abort"`. While the pictures and videos
   * of the prompt are still being read it rejects with code "aborted", and the conversation is as it was before.
   */
  signal?: AbortSignal;
}

export interface AppendOptions {
  /** Rejects with code "aborted"; the conversation is as it was before. */
  signal?: AbortSignal;
}

/** The next piece: of the answer, or before it of what a model that thinks first is thinking (then `text` is empty). */
export interface Delta {
  text: string;
  reasoning?: string;
  /** A call, when all of it is there. */
  toolCall?: ToolCall;
  /** Where they were asked for: the tokens since the delta before. */
  logprobs?: TokenLogprob[];
}

/** Natural logarithms of what the model gave, before temperature, penalties and bounds. */
export interface TokenLogprob {
  id: number;
  token: string;
  /** Of the token: a character may be spread over several. */
  bytes: number[];
  logprob: number;
  /** The likeliest at this place, the likeliest first. */
  top: Omit<TokenLogprob, "top">[];
}

/** What a prompt will take, known before it is run. */
export interface Plan {
  /** The whole prompt, with what the conversation has already. */
  promptTokens: number;
  imageTokens: number;
  videoTokens: number;
  /** Those of it that need not be computed again. */
  cachedTokens: number;
  contextWindow: number;
  /** Whether the prompt, and a word of an answer, has room in the context. */
  fits: boolean;
  /** Tokens left for the answer. */
  left: number;
  /** On the device at most while it runs, beside the weights. */
  bytes: number;
  /** Multiplications and additions of what has to be computed before the first word. */
  flops: number;
  /** The pictures of this prompt, in order. */
  images: (ImageInfo & { warnings: string[] })[];
  videos: VideoInfo[];
}

/** Something found in a picture, in its own pixels. */
export interface Box {
  label: string;
  box: [left: number, top: number, right: number, bottom: number];
}

export interface TaskOptions extends PixelLimits, Omit<GenerateOptions, "responseConstraint" | "toolChoice"> {
  /** What is asked, in place of what this family was trained to be asked. */
  prompt?: string;
}

export interface OcrLine {
  text: string;
  /** Where it stands, if the model said so: in the picture's own pixels. */
  box?: [left: number, top: number, right: number, bottom: number];
}

export interface OcrResult {
  text: string;
  lines: OcrLine[];
  result: Result;
}

export interface Size {
  width: number;
  height: number;
}

/** A picture's own size and the size the model saw. */
export interface Sizes {
  original: Size;
  resized: Size;
}

/** One picture of a prompt, and the tokens it took. */
export interface ImageInfo extends Sizes {
  tokens: number;
}

/** One video of a prompt: what was looked at, and when it is shown. */
export interface VideoInfo {
  /** Of its frames as they are displayed. */
  original: Size;
  resized: Size;
  /** How many frames the model saw. */
  frames: number;
  /** When each of them is shown, in seconds: the video's own times. */
  timestamps: number[];
  /** Frames a second that this makes; what the model is told. */
  sampleFps: number;
  tokens: number;
  /** What was changed to fit the model's context, one sentence each. */
  decisions: string[];
}

/** A point in a picture's own pixels. */
export type Point = [x: number, y: number];

/** Something that an answer points at. `image`: which picture of the conversation it is in, from 0 on. */
export type Located = { label?: string; image: number } & (
  | { kind: "box"; at: [left: number, top: number, right: number, bottom: number] }
  | { kind: "point"; at: Point }
  /** Three corners or more, in the order of the answer. */
  | { kind: "polygon"; at: Point[] }
  /** In the camera's frame, as the model wrote it: centre x, y, z and size in metres, roll, pitch, yaw. No pixels. */
  | { kind: "box3d"; at: number[] }
);

/** A piece of a page that was written as HTML. */
export interface Block {
  /** The element: "h2", "p", "table", "div". */
  tag: string;
  /** Its class, such as "image", "formula" or "image caption". */
  class?: string;
  /** In the picture's own pixels; an element may come without. */
  box?: [left: number, top: number, right: number, bottom: number];
  /** What it says: a line per row and break, a tab between cells. */
  text: string;
  /** What is in it, as the model wrote it: not to be trusted as markup. */
  html: string;
}

/** Something that happens in a video: seconds from its beginning. */
export interface VideoEvent {
  start: number;
  end?: number;
  label?: string;
}

export interface Result {
  text: string;
  /** What a model that thinks first has thought; null for others. It is not part of `text`. */
  reasoning: string | null;
  /**
   * The boxes, points and polygons of the answer, in the pixels of the pictures as they were given. An answer that does not
   * name a picture means the last one of the conversation.
   */
  located: Located[];
  tokenIds: number[];
  finishReason: "stop" | "length" | "tool_calls" | "abort" | "repetition";
  /** Of an answer in JSON (`responseConstraint` is a schema) that was not cut off: its value. */
  parsed?: unknown;
  /** What the model asks to be called. */
  toolCalls?: ToolCall[];
  logprobs?: TokenLogprob[];
  usage: {
    promptTokens: number;
    imageTokens: number;
    videoTokens: number;
    completionTokens: number;
    cachedTokens: number;
  };
  timings: { imageMs: number; prefillMs: number; ttftMs: number; decodeMs: number; decodeTps: number };
  /** The pictures of this prompt, in order. */
  images: ImageInfo[];
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}

export interface AdapterInfo {
  vendor: string;
  architecture: string;
  description: string;
  /** A processor pretending to be a GPU: it works, slowly. */
  software: boolean;
  f16: boolean;
  subgroups: boolean;
}

export interface ModelInfo {
  modelType: string;
  parameters: number;
  /** Bytes the weights take on the device. */
  weightBytes: number;
  contextLength: number;
  /** Formats of floats: "keep", "q8", "q4" or by part. */
  weights: string;
  /** How sessions keep keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
  adapter: AdapterInfo;
  /** The commit that the revision meant, for a repository on the Hub. */
  commit?: string;
  cache: CacheInfo;
  /** The engine's own memory, at its largest while loading. Weights pass through it and do not stay. */
  wasmBytes: number;
  loadMs: number;
}

export interface Support {
  webgpu: boolean;
  /** Why not, and what to do, when `webgpu` is false. */
  reason?: string;
  hint?: string;
  adapter?: AdapterInfo;
  limits?: Record<string, number>;
}
