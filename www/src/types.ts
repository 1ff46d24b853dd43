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
  /** A smaller picture is enlarged to this. Not given: the checkpoint's own, often 3136 or 65 536. */
  minPixels?: number;
  /**
   * A larger picture is reduced to this; a token of the prompt is 28 × 28 pixels of it (Qwen3-VL: 32 × 32). Not given:
   * the checkpoint's own.
   */
  maxPixels?: number;
}

/** Words among the pictures. */
export interface TextPart {
  type: "text";
  /** Plain text. What looks like a control token in it stays text. */
  text: string;
}

/** A picture. It is encoded once, however often it is asked about. */
export interface ImagePart extends PixelLimits {
  type: "image";
  /** Decoded at its own size, with its EXIF orientation. */
  image: ImageSource;
  /** An exact size instead of one derived from the limits; rounded to what the model can see. */
  resizedWidth?: number;
  /** With `resizedWidth`. */
  resizedHeight?: number;
}

/** Pictures in order as a video. Without `timestamps` (seconds, ascending) they lie `1 / fps` apart; 2 a second if not given. */
export interface VideoFrames {
  /** `VideoFrame`s are moved to the worker and closed, as `postMessage` moves them: give a `clone()` of what is still needed. */
  frames: (ImageSource | VideoFrame)[];
  /** When each is shown, in seconds. */
  timestamps?: number[];
  /** Frames a second, where no times are given. */
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
  /** With `minFrames`. */
  maxFrames?: number;
  /** Only what lies between these, in seconds. */
  videoStart?: number;
  /** With `videoStart`. */
  videoEnd?: number;
  /** Pixels of all frames together. `minPixels` and `maxPixels` are of one frame. */
  totalPixels?: number;
  /** An exact size in place of the limits; rounded to what the model can see. */
  resizedWidth?: number;
  /** With `resizedWidth`. */
  resizedHeight?: number;
}

/** A video, of which some frames are looked at. */
export interface VideoPart extends VideoOptions {
  type: "video";
  /** Read when the prompt is reached, in the worker. */
  video: VideoSource;
  /** How long a `MediaStream` is watched: 4 seconds. */
  seconds?: number;
}

/** A piece of a message. */
export type Part = TextPart | ImagePart | VideoPart;

/** Something said in a conversation, or, with role "system", before it. */
export interface Message {
  /** Who says it: "tool" is the answer to a call of the assistant's. */
  role: "system" | "user" | "assistant" | "tool";
  /** A text, or texts, pictures and videos in their order. */
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
  /** What it is, in words that the model reads. */
  function: {
    name: string;
    description?: string;
    /** A schema of its arguments, which are an object. */
    parameters?: JsonSchema;
    /** Arguments can be nothing but what the schema allows. */
    strict?: boolean;
  };
}

/** What a model asks to be called. */
export interface ToolCall {
  /** Made here: the answer names it as `toolCallId`. */
  id: string;
  /** A `function.name` of the tools. */
  name: string;
  /** As the model wrote them, parsed. */
  arguments: Record<string, unknown>;
}

/** Whether the model calls a tool: as it likes, never, at least one, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/** What an answer may be: JSON of a schema, a text that a regular expression matches as a whole, or a grammar in llguidance's Lark. */
export type ResponseConstraint = JsonSchema | RegExp | { lark: string };

/** What floats become on the device: themselves, or blocks of 32 in 8.5 or 5 bits each. */
export type WeightFormat = "keep" | "q8" | "q4";

/** How keys and values are kept: as they are computed, or in 8 bits with a scale for every 16. */
export type KvCacheFormat = "f32" | "q8";

/** What is kept of a checkpoint for next time: its files, what quantizing made of them, or nothing. */
export type Keeping = "opfs" | "quantized" | "none";

/** What to load, how it lies on the device, and what is kept. Without any, everything is as the checkpoint has it. */
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
  /** How far it is, as it goes. */
  onProgress?: (progress: Progress) => void;
  /** Ends loading: it rejects with code "aborted". What was downloaded is kept and goes on next time. */
  signal?: AbortSignal;
}

/** One file of a download. */
export interface FileProgress {
  /** Its name in the repository. */
  file: string;
  /** Bytes that are there. */
  loaded: number;
  /** Bytes that it has. */
  total: number;
  /** Nothing of it came over the network. */
  fromCache: boolean;
}

