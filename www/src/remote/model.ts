// A model on a server that speaks OpenAI's Chat Completions (vLLM, SGLang, llama.cpp, LM Studio, Ollama, OpenAI itself), with the
// interface of one that runs here: for a page that begins on a server and moves into the browser, or the other way round.

import { orAborted } from "../shared/abort.js";
import { chatStream } from "../openai/chat-stream.js";
import { withParsed } from "../page/constraint.js";
import { FanlightError } from "../errors.js";
import { wrong } from "../openai/fields.js";
import { aborted, WorkerLink } from "../page/link.js";
import { imageBytes } from "../page/media.js";
import type {
  ChatChunk,
  ChatCompletion,
  ChatCompletions,
  ChatFinishReason,
  ChatOptions,
  ChatRequestBase,
  ChatStream,
  ChatTokenLogprob,
  ChatUsage,
} from "../openai/types.js";
import type { Session } from "../page/session.js";
import { eventData } from "./sse.js";
import { type Stream, streamed } from "../page/stream.js";
import * as tasks from "../page/tasks.js";
import { sizes, take, type Taken } from "../page/wire.js";
import type {
  Block,
  Box,
  Delta,
  DocumentResult,
  GenerateOptions,
  ImageInfo,
  ImageSource,
  LabeledPoint,
  Located,
  Message,
  OcrResult,
  Part,
  PixelLimits,
  Result,
  SessionOptions,
  Sizes,
  TaskOptions,
  TokenLogprob,
  Tool,
  ToolCall,
} from "../types.js";
import type { Model } from "../page/model.js";

/** Where a model is, and who asks. */
export interface ConnectOptions extends PixelLimits {
  /** What `/chat/completions` is added to: `https://example.com/v1`. */
  baseURL: string | URL;
  /** The server's name for it. */
  model: string;
  /** Sent as `Authorization: Bearer …` to that address alone, and never stored. */
  apiKey?: string;
  /** Sent with every request. */
  headers?: Record<string, string>;
  /**
   * "qwen2_vl", "qwen2_5_vl" or "qwen3_vl", for `located` and the tasks: what is asked, and the unit of what comes back. Told
   * from the model's name if not given. `minPixels` and `maxPixels` are then the server's own limits of a picture, on which the
   * unit of Qwen2.5-VL depends; not given, those of its checkpoints on the Hub. Those of a single picture are sent as
   * `min_pixels` and `max_pixels` beside it, and taken to be heeded.
   */
  modelType?: string;
}

/** What is known of it. */
export interface RemoteInfo {
  /** The server's name for it. */
  model: string;
  /** Where the server is. */
  baseURL: string;
  /** Empty for a model of no family that is known here. */
  modelType: string;
  /** None: a server does not say. */
  taskPrompts: Record<string, string>;
}

/**
 * A model on a server. Nothing is asked until it is used. What the server cannot do is its own error, in its own words.
 *
 * ```ts
 * const model = connect({ baseURL: "http://localhost:8000/v1", model: "Qwen/Qwen2.5-VL-7B-Instruct" });
 * const boxes = await model.detect(photo, "red button");
 * ```
 */
export function connect(options: ConnectOptions): RemoteModel {
  return new RemoteModel(options);
}

/** A model on a server, from `connect`. */
export class RemoteModel implements Pick<Model, "chat" | "locate" | "document" | "detect" | "point" | "ocr" | "parseDocument" | "destroy"> {
  /** What is known of it. */
  readonly info: RemoteInfo;
  /** OpenAI's way to ask: `chat.completions.create({ messages })`. */
  readonly chat: { readonly completions: ChatCompletions };
  readonly #url: URL;
  readonly #headers: Record<string, string>;
  readonly #limits: PixelLimits;
  readonly #gone = new AbortController();
  #worker: WorkerLink | undefined;

