// The package: everything that a page imports. The engine runs in a worker; nothing here blocks the page.
//
// The folders. A folder imports only from those above it in this list:
//
//   types/, types.ts   the types of the API, with its documentation
//   errors, protocol   the one kind of error, and the messages between page and worker
//   shared/            what several of the folders below need: aborts, pixels of video frames, data: URLs, WebGPU detection
//   checkpoint/        where a checkpoint's files are, how they are downloaded, and what is kept of them
//   worker/            what runs in the worker; no other folder imports it, because the page starts it by its address
//   openai/            OpenAI's Chat Completions: their types, reading requests, writing answers
//   page/              what runs in the page: loading, models, sessions, messages to the worker, pictures and videos
//   remote/            a model on a server, with the same interface as a local one
//
// tests/web/architecture.test.mjs lists exactly which folder may import from which, and fails for any other import.

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
