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

export interface LoadOptions extends PixelLimits {
  /**
   * Quantizes f32, f16 and bf16 weights while they are loaded, for a device that cannot hold what the checkpoint stores.
   * A part that is not named keeps its weights; so does everything in a GGUF file that is quantized already.
   */
  weights?: WeightFormat | { vision?: WeightFormat; text?: WeightFormat; embeddings?: WeightFormat };
  /** The file of the vision tower of a GGUF model, in the same folder. Without it the model takes text alone. */
  mmproj?: string;
  /** Tokens a session may hold, picture and answer included. The checkpoint's own limit if not given. */
  contextLength?: number;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Progress {
  phase: "start" | "download" | "upload" | "compile";
  file?: string;
  /** Bytes, or steps for "compile". `total` is 0 while it is unknown. */
  loaded: number;
  total: number;
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
  adapter: AdapterInfo;
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
