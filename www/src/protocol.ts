// The one table of messages between page and worker.

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

/** Every call: what the page sends, what comes back once, and what may arrive in between. */
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
  /** Resolves with the conversation's tokens. */
  append: { args: { session: number; options: PromptOptions } & WireTurn; result: number; event: never };
  clone: { args: { session: number }; result: number; event: never };
  locate: { args: { text: string; pictures: Sizes[] }; result: Located[]; event: never };
  document: { args: { html: string; picture: Sizes }; result: Block[]; event: never };
  /** The next three are of a model that runs elsewhere: the engine only reads what it wrote. */
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
  /** Where the engine's wasm is, or itself; not given: beside the worker's script. */
  wasm?: string | WebAssembly.Module;
}

/** Where a checkpoint's files are. */
export type Place =
  | { kind: "hub"; id: RepoId; token?: string | undefined }
  | { kind: "url"; base: string }
  /** Addresses by name, absolute. */
  | { kind: "listed"; files: Record<string, string> }
  | { kind: "files"; files: File[] }
  | { kind: "folder"; folder: FileSystemDirectoryHandle };

/** A repository on the Hub, or on a server that speaks its paths. */
export interface RepoId {
  /** Origin and, for a mirror, path of the server. Ends in "/". */
  endpoint: string;
  /** `ORG/NAME`, or `NAME` alone for the oldest ones. */
  repo: string;
  revision: string;
}

/** How the engine loads: `gguf` and `mmproj` are files in the folder, `weights` is the engine's own notation. */
export interface EngineOptions extends PixelLimits {
  contextLength?: number;
  memory?: number | undefined;
  weights?: string | undefined;
  kvCache?: KvCacheFormat | undefined;
  gguf?: string | undefined;
  mmproj?: string | undefined;
}

/** A constraint that can cross: a regular expression is its source. */
export type WireConstraint = { jsonSchema: JsonSchema } | { regex: string; flags: string } | { lark: string };

/** What goes with the messages of one prompt. */
export type PromptOptions = Omit<GenerateOptions, "signal" | "responseConstraint"> & {
  responseConstraint?: WireConstraint;
  tools?: Tool[];
  /** The messages take the place of the conversation; its cache is used for what they have in common. */
  replace?: true;
};

/** Messages, and what they name by index. */
export interface WireTurn {
  messages: WireMessage[];
  images: Uint8Array[];
  videos: WireVideo[];
}

/** A message whose pictures and videos are numbers: indices into the `images` and `videos` beside it. */
export interface WireMessage extends Omit<Message, "content"> {
  content:
    | string
    | (
        | { type: "text"; text: string }
        | ({ type: "image"; image: number } & object)
        | ({ type: "video"; video: number } & VideoOptions)
      )[];
}

/** A video on its way to the worker. A `port` leads to frames that only the page can get at: see `FrameRequest`. */
export interface WireVideo {
  options: VideoOptions;
  source:
    | { kind: "file"; file: Blob }
    /** `port`: a `<video>` that plays it, for what the worker cannot read. */
    | { kind: "url"; url: string; port?: MessagePort }
    /** Pictures are encoded. */
    | { kind: "list"; frames: (VideoFrame | Uint8Array)[]; timestamps?: number[]; fps?: number }
    /** One frame after another, as they come; `live`: times count from the first of them. */
    | { kind: "feed"; port: MessagePort; live: boolean };
}

/** What the worker asks over a video's port, one at a time; `end` has no reply. */
export type FrameRequest = "size" | "next" | { at: number } | "end";

export type FrameReply =
  | { size: { width: number; height: number; duration: number } }
  /** Seconds. */
  | { frame: VideoFrame; timestamp: number }
  | "end"
  | { error: ErrorFields };

export type Call = keyof Calls;

/** `id` is the page's number for the call; an abort names the call it ends. `aborted`: it was ended before it began. */
export type ToWorker =
  | { [C in Call]: { id: number; call: C; args: Calls[C]["args"]; aborted: boolean } }[Call]
  | { abort: number };

export type FromWorker =
  // Sent once: the worker runs and holds the Web Lock `alive` until it dies.
  | { alive: string }
  | { id: number; event: Calls[Call]["event"] }
  | { id: number; result: Calls[Call]["result"] }
  | { id: number; error: ErrorFields }
  // Belongs to no call.
  | { notice: ModelEvent; info: EventInfo }
  // Nothing more will come.
  | { fatal: ErrorFields };
