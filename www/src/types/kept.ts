// What is kept on the device between visits, and what loading would have to download.

/**
 * What is kept of a checkpoint for next time: "opfs", its files as they are; "quantized", only the quantized weights; or
 * "none".
 */
export type Keeping = "opfs" | "quantized" | "none";

/** What was kept of the checkpoint. */
export interface CacheInfo {
  /** What is kept. */
  kind: Keeping;
  /** Why the files could not be kept. */
  reason?: string;
  /** Whether the browser has promised not to clear the files by itself. */
  persisted: boolean;
  /** Bytes that were downloaded. */
  networkBytes: number;
}

/** A checkpoint whose files are kept on the device. */
export interface CachedModel {
  /** Give this to `models.remove()` to remove exactly this checkpoint. */
  id: string;
  /** `ORG/NAME` on the Hub, or the address of a folder. */
  model: string;
  /** The server of a repository, if it is not https://huggingface.co. */
  endpoint?: string;
  /** The commit, for a repository. */
  commit?: string;
  /** The branches and tags that pointed to this commit when they were last looked up. */
  revisions: string[];
  /** Bytes on the disk. Files that two checkpoints share are counted for both. */
  bytes: number;
  /** Whether everything that the last load needed is here. */
  complete: boolean;
  /** When it was last loaded. */
  lastUsed: Date;
}

/** A file of a checkpoint, and how much of it is kept on the device. */
export interface CachedFile {
  /** Its name in the repository or folder. */
  file: string;
  /** The size of the whole file in bytes. */
  size: number;
  /** How many of its bytes are on the device. */
  bytes: number;
  /** Whether everything that loading needs from this file is on the device. */
  complete: boolean;
  /** Whether the last load read this file. */
  needed: boolean;
}

/**
 * What `availability()` answers, in the words of Chrome's Prompt API. "unavailable": the model cannot run or be downloaded
 * here. "downloadable": loading will use the network. "downloading": a tab is downloading it now. "available": loading
 * downloads no file.
 */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
