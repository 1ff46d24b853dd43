// The types of OpenAI's Chat Completions. They are compatible with those of OpenAI's npm client: a request of that client's type can be
// sent here, and code written for that client can read the answers. Comments say "Not in OpenAI's API" where something is added.

import type { ImageSource, JsonSchema, VideoSource } from "../types.js";

/** A text in a message. */
export interface ChatTextPart {
  type: "text";
  /** The text. */
  text: string;
}

/** Limits for the number of pixels of a picture after resizing. Not in OpenAI's API; Qwen's servers use the same names. */
export interface ChatPixels {
  /** Smaller pictures are enlarged to this many pixels. */
  min_pixels?: number;
  /** Larger pictures are scaled down to this many pixels. */
  max_pixels?: number;
}

/** A picture, given by its address. */
export interface ChatImageUrlPart extends ChatPixels {
  type: "image_url";
  /** The address of the picture, and in how much detail the model sees it. */
  image_url: {
    /** A URL: `https:`, `data:` or `blob:`. Not in OpenAI's API: any other `ImageSource`, such as a `Blob`. */
    url: ImageSource;
    /** "low": at most 512 × 512 pixels. All other values: as many pixels as the model was loaded with. */
    detail?: "auto" | "low" | "high" | "original";
  };
}

/** A picture, given directly. Not in OpenAI's API. */
export interface ChatImagePart extends ChatPixels {
  type: "image";
  /** The picture. */
  image: ImageSource;
  /**
   * A width to use instead of the picture's own; set `resized_height` too. It is rounded to a size that the model can see,
   * and the pixel limits still apply.
   */
  resized_width?: number;
  /** A height to use instead of the picture's own, together with `resized_width`. */
  resized_height?: number;
}

/** The same options as `VideoOptions`, with the names of qwen-vl-utils. Not in OpenAI's API. */
export interface ChatVideoOptions extends ChatPixels {
  /** Frames a second that the model sees. Default: 2. */
  fps?: number;
  /** How many frames the model sees, instead of `fps`. */
  nframes?: number;
  /** The fewest frames that `fps` may result in. Default: 4. */
  min_frames?: number;
  /** The most frames that `fps` may result in. Default: 768. */
  max_frames?: number;
  /** Use only the part of the video from this time on, in seconds. */
  video_start?: number;
  /** Use only the part of the video up to this time, in seconds. */
  video_end?: number;
  /** The most pixels of all frames together. */
  total_pixels?: number;
  /** The width of the frames, instead of one that follows from the limits; set `resized_height` too. */
  resized_width?: number;
  /** The height of the frames, together with `resized_width`. */
  resized_height?: number;
  /** How many seconds of a `MediaStream` are captured. Default: 4. */
  seconds?: number;
}

/** A video, given directly. Not in OpenAI's API. */
export interface ChatVideoPart extends ChatVideoOptions {
  type: "video";
  /** The video. */
  video: VideoSource;
}

/** A video, given by its address, in the form that Qwen's servers and vLLM use. Not in OpenAI's API. */
export interface ChatVideoUrlPart extends ChatVideoOptions {
  type: "video_url";
  /** The address of the video, or any other `VideoSource`. */
  video_url: { url: VideoSource };
}

/** Parts that are refused: these models take no audio, and there is no server here that could keep files. */
export interface ChatRefusedPart {
  /** The kind of part. */
  type: "input_audio" | "file";
}

/** A part of a user's message. The model reads the parts in their order. */
export type ChatPart =
  | ChatTextPart
  | ChatImageUrlPart
  | ChatImagePart
  | ChatVideoPart
  | ChatVideoUrlPart
  | ChatRefusedPart;

/** A call of a function tool, made by the model. */
export interface ChatFunctionCall {
  /** The id of the call. The message with the result names it as `tool_call_id`. */
  id: string;
  type: "function";
  /** The name of the function, and its arguments. */
  function: {
    name: string;
    /** A JSON object, as a string. */
    arguments: string;
  };
}

