// The shapes of OpenAI's Chat Completions, as the types of its npm client have them: a request that was typed by those is one
// here, and what comes back can be given to code that was. What is added to them says so. Types alone.

import type { ImageSource, JsonSchema, VideoSource } from "../types.js";

/** A text. */
export interface ChatTextPart {
  type: "text";
  /** What it says. */
  text: string;
}

/** The pixel limits beside a picture are Qwen's own, as its servers take them: after resizing, per picture. */
export interface ChatPixels {
  /** Smaller pictures are enlarged. */
  min_pixels?: number;
  /** Larger pictures are made smaller. */
  max_pixels?: number;
}

/** A picture. */
export interface ChatImageUrlPart extends ChatPixels {
  type: "image_url";
  /** Where it is. */
  image_url: {
    /** A URL: `https:`, `data:` or `blob:`. Added: whatever else a picture can come from, such as a `Blob`. */
    url: ImageSource;
    /** "low": at most 512 × 512 pixels. Others: as many as the model was loaded to see. */
    detail?: "auto" | "low" | "high" | "original";
  };
}

/** Added. */
export interface ChatImagePart extends ChatPixels {
  type: "image";
  /** The picture. */
  image: ImageSource;
  /** An exact size in place of the limits; rounded to what the model can see. */
  resized_width?: number;
  /** As `resized_width`. */
  resized_height?: number;
}

/** `VideoOptions` as qwen-vl-utils writes them. */
export interface ChatVideoOptions extends ChatPixels {
  /** Frames a second that are looked at: 2. */
  fps?: number;
  /** How many frames are looked at, in place of `fps`. */
  nframes?: number;
  /** Fewest frames, whatever `fps` makes of the length: 4. */
  min_frames?: number;
  /** Most frames: 768. */
  max_frames?: number;
  /** Only what comes after that, in seconds. */
  video_start?: number;
  /** Only what comes before that, in seconds. */
  video_end?: number;
  /** Pixels of all frames together. */
  total_pixels?: number;
  /** An exact size of the frames in place of the limits. */
  resized_width?: number;
  /** As `resized_width`. */
  resized_height?: number;
  /** How long a `MediaStream` is watched. */
  seconds?: number;
}

/** Added. */
export interface ChatVideoPart extends ChatVideoOptions {
  type: "video";
  /** The video. */
  video: VideoSource;
}

/** Added, as Qwen's servers and vLLM take it. */
export interface ChatVideoUrlPart extends ChatVideoOptions {
  type: "video_url";
  /** Where it is. */
  video_url: { url: VideoSource };
}

/** Refused: no model of this family hears, and files are for servers that keep them. */
export interface ChatRefusedPart {
  /** What it is. */
  type: "input_audio" | "file";
}

/** A piece of a user's message, in the order it is read and looked at. */
export type ChatPart =
  | ChatTextPart
  | ChatImageUrlPart
  | ChatImagePart
  | ChatVideoPart
  | ChatVideoUrlPart
  | ChatRefusedPart;

/** A call that a model asks for. */
export interface ChatFunctionCall {
  /** What its answer names it by. */
  id: string;
  type: "function";
  /** What is to be called. */
  function: {
    name: string;
    /** JSON of an object. */
    arguments: string;
  };
}

/** Refused. */
export interface ChatCustomCall {
  /** What its answer names it by. */
  id: string;
  type: "custom";
  /** What is to be called. */
  custom: { name: string; input: string };
}

/** A message of a request. */
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
  /** Its name, what it is for, and a JSON schema of its arguments. */
  function: { name: string; description?: string; parameters?: JsonSchema; strict?: boolean | null };
}

/** Refused. */
export interface ChatCustomTool {
  type: "custom";
  /** Its name. */
  custom: { name: string };
}

/** Whether the model calls a tool: never, as it likes, at least one, or this one. */
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
  /** The whole conversation. */
  messages: ChatMessageParam[];
  /** Repeated in the answer. There is one model here, so it need not be given. */
  model?: string;
  /** Most tokens of an answer. */
  max_completion_tokens?: number | null;
  /** The older name. */
  max_tokens?: number | null;
  /** 0 takes the likeliest token each time. Not given: the checkpoint's own. */
  temperature?: number | null;
  /** Only the likeliest tokens that make up this share are drawn from. */
  top_p?: number | null;
  /** −2 to 2: subtracted from the logit of every token that the answer has. */
  presence_penalty?: number | null;
  /** The same, as often as it has come. */
  frequency_penalty?: number | null;
  /** By token id. */
  logit_bias?: Record<string, number> | null;
  /** Say how likely every token of the answer was. */
  logprobs?: boolean | null;
  /** 0 to 20. */
  top_logprobs?: number | null;
  /** Not given: another one each time. */
  seed?: number | null;
  /** The answer ends before the first of these. */
  stop?: string | string[] | null;
  /** What the answer may be; it can be nothing else. */
  response_format?: ChatResponseFormat;
  /** What the model may ask to be called. */
  tools?: (ChatFunctionTool | ChatCustomTool)[];
  /** Whether it does. */
  tool_choice?: ChatToolChoice;
  /** Without it an answer ends after its first call. */
  parallel_tool_calls?: boolean;
  /** Answers, written one after another from the same prompt, with the seeds from `seed` on. */
  n?: number | null;
  /** In pieces. */
  stream?: boolean | null;
  /** `include_usage`: a last chunk says what it took. */
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  /** Added, as vLLM has them. −1 or 0 is off. */
  top_k?: number | null;
  /** Added: only tokens at least this likely, as a share of the likeliest. */
  min_p?: number | null;
  /** Added: logits of all tokens so far are divided by it. */
  repetition_penalty?: number | null;
  /** Text alone. */
  modalities?: ("text" | "audio")[] | null;
  /** Ignored, as what follows: it is about accounts, bills and speed, which have no meaning here. */
  user?: string;
  /** Ignored. */
  metadata?: Record<string, string> | null;
  /** Ignored: nothing leaves this page. */
  store?: boolean | null;
  /** Ignored. */
  service_tier?: string | null;
  /** Ignored. */
  safety_identifier?: string | null;
  /** Ignored: the cache needs no key. */
  prompt_cache_key?: string | null;
  /** Ignored. */
  prompt_cache_retention?: string | null;
  /** Ignored: it changes no answer. */
  prediction?: unknown;
}