/** How far loading is. */
export interface Progress {
  /** Finding out what there is; fetching it; moving what is there to the device; quantizing on that way; preparing kernels. */
  phase: "resolve" | "download" | "upload" | "quantize" | "compile";
  /** Bytes. `total` is 0 while it is unknown, and for "compile", which has none. */
  loaded: number;
  /** Bytes of this phase. */
  total: number;
  /** Nothing of it came over the network. */
  fromCache?: boolean;
  /** What the network brings, smoothed over about a second. */
  bytesPerSecond?: number;
  /** Those that are being fetched, while "download". */
  files?: FileProgress[];
  /** Another tab is fetching a file that this one will read when it is there. */
  waiting?: true;
}

/** What loading would take, known before a weight is fetched. Bytes, all of them. */
export interface MemoryPlan {
  /** The family: "qwen2_5_vl". */
  modelType: string;
  /** How many numbers the model has. */
  parameters: number;
  /** What is read from the files, from the network or not. */
  downloadBytes: number;
  /** On the device. `vision` is absent for a model without eyes. */
  weightBytes: { vision?: number; text?: number; embeddings?: number };
  /** Keys and values of a conversation of `contextLength` tokens. */
  kvBytes: number;
  /** While a picture of `maxPixels` is encoded, and while a prompt is computed: one at a time. */
  activationBytes: { vision: number; prefill: number };
  /** What passes: weights on their way to the device, later uploads and readbacks. */
  stagingBytes: number;
  /** Weights, cache, the larger of the activations, and what passes. */
  totalBytes: number;
  /** The buffer that comes nearest to the device's limit on one. */
  largestBuffer: { name: string; bytes: number; limit: number };
  /** Every buffer keeps to the device's limits, and the total to `memoryBytes` if that is known. */
  fits: boolean;
  /** Why, in words; where it does not fit, with what to lower. */
  reason: string;
  /** Tokens of the longest conversation. */
  contextLength: number;
  /** Pixels of the largest picture; null for a model without eyes. */
  maxPixels: number | null;
  /** What it was held against, if that is known. */
  memoryBytes: number | null;
  /** Formats of floats, by part. */
  weights: { vision: string; text: string; embeddings: string };
  /** How sessions will keep keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
}

/** What became of the wish to keep the files. */
export interface CacheInfo {
  /** What is kept. */
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
  /** What `models.remove()` takes to remove this one alone. */
  id: string;
  /** `ORG/NAME` on the Hub, or an address. */
  model: string;
  /** Where it came from, if that was not https://huggingface.co. */
  endpoint?: string;
  /** The commit of a repository. */
  commit?: string;
  /** The branches and tags that meant this commit when they were last looked up. */
  revisions: string[];
  /** Bytes on the disk. Files that two checkpoints share are counted for both. */
  bytes: number;
  /** Everything that the last load needed is there. */
  complete: boolean;
  /** When it was last loaded. */
  lastUsed: Date;
}

/** A file of a checkpoint, and how much of it is kept. */
export interface CachedFile {
  /** Its name in the repository or folder. */
  file: string;
  /** Bytes. */
  size: number;
  /** Bytes of it that are here. */
  bytes: number;
  /** All of it that loading needs is here. */
  complete: boolean;
  /** The last load read it. */
  needed: boolean;
}

/**
 * Chrome's words for it. "unavailable": it cannot be run or fetched here. "downloadable": loading will use the network.
 * "downloading": a tab is fetching it. "available": loading fetches no file.
 */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";

/** What a conversation begins with. */
export interface SessionOptions {
  /** Messages before the first prompt, for example a system message. */
  messages?: Message[];
  /** Number the pictures in the text ("Picture 1: …"), as the model was trained to with several of them. */
  addVisionId?: boolean;
  /** What the model may ask to be called, in this whole conversation. */
  tools?: Tool[];
}

/** How an answer is drawn and when it ends. Not given: the checkpoint's own generation_config.json. */
export interface GenerateOptions {
  /** The answer's most tokens: what the checkpoint says, or 1024. `finishReason: "length"` if they were used up. */
  maxTokens?: number;
  /** 0 takes the likeliest token each time. Not given: the checkpoint's generation_config.json. */
  temperature?: number;
  /** Only so many of the likeliest tokens are left; 0 leaves all. */
  topK?: number;
  /** Only the likeliest tokens are left that together have this probability. */
  topP?: number;
  /** Only tokens are left that have this share of the likeliest one's probability. */
  minP?: number;
  /** Logits of tokens that already occur, in the prompt too, are divided by it (multiplied where negative); 1 changes nothing. */
  repetitionPenalty?: number;
  /** Subtracted from the logit of every token of the answer so far, once or as often as it came. */
  presencePenalty?: number;
  /** As often as it came. */
  frequencyPenalty?: number;
  /** Added to the logits of these token ids: −100 bans one, 100 makes it win. */
  logitBias?: Record<number, number>;
  /** Give the log-probability of every token of the answer, and of so many of the likeliest (0 to 20) at its place. */
  logprobs?: number;
  /** The same prompt, options and seed give the same answer on the same device; 0 if not given. */
  seed?: number;
  /** Generation ends before the first of these; it is not part of the text. */
  stop?: string[];
  /** The answer can be nothing else; what a model thinks before it is free. `finishReason: "length"` if it was cut off. */
  responseConstraint?: ResponseConstraint;
  /** "auto" if there are tools and nothing is given. */
  toolChoice?: ToolChoice;
  /** Ends an answer that only repeats itself: `finishReason: "repetition"`. Nothing is changed until then. */
  loopGuard?: boolean;
  /**
   * Ends the answer early: it resolves with what was written so far and `finishReason: "abort"`. While the pictures and videos
   * of the prompt are still being read it rejects with code "aborted", and the conversation is as it was before.
   */
  signal?: AbortSignal;
}

/** How messages are read ahead. */
export interface AppendOptions {
  /** Rejects with code "aborted"; the conversation is as it was before. */
  signal?: AbortSignal;
}

/** The next piece: of the answer, or before it of what a model that thinks first is thinking (then `text` is empty). */
export interface Delta {
  /** Of the answer. */
  text: string;
  /** Of what is thought before it. */
  reasoning?: string;
  /** A call, when all of it is there. */
  toolCall?: ToolCall;
  /** Where they were asked for: the tokens since the delta before. */
  logprobs?: TokenLogprob[];
}

/** Natural logarithms of what the model gave, before temperature, penalties and bounds. */
export interface TokenLogprob {
  /** In the model's vocabulary. */
  id: number;
  /** What it reads as. */
  token: string;
  /** Of the token: a character may be spread over several. */
  bytes: number[];
  /** 0 is certain. */
  logprob: number;
  /** The likeliest at this place, the likeliest first. */
  top: Omit<TokenLogprob, "top">[];
}

/** What a prompt will take, known before it is run. */
export interface Plan {
  /** The whole prompt, with what the conversation has already. */
  promptTokens: number;
  /** Those of them that are pictures. */
  imageTokens: number;
  /** Those of them that are videos. */
  videoTokens: number;
  /** Those of it that need not be computed again. */
  cachedTokens: number;
  /** Tokens that the conversation may have in all. */
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
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}

/** Something found in a picture, in its own pixels. */
export interface Box {
  /** What the model calls it. */
  label: string;
  /** Left, top, right and bottom edge. */
  box: [left: number, top: number, right: number, bottom: number];
}

/** Something that was pointed at in a picture, in its own pixels. */
export interface LabeledPoint {
  /** What the model calls it. */
  label: string;
  /** Where it is. */
  point: Point;
}

/** How a task is put to the model, which gives its likeliest answer unless `temperature` says otherwise. */
export interface TaskOptions extends PixelLimits, Omit<GenerateOptions, "responseConstraint" | "toolChoice"> {
  /** What is asked, in place of what this family was trained to be asked. `{what}` in it is what is looked for. */
  prompt?: string;
  /** Gets the answer that was made data of: its text, why it ended (`"length"`: there may be more), what it took. */
  onResult?: (result: Result) => void;
}

/** A piece of text in a picture: a line, as a rule. */
export interface OcrLine {
  /** What it says. */
  text: string;
  /** Where it stands, if the model said so: in the picture's own pixels. */
  box?: [left: number, top: number, right: number, bottom: number];
}

/** What stands in a picture. */
export interface OcrResult {
  /** All of it, a line for each of `lines`. */
  text: string;
  /** In reading order. */
  lines: OcrLine[];
  /** The model's answer itself, with what it took. */
  result: Result;
}

/** A page as the model wrote it down. */
export interface DocumentResult {
  /** What it wrote: not to be trusted as markup. */
  html: string;
  /** Its pieces in reading order. */
  blocks: Block[];
  /** The whole answer. */
  result: Result;
}

/** In pixels. */
export interface Size {
  /** Pixels across. */
  width: number;
  /** Pixels down. */
  height: number;
}

/** A picture's own size and the size the model saw. */
export interface Sizes {
  /** As it was given, upright. */
  original: Size;
  /** As the model saw it. */
  resized: Size;
}

/** One picture of a prompt, and the tokens it took. */
export interface ImageInfo extends Sizes {
  /** Of the prompt. */
  tokens: number;
}

/** One video of a prompt: what was looked at, and when it is shown. */
export interface VideoInfo {
  /** Of its frames as they are displayed. */
  original: Size;
  /** As the model saw them. */
  resized: Size;
  /** How many frames the model saw. */
  frames: number;
  /** When each of them is shown, in seconds: the video's own times. */
  timestamps: number[];
  /** Frames a second that this makes; what the model is told. */
  sampleFps: number;
  /** Of the prompt. */
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
  /** When it begins, or happens. */
  start: number;
  /** When it is over, if the model said so. */
  end?: number;
  /** What happens. */
  label?: string;
}

/** A finished answer, and what it took. */
export interface Result {
  /** The answer, without control tokens. */
  text: string;
  /** What a model that thinks first has thought; null for others. It is not part of `text`. */
  reasoning: string | null;
  /**
   * The boxes, points and polygons of the answer, in the pixels of the pictures as they were given. An answer that does not
   * name a picture means the last one of the conversation.
   */
  located: Located[];
  /** The tokens as they were generated, without the one that ended them. */
  tokenIds: number[];
  /**
   * The model was done or a `stop` came; `maxTokens` or the context were used up; tools are to be called; it was aborted;
   * it only repeated itself.
   */
  finishReason: "stop" | "length" | "tool_calls" | "abort" | "repetition";
  /** Of an answer in JSON (`responseConstraint` is a schema) that was not cut off: its value. */
  parsed?: unknown;
  /** What the model asks to be called. */
  toolCalls?: ToolCall[];
  /** Where they were asked for: of every token of the answer. */
  logprobs?: TokenLogprob[];
  /**
   * Tokens: of the whole prompt, those of it that are pictures and videos, of the answer, and those of the prompt that
   * were not computed again.
   */
  usage: {
    promptTokens: number;
    imageTokens: number;
    videoTokens: number;
    completionTokens: number;
    cachedTokens: number;
  };
  /**
   * Milliseconds: encoding what is new in pictures and videos, computing the prompt, until the first token from the call
   * on, from the first to the last; and tokens a second after the first.
   */
  timings: { imageMs: number; prefillMs: number; ttftMs: number; decodeMs: number; decodeTps: number };
  /** The pictures of this prompt, in order. */
  images: ImageInfo[];
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}

/** The graphics adapter, as far as the browser tells. */
export interface AdapterInfo {
  /** "nvidia", "apple"; may be empty. */
  vendor: string;
  /** "ampere", "common-3"; may be empty. */
  architecture: string;
  /** More about it; most browsers leave it empty. */
  description: string;
  /** A processor pretending to be a GPU: it works, slowly. */
  software: boolean;
  /** It has shader-f16, which is used where it is there and not needed. */
  f16: boolean;
  /** It has subgroups, which are used where they are there and not needed. */
  subgroups: boolean;
}

/** What was loaded, and onto what. */
export interface ModelInfo {
  /** The family: "qwen2_5_vl". */
  modelType: string;
  /** How many numbers the model has. */
  parameters: number;
  /** Bytes the weights take on the device. */
  weightBytes: number;
  /** Tokens that a session may hold. */
  contextLength: number;
  /** Most pixels of a picture after resizing, where its prompt does not say otherwise. */
  maxPixels: number;
  /** What this checkpoint was trained to be asked for a task, where its `config.json` says so (`task_specific_params`). */
  taskPrompts: Record<string, string>;
  /** Formats of floats: "keep", "q8", "q4" or by part. */
  weights: string;
  /** How sessions keep keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
  /** What it runs on. */
  adapter: AdapterInfo;
  /** The commit that the revision meant, for a repository on the Hub. */
  commit?: string;
  /** What became of the wish to keep it. */
  cache: CacheInfo;
  /** The engine's own memory, at its largest while loading. Weights pass through it and do not stay. */
  wasmBytes: number;
  /** How long loading took. */
  loadMs: number;
}

/**
 * What happens to a model beside its calls: the device was lost, whether or not anything was running; and it has another one,
 * with its weights, on which everything goes on.
 */
export type ModelEvent = "devicelost" | "recovered";

/** What a model's listeners get. */
export interface EventInfo {
  /** What the browser says about it. */
  message: string;
}

/** What `support()` finds. */
export interface Support {
  /** Whether models can run here. */
  webgpu: boolean;
  /** Why not, and what to do, when `webgpu` is false. */
  reason?: string;
  /** What to do about it. */
  hint?: string;
  /** What they would run on. */
  adapter?: AdapterInfo;
  /** The adapter's, by their WebGPU names, in bytes. */
  limits?: Record<string, number>;
}
