// The package: everything that a page imports. The engine runs in a worker; nothing here blocks the page.
//
// What lies where; what stands further down imports what stands above it, and not the other way round:
//
//   types/, types.ts   what a page sends and gets: the documentation of the API
//   errors, protocol   the one kind of error, and the messages between page and worker
//   shared/            what several of the rooms below need: aborts, pixels of frames, data: URLs, whether there is WebGPU
//   checkpoint/        where a checkpoint's files are, how they are fetched, and what is kept of them
//   worker/            what runs in the worker, which nothing here imports: the page starts it by its address
//   openai/            OpenAI's Chat Completions: their shapes, requests read, answers written
//   page/              what runs in the page: loading, models, sessions, the page's end of the worker, pictures and videos
//   remote/            a model on a server, with the interface of one that runs here
//
// Exactly which room may import from which stands in tests/web/architecture.test.mjs, which refuses all else.

export { availability } from "./page/availability.js";
export { type ErrorCode, FanlightError } from "./errors.js";
export { estimate, load, type ModelSource } from "./page/load.js";
export { Model } from "./page/model.js";
export { models } from "./checkpoint/models.js";
export type * from "./openai/types.js";
export { connect, type ConnectOptions, type RemoteInfo, RemoteModel } from "./remote/model.js";
export { RemoteSession } from "./remote/session.js";
export { Session } from "./page/session.js";
export { support } from "./shared/support.js";
export type * from "./types.js";