/** A request for an answer all at once. */
export interface ChatRequestNonStreaming extends ChatRequestBase {
  /** Not. */
  stream?: false | null;
}

/** A request for an answer in pieces. */
export interface ChatRequestStreaming extends ChatRequestBase {
  stream: true;
}

/** A request. */
export type ChatRequest = ChatRequestNonStreaming | ChatRequestStreaming;

/** A token, and how likely it was. */
export interface ChatTopLogprob {
  /** As text, which may be half a character. */
  token: string;
  /** Its bytes in UTF-8. */
  bytes: number[];
  /** The natural logarithm of its probability. */
  logprob: number;
}

/** A token of the answer, and what else could have stood there. */
export interface ChatTokenLogprob extends ChatTopLogprob {
  /** The likeliest at this place. */
  top_logprobs: ChatTopLogprob[];
}

/** Of all tokens of an answer or of a chunk. */
export interface ChatLogprobs {
  /** In order. */
  content: ChatTokenLogprob[];
  refusal: null;
}

/** Tokens. */
export interface ChatUsage {
  /** Of the whole conversation. */
  prompt_tokens: number;
  /** Of all answers. */
  completion_tokens: number;
  /** Both. */
  total_tokens: number;
  /** What some of them were. */
  prompt_tokens_details: {
    /** Those that had not to be computed again. */
    cached_tokens: number;
    /** Added. */
    image_tokens: number;
    video_tokens: number;
  };
  /** What some of them were. */
  completion_tokens_details: {
    /** Absent where a model has thought: its tokens are not told apart from those of the answer. */
    reasoning_tokens?: number;
  };
}

/** Why an answer ended. "content_filter" is of servers. */
export type ChatFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** An answer, which can be given back as it is with the next request. */
export interface ChatMessage {
  role: "assistant";
  /** What it says; null where it only calls. */
  content: string | null;
  refusal: null;
  /** What it asks to be called. */
  tool_calls?: ChatFunctionCall[];
  /** Added, as DeepSeek and vLLM name it: what a model that thinks first has thought. */
  reasoning_content?: string;
}

/** One of the answers. */
export interface ChatChoice {
  /** Which, of `n`. */
  index: number;
  /** What the model says. */
  message: ChatMessage;
  /** Why it ended. */
  finish_reason: ChatFinishReason;
  /** Where they were asked for. */
  logprobs: ChatLogprobs | null;
}

/** What comes back all at once. */
export interface ChatCompletion {
  /** Another one each time. */
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  /** As the request has it. */
  model: string;
  /** `n` of them. */
  choices: ChatChoice[];
  /** What it took. */
  usage: ChatUsage;
  /** Changes with the weights and their formats; a seed means the same answer only while it stays the same. */
  system_fingerprint: string;
}

/** What a chunk adds to a message. */
export interface ChatDelta {
  role?: "assistant";
  /** Text to be added. */
  content?: string | null;
  refusal?: null;
  /** Calls, each of them whole. */
  tool_calls?: (ChatFunctionCall & { index: number })[];
  /** Added. */
  reasoning_content?: string;
}

/** A piece of one of the answers. */
export interface ChatChunkChoice {
  /** Which, of `n`. */
  index: number;
  /** What it adds. */
  delta: ChatDelta;
  /** In the last one: why it ended. */
  finish_reason: ChatFinishReason | null;
  /** Of the tokens that it adds, where they were asked for. */
  logprobs: ChatLogprobs | null;
}

/** A piece of what is streamed. */
export interface ChatChunk {
  /** Of the whole answer. */
  id: string;
  object: "chat.completion.chunk";
  /** Seconds since 1970. */
  created: number;
  /** As the request has it. */
  model: string;
  /** None in the last one, which is there for the usage. */
  choices: ChatChunkChoice[];
  /** Where `stream_options.include_usage` asks for it: null, and in the last chunk the whole of it. */
  usage?: ChatUsage | null;
  /** As a `ChatCompletion` has it. */
  system_fingerprint: string;
}

/** What goes with a request. */
export interface ChatOptions {
  /** Ends the answer. */
  signal?: AbortSignal;
}

/** Chunks as they come, to be read once. Leaving the loop early ends the answer, and so does `controller.abort()`. */
export interface ChatStream extends AsyncIterable<ChatChunk> {
  /** Ends the answer: `stream.controller.abort()`. */
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
  /** The same, in pieces. */
  create(request: ChatRequestStreaming, options?: ChatOptions): Promise<ChatStream>;
  /** The same, for a request of which it is not known. */
  create(request: ChatRequestBase, options?: ChatOptions): Promise<ChatCompletion | ChatStream>;
}