/** A call of a custom tool. Custom tools are refused. */
export interface ChatCustomCall {
  /** The id of the call. */
  id: string;
  type: "custom";
  /** The name of the tool, and its input. */
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
      /** The reasoning before the message. Not in OpenAI's API. */
      reasoning_content?: string | null;
      /** Only in the last message: the model continues it. Not in OpenAI's API. */
      prefix?: boolean;
      /** Refused, because these models do not speak. */
      audio?: { id: string } | null;
      /** Refused, because it has been replaced by `tool_calls`. */
      function_call?: { name: string; arguments: string } | null;
    }
  | { role: "tool"; content: string | ChatPart[]; tool_call_id: string }
  /** Refused, because it has been replaced by the role "tool". */
  | { role: "function"; content: string | null; name: string };

/** A tool that the model may call. Your code runs the tool. */
export interface ChatFunctionTool {
  type: "function";
  /**
   * The name of the tool, what it is for, and a JSON schema of its arguments. `strict` forces the model to write only
   * arguments that match the schema.
   */
  function: { name: string; description?: string; parameters?: JsonSchema; strict?: boolean | null };
}

/** A custom tool. Custom tools are refused. */
export interface ChatCustomTool {
  type: "custom";
  /** The name of the tool. */
  custom: { name: string };
}

/**
 * Whether the model calls a tool: "none", never; "auto", if it decides to; "required", at least one; or the tool with this
 * name.
 */
export type ChatToolChoice =
  | "none"
  | "auto"
  | "required"
  | { type: "function"; function: { name: string } }
  /** Other choices of OpenAI's API, which are refused. */
  | { type: "allowed_tools" | "custom" };

/** The format of the answer: text, any JSON object, or JSON that matches a schema. */
export type ChatResponseFormat =
  | { type: "text" }
  /** Any JSON object. */
  | { type: "json_object" }
  | {
      type: "json_schema";
      json_schema: { name: string; description?: string; schema?: JsonSchema; strict?: boolean | null };
    };

/**
 * A request. A field that is `null` counts as not given. A field that is not listed here is refused with an error that
 * names it, so that no field is ignored without notice.
 */
export interface ChatRequestBase {
  /** The whole conversation. */
  messages: ChatMessageParam[];
  /** A name that is repeated in the answer. It can be left out, because only one model can answer. */
  model?: string;
  /** The largest number of tokens in an answer. */
  max_completion_tokens?: number | null;
  /** The older name of `max_completion_tokens`. */
  max_tokens?: number | null;
  /** 0 always takes the most likely token. Default: the checkpoint's own. */
  temperature?: number | null;
  /** Sample only from the most likely tokens whose probabilities add up to this value. */
  top_p?: number | null;
  /** −2 to 2: subtracted once from the logit of every token that the answer already contains. */
  presence_penalty?: number | null;
  /** −2 to 2: subtracted from the logit of every token that the answer already contains, once for each time it occurs. */
  frequency_penalty?: number | null;
  /** Added to the logits of tokens, by token id. */
  logit_bias?: Record<string, number> | null;
  /** Return the log-probability of every token of the answer. */
  logprobs?: boolean | null;
  /** How many of the most likely tokens to return at each place: 0 to 20. Needs `logprobs: true`. */
  top_logprobs?: number | null;
  /** The seed of the random numbers. Default: a random seed for every request. */
  seed?: number | null;
  /** The answer ends before the first of these texts. */
  stop?: string | string[] | null;
  /** The format that the answer is forced to have. */
  response_format?: ChatResponseFormat;
  /** The tools that the model may call. */
  tools?: (ChatFunctionTool | ChatCustomTool)[];
  /** Whether the model calls a tool. */
  tool_choice?: ChatToolChoice;
  /** Whether an answer may have several tool calls. If false, it ends after the first. Default: true. */
  parallel_tool_calls?: boolean;
  /**
   * How many answers to generate. They are generated one after another from the same prompt, with seeds that count up from
   * `seed`.
   */
  n?: number | null;
  /** Whether the answer is sent in chunks while it is generated. */
  stream?: boolean | null;
  /** Needs `stream: true`. With `include_usage`, a last chunk has the numbers of tokens. */
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  /**
   * Sample only from this many of the most likely tokens. −1 or 0 means no limit. Not in OpenAI's API; named as in vLLM.
   */
  top_k?: number | null;
  /**
   * Sample only from tokens whose probability is at least this share of the most likely token's probability. Not in
   * OpenAI's API; named as in vLLM.
   */
  min_p?: number | null;
  /**
   * Positive logits of tokens that already occur are divided by this value; negative ones are multiplied by it. Not in
   * OpenAI's API; named as in vLLM.
   */
  repetition_penalty?: number | null;
  /** Only "text" is accepted. */
  modalities?: ("text" | "audio")[] | null;
  /** Ignored, like the fields below: they are about accounts, billing and speed on a server. */
  user?: string;
  /** Ignored. */
  metadata?: Record<string, string> | null;
  /** Ignored, because nothing leaves this page. */
  store?: boolean | null;
  /** Ignored. */
  service_tier?: string | null;
  /** Ignored. */
  safety_identifier?: string | null;
  /** Ignored, because the cache works without a key. */
  prompt_cache_key?: string | null;
  /** Ignored. */
  prompt_cache_retention?: string | null;
  /** Ignored, because it changes only the speed of an answer. */
  prediction?: unknown;
}

