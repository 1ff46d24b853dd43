// The shapes of OpenAI's Chat Completions, as the types of its npm client have them: a request that was typed by those is one
// here, and what comes back can be given to code that was. What is added to them says so. Types alone.

import type { ImageSource, JsonSchema, VideoSource } from "./types.js";

/** Words among the pictures. */
export interface ChatTextPart {
  type: "text";
  text: string;
}

/** The pixel limits beside a picture are Qwen's own, as its servers take them: after resizing, per picture. */
export interface ChatPixels {
  min_pixels?: number;
  max_pixels?: number;
}

/** A picture, as OpenAI has it. */
export interface ChatImageUrlPart extends ChatPixels {
  type: "image_url";
  image_url: {
    /** A URL: `https:`, `data:` or `blob:`. Added: whatever else a picture can come from, such as a `Blob`. */
    url: ImageSource;
    /** "low": at most 512 × 512 pixels. "auto" and "high": as many as the model was loaded to see. */
    detail?: "auto" | "low" | "high";
  };
}

/** Added. */
export interface ChatImagePart extends ChatPixels {
  type: "image";
  image: ImageSource;
  resized_width?: number;
  resized_height?: number;
}

/** `VideoOptions` as qwen-vl-utils writes them. */
export interface ChatVideoOptions extends ChatPixels {
  fps?: number;
  nframes?: number;
  min_frames?: number;
  max_frames?: number;
  video_start?: number;
  video_end?: number;
  total_pixels?: number;
  resized_width?: number;
  resized_height?: number;
  /** How long a `MediaStream` is watched. */
  seconds?: number;
}

/** Added. */
export interface ChatVideoPart extends ChatVideoOptions {
  type: "video";
  video: VideoSource;
}

/** Added, as Qwen's servers and vLLM take it. */
export interface ChatVideoUrlPart extends ChatVideoOptions {
  type: "video_url";
  video_url: { url: VideoSource };
}

/** Refused: no model of this family hears, and files are for servers that keep them. */
export interface ChatRefusedPart {
  type: "input_audio" | "file";
}

/** A piece of a user's message. */
export type ChatPart =
  | ChatTextPart
  | ChatImageUrlPart
  | ChatImagePart
  | ChatVideoPart
  | ChatVideoUrlPart
  | ChatRefusedPart;

/** A call that the model asks for. */
export interface ChatFunctionCall {
  id: string;
  type: "function";
  function: {
    name: string;
    /** JSON of an object. */
    arguments: string;
  };
}

/** Refused. */
export interface ChatCustomCall {
  id: string;
  type: "custom";
  custom: { name: string; input: string };
}

/** Something said: OpenAI's `ChatCompletionMessageParam`. */
export type ChatMessageParam =
  | { role: "system" | "developer"; content: string | ChatTextPart[]; name?: string }
  | { role: "user"; content: string | ChatPart[]; name?: string }
  | {
      role: "assistant";
      content?: string | (ChatTextPart | { type: "refusal"; refusal: string })[] | null;
      refusal?: string | null;
      tool_calls?: (ChatFunctionCall | ChatCustomCall)[];
      name?: string;
      /** Added: what it thought before it said that. */
      reasoning_content?: string | null;
      /** Added: the last message, which the model goes on writing. */
      prefix?: boolean;
      /** Refused. */
      audio?: { id: string } | null;
      /** Refused: `tool_calls` came after it. */
      function_call?: { name: string; arguments: string } | null;
    }
  | { role: "tool"; content: string | ChatPart[]; tool_call_id: string }
  /** Refused: "tool" came after it. */
  | { role: "function"; content: string | null; name: string };

/** Something that the model may ask to be called. */
export interface ChatFunctionTool {
  type: "function";
  function: { name: string; description?: string; parameters?: JsonSchema; strict?: boolean | null };
}

/** Refused. */
export interface ChatCustomTool {
  type: "custom";
  custom: { name: string };
}

/** Whether the model calls a tool. */
export type ChatToolChoice =
  | "none"
  | "auto"
  | "required"
  | { type: "function"; function: { name: string } }
  /** Refused. */
  | { type: "allowed_tools" | "custom" };

/** What an answer may be. */
export type ChatResponseFormat =
  | { type: "text" }
  /** Any JSON object. */
  | { type: "json_object" }
  | {
      type: "json_schema";
      json_schema: { name: string; description?: string; schema?: JsonSchema; strict?: boolean | null };
    };

