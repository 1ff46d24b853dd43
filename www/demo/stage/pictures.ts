// Pictures and videos as they arrive: by file, drop, paste, camera, or the sample.

import type { ImageInfo, VideoInfo } from "../../src/index.js";
import { h, part } from "../base/dom.js";
import { plain } from "../base/format.js";
import { loaded } from "./overlay.js";
import { upright } from "./upright.js";

/** A picture or a video of a conversation. */
export interface Picture {
  kind: "image" | "video";
  /** The file, as the model gets it. */
  blob: Blob;
  /** What is shown of it: a picture upright, as the model sees it. */
  url: string;
  name: string;
  /** Known once the model has seen it. */
  info?: ImageInfo | VideoInfo;
}

const SAMPLE = "public-sample/sample-screen.png";

const problem = part("picture-problem");
const stage = part("stage");

/** Settles when all pictures that were given have been read. A question waits for this. */
let arriving: Promise<unknown> = Promise.resolve();
export const arrived = (): Promise<unknown> => arriving;

let onpicture: (picture: Picture) => void = () => {};

/** Takes a picture into the next question. */
export function take(blob: Blob | Promise<Blob>, name: string): Promise<void> {
  // One after another, so that they stand in the order in which they were given.
  const taken = arriving.then(async () => takeBlob(await blob, plain(name)));
  arriving = taken.catch(() => {});
  return taken;
}

async function takeBlob(blob: Blob, name: string): Promise<void> {
  problem.hidden = true;
  // If it cannot be turned, the question below says whether it can be shown at all.
  const url = URL.createObjectURL(await upright(blob).catch(() => blob));
  const kind = await kindOf(url);
  if (kind) return onpicture({ kind, blob, url, name });
  URL.revokeObjectURL(url);
  problem.textContent = `${name} is not a picture or a video this browser can show.`;
  problem.hidden = false;
}

/** Finds out what the browser can show of the file. The type and the name of a file may be wrong. */
async function kindOf(url: string): Promise<Picture["kind"] | undefined> {
  const image = new Image();
  image.src = url;
  if (await image.decode().then(() => true, () => false)) return "image";
  const film = h("video");
  const playable = await loaded(film, url).then(() => true, () => false);
  film.removeAttribute("src");
  return playable ? "video" : undefined;
}

export function takeSample(): Promise<void> {
  return take(fetch(SAMPLE).then((response) => response.blob()), "the sample screen");
}

/** A small picture that shows the large one when it is pressed. */
export function thumb(picture: Picture, name: string, open: () => void): HTMLElement {
  const button = h("button", { class: "thumb", attrs: { type: "button", "aria-label": name, title: picture.name }, click: open });
  if (picture.kind === "image") {
    button.append(h("img", { attrs: { src: picture.url, alt: "" } }));
  } else {
    const still = h("video", { attrs: { preload: "metadata", tabindex: "-1", "aria-hidden": "true" } });
    still.muted = true;
    still.src = picture.url;
    button.append(still);
  }
  return button;
}

export function startPictures(found: (picture: Picture) => void): void {
  onpicture = found;
  const file = part("file", HTMLInputElement);
  for (const id of ["choose", "add"]) part(id).onclick = () => file.click();
  part("sample").onclick = () => takeSample();
  const takeAll = (files: Iterable<File> | null | undefined) => {
    for (const one of files ?? []) void take(one, one.name);
  };
  file.onchange = () => {
    takeAll(file.files);
    file.value = "";
  };
  addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    takeAll(event.clipboardData.files);
  });
  // The whole page accepts dropped files, because the browser would open a file that is dropped beside the frame and leave the page.
  let depth = 0;
  const over = (by: number) => stage.classList.toggle("over", (depth += by) > 0);
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    takeAll(event.dataTransfer?.files);
  });
}

// ── The camera ──────────────────────────────────────────────────────────────────────────────────────────────────────

export function startCamera(): void {
  const [sheet, view] = [part("camera-sheet", HTMLDialogElement), part("camera-view", HTMLVideoElement)];
  const [wrong, shutter] = [part("camera-problem"), part("camera-take", HTMLButtonElement)];
  const openers = [part("camera"), part("add-camera")];
  if (!navigator.mediaDevices?.getUserMedia) {
    for (const opener of openers) opener.hidden = true;
    return;
  }
  let stream: MediaStream | undefined;
  const end = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = undefined;
    view.srcObject = null;
  };
  const open = async () => {
    wrong.hidden = true;
    shutter.disabled = true;
    sheet.showModal();
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
      // The sheet may have been closed while the browser asked.
      if (!sheet.open) return opened.getTracks().forEach((track) => track.stop());
      stream = opened;
      view.srcObject = stream;
      await view.play();
      shutter.disabled = false;
    } catch (error) {
      const name = error instanceof DOMException ? error.name : "";
      wrong.textContent =
        name === "NotAllowedError"
          ? "The browser may not use the camera. Allow it in the address bar, then open this again."
          : name === "NotFoundError"
            ? "There is no camera."
            : "The camera could not be started. Another program may be using it.";
      wrong.hidden = false;
    }
  };
  for (const opener of openers) opener.onclick = open;
  shutter.onclick = async () => {
    const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
    canvas.getContext("2d")?.drawImage(view, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    sheet.close();
    void take(blob, "camera.png");
  };
  part("camera-close").onclick = () => sheet.close();
  sheet.addEventListener("close", end);
}
