// Reads a server's answer: the chunks of a stream, or one whole completion. `Gathered` makes a result of the chunks.

import { FanlightError } from "../errors.js";
import type { ChatChunk, ChatFinishReason, ChatTokenLogprob, ChatUsage } from "../openai/types.js";
import type { Delta, ImageInfo, Located, Result, TokenLogprob, ToolCall } from "../types.js";
import { messageOf, unreachable, WRONG_SERVER } from "./faults.js";
import { eventData } from "./sse.js";

export async function* chunks(response: Response, signal: AbortSignal): AsyncGenerator<ChatChunk> {
  const { body } = response;
  if (!body) throw new FanlightError("network", `${response.url} sent no answer`, "Try again.", true);
  let finished = false;
  try {
    for await (const data of eventData(body)) {
      if (data.trim() === "[DONE]") return;
      const chunk = parsedChunk(data, response.url);
      finished ||= chunk.choices.some(({ finish_reason }) => finish_reason);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof FanlightError) throw error;
    throw unreachable(new URL(response.url), error, signal);
  }
  // Some servers do not send [DONE].
  if (!finished) throw new FanlightError("network", `${response.url} stopped sending in the middle of the answer`, "Try again.", true);
}

function parsedChunk(data: string, url: string): ChatChunk {
  let value: Partial<ChatChunk> & { error?: unknown };
  try {
    value = JSON.parse(data) as typeof value;
  } catch {
    throw new FanlightError("network", `${url} sent something that is not JSON: ${data.slice(0, 80)}`, WRONG_SERVER);
  }
  if (value.error) throw new FanlightError("network", `${url}: ${messageOf(value)}`, "Try again.", true);
  if (!Array.isArray(value.choices)) throw new FanlightError("network", `${url} sent an event without choices`, WRONG_SERVER);
  return value as ChatChunk;
}

export async function json(response: Response, signal: AbortSignal): Promise<unknown> {
  let text: string;
  try {
    text = await response.text();
  } catch (error) {
    throw unreachable(new URL(response.url), error, signal);
  }
  try {
    const value = JSON.parse(text) as { choices?: unknown };
    if (Array.isArray(value.choices)) return value;
  } catch {
    // The error below covers this case.
  }
  throw new FanlightError("network", `${response.url} did not answer with a completion`, WRONG_SERVER);
}

/** Collects chunks, reports them as deltas, and makes a result of them. */
export class Gathered {
  text = "";
  readonly #onDelta: (delta: Delta) => void;
  readonly #begin: number;
  #first: number | undefined;
  #reasoning: string | null = null;
  #calls: { id: string; name: string; arguments: string }[] = [];
  #logprobs: TokenLogprob[] | undefined;
  #finish: ChatFinishReason | undefined;
  #usage: Partial<ChatUsage> | undefined;

  constructor(onDelta: (delta: Delta) => void, begin: number) {
    this.#onDelta = onDelta;
    this.#begin = begin;
  }

  take({ choices, usage }: ChatChunk): void {
    this.#usage = usage ?? this.#usage;
    const [choice] = choices;
    if (!choice) return;
    // Servers differ in the fields they leave out and in their name for the reasoning.
    const delta = (choice.delta ?? {}) as ChatChunk["choices"][0]["delta"] & { reasoning?: string | null };
    const reasoning = delta.reasoning_content ?? delta.reasoning;
    const text = delta.content ?? "";
    if (reasoning) this.#reasoning = (this.#reasoning ?? "") + reasoning;
    this.text += text;
    const logprobs = choice.logprobs?.content?.map(tokenOf) ?? [];
    if (logprobs.length > 0) (this.#logprobs ??= []).push(...logprobs);
    if (text || reasoning || delta.tool_calls?.length) this.#first ??= performance.now();
    if (text || reasoning) {
      this.#onDelta({ text, ...(reasoning && { reasoning }), ...(logprobs.length > 0 && { logprobs }) });
    }
    for (const { index, id, function: f } of delta.tool_calls ?? []) {
      // The next call begins, so the previous one is complete.
      if (!this.#calls[index]) this.#tell(index - 1);
      const call = (this.#calls[index] ??= { id: "", name: "", arguments: "" });
      if (id) call.id = id;
      if (f?.name) call.name = f.name;
      call.arguments += f?.arguments ?? "";
    }
    if (!choice.finish_reason) return;
    this.#finish = choice.finish_reason;
    this.#tell(this.#calls.length - 1);
  }

  result(stopped: boolean, located: Located[], images: ImageInfo[]): Result {
    const end = performance.now();
    const { prompt_tokens = 0, completion_tokens = 0, prompt_tokens_details: of } = this.#usage ?? {};
    const decodeMs = end - (this.#first ?? end);
    const finish = this.#finish === "content_filter" || this.#finish === undefined ? "stop" : this.#finish;
    return {
      text: this.text,
      reasoning: this.#reasoning,
      located,
      tokenIds: [],
      finishReason: stopped ? "abort" : finish,
      ...(this.#calls.length > 0 && !stopped && { toolCalls: this.#calls.map(callOf) }),
      ...(this.#logprobs && { logprobs: this.#logprobs }),
      usage: {
        promptTokens: prompt_tokens,
        imageTokens: of?.image_tokens ?? 0,
        videoTokens: of?.video_tokens ?? 0,
        completionTokens: completion_tokens,
        cachedTokens: of?.cached_tokens ?? 0,
      },
      timings: {
        imageMs: 0,
        prefillMs: 0,
        ttftMs: (this.#first ?? end) - this.#begin,
        decodeMs,
        decodeTps: decodeMs > 0 ? (1000 * Math.max(0, completion_tokens - 1)) / decodeMs : 0,
      },
      images,
      videos: [],
    };
  }

  #tell(index: number): void {
    const call = this.#calls[index];
    if (call) this.#onDelta({ text: "", toolCall: callOf(call) });
  }
}

function callOf({ id, name, arguments: text }: { id: string; name: string; arguments: string }): ToolCall {
  try {
    return { id, name, arguments: JSON.parse(text || "{}") as Record<string, unknown> };
  } catch {
    const message = `the server sent a call of ${name} whose arguments are not JSON: ${text.slice(0, 80)}`;
    throw new FanlightError("network", message, "Ask again.", true);
  }
}

const tokenOf = ({ token, bytes, logprob, top_logprobs }: ChatTokenLogprob): TokenLogprob => {
  const one = { token, bytes: bytes ?? [...new TextEncoder().encode(token)], logprob };
  // A server does not tell the ids of tokens.
  const top = (top_logprobs ?? []).map(({ token, bytes, logprob }) => ({ id: -1, token, bytes: bytes ?? [...new TextEncoder().encode(token)], logprob }));
  return { id: -1, ...one, top };
};
