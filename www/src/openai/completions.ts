// OpenAI's Chat Completions, answered by a model in this page. Every request has its whole conversation. All requests use one
// conversation of the engine, so that what two requests in a row have in common at the beginning is not computed again. There
// is only one such conversation, because a memory plan counts the keys and values of one.
//
// The code in this folder reads requests and writes answers in OpenAI's format. It uses the model only through the interface
// `Answering`.

import { FanlightError } from "../errors.js";
import { aborted, orAborted } from "../shared/abort.js";
import { randomName } from "../shared/random.js";
import type { GenerateOptions, Message, ModelInfo, Result, Stream, TokenLogprob, Tool, ToolCall } from "../types.js";
import { chatStream } from "./chat-stream.js";
import { type Asked, parseRequest } from "./request.js";
import type {
  ChatChoice,
  ChatChunk,
  ChatChunkChoice,
  ChatCompletion,
  ChatCompletions,
  ChatFinishReason,
  ChatFunctionCall,
  ChatLogprobs,
  ChatOptions,
  ChatRequestBase,
  ChatStream,
  ChatTokenLogprob,
  ChatUsage,
} from "./types.js";

/** A model that can answer. `Taken` is the type of messages whose pictures have been read. */
export interface Answering<Taken> {
  readonly info: ModelInfo;
  /** Reads the pictures of messages now, because what a canvas shows may change before the request is run. */
  take(messages: Message[]): Taken;
  session(): Promise<Conversation<Taken>>;
}

/** A conversation whose messages and tools can be replaced. */
interface Conversation<Taken> {
  replacing(messages: Taken, tools: Tool[], options: GenerateOptions): Stream;
}

/** The fields that every chunk and every answer has. */
type Head = Pick<ChatCompletion, "id" | "created" | "model" | "system_fingerprint">;

export function chatCompletions<Taken>(model: Answering<Taken>): ChatCompletions {
  const conversation = new SharedConversation(model);

  async function create(request: ChatRequestBase, { signal }: ChatOptions = {}): Promise<ChatCompletion | ChatStream> {
    const asked = parseRequest(request, { maxPixels: model.info.maxPixels });
    const head: Head = {
      id: `chatcmpl-${randomName()}`,
      created: Math.floor(Date.now() / 1000),
      model: asked.model ?? model.info.modelType,
      system_fingerprint: fingerprint(model.info),
    };
    const controller = new AbortController();
    if (!asked.stream) return whole(head, asked, await conversation.answers(asked, signal ?? controller.signal, () => {}));
    const stop = () => controller.abort(signal?.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    // Remove the listener, because a signal may be used for many requests.
    const settled = () => signal?.removeEventListener("abort", stop);
    return chatStream(streamed(head, asked, conversation, controller.signal, settled), controller);
  }
  // One implementation for all overloads.
  return { create: create as ChatCompletions["create"] };
}

/** A piece of the answer `index`: an addition to it, or the whole result. */
type Piece = { index: number } & (
  | { text?: string; reasoning?: string; call?: ToolCall; logprobs?: TokenLogprob[] }
  | { result: Result }
);

class SharedConversation<Taken> {
  readonly #model: Answering<Taken>;
  #session: Conversation<Taken> | undefined;
  /** Settles when the previous request has. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(model: Answering<Taken>) {
    this.#model = model;
  }

  /** Generates one answer for each seed, one after another. Rejects with "aborted" as soon as the signal is aborted. */
  async answers(asked: Asked, signal: AbortSignal, onPiece: (piece: Piece) => void): Promise<Result[]> {
    const messages = this.#model.take(asked.messages);
    const run = this.#last.then(() => this.#run(asked, messages, signal, onPiece));
    this.#last = run.catch(() => {});
    // A request that waits in the queue can be aborted at once.
    return orAborted(run, signal, "the request was aborted");
  }

  async #run(asked: Asked, messages: Taken, signal: AbortSignal, onPiece: (piece: Piece) => void): Promise<Result[]> {
    const results: Result[] = [];
    for (const [index, seed] of asked.seeds.entries()) {
      if (signal.aborted) throw aborted("the request was aborted");
      const session = (this.#session ??= await this.#model.session());
      const one = this.#one(session, asked, messages, seed, signal, (piece) => onPiece({ index, ...piece }));
      const result = await one.catch((error: unknown) => {
        // A session that was lost with its worker cannot be used again. The next request begins another one.
        const code = error instanceof FanlightError ? error.code : "internal";
        if (code === "internal" || (code === "aborted" && !signal.aborted)) this.#session = undefined;
        throw error;
      });
      results.push(result);
      onPiece({ index, result });
    }
    return results;
  }

  async #one(
    session: Conversation<Taken>,
    asked: Asked,
    messages: Taken,
    seed: number | undefined,
    signal: AbortSignal,
    onPiece: (piece: { text?: string; reasoning?: string; call?: ToolCall; logprobs?: TokenLogprob[] }) => void,
  ): Promise<Result> {
    const enough = new AbortController();
    const options: GenerateOptions = {
      ...asked.options,
      ...(seed !== undefined && { seed }),
      signal: AbortSignal.any([signal, enough.signal]),
    };
    const stream: Stream = session.replacing(messages, asked.tools, options);
    let first: ToolCall | undefined;
    for await (const { text, reasoning, toolCall, logprobs } of stream) {
      // If only one call is allowed, everything after it is left out.
      if (first && !asked.manyCalls) continue;
      onPiece({ text, ...(reasoning !== undefined && { reasoning }), ...(toolCall && { call: toolCall }), ...(logprobs && { logprobs }) });
      first ??= toolCall;
      if (first && !asked.manyCalls) enough.abort();
    }
    const result = await stream.result;
    if (signal.aborted) throw aborted("the request was aborted");
    return asked.manyCalls || !first ? result : { ...result, finishReason: "tool_calls", toolCalls: [first] };
  }
}

