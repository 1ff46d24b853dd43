// How a conversation begins, how an answer is generated, and what a page receives while it is generated.

import type { ImageInfo, VideoInfo } from "./media.js";
import type { Message } from "./messages.js";
import type { Result, TokenLogprob } from "./results.js";
import type { ResponseConstraint, Tool, ToolCall, ToolChoice } from "./tools.js";

/** How a conversation begins. */
export interface SessionOptions {
  /** Messages before the first prompt, for example a system message. */
  messages?: Message[];
  /**
   * Number the pictures in the text ("Picture 1: …"). The models were trained with these numbers for prompts that have
   * several pictures.
   */
  addVisionId?: boolean;
  /** Tools that the model may call during the whole conversation. */
  tools?: Tool[];
}

/**
 * How an answer is sampled and when it ends. Sampling options that are not given come from the checkpoint's own
 * generation_config.json.
 */
export interface GenerateOptions {
  /**
   * The largest number of tokens in the answer. Default: what the checkpoint says, or 1024. An answer that reaches it has
   * `finishReason: "length"`.
   */
  maxTokens?: number;
  /** 0 always takes the most likely token. Default: from the checkpoint's generation_config.json. */
  temperature?: number;
  /** Sample only from this many of the most likely tokens. 0 means no limit. */
  topK?: number;
  /** Sample only from the most likely tokens whose probabilities add up to this value. */
  topP?: number;
  /** Sample only from tokens whose probability is at least this share of the most likely token's probability. */
  minP?: number;
  /**
   * Positive logits of tokens that already occur in the prompt or the answer are divided by this value; negative ones are
   * multiplied by it. 1 changes nothing.
   */
  repetitionPenalty?: number;
  /** Subtracted once from the logit of every token that the answer already contains. */
  presencePenalty?: number;
  /** Subtracted from the logit of every token that the answer already contains, once for each time it occurs. */
  frequencyPenalty?: number;
  /** Added to the logits of tokens, by token id: −100 bans a token, 100 forces it. */
  logitBias?: Record<number, number>;
  /**
   * Return the log-probability of every token of the answer, and of this many of the most likely tokens (0 to 20) at the
   * same place.
   */
  logprobs?: number;
  /**
   * The seed of the random numbers, 0 by default. The same prompt, options and seed give the same answer on the same
   * device.
   */
  seed?: number;
  /** The answer ends before the first of these texts. The text itself is not part of the answer. */
  stop?: string[];
  /**
   * Forces the answer to match this schema, regular expression or grammar. The reasoning before an answer is not
   * constrained. If the answer is cut off before it is complete, it has `finishReason: "length"`.
   */
  responseConstraint?: ResponseConstraint;
  /** Whether the model calls a tool. Default: "auto" if there are tools. */
  toolChoice?: ToolChoice;
  /**
   * End an answer that only repeats itself, with `finishReason: "repetition"`. Until then, the option does not change the
   * answer.
   */
  loopGuard?: boolean;
  /**
   * Ends the answer early. The call then resolves with the text so far and `finishReason: "abort"`. If the pictures and
   * videos of the prompt are still being read, the call rejects with code "aborted" instead, and the conversation is as it
   * was before.
   */
  signal?: AbortSignal;
}

/** Options of `Session.append`. */
export interface AppendOptions {
  /** Aborts the call. It rejects with code "aborted", and the conversation is as it was before. */
  signal?: AbortSignal;
}

/**
 * The next piece of an answer. A model that reasons first sends pieces with `reasoning` and an empty `text` before the
 * answer begins.
 */
export interface Delta {
  /** The next text of the answer. */
  text: string;
  /** The next text of the reasoning before the answer. */
  reasoning?: string;
  /** A tool call, once it is complete. */
  toolCall?: ToolCall;
  /** The tokens since the previous delta, if the option `logprobs` is set. */
  logprobs?: TokenLogprob[];
}

/** The pieces of an answer while it is generated, and the whole answer at the end. */
export interface Stream extends AsyncIterable<Delta> {
  /** The whole answer, once it is finished. Rejects with the same error that the loop throws. */
  readonly result: Promise<Result>;
}

/** What a prompt would need, computed before it is run. */
export interface Plan {
  /** Tokens of the whole prompt, including what is already in the conversation. */
  promptTokens: number;
  /** How many of the prompt's tokens belong to pictures. */
  imageTokens: number;
  /** How many of the prompt's tokens belong to videos. */
  videoTokens: number;
  /** How many of the prompt's tokens need not be computed again. */
  cachedTokens: number;
  /** The largest number of tokens that the conversation can hold. */
  contextWindow: number;
  /** Whether the context has room for the prompt and at least the beginning of an answer. */
  fits: boolean;
  /** Tokens that remain for the answer. */
  left: number;
  /** The most memory that the prompt needs on the device while it runs, besides the weights, in bytes. */
  bytes: number;
  /** Multiplications and additions that are computed before the first token of the answer. */
  flops: number;
  /** The pictures of this prompt, in order, with warnings about each. */
  images: (ImageInfo & { warnings: string[] })[];
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}
