// The large view: one picture of the conversation with what an answer located in it, or one video with the frames it was seen by.

import { h, part } from "../base/dom.js";
import { sentence, size } from "../base/format.js";
import { type Mark, Overlay } from "./overlay.js";
import type { Picture } from "./pictures.js";

const [empty, caption, captionName, captionFacts] = [part("empty"), part("caption"), part("caption-name"), part("caption-facts")];
const [moments, momentsWhat, momentsList] = [part("moments"), part("moments-what"), part("moments-list")];
const marksToggle = part("marks-toggle", HTMLButtonElement);
const boxes = part("boxes");

class Stage {
  readonly overlay = new Overlay(part("frame"), part("image", HTMLImageElement), part("film", HTMLVideoElement), boxes);
  shown: Picture | undefined;
  #marks: Mark[] = [];

  async show(picture: Picture | undefined, marks: Mark[] = []): Promise<void> {
    const changes = picture !== this.shown;
    this.shown = picture;
    this.#marks = marks;
    empty.hidden = picture !== undefined;
    document.body.classList.toggle("has-picture", picture !== undefined);
    if (changes) {
      if (!picture) this.overlay.hide();
      else if (picture.kind === "image") await this.overlay.show(picture.url, picture.name);
      else await this.overlay.play(picture.url, picture.name);
    }
    if (this.shown !== picture) return;
    this.overlay.draw(picture?.kind === "image" ? this.#marks : []);
    this.refresh();
  }

  /** Shows again what is known of the picture, which may have changed. */
  refresh(): void {
    const { shown } = this;
    caption.hidden = !shown;
    marksToggle.hidden = this.#marks.length === 0;
    if (!shown) moments.hidden = true;
    if (!shown) return;
    const { info } = shown;
    captionName.textContent = shown.name;
    captionFacts.textContent = info
      ? `${size(info.original)}, seen as ${size(info.resized)} in ${info.tokens}\u00a0tokens`
      : "";
    moments.hidden = !info || !("timestamps" in info);
    if (!info || !("timestamps" in info)) return;
    momentsWhat.textContent = [`The model saw ${info.frames} frames:`, ...info.decisions.map(sentence)].join(" ");
    const { startsAt = 0 } = info;
    momentsList.replaceChildren(
      ...info.timestamps.map((time) => {
        const go = h("button", { attrs: { type: "button" }, click: () => this.overlay.seek(startsAt + time) }, `${time.toFixed(2)}\u00a0s`);
        return h("li", {}, go);
      }),
    );
  }
}

export const stage = new Stage();

marksToggle.onclick = () => {
  const hidden = boxes.classList.toggle("off");
  marksToggle.ariaPressed = String(!hidden);
};
