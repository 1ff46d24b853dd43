// The types of the API, in one file for each subject. Their comments are the documentation of the API.

export type * from "./types/device.js";
export type * from "./types/generate.js";
export type * from "./types/kept.js";
export type * from "./types/load.js";
export type * from "./types/media.js";
export type * from "./types/messages.js";
export type * from "./types/results.js";
export type * from "./types/tasks.js";
export type * from "./types/tools.js";
