// Reads a server's answer: the chunks of a stream, or one whole completion. `Gathered` makes a result of the chunks.

import { FanlightError } from "../errors.js";
import type { ChatChunk, ChatFinishReason, ChatTokenLogprob, ChatUsage } from "../openai/types.js";
import { shortened, shown } from "../shared/address.js";
import type { Delta, ImageInfo, Located, Result, TokenLogprob, ToolCall } from "../types.js";
import { messageOf, unreachable, WRONG_SERVER } from "./faults.js";
import { eventData } from "./sse.js";

export async function* chunks(response: Response, signal: AbortSignal): AsyncGenerator<ChatChunk> {
  const { body } = response;
  if (!body) throw new FanlightError("network", `${shown(response.url)} sent no answer`, "Try again.", true);
  let finished = false;
  try {
    for await (const data of eventData(body, MOST_BYTES, () => tooLong(response.url))) {
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
  if (!finished) throw new FanlightError("network", `${shown(response.url)} stopped sending in the middle of the answer`, "Try again.", true);
}

function parsedChunk(data: string, url: string): ChatChunk {
  let value: Partial<ChatChunk> & { error?: unknown };
  try {
    value = JSON.parse(data) as typeof value;
  } catch {
    throw new FanlightError("network", `${shown(url)} sent something that is not JSON: ${data.slice(0, 80)}`, WRONG_SERVER);
  }
  if (value.error) throw new FanlightError("network", `${shown(url)}: ${messageOf(value)}`, "Try again.", true);
  if (!areChoices(value.choices)) throw new FanlightError("network", `${shown(url)} sent an event without choices`, WRONG_SERVER);
  return value as ChatChunk;
}

/** A server may send anything. What is a list of objects can be read, field by field. */
const areChoices = (value: unknown): boolean => Array.isArray(value) && value.every((choice) => typeof choice === "object" && choice !== null);

/** The most bytes of an answer, and of one event of it. */
export const MOST_BYTES = 64 << 20;

export async function json(response: Response, signal: AbortSignal): Promise<unknown> {
  let text: string;
  try {
    text = await limited(response, MOST_BYTES);
  } catch (error) {
    if (error instanceof FanlightError) throw error;
    throw unreachable(new URL(response.url), error, signal);
  }
  try {
    const value = JSON.parse(text) as { choices?: unknown };
    if (areChoices(value.choices)) return value;
  } catch {
    // The error below covers this case.
  }
  throw new FanlightError("network", `${shown(response.url)} did not answer with a completion`, WRONG_SERVER);
}

/** The text of a body that is not longer than this. */
export async function limited(response: Response, most: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  const reader = response.body?.getReader();
  if (!reader) return text;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return text + decoder.decode();
      bytes += value.length;
      if (bytes > most) throw tooLong(response.url);
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const tooLong = (url: string): FanlightError =>
  new FanlightError("network", `${shown(url)} sent more than ${MOST_BYTES >> 20} MiB in one answer`, WRONG_SERVER);

/** Collects chunks, reports them as deltas, and makes a result of them. */
export class Gathered {
  text = "";
  readonly #onDelta: (delta: Delta) => void;
  readonly #begin: number;
  #first: number | undefined;
  #reasoning: string | null = null;
  /** By the server's number of each call. The numbers are the server's words, so they are no indices of ours. */
  readonly #calls = new Map<number, Call>();
  #latest: Call | undefined;
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
    const reasoning = textOf(delta.reasoning_content) ?? textOf(delta.reasoning);
    const text = textOf(delta.content) ?? "";
    if (reasoning) this.#reasoning = (this.#reasoning ?? "") + reasoning;
    this.text += text;
    const logprobs = listOf(choice.logprobs?.content).map(tokenOf);
    if (logprobs.length > 0) (this.#logprobs ??= []).push(...logprobs);
    const calls = listOf(delta.tool_calls);
    if (text || reasoning || calls.length > 0) this.#first ??= performance.now();
    if (text || reasoning) {
      this.#onDelta({ text, ...(reasoning && { reasoning }), ...(logprobs.length > 0 && { logprobs }) });
    }
    for (const { index, id, function: f } of calls) {
      if (!Number.isInteger(index) || index < 0 || index >= MOST_CALLS) {
        const message = `the server numbered a tool call ${shortened(String(index))}, which is not a whole number below ${MOST_CALLS}`;
        throw new FanlightError("network", message, WRONG_SERVER);
      }
      let call = this.#calls.get(index);
      if (!call) {
        // The next call begins, so the previous one is complete.
        this.#tell();
        this.#calls.set(index, (call = { id: "", name: "", arguments: "" }));
        this.#latest = call;
      }
      call.id = textOf(id) || call.id;
      call.name = textOf(f?.name) || call.name;
      call.arguments += textOf(f?.arguments) ?? "";
    }
    if (!choice.finish_reason) return;
    this.#finish = choice.finish_reason;
    this.#tell();
  }

  result(stopped: boolean, located: Located[], images: ImageInfo[]): Result {
    const end = performance.now();
    const { prompt_tokens, completion_tokens, prompt_tokens_details: of } = this.#usage ?? {};
    const completionTokens = countOf(completion_tokens);
    const decodeMs = end - (this.#first ?? end);
    const finish = this.#finish === "length" || this.#finish === "tool_calls" ? this.#finish : "stop";
    return {
      text: this.text,
      reasoning: this.#reasoning,
      located,
      tokenIds: [],
      finishReason: stopped ? "abort" : finish,
      ...(this.#calls.size > 0 && !stopped && { toolCalls: [...this.#calls.values()].map(callOf) }),
      ...(this.#logprobs && { logprobs: this.#logprobs }),
      usage: {
        promptTokens: countOf(prompt_tokens),
        imageTokens: countOf(of?.image_tokens),
        videoTokens: countOf(of?.video_tokens),
        completionTokens,
        cachedTokens: countOf(of?.cached_tokens),
      },
      timings: {
        imageMs: 0,
        prefillMs: 0,
        ttftMs: (this.#first ?? end) - this.#begin,
        decodeMs,
        decodeTps: decodeMs > 0 ? (1000 * Math.max(0, completionTokens - 1)) / decodeMs : 0,
      },
      images,
      videos: [],
    };
  }

  /** Reports the call that was written last, once. */
  #tell(): void {
    const call = this.#latest;
    this.#latest = undefined;
    if (call) this.#onDelta({ text: "", toolCall: callOf(call) });
  }
}

/** The most calls of one answer: a server's number for a call is below this. */
const MOST_CALLS = 128;

interface Call {
  id: string;
  name: string;
  arguments: string;
}

// A server may leave out any field, or send something else in it.
const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const countOf = (value: unknown): number => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const listOf = <T>(value: T[] | null | undefined): T[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null) : [];

function callOf({ id, name, arguments: text }: Call): ToolCall {
  let value: unknown;
  try {
    value = JSON.parse(text || "{}");
  } catch {
    value = undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const message = `the server sent a call of ${shortened(name)} whose arguments are not JSON of an object: ${text.slice(0, 80)}`;
    throw new FanlightError("network", message, "Ask again.", true);
  }
  return { id, name, arguments: value as Record<string, unknown>, ...(text && { argumentsText: text }) };
}

const tokenOf = ({ token, bytes, logprob, top_logprobs }: ChatTokenLogprob): TokenLogprob => {
  // A server does not tell the ids of tokens.
  const one = (token: unknown, bytes: unknown, logprob: unknown) => {
    const text = textOf(token) ?? "";
    return { id: -1, token: text, bytes: Array.isArray(bytes) ? (bytes as number[]) : [...new TextEncoder().encode(text)], logprob: countOf(logprob) };
  };
  return { ...one(token, bytes, logprob), top: listOf(top_logprobs).map((other) => one(other.token, other.bytes, other.logprob)) };
};