// ── All at once ─────────────────────────────────────────────────────────────────────────────────────────────────────

function whole(head: Head, asked: Asked, results: Result[]): ChatCompletion {
  const choices = results.map((result, index): ChatChoice => {
    const { text, reasoning } = result;
    const calls = (result.toolCalls ?? []).map(callOut);
    return {
      index,
      message: {
        role: "assistant",
        content: text === "" && calls.length > 0 ? null : text,
        refusal: null,
        ...(calls.length > 0 && { tool_calls: calls }),
        ...(reasoning !== null && { reasoning_content: reasoning }),
      },
      finish_reason: finishReason(result),
      logprobs: asked.options.logprobs === undefined ? null : logprobsOut(result.logprobs ?? []),
    };
  });
  const { id, created, model, system_fingerprint } = head;
  return { id, object: "chat.completion", created, model, choices, usage: usage(results), system_fingerprint };
}

// ── Piece by piece ──────────────────────────────────────────────────────────────────────────────────────────────────

/** The chunks of a response. The answer starts at once, even before the chunks are read. */
function streamed<Taken>(
  head: Head,
  asked: Asked,
  conversation: SharedConversation<Taken>,
  signal: AbortSignal,
  settled: () => void,
): AsyncGenerator<ChatChunk> {
  const pieces: Piece[] = [];
  let wake = () => {};
  let open = true;
  const results = conversation.answers(asked, signal, (piece) => {
    pieces.push(piece);
    wake();
  });
  const end = () => {
    open = false;
    settled();
    wake();
  };
  results.then(end, end);
  const common = { id: head.id, object: "chat.completion.chunk" as const, created: head.created, model: head.model };
  const chunk = (choices: ChatChunkChoice[], used: ChatUsage | null = null): ChatChunk => ({
    ...common,
    choices,
    ...(asked.includeUsage && { usage: used }),
    system_fingerprint: head.system_fingerprint,
  });
  const writers = asked.seeds.map((_, index) => new Writer(index, asked.options.logprobs !== undefined));
  async function* chunks(): AsyncGenerator<ChatChunk> {
    while (true) {
      const piece = pieces.shift();
      if (piece) for (const choice of writers[piece.index]?.choices(piece) ?? []) yield chunk([choice]);
      else if (open) await new Promise<void>((resolve) => (wake = resolve));
      else break;
    }
    const all = await results;
    if (asked.includeUsage) yield chunk([], usage(all));
  }
  return chunks();
}

