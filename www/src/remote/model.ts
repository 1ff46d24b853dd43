// A model on a server that speaks OpenAI's Chat Completions (vLLM, SGLang, llama.cpp, LM Studio, Ollama, OpenAI itself), with the
// interface of one that runs here: for a page that begins on a server and moves into the browser, or the other way round.
//
// This folder is all of that: what is sent (request.ts), what comes back (answer.ts), and conversations that are kept here.

import { FanlightError } from "../errors.js";
import { chatStream } from "../openai/chat-stream.js";
import { wrong } from "../openai/fields.js";
import type { ChatCompletion, ChatCompletions, ChatOptions, ChatRequestBase, ChatStream } from "../openai/types.js";
import { WorkerLink } from "../page/link.js";
import type { Model } from "../page/model.js";
import * as tasks from "../page/tasks.js";
import { sizes } from "../page/wire.js";
import { aborted, orAborted } from "../shared/abort.js";
import type {
  Block,
  Box,
  DocumentResult,
  ImageInfo,
  ImageSource,
  LabeledPoint,
  Located,
  OcrResult,
  PixelLimits,
  SessionOptions,
  Sizes,
  TaskOptions,
} from "../types.js";
import { chunks, json } from "./answer.js";
import { refused, unreachable } from "./faults.js";
import { inlined } from "./request.js";
import { RemoteSession } from "./session.js";

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

/** Servers call them by their repositories, files or tags: "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5vl:7b", "qwen3-vl-plus". */
function familyOf(model: string): string {
  const [, version] = /qwen[-_ ]?(2\.5|2|3)[-_ ]?vl/i.exec(model) ?? [];
  return version === undefined ? "" : `qwen${version.replace(".", "_")}_vl`;
}
