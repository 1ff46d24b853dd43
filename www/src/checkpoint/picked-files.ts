// Files on this device: a folder or files that a person has picked.

import { FanlightError } from "../errors.js";
import type { Source } from "./source.js";

/** How deep a folder is searched: split GGUF files are one level below the top. */
const DEPTH = 3;

export async function filesOf(folder: FileSystemDirectoryHandle, path = "", depth = DEPTH): Promise<[string, File][]> {
  const files: [string, File][] = [];
  try {
    // TypeScript's types for pages lack the iteration.
    for await (const handle of (folder as unknown as { values(): AsyncIterable<FileSystemHandle> }).values()) {
      const name = path + handle.name;
      if (handle.kind === "file") files.push([name, await (handle as FileSystemFileHandle).getFile()]);
      else if (depth > 1) files.push(...(await filesOf(handle as FileSystemDirectoryHandle, `${name}/`, depth - 1)));
    }
  } catch (error) {
    throw new FanlightError("io", `the folder ${path || folder.name} could not be read: ${String(error)}`, "Pick it again.");
  }
  return files;
}

/** Files that a person picked: a folder of a checkpoint, or `.gguf` files. */
export class PickedFiles implements Source {
  readonly names: string[];
  readonly cache = { kind: "none" as const, reason: "the files are on this device already", networkBytes: 0 };
  readonly downloading = false;
  readonly #files = new Map<string, File>();

  constructor(files: [string, File][]) {
    const paths = files.map(([path]) => path);
    // The paths of a picked folder all begin with the name of the folder.
    const top = /^[^/]+\//.exec(paths[0] ?? "")?.[0] ?? "";
    const below = top !== "" && paths.every((path) => path.startsWith(top)) ? top.length : 0;
    for (const [path, file] of files) this.#files.set(path.slice(below), file);
    this.names = [...this.#files.keys()];
  }

  async size(name: string): Promise<number | undefined> {
    return this.#files.get(name)?.size;
  }

  async read(name: string, start: number, end: number): Promise<Uint8Array> {
    const file = this.#files.get(name);
    if (!file) throw new FanlightError("not_found", `${name} is not among the picked files`, "Pick all files of the model.");
    try {
      return new Uint8Array(await file.slice(start, end).arrayBuffer());
    } catch (error) {
      throw new FanlightError("io", `${name} could not be read: ${String(error)}`, "Pick the files again.");
    }
  }

  async expect(): Promise<void> {}

  sequential(): boolean {
    return false;
  }

  prepared(): undefined {}

  keeps(): boolean {
    return false;
  }

  keep(): void {}

  async finish(): Promise<void> {}

  close(): void {}
}
