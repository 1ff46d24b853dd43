// The package: everything that a page imports. The engine runs in a worker; nothing here blocks the page.

export { availability } from "./availability.js";
export { type ErrorCode, FanlightError } from "./errors.js";
export { estimate, load, type ModelSource } from "./load.js";
export { Model } from "./model.js";
export { models } from "./models.js";
export type * from "./openai-types.js";
export { connect, type ConnectOptions, type RemoteInfo, RemoteModel, RemoteSession } from "./remote.js";
export { Session } from "./session.js";
export type { Stream } from "./stream.js";
export { support } from "./support.js";
export type * from "./types.js";
