// The picture and the boxes over it, or the video. Boxes are placed in percent of the picture, so they follow every display
// size.

import type { Box } from "../src/index.js";

export class Overlay {
  constructor(
    private readonly frame: HTMLElement,
    private readonly image: HTMLImageElement,
    private readonly film: HTMLVideoElement,
    private readonly boxes: HTMLElement,
  ) {}

  /** Shows a picture; rejects if the browser cannot. */
  async show(url: string, alt: string): Promise<void> {
    this.clear();
    this.image.src = url;
    this.image.alt = alt;
    await this.image.decode();
    this.#fit(this.image, this.image.naturalWidth, this.image.naturalHeight);
  }

  /** Shows a video; rejects if the browser cannot. */
  async play(url: string, name: string): Promise<void> {
    this.clear();
    const { film } = this;
    film.setAttribute("aria-label", name);
    await loaded(film, url);
    this.#fit(film, film.videoWidth, film.videoHeight);
  }

  /** Moves the video to a time. */
  seek(seconds: number): void {
    this.film.pause();
    this.film.currentTime = seconds;
  }

  #fit(shown: HTMLElement, width: number, height: number): void {
    this.image.hidden = shown !== this.image;
    this.film.hidden = shown !== this.film;
    if (this.film.hidden) this.film.removeAttribute("src");
    this.frame.style.setProperty("--width", String(width));
    this.frame.style.setProperty("--height", String(height));
    this.frame.hidden = false;
  }

  clear(): void {
    this.boxes.replaceChildren();
  }

  /** Draws boxes given in the picture's own pixels. */
  draw(boxes: Box[]): void {
    const [width, height] = [this.image.naturalWidth, this.image.naturalHeight];
    const percent = (part: number, whole: number) => `${(100 * part) / whole}%`;
    this.boxes.replaceChildren(
      ...boxes.map((box) => {
        const element = document.createElement("div");
        element.setAttribute("role", "listitem");
        element.style.left = percent(box.x, width);
        element.style.top = percent(box.y, height);
        element.style.width = percent(box.width, width);
        element.style.height = percent(box.height, height);
        if (box.label) {
          const label = element.appendChild(document.createElement("span"));
          label.textContent = box.label;
          // Labels stay inside the picture: below a box at the top edge, leftwards from one at the right.
          element.classList.toggle("low", box.y < 0.1 * height);
          element.classList.toggle("right", box.x > 0.6 * width);
        }
        return element;
      }),
    );
  }
}

/** Loads a video so far that its first frame can be seen; rejects if it has none or cannot be played. */
export function loaded(film: HTMLVideoElement, url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    film.onerror = () => reject(new Error(film.error?.message ?? "it cannot be played"));
    film.onloadeddata = () => (film.videoWidth > 0 ? resolve() : reject(new Error("there is nothing to see in it")));
    film.preload = "auto";
    film.src = url;
  });
}