  /** @internal */
  constructor({ baseURL, model, apiKey, headers = {}, modelType = familyOf(model), minPixels, maxPixels }: ConnectOptions) {
    const base = URL.parse(`${baseURL}`.replace(/\/*$/, "/"), document.baseURI);
    if (!base || !/^https?:$/.test(base.protocol)) throw new FanlightError("bad_request", `"${baseURL}" is no address of a server`);
    this.#url = new URL("chat/completions", base);
    this.#headers = { ...headers, ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }) };
    this.#limits = { ...(minPixels !== undefined && { minPixels }), ...(maxPixels !== undefined && { maxPixels }) };
    this.info = { model, baseURL: base.href, modelType, taskPrompts: {} };
    const create = (request: ChatRequestBase, options?: ChatOptions) => this.#create(request, options);
    this.chat = { completions: { create: create as ChatCompletions["create"] } };
  }

  /** Starts a conversation. It is kept here, and sent as a whole each time. */
  async session(options: SessionOptions = {}): Promise<RemoteSession> {
    return new RemoteSession(this, this.#gone.signal, options);
  }

  /** What a text of this model locates in these pictures, as a result's `located`. */
  locate(text: string, pictures: Sizes[]): Promise<Located[]> {
    return this.#engine().call("locateFor", { modelType: this.info.modelType, text, pictures: pictures.map(sizes) });
  }

  /** The blocks of a page that this model wrote as HTML. */
  document(html: string, picture: Sizes): Promise<Block[]> {
    return this.#engine().call("documentFor", { modelType: this.info.modelType, html, picture: sizes(picture) });
  }

  /** Every `what` in a picture, with its box in the picture's own pixels. */
  detect(image: ImageSource, what: string, options?: TaskOptions): Promise<Box[]> {
    return tasks.detect(this, image, what, options);
  }

  /** As `detect`, a point on each. */
  point(image: ImageSource, what: string, options?: TaskOptions): Promise<LabeledPoint[]> {
    return tasks.point(this, image, what, options);
  }

  /** Reads all text of a picture. */
  ocr(image: ImageSource, options?: TaskOptions): Promise<OcrResult> {
    return tasks.ocr(this, image, options);
  }

  /** A page as HTML and as its blocks with their places. */
  parseDocument(image: ImageSource, options?: TaskOptions): Promise<DocumentResult> {
    return tasks.parseDocument(this, image, options);
  }

  /** Ends what is being answered. Whatever is pending rejects with code "aborted". */
  destroy(): void {
    this.#gone.abort();
    this.#worker?.close(aborted("the model was destroyed"));
  }

  /** `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  /** @internal How large the server sees these pictures; none where that is not known. */
  async sizes(images: Uint8Array[], limits: PixelLimits[]): Promise<ImageInfo[]> {
    const { modelType } = this.info;
    if (modelType === "" || images.length === 0) return [];
    return this.#engine().call("sizesFor", { modelType, images, limits: limits.map((own) => ({ ...this.#limits, ...own })) });
  }

  /** A worker without a model: it knows how families write places. */
  #engine(): WorkerLink {
    if (this.#gone.signal.aborted) throw aborted("the model was destroyed");
    this.#worker ??= new WorkerLink();
    return this.#worker;
  }

  async #create(request: ChatRequestBase, { signal }: ChatOptions = {}): Promise<ChatCompletion | ChatStream> {
    if (!Array.isArray(request?.messages)) throw wrong("messages", "a list", request?.messages);
    const controller = new AbortController();
    const stop = () => controller.abort();
    const signals = [controller.signal, this.#gone.signal, ...(signal ? [signal] : [])];
    const joined = AbortSignal.any(signals);
    const messages = await orAborted(Promise.all(request.messages.map(inlined)), joined, "the request was aborted");
    const response = await this.#post({ ...request, model: request.model ?? this.info.model, messages }, joined);
    if (!request.stream) return (await json(response, joined)) as ChatCompletion;
    joined.addEventListener("abort", stop, { once: true });
    return chatStream(chunks(response, joined), controller);
  }

  async #post(body: unknown, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.#url, {
        method: "POST",
        headers: { "content-type": "application/json", ...this.#headers },
        body: JSON.stringify(body),
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal,
      });
    } catch (error) {
      throw unreachable(this.#url, error, signal);
    }
    if (!response.ok) throw await refused(this.#url, response);
    return response;
  }
}

/** A conversation with a model on a server. */
export class RemoteSession implements Pick<Session, "prompt" | "promptStreaming" | "destroy"> {
  readonly #model: RemoteModel;
  readonly #tools: Tool[];
  readonly #destroyed = new AbortController();
  readonly #gone: AbortSignal;
  #said: (Message | Taken)[];
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(model: RemoteModel, gone: AbortSignal, { messages = [], tools = [], addVisionId }: SessionOptions) {
    if (addVisionId) throw new FanlightError("unsupported", "addVisionId is not something that a server can be told");
    this.#model = model;
    this.#gone = gone;
    this.#said = messages;
    this.#tools = tools;
  }

  /** Adds to the conversation and answers. */
  async prompt(input: string | Message[], options: GenerateOptions = {}): Promise<Result> {
    return this.promptStreaming(input, options).result;
  }

  /** As `prompt`, and the text arrives as it is written. Leaving the loop early ends the answer. */
  promptStreaming(input: string | Message[], options: GenerateOptions = {}): Stream {
    const turn = take(input);
    const ends = AbortSignal.any([this.#gone, this.#destroyed.signal, ...(options.signal ? [options.signal] : [])]);
    const stream = streamed(ends, (signal, onDelta) =>
      this.#last.then(() => this.#answer(turn, { ...options, signal }, onDelta)),
    );
    this.#last = stream.result.catch(() => {});
    return stream;
  }

  /** Forgets the conversation. An answer that is being written ends. */
  destroy(): void {
    this.#destroyed.abort();
  }

  /** `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  async #answer(turn: Taken[], options: GenerateOptions & { signal: AbortSignal }, onDelta: (delta: Delta) => void): Promise<Result> {
    if (this.#gone.aborted || this.#destroyed.signal.aborted) throw aborted("this session was destroyed");
    const begin = performance.now();
    const { signal } = options;
    const all = [...this.#said, ...turn];
    const { messages, images, limits } = await orAborted(outgoing(all), signal, "this was aborted while pictures and videos were read");
    const request = { ...requestOf(options, this.#tools), messages, stream: true, stream_options: { include_usage: true } };
    const gathered = new Gathered(onDelta, begin);
    try {
      const stream = await this.#model.chat.completions.create(request as ChatRequestBase & { stream: true }, { signal });
      for await (const chunk of stream) gathered.take(chunk);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    if (this.#gone.aborted) throw aborted("the model was destroyed");
    const sizes = await this.#model.sizes(images, limits);
    const { text } = gathered;
    const located = sizes.length > 0 ? await this.#model.locate(text, sizes) : [];
    const result = gathered.result(signal.aborted, located, sizes.slice(sizes.length - picturesOf(turn)));
    const { reasoning, toolCalls } = result;
    const answer: Message = { role: "assistant", content: text, ...(reasoning !== null && { reasoning }), ...(toolCalls && { toolCalls }) };
    this.#said = [...all, answer];
    return withParsed(result, options.responseConstraint);
  }
}

/** Puts chunks together to a result. */
class Gathered {
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
    // Servers differ in what they leave out, and in how they call what a model thinks.
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
      // Another one begins: the one before is whole.
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
    const message = `the server's call of ${name} has arguments that are no JSON: ${text.slice(0, 80)}`;
    throw new FanlightError("network", message, "Ask again.", true);
  }
}

const tokenOf = ({ token, bytes, logprob, top_logprobs }: ChatTokenLogprob): TokenLogprob => {
  const one = { token, bytes: bytes ?? [...new TextEncoder().encode(token)], logprob };
  // A server does not say which ids they have.
  const top = (top_logprobs ?? []).map(({ token, bytes, logprob }) => ({ id: -1, token, bytes: bytes ?? [...new TextEncoder().encode(token)], logprob }));
  return { id: -1, ...one, top };
};

// ── What is sent ────────────────────────────────────────────────────────────────────────────────────────────────────

function requestOf(options: GenerateOptions, tools: Tool[]): Omit<ChatRequestBase, "messages"> {
  const { responseConstraint: constraint, logprobs, toolChoice } = options;
  if (constraint instanceof RegExp || (constraint && "lark" in constraint)) {
    throw new FanlightError("unsupported", "a server takes a JSON schema as constraint, and no expression or grammar");
  }
  const request = {
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    repetition_penalty: options.repetitionPenalty,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    logit_bias: options.logitBias,
    seed: options.seed,
    stop: options.stop,
    ...(logprobs !== undefined && { logprobs: true, top_logprobs: logprobs }),
    response_format: constraint && { type: "json_schema", json_schema: { name: "answer", strict: true, schema: constraint } },
    ...(tools.length > 0 && { tools, tool_choice: toolChoice }),
  };
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
}

/** Messages as OpenAI has them, and the pictures in them. */
async function outgoing(messages: (Message | Taken)[]) {
  const images: Uint8Array[] = [];
  const limits: PixelLimits[] = [];
  const sent: unknown[] = [];
  const partOf = async (part: Part | Exclude<Taken["content"], string>[number]): Promise<unknown> => {
    if (part.type === "text") return part;
    if (part.type === "video") return { type: "video_url", video_url: { url: await videoUrl(part.video) }, ...(part.fps !== undefined && { fps: part.fps }) };
    if (part.resizedWidth !== undefined || part.resizedHeight !== undefined) {
      throw new FanlightError("unsupported", "a server cannot be told an exact size of a picture", "Use minPixels and maxPixels.");
    }
    const bytes = await asSent(part.image);
    const { minPixels, maxPixels } = part;
    images.push(bytes);
    limits.push({ ...(minPixels !== undefined && { minPixels }), ...(maxPixels !== undefined && { maxPixels }) });
    return {
      type: "image_url",
      image_url: { url: dataUrl(bytes, imageType(bytes)) },
      ...(minPixels !== undefined && { min_pixels: minPixels }),
      ...(maxPixels !== undefined && { max_pixels: maxPixels }),
    };
  };
  for (const { role, content, reasoning, toolCalls, toolCallId, prefix } of messages) {
    const parts: unknown[] = [];
    // In order, since pictures are numbered in it.
    if (typeof content !== "string") for (const part of content) parts.push(await partOf(part));
    const calls = toolCalls?.map(({ id, name, arguments: args }) => ({ id, type: "function", function: { name, arguments: JSON.stringify(args) } }));
    sent.push({
      role,
      content: typeof content === "string" ? content : parts,
      ...(reasoning !== undefined && { reasoning_content: reasoning }),
      ...(calls && { tool_calls: calls }),
      ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
      ...(prefix && { prefix }),
    });
  }
  return { messages: sent as ChatRequestBase["messages"], images, limits };
}

const picturesOf = (messages: Taken[]): number =>
  messages.reduce((sum, { content }) => sum + (typeof content === "string" ? 0 : content.filter(({ type }) => type === "image").length), 0);

/** A message of a request with everything that only this page can read as data URLs. */
async function inlined(message: ChatRequestBase["messages"][number]): Promise<unknown> {
  if (!Array.isArray(message.content)) return message;
  const content = message.content.map(async (part) => {
    if (part.type === "image_url") {
      const { url } = part.image_url;
      return isPublic(url) ? part : { ...part, image_url: { ...part.image_url, url: await imageUrl(url) } };
    }
    if (part.type === "image") {
      const { type: _, image, ...rest } = part;
      return { ...rest, type: "image_url", image_url: { url: isPublic(image) ? image : await imageUrl(image) } };
    }
    if (part.type === "video_url") return { ...part, video_url: { url: await videoUrl(part.video_url.url) } };
    if (part.type !== "video") return part;
    const { type: _, video, ...rest } = part;
    return { ...rest, type: "video_url", video_url: { url: await videoUrl(video) } };
  });
  return { ...message, content: await Promise.all(content) };
}

/** An address that a server can read as well. */
const isPublic = (url: unknown): url is string | URL => /^(https?|data):/i.test(String(url instanceof URL || typeof url === "string" ? url : ""));

async function imageUrl(source: ImageSource): Promise<string> {
  const bytes = await asSent(source);
  return dataUrl(bytes, imageType(bytes));
}

async function videoUrl(video: unknown): Promise<string> {
  if (isPublic(video)) return String(video);
  if (video instanceof Blob) return dataUrl(new Uint8Array(await video.arrayBuffer()), video.type || "video/mp4");
  throw new FanlightError("unsupported", "a server takes a video as a file or as an address", "Give a Blob or an https URL.");
}

/** A picture's file in a format that every server takes: pixels without a file behind them come as a BMP, and go as a PNG. */
async function asSent(source: ImageSource | Promise<Uint8Array>): Promise<Uint8Array> {
  const bytes = await imageBytes(source);
  if (bytes[0] !== 0x42 || bytes[1] !== 0x4d) return bytes;
  const options: ImageBitmapOptions = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes as BlobPart], { type: "image/bmp" }), options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  return new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
}

function imageType(bytes: Uint8Array): string {
  const begins = (...values: number[]) => values.every((value, i) => bytes[i] === value);
  if (begins(0x89, 0x50)) return "image/png";
  if (begins(0xff, 0xd8)) return "image/jpeg";
  if (begins(0x47, 0x49)) return "image/gif";
  return begins(0x52, 0x49, 0x46, 0x46) ? "image/webp" : "application/octet-stream";
}

function dataUrl(bytes: Uint8Array, type: string): string {
  // In pieces: a call takes only so many arguments. A multiple of 3, so that no piece is padded.
  const step = 3 * 8192;
  let text = "";
  for (let at = 0; at < bytes.length; at += step) text += btoa(String.fromCharCode(...bytes.subarray(at, at + step)));
  return `data:${type};base64,${text}`;
}

// ── What comes back ─────────────────────────────────────────────────────────────────────────────────────────────────

async function* chunks(response: Response, signal: AbortSignal): AsyncGenerator<ChatChunk> {
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
  // Not every server says that it is done.
  if (!finished) throw new FanlightError("network", `${response.url} broke off in the middle of the answer`, "Try again.", true);
}

function parsedChunk(data: string, url: string): ChatChunk {
  let value: Partial<ChatChunk> & { error?: unknown };
  try {
    value = JSON.parse(data) as typeof value;
  } catch {
    throw new FanlightError("network", `${url} sent something that is no JSON: ${data.slice(0, 80)}`, WRONG_SERVER);
  }
  if (value.error) throw new FanlightError("network", `${url}: ${messageOf(value)}`, "Try again.", true);
  if (!Array.isArray(value.choices)) throw new FanlightError("network", `${url} sent an event without choices`, WRONG_SERVER);
  return value as ChatChunk;
}

async function json(response: Response, signal: AbortSignal): Promise<unknown> {
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
    // Said below.
  }
  throw new FanlightError("network", `${response.url} did not answer with a completion`, WRONG_SERVER);
}

const WRONG_SERVER = "Check baseURL: it must be a server that speaks OpenAI's Chat Completions.";

function unreachable(url: URL, error: unknown, signal: AbortSignal): FanlightError {
  if (signal.aborted) return aborted("the request was aborted");
  const what = `${url.origin} could not be reached (${String(error)})`;
  if (url.origin === location.origin || !navigator.onLine) return new FanlightError("network", what, "Check the connection.", true);
  const hint = "The server must be running and send Access-Control-Allow-Origin, also for the header Authorization.";
  return new FanlightError("cors", what, hint, true);
}

/** What a server says of itself is part of the message: it knows best. */
async function refused(url: URL, response: Response): Promise<FanlightError> {
  const { status } = response;
  const text = await response.text().catch(() => "");
  const said = messageOf(safely(text)) || text.slice(0, 200);
  const message = `${url} answered ${status}${said ? `: ${said}` : ""}`;
  if (status === 401 || status === 403) return new FanlightError("auth", message, "Check apiKey, and what it may use.");
  if (status === 404) return new FanlightError("not_found", message, "Check baseURL and the name of the model.");
  if (status === 429) return new FanlightError("network", message, "The server has had enough for now; try again later.", true);
  if (status === 408 || status >= 500) return new FanlightError("network", message, "The server has a fault; try again later.", true);
  if (/context[ _]length|maximum context|too many tokens/i.test(said)) {
    return new FanlightError("context_full", message, "Ask with fewer or smaller pictures, or begin a new conversation.");
  }
  return new FanlightError("bad_request", message, "The message is the server's.");
}

function safely(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** `{error: {message}}`, `{error: "…"}`, `{message}` or FastAPI's `{detail}`. */
function messageOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "";
  const { error, message, detail } = value as Record<string, unknown>;
  return messageOf(error) || messageOf(message) || messageOf(detail);
}

/** Servers call them by their repositories, files or tags: "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5vl:7b", "qwen3-vl-plus". */
function familyOf(model: string): string {
  const [, version] = /qwen[-_ ]?(2\.5|2|3)[-_ ]?vl/i.exec(model) ?? [];
  return version === undefined ? "" : `qwen${version.replace(".", "_")}_vl`;
}
