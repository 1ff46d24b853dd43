// What is kept on the device between visits, and what loading would have to fetch.

/** What is kept of a checkpoint for next time: its files, what quantizing made of them, or nothing. */
export type Keeping = "opfs" | "quantized" | "none";

/** What became of the wish to keep the files. */
export interface CacheInfo {
  /** What is kept. */
  kind: Keeping;
  /** Why not, where they could not be kept. */
  reason?: string;
  /** Whether the browser has promised not to clear them by itself. */
  persisted: boolean;
  /** Bytes that came over the network. */
  networkBytes: number;
}

/** A checkpoint whose files were kept. */
export interface CachedModel {
  /** What `models.remove()` takes to remove this one alone. */
  id: string;
  /** `ORG/NAME` on the Hub, or an address. */
  model: string;
  /** Where it came from, if that was not https://huggingface.co. */
  endpoint?: string;
  /** The commit of a repository. */
  commit?: string;
  /** The branches and tags that meant this commit when they were last looked up. */
  revisions: string[];
  /** Bytes on the disk. Files that two checkpoints share are counted for both. */
  bytes: number;
  /** Everything that the last load needed is there. */
  complete: boolean;
  /** When it was last loaded. */
  lastUsed: Date;
}

/** A file of a checkpoint, and how much of it is kept. */
export interface CachedFile {
  /** Its name in the repository or folder. */
  file: string;
  /** Bytes. */
  size: number;
  /** Bytes of it that are here. */
  bytes: number;
  /** All of it that loading needs is here. */
  complete: boolean;
  /** The last load read it. */
  needed: boolean;
}

/**
 * Chrome's words for it. "unavailable": it cannot be run or fetched here. "downloadable": loading will use the network.
 * "downloading": a tab is fetching it. "available": loading fetches no file.
 */
export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
