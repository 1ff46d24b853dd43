// Opens a checkpoint: a repository on the Hub, a folder behind an address, files with an address each, or files that a person
// picked. This folder is how the engine gets its files: what the Hub says, ranges of bytes over the network, and what is kept on
// the disk. The worker reads through it; the page asks it what is there.

import type { Place } from "../protocol.js";
import { filesOf, PickedFiles } from "./picked-files.js";
import { RemoteFiles } from "./remote-files.js";
import type { Source, SourceOptions } from "./source.js";

export async function openSource(place: Place, options: SourceOptions): Promise<Source> {
  if (place.kind === "files") return new PickedFiles(place.files.map((file) => [file.webkitRelativePath || file.name, file]));
  if (place.kind === "folder") return new PickedFiles(await filesOf(place.folder));
  const remote = new RemoteFiles(options, place.kind === "hub" ? place : undefined);
  await remote.open(place);
  return remote;
}