/** A request whose answer is returned as a whole. */
export interface ChatRequestNonStreaming extends ChatRequestBase {
  /** Not streamed. */
  stream?: false | null;
}

/** A request whose answer is returned in chunks. */
export interface ChatRequestStreaming extends ChatRequestBase {
  stream: true;
}

/** A request, streamed or not. */
export type ChatRequest = ChatRequestNonStreaming | ChatRequestStreaming;

/** A token and its log-probability. */
export interface ChatTopLogprob {
  /** The token as text. It may be only a part of a character. */
  token: string;
  /** The bytes of the token in UTF-8. */
  bytes: number[];
  /** The natural logarithm of its probability. */
  logprob: number;
}

/** A token of the answer, with the most likely tokens at its place. */
export interface ChatTokenLogprob extends ChatTopLogprob {
  /** The most likely tokens at this place. */
  top_logprobs: ChatTopLogprob[];
}

/** The log-probabilities of all tokens of an answer or a chunk. */
export interface ChatLogprobs {
  /** The tokens, in order. */
  content: ChatTokenLogprob[];
  refusal: null;
}

/** Numbers of tokens. */
export interface ChatUsage {
  /** Tokens of the whole prompt. */
  prompt_tokens: number;
  /** Tokens of all answers together. */
  completion_tokens: number;
  /** The sum of both. */
  total_tokens: number;
  /** Which of the prompt's tokens are of these kinds. */
  prompt_tokens_details: {
    /** Tokens that did not have to be computed again. */
    cached_tokens: number;
    /** Tokens of pictures. Not in OpenAI's API. */
    image_tokens: number;
    /** Tokens of videos. Not in OpenAI's API. */
    video_tokens: number;
  };
  /** Which of the answers' tokens are of these kinds. */
  completion_tokens_details: {
    /** 0 if there was no reasoning. Absent otherwise, because tokens of the reasoning are not counted separately. */
    reasoning_tokens?: number;
  };
}

/** Why an answer ended. "content_filter" occurs only with a model on a server. */
export type ChatFinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** The message of an answer. It can be sent back unchanged in the next request. */
export interface ChatMessage {
  role: "assistant";
  /** The text; null if the message has only tool calls. */
  content: string | null;
  refusal: null;
  /** The tool calls of the model. */
  tool_calls?: ChatFunctionCall[];
  /** The reasoning of a model that reasons before it answers. Not in OpenAI's API; named as in DeepSeek's API and vLLM. */
  reasoning_content?: string;
}

