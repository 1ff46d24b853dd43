// The package: everything that a page imports. The engine runs in a worker; nothing here blocks the page.

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
