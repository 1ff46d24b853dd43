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

export type Part = TextPart | ImagePart;

export interface Message {
  role: "system" | "user" | "assistant";
  content: string | Part[];
}

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
}

export interface GenerateOptions {
  maxTokens?: number;
  /** 0 takes the likeliest token each time. Not given: the checkpoint's generation_config.json. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  /** Generation ends before the first of these; it is not part of the text. */
  stop?: string[];
  /** Ends the answer early: it resolves with what was written so far and `finishReason: "abort"`. */
  signal?: AbortSignal;
}

export interface Delta {
  text: string;
}

export interface Size {
  width: number;
  height: number;
}

/** One picture of a prompt: its own size, the size the model saw, and the tokens it took. */
export interface ImageInfo {
  original: Size;
  resized: Size;
  tokens: number;
}

export interface Result {
  text: string;
  tokenIds: number[];
  finishReason: "stop" | "length" | "abort";
  usage: { promptTokens: number; imageTokens: number; completionTokens: number; cachedTokens: number };
  timings: { imageMs: number; prefillMs: number; ttftMs: number; decodeMs: number; decodeTps: number };
  /** The pictures of this prompt, in order. */
  images: ImageInfo[];
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