/** Converts the pieces of one answer to chunks. */
class Writer {
  readonly #index: number;
  readonly #logprobs: boolean;
  #begun = false;
  #calls = 0;
  #tokens = 0;

  constructor(index: number, logprobs: boolean) {
    this.#index = index;
    this.#logprobs = logprobs;
  }

  *choices(piece: Piece): Generator<ChatChunkChoice> {
    if (!this.#begun) yield this.#choice({ role: "assistant", content: "", refusal: null });
    this.#begun = true;
    if ("result" in piece) {
      // Tokens without text, such as the one that ends an answer.
      const rest = piece.result.logprobs?.slice(this.#tokens) ?? [];
      yield { ...this.#choice({}, rest), finish_reason: finishReason(piece.result) };
      return;
    }
    const { text = "", reasoning = "", call, logprobs = [] } = piece;
    this.#tokens += logprobs.length;
    const delta = {
      ...(text !== "" && { content: text }),
      ...(reasoning !== "" && { reasoning_content: reasoning }),
      ...(call && { tool_calls: [{ index: this.#calls++, ...callOut(call) }] }),
    };
    if (Object.keys(delta).length > 0 || logprobs.length > 0) yield this.#choice(delta, logprobs);
  }

  #choice(delta: ChatChunkChoice["delta"], logprobs: TokenLogprob[] = []): ChatChunkChoice {
    const given = this.#logprobs && logprobs.length > 0;
    return { index: this.#index, delta, finish_reason: null, logprobs: given ? logprobsOut(logprobs) : null };
  }
}

// ── Parts of both ───────────────────────────────────────────────────────────────────────────────────────────────────

const callOut = ({ id, name, arguments: args, argumentsText }: ToolCall): ChatFunctionCall => ({
  id,
  type: "function",
  // The model's own text, because numbers above 2^53 would change on the way through JavaScript.
  function: { name, arguments: argumentsText ?? JSON.stringify(args) },
});

const logprobsOut = (logprobs: TokenLogprob[]): ChatLogprobs => ({
  content: logprobs.map(({ token, bytes, logprob, top }): ChatTokenLogprob => {
    return { token, bytes, logprob, top_logprobs: top.map(({ token, bytes, logprob }) => ({ token, bytes, logprob })) };
  }),
  refusal: null,
});

/** The reason in OpenAI's words. "repetition" becomes "stop"; aborted answers are errors. */
function finishReason({ finishReason }: Result): ChatFinishReason {
  if (finishReason === "abort") throw new FanlightError("aborted", "the request was aborted");
  return finishReason === "repetition" ? "stop" : finishReason;
}

/** The numbers of tokens. The prompt counts once, however many answers there are. */
function usage(results: Result[]): ChatUsage {
  const first = results[0]?.usage;
  const prompt = first?.promptTokens ?? 0;
  const completion = results.reduce((sum, { usage }) => sum + usage.completionTokens, 0);
  const thought = results.some(({ reasoning }) => reasoning !== null);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: first?.cachedTokens ?? 0,
      image_tokens: first?.imageTokens ?? 0,
      video_tokens: first?.videoTokens ?? 0,
    },
    completion_tokens_details: thought ? {} : { reasoning_tokens: 0 },
  };
}

/** A text that identifies everything on which an answer depends, besides the request. */
function fingerprint({ modelType, parameters, weights, kvCache, commit }: ModelInfo): string {
  return ["fp", commit?.slice(0, 10) ?? `${modelType}-${parameters}`, weights, kvCache].join("_").replaceAll(/[^\w-]+/g, "-");
}