/** One of the `n` answers. */
export interface ChatChoice {
  /** The number of the answer, from 0 to `n` − 1. */
  index: number;
  /** The message of the model. */
  message: ChatMessage;
  /** Why the answer ended. */
  finish_reason: ChatFinishReason;
  /** The log-probabilities, if the request asks for them. */
  logprobs: ChatLogprobs | null;
}

/** The response to a request that is not streamed. */
export interface ChatCompletion {
  /** A new id for each request. */
  id: string;
  object: "chat.completion";
  /** When the request was made, in seconds since 1970. */
  created: number;
  /** The `model` of the request. */
  model: string;
  /** The `n` answers. */
  choices: ChatChoice[];
  /** The numbers of tokens. */
  usage: ChatUsage;
  /**
   * A text that changes with the weights and their formats. A seed gives the same answer only while this text stays the
   * same.
   */
  system_fingerprint: string;
}

/** What a chunk adds to a message. */
export interface ChatDelta {
  role?: "assistant";
  /** Text to append. */
  content?: string | null;
  refusal?: null;
  /** Tool calls. Each of them is complete. */
  tool_calls?: (ChatFunctionCall & { index: number })[];
  /** Reasoning to append. Not in OpenAI's API. */
  reasoning_content?: string;
}

/** What a chunk adds to one of the `n` answers. */
export interface ChatChunkChoice {
  /** The number of the answer, from 0 to `n` − 1. */
  index: number;
  /** What the chunk adds to the message. */
  delta: ChatDelta;
  /** Why the answer ended, in its last chunk; otherwise null. */
  finish_reason: ChatFinishReason | null;
  /** The log-probabilities of the added tokens, if the request asks for them. */
  logprobs: ChatLogprobs | null;
}

/** A chunk of a streamed response. */
export interface ChatChunk {
  /** The id of the response; the same in all its chunks. */
  id: string;
  object: "chat.completion.chunk";
  /** When the request was made, in seconds since 1970. */
  created: number;
  /** The `model` of the request. */
  model: string;
  /** What the chunk adds. Empty in the last chunk if that is only for `usage`. */
  choices: ChatChunkChoice[];
  /** Only with `stream_options.include_usage`: the numbers of tokens in the last chunk, null in all others. */
  usage?: ChatUsage | null;
  /** The same as in `ChatCompletion`. */
  system_fingerprint: string;
}

/** Options of a request. */
export interface ChatOptions {
  /** Aborts the answer. */
  signal?: AbortSignal;
}

/**
 * The chunks of a response, while it is generated. They can be read once. Leaving the loop early ends the answer, and so
 * does `controller.abort()`.
 */
export interface ChatStream extends AsyncIterable<ChatChunk> {
  /** Ends the answer: `stream.controller.abort()`. */
  readonly controller: AbortController;
  /** A stream with one line of JSON for each chunk, which `Stream.fromReadableStream` of OpenAI's client can read. */
  toReadableStream(): ReadableStream<Uint8Array>;
  /** Two streams with the same chunks. */
  tee(): [ChatStream, ChatStream];
}

/** The interface at `model.chat.completions`. */
export interface ChatCompletions {
  /**
   * Answers like OpenAI's `POST /chat/completions`. Each request has the whole conversation. If it begins like the previous
   * request, that part, pictures included, is not computed again. Requests run one after another.
   *
   * Errors are `FanlightError`s. The message of "bad_request" names the field, that of "context_full" has the numbers of tokens.
   * When `options.signal` is aborted, an answer that is not streamed rejects with code "aborted"; a stream just ends, as with
   * OpenAI's client.
   */
  create(request: ChatRequestNonStreaming, options?: ChatOptions): Promise<ChatCompletion>;
  /** The same, with the answer in chunks. */
  create(request: ChatRequestStreaming, options?: ChatOptions): Promise<ChatStream>;
  /** The same, for a request of which it is not known whether it is streamed. */
  create(request: ChatRequestBase, options?: ChatOptions): Promise<ChatCompletion | ChatStream>;
}
