// A conversation with a model on a server. The page keeps it and sends all of it with each request.

import { FanlightError } from "../errors.js";
import type { ChatCompletions, ChatRequestBase } from "../openai/types.js";
import { withParsed } from "../page/constraint.js";
import type { Session } from "../page/session.js";
import { streamed } from "../page/stream.js";
import { take, type Taken } from "../page/wire.js";
import { aborted, orAborted } from "../shared/abort.js";
import type {
  Delta,
  GenerateOptions,
  ImageInfo,
  Located,
  Message,
  PixelLimits,
  Result,
  SessionOptions,
  Sizes,
  Stream,
  Tool,
} from "../types.js";
import { Gathered } from "./answer.js";
import { outgoing, requestOf } from "./request.js";

/** What a conversation needs from its model. */
export interface Server {
  readonly chat: { readonly completions: ChatCompletions };
  /** The size in which the server's model sees each picture. Empty if the model family is not known. */
  sizes(images: Uint8Array[], limits: PixelLimits[]): Promise<ImageInfo[]>;
  locate(text: string, pictures: Sizes[]): Promise<Located[]>;
}

/** A conversation with a model on a server. */
export class RemoteSession implements Pick<Session, "prompt" | "promptStreaming" | "destroy"> {
  readonly #server: Server;
  readonly #tools: Tool[];
  readonly #destroyed = new AbortController();
  readonly #gone: AbortSignal;
  #said: (Message | Taken)[];
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(server: Server, gone: AbortSignal, { messages = [], tools = [], addVisionId }: SessionOptions) {
    if (addVisionId) throw new FanlightError("unsupported", "addVisionId is not possible with a model on a server");
    this.#server = server;
    this.#gone = gone;
    this.#said = messages;
    this.#tools = tools;
  }

  /** Adds a message to the conversation and answers it. */
  async prompt(input: string | Message[], options: GenerateOptions = {}): Promise<Result> {
    return this.promptStreaming(input, options).result;
  }

  /** Like `prompt`, but the text can be read while it is generated. Leaving the loop early ends the answer. */
  promptStreaming(input: string | Message[], options: GenerateOptions = {}): Stream {
    const turn = take(input);
    const ends = AbortSignal.any([this.#gone, this.#destroyed.signal, ...(options.signal ? [options.signal] : [])]);
    const stream = streamed(ends, (signal, onDelta) =>
      this.#last.then(() => this.#answer(turn, { ...options, signal }, onDelta)),
    );
    this.#last = stream.result.catch(() => {});
    return stream;
  }

  /** Forgets the conversation. An answer that is being generated ends. */
  destroy(): void {
    this.#destroyed.abort();
  }

  /** The same as `destroy()`, for `using`. */
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
      const stream = await this.#server.chat.completions.create(request as ChatRequestBase & { stream: true }, { signal });
      for await (const chunk of stream) gathered.take(chunk);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    if (this.#gone.aborted) throw aborted("the model was destroyed");
    const sizes = await this.#server.sizes(images, limits);
    const { text } = gathered;
    const located = sizes.length > 0 ? await this.#server.locate(text, sizes) : [];
    const result = gathered.result(signal.aborted, located, sizes.slice(sizes.length - picturesOf(turn)));
    const { reasoning, toolCalls } = result;
    const answer: Message = { role: "assistant", content: text, ...(reasoning !== null && { reasoning }), ...(toolCalls && { toolCalls }) };
    this.#said = [...all, answer];
    return withParsed(result, options.responseConstraint);
  }
}

const picturesOf = (messages: Taken[]): number =>
  messages.reduce((sum, { content }) => sum + (typeof content === "string" ? 0 : content.filter(({ type }) => type === "image").length), 0);
