// How a conversation begins, how an answer is generated, and what arrives while it is written.

import type { ImageInfo, VideoInfo } from "./media.js";
import type { Message } from "./messages.js";
import type { Result, TokenLogprob } from "./results.js";
import type { ResponseConstraint, Tool, ToolCall, ToolChoice } from "./tools.js";

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

/** The pieces of an answer as they come, and all of it at the end. */
export interface Stream extends AsyncIterable<Delta> {
  /** The whole answer, when it is finished. Rejects with what the loop throws. */
  readonly result: Promise<Result>;
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