/** `null` counts as not given. What is not listed here is refused by name, so that nothing is dropped in silence. */
export interface ChatRequestBase {
  messages: ChatMessageParam[];
  /** Repeated in the answer. There is one model here, so it need not be given. */
  model?: string;
  max_completion_tokens?: number | null;
  /** The older name. */
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  /** By token id. */
  logit_bias?: Record<string, number> | null;
  logprobs?: boolean | null;
  /** 0 to 20. */
  top_logprobs?: number | null;
  /** Not given: another one each time. */
  seed?: number | null;
  stop?: string | string[] | null;
  response_format?: ChatResponseFormat;
  tools?: (ChatFunctionTool | ChatCustomTool)[];
  tool_choice?: ChatToolChoice;
  /** Without it an answer ends after its first call. */
  parallel_tool_calls?: boolean;
  /** Answers, written one after another from the same prompt, with the seeds from `seed` on. */
  n?: number | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  /** Added, as vLLM has them. −1 or 0 is off. */
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  /** Text alone. */
  modalities?: ("text" | "audio")[] | null;
  /** Of no meaning here, and ignored: they are about accounts, bills, and speed. */
  user?: string;
  metadata?: Record<string, string> | null;
  store?: boolean | null;
  service_tier?: string | null;
  safety_identifier?: string | null;
  prompt_cache_key?: string | null;
  prompt_cache_retention?: string | null;
  prediction?: unknown;
}

/** A request whose answer comes as a whole. */
export interface ChatRequestNonStreaming extends ChatRequestBase {
  stream?: false | null;
}

/** A request whose answer comes in chunks. */
export interface ChatRequestStreaming extends ChatRequestBase {
  stream: true;
}

/** What `create` takes. */
export type ChatRequest = ChatRequestNonStreaming | ChatRequestStreaming;

/** A token and the natural logarithm of its probability. */
export interface ChatTopLogprob {
  token: string;
  bytes: number[];
  logprob: number;
}

/** A token of the answer, and the likeliest at its place. */
export interface ChatTokenLogprob extends ChatTopLogprob {
  top_logprobs: ChatTopLogprob[];
}

/** Of all tokens of an answer, or of a chunk of it. */
export interface ChatLogprobs {
  content: ChatTokenLogprob[];
  refusal: null;
}

/** What a request took, in tokens. */
export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: {
    /** Those that had not to be computed again. */
    cached_tokens: number;
    /** Added. */
    image_tokens: number;
    video_tokens: number;
  };
  completion_tokens_details: {
    /** Absent where a model has thought: its tokens are not told apart from those of the answer. */
    reasoning_tokens?: number;
  };
}

/** Why an answer ended; one that only repeated itself did "stop". */
export type ChatFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** An answer as a message: it can be put into the next request. */
export interface ChatMessage {
  role: "assistant";
  content: string | null;
  refusal: null;
  tool_calls?: ChatFunctionCall[];
  /** Added, as DeepSeek and vLLM name it: what a model that thinks first has thought. */
  reasoning_content?: string;
}

/** One of the answers. */
export interface ChatChoice {
  index: number;
  message: ChatMessage;
  finish_reason: ChatFinishReason;
  logprobs: ChatLogprobs | null;
}

/** A finished answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: ChatChoice[];
  usage: ChatUsage;
  /** Changes with the weights and their formats; a seed means the same answer only while it stays the same. */
  system_fingerprint: string;
}

/** What a chunk adds to the message. */
export interface ChatDelta {
  role?: "assistant";
  content?: string | null;
  refusal?: null;
  tool_calls?: (ChatFunctionCall & { index: number })[];
  /** Added. */
  reasoning_content?: string;
}

/** What a chunk adds to one of the answers. */
export interface ChatChunkChoice {
  index: number;
  delta: ChatDelta;
  finish_reason: ChatFinishReason | null;
  logprobs: ChatLogprobs | null;
}

/** A piece of a streamed answer. */
export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** None in the last one, which is there for the usage. */
  choices: ChatChunkChoice[];
  /** Where `stream_options.include_usage` asks for it: null, and in the last chunk the whole of it. */
  usage?: ChatUsage | null;
  system_fingerprint: string;
}

/** What is no part of the request. */
export interface ChatOptions {
  signal?: AbortSignal;
}

/** Chunks as they come, to be read once. Leaving the loop early ends the answer, and so does `controller.abort()`. */
export interface ChatStream extends AsyncIterable<ChatChunk> {
  readonly controller: AbortController;
  /** A line of JSON for each chunk, as the client's `Stream.fromReadableStream` takes them. */
  toReadableStream(): ReadableStream<Uint8Array>;
  /** Two streams of the same chunks. */
  tee(): [ChatStream, ChatStream];
}

/** What is at `model.chat.completions`. */
export interface ChatCompletions {
  /**
   * Answers as OpenAI's `POST /chat/completions` does. Each request carries its whole conversation; what the one before it
   * began with as well, pictures included, is not computed again. Requests run one after another.
   *
   * Errors are `FanlightError`: "bad_request" names the field, "context_full" has the numbers, "aborted" is what
   * `options.signal` makes of an answer that is not streamed; a stream just ends then, as the client's does.
   */
  create(request: ChatRequestNonStreaming, options?: ChatOptions): Promise<ChatCompletion>;
  create(request: ChatRequestStreaming, options?: ChatOptions): Promise<ChatStream>;
  create(request: ChatRequestBase, options?: ChatOptions): Promise<ChatCompletion | ChatStream>;
}
