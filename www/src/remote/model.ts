// A model on a server that speaks OpenAI's Chat Completions (vLLM, SGLang, llama.cpp, LM Studio, Ollama, OpenAI itself), with the
// interface of a model that runs in the browser, so that a page can move from one to the other.
//
// In this folder: building requests (request.ts), reading answers (answer.ts, sse.ts), and conversations, which the page keeps (session.ts).

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
import { moved, refused, unreachable } from "./faults.js";
import { inlined } from "./request.js";
import { RemoteSession } from "./session.js";

/** The address of a server, the name of a model there, and what the server needs to know. */
export interface ConnectOptions extends PixelLimits {
  /** The address to which `/chat/completions` is added, for example `https://example.com/v1`. */
  baseURL: string | URL;
  /** The server's name for the model. */
  model: string;
  /** Sent as `Authorization: Bearer …`, only to that address, and never stored. */
  apiKey?: string;
  /** Headers that are sent with every request. */
  headers?: Record<string, string>;
  /**
   * The model family: "qwen2_vl", "qwen2_5_vl" or "qwen3_vl". `located` and the tasks need it for their prompts and for the
   * unit of coordinates in answers. Default: guessed from the name of the model.
   *
   * For a family with coordinates in resized pixels (Qwen2.5-VL), `minPixels` and `maxPixels` must be the limits that the
   * server uses for pictures; by default those of the checkpoints on the Hub. Limits of a single picture are sent with it
   * as `min_pixels` and `max_pixels`, and the server is expected to apply them.
   */
  modelType?: string;
}

/** What is known about the model. */
export interface RemoteInfo {
  /** The server's name for the model. */
  model: string;
  /** The address of the server. */
  baseURL: string;
  /** The model family; empty if it is not known. */
  modelType: string;
  /** Always empty, because a server does not tell them. */
  taskPrompts: Record<string, string>;
}

/**
 * A model on a server. No request is sent before the model is used. If the server refuses a request, the error has the server's message.
 *
 * ```ts
 * const model = connect({ baseURL: "http://localhost:8000/v1", model: "Qwen/Qwen2.5-VL-7B-Instruct" });
 * const boxes = await model.detect(photo, "red button");
 * ```
 */
export function connect(options: ConnectOptions): RemoteModel {
  return new RemoteModel(options);
}

/** A model on a server, made by `connect`. */
export class RemoteModel implements Pick<Model, "chat" | "locate" | "document" | "detect" | "point" | "ocr" | "parseDocument" | "destroy"> {
  /** What is known about the model. */
  readonly info: RemoteInfo;
  /** The interface of OpenAI's client: `chat.completions.create({ messages })`. */
  readonly chat: { readonly completions: ChatCompletions };
  readonly #url: URL;
  readonly #headers: Record<string, string>;
  readonly #limits: PixelLimits;
  readonly #gone = new AbortController();
  #worker: WorkerLink | undefined;

  /** @internal */
  constructor({ baseURL, model, apiKey, headers = {}, modelType = familyOf(model), minPixels, maxPixels }: ConnectOptions) {
    const base = URL.parse(`${baseURL}`.replace(/\/*$/, "/"), document.baseURI);
    if (!base || !/^https?:$/.test(base.protocol)) throw new FanlightError("bad_request", `"${baseURL}" is not a valid address of a server`);
    this.#url = new URL("chat/completions", base);
    this.#headers = { ...headers, ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }) };
    this.#limits = { ...(minPixels !== undefined && { minPixels }), ...(maxPixels !== undefined && { maxPixels }) };
    this.info = { model, baseURL: base.href, modelType, taskPrompts: {} };
    const create = (request: ChatRequestBase, options?: ChatOptions) => this.#create(request, options);
    this.chat = { completions: { create: create as ChatCompletions["create"] } };
  }

  /** Starts a conversation. The page keeps the conversation and sends all of it with each request. */
  async session(options: SessionOptions = {}): Promise<RemoteSession> {
    return new RemoteSession(this, this.#gone.signal, options);
  }

  /** The places that a text of this model gives in these pictures. Like `Result.located`. */
  locate(text: string, pictures: Sizes[]): Promise<Located[]> {
    return this.#engine().call("locateFor", { modelType: this.info.modelType, text, pictures: pictures.map(sizes) });
  }

  /** The blocks of a document page that this model wrote as HTML. */
  document(html: string, picture: Sizes): Promise<Block[]> {
    return this.#engine().call("documentFor", { modelType: this.info.modelType, html, picture: sizes(picture) });
  }

  /** Finds every `what` in a picture and returns its box in pixels of the original picture. */
  detect(image: ImageSource, what: string, options?: TaskOptions): Promise<Box[]> {
    return tasks.detect(this, image, what, options);
  }

  /** Finds every `what` in a picture, like `detect`, and returns a point on each. */
  point(image: ImageSource, what: string, options?: TaskOptions): Promise<LabeledPoint[]> {
    return tasks.point(this, image, what, options);
  }

  /** Reads all text in a picture. */
  ocr(image: ImageSource, options?: TaskOptions): Promise<OcrResult> {
    return tasks.ocr(this, image, options);
  }

  /** Reads a page of a document and returns it as HTML and as blocks with their places. */
  parseDocument(image: ImageSource, options?: TaskOptions): Promise<DocumentResult> {
    return tasks.parseDocument(this, image, options);
  }

  /** Ends all answers that are being generated. Pending calls reject with code "aborted". */
  destroy(): void {
    this.#gone.abort();
    this.#worker?.close(aborted("the model was destroyed"));
  }

  /** The same as `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  /** @internal The size in which the server's model sees each picture. Empty if the model family is not known. */
  async sizes(images: Uint8Array[], limits: PixelLimits[]): Promise<ImageInfo[]> {
    const { modelType } = this.info;
    if (modelType === "" || images.length === 0) return [];
    return this.#engine().call("sizesFor", { modelType, images, limits: limits.map((own) => ({ ...this.#limits, ...own })) });
  }

  /** A worker that has no model loaded. It is used to read coordinates and documents in the server's answers. */
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
        // fetch would send the pictures and the headers to any host that the server names.
        redirect: "manual",
        signal,
      });
    } catch (error) {
      throw unreachable(this.#url, error, signal);
    }
    if (response.type === "opaqueredirect") throw moved(this.#url);
    if (!response.ok) throw await refused(this.#url, response);
    return response;
  }
}

/** The model family, from the server's name for the model, which may be that of a repository, file or tag: "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5vl:7b", "qwen3-vl-plus". */
function familyOf(model: string): string {
  const [, version] = /qwen[-_ ]?(2\.5|2|3)[-_ ]?vl/i.exec(model) ?? [];
  return version === undefined ? "" : `qwen${version.replace(".", "_")}_vl`;
}
