// All messages between the page and its worker.

import type { ErrorFields } from "./errors.js";
import type {
  Block,
  Delta,
  EventInfo,
  GenerateOptions,
  ImageInfo,
  JsonSchema,
  Keeping,
  KvCacheFormat,
  Located,
  MemoryPlan,
  Message,
  ModelEvent,
  ModelInfo,
  PixelLimits,
  Plan,
  Progress,
  Result,
  Sizes,
  Tool,
  VideoEvent,
  VideoOptions,
} from "./types.js";

/** Every call: what the page sends, the result, and the events that may arrive before it. */
export interface Calls {
  load: {
    args: LoadArgs;
    result: ModelInfo;
    event: Progress;
  };
  estimate: {
    args: LoadArgs;
    result: MemoryPlan;
    event: Progress;
  };
  session: { args: { addVisionId: boolean }; result: number; event: never };
  prompt: { args: { session: number; options: PromptOptions } & WireTurn; result: Result; event: Delta };
  plan: { args: { session: number; options: PromptOptions } & WireTurn; result: Plan; event: never };
  /** Resolves with the number of tokens in the conversation. */
  append: { args: { session: number; options: PromptOptions } & WireTurn; result: number; event: never };
  clone: { args: { session: number }; result: number; event: never };
  locate: { args: { text: string; pictures: Sizes[] }; result: Located[]; event: never };
  document: { args: { html: string; picture: Sizes }; result: Block[]; event: never };
  /** The next three calls are for a model that runs on a server: the engine only reads what that model wrote. */
  sizesFor: { args: { modelType: string; images: Uint8Array[]; limits: PixelLimits[] }; result: ImageInfo[]; event: never };
  locateFor: { args: { modelType: string; text: string; pictures: Sizes[] }; result: Located[]; event: never };
  documentFor: { args: { modelType: string; html: string; picture: Sizes }; result: Block[]; event: never };
  events: { args: { text: string }; result: VideoEvent[]; event: never };
  release: { args: { session: number }; result: null; event: never };
}

export interface LoadArgs {
  place: Place;
  cache: Keeping;
  timeoutMs: number;
  options: EngineOptions;
  /** The address of the engine's wasm, or the module itself. Default: the file next to the worker's script. */
  wasm?: string | WebAssembly.Module;
}

/** Where a checkpoint's files are. */
export type Place =
  | { kind: "hub"; id: RepoId; token?: string | undefined }
  | { kind: "url"; base: string }
  /** Absolute addresses by file name. */
  | { kind: "listed"; files: Record<string, string> }
  | { kind: "files"; files: File[] }
  | { kind: "folder"; folder: FileSystemDirectoryHandle };

/** A repository on the Hub, or on a server with the same paths. */
export interface RepoId {
  /** The server's origin and, for a mirror, its path. Ends in "/". */
  endpoint: string;
  /** `ORG/NAME`, or only `NAME` for the oldest repositories. */
  repo: string;
  revision: string;
}

/**
 * The engine's options for loading. `gguf` and `mmproj` are files in the folder; `weights` is in the engine's own notation.
 */
export interface EngineOptions extends PixelLimits {
  contextLength?: number;
  memory?: number | undefined;
  weights?: string | undefined;
  kvCache?: KvCacheFormat | undefined;
  gguf?: string | undefined;
  mmproj?: string | undefined;
}

/** A constraint in a form that can be sent: a regular expression becomes its source and flags. */
export type WireConstraint = { jsonSchema: JsonSchema } | { regex: string; flags: string } | { lark: string };

/** The options of one prompt. */
export type PromptOptions = Omit<GenerateOptions, "signal" | "responseConstraint"> & {
  responseConstraint?: WireConstraint;
  tools?: Tool[];
  /** The messages replace the conversation. What both have in common is not computed again. */
  replace?: true;
};

/** Messages, with the pictures and videos to which they refer by index. */
export interface WireTurn {
  messages: WireMessage[];
  images: Uint8Array[];
  videos: WireVideo[];
}

/** A message whose pictures and videos are indices into `images` and `videos` of the `WireTurn`. */
export interface WireMessage extends Omit<Message, "content" | "toolCalls"> {
  /** The arguments are an object, or JSON as the model wrote it. */
  toolCalls?: { id: string; name: string; arguments: Record<string, unknown> | string }[];
  content:
    | string
    | (
        | { type: "text"; text: string }
        | ({ type: "image"; image: number } & object)
        | ({ type: "video"; video: number } & VideoOptions)
      )[];
}

/** A video on its way to the worker. A `port` gives frames that only the page can read; see `FrameRequest`. */
export interface WireVideo {
  options: VideoOptions;
  source:
    | { kind: "file"; file: Blob }
    /** `port`: a `<video>` element that plays this address, in case the worker cannot read it. */
    | { kind: "url"; url: string; port?: MessagePort }
    /** Pictures are sent encoded. */
    | { kind: "list"; frames: (VideoFrame | Uint8Array)[]; timestamps?: number[]; fps?: number }
    /** Frames that arrive one after another. `live`: times count from the first frame. */
    | { kind: "feed"; port: MessagePort; live: boolean };
}

/** What the worker requests over the port of a video, one request at a time. `end` has no reply. */
export type FrameRequest = "size" | "next" | { at: number } | "end";

export type FrameReply =
  | { size: { width: number; height: number; duration: number } }
  /** `timestamp` is in seconds. */
  | { frame: VideoFrame; timestamp: number }
  | "end"
  | { error: ErrorFields };

export type Call = keyof Calls;

/**
 * `id` is the page's number for the call; an abort names the call to end. `aborted`: the call was aborted before it was
 * sent.
 */
export type ToWorker =
  | { [C in Call]: { id: number; call: C; args: Calls[C]["args"]; aborted: boolean } }[Call]
  | { abort: number }
  /** Answered at once, unless the worker is stuck. */
  | { ping: number };

export type FromWorker =
  | { pong: number }
  // Sent once: the worker has started, and holds the Web Lock named `alive` until it ends (not on pages over plain http, which have no
  // locks).
  | { alive: string }
  | { id: number; event: Calls[Call]["event"] }
  | { id: number; result: Calls[Call]["result"] }
  | { id: number; error: ErrorFields }
  // An event of the model, which belongs to no call.
  | { notice: ModelEvent; info: EventInfo }
  // The worker has failed and sends nothing more.
  | { fatal: ErrorFields };
