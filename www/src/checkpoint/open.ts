// Opens a checkpoint: a repository on the Hub, a folder at an address, files with an address each, or files that a person has
// picked. The code in this folder provides the engine with files: from the Hub, over the network, and from the disk. The
// worker reads files through it; the page uses it to find out what is stored.

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
