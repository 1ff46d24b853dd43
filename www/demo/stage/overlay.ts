// Shows the picture with marks for what the model located, or the video. Marks are placed in percent of the picture, so that they fit
// every display size.

import type { Located, Point } from "../../src/index.js";
import { h } from "../base/dom.js";
import { plain } from "../base/format.js";

const SVG = "http://www.w3.org/2000/svg";

/** Something located, as it is drawn: `number` is its place in the answer, `hue` the colour of its label. */
export interface Mark {
  located: Located;
  number: number;
  hue: number;
}

export class Overlay {
  /** Called with the number of the mark that the pointer or the focus is on, or none. */
  onpoint: (number: number | undefined) => void = () => {};
  #elements = new Map<number, HTMLElement>();

  constructor(
    private readonly frame: HTMLElement,
    private readonly image: HTMLImageElement,
    private readonly film: HTMLVideoElement,
    private readonly marks: HTMLElement,
  ) {}

  /** The number of the last call of `show` or `play`. A picture that has loaded after a later call is not shown. */
  #latest = 0;

  /** Shows a picture; rejects if the browser cannot. */
  async show(url: string, alt: string): Promise<void> {
    const mine = ++this.#latest;
    this.draw([]);
    // Another element is used for decoding, because Firefox refuses to decode an element whose source has just been replaced.
    const decoded = new Image();
    decoded.src = url;
    await decoded.decode();
    if (mine !== this.#latest) return;
    this.image.src = url;
    this.image.alt = plain(alt);
    this.#fit(this.image, decoded.naturalWidth, decoded.naturalHeight);
  }

  /** Shows a video; rejects if the browser cannot. */
  async play(url: string, name: string): Promise<void> {
    const mine = ++this.#latest;
    this.draw([]);
    const { film } = this;
    film.setAttribute("aria-label", plain(name));
    await loaded(film, url);
    if (mine === this.#latest) this.#fit(film, film.videoWidth, film.videoHeight);
  }

  hide(): void {
    this.#latest++;
    this.draw([]);
    this.frame.hidden = true;
    this.film.removeAttribute("src");
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

  /** Draws boxes, points and polygons given in the picture's own pixels. */
  draw(marks: Mark[]): void {
    this.#elements.clear();
    this.marks.replaceChildren(...marks.flatMap((mark) => this.#mark(mark) ?? []));
  }

  /** Highlights the mark with this number and dims the others. */
  lift(number: number | undefined): void {
    this.marks.classList.toggle("lifted", number !== undefined && this.#elements.has(number));
    for (const [own, element] of this.#elements) element.classList.toggle("on", own === number);
  }

  /** Brings the picture into view, where the page is longer than the screen. */
  reveal(): void {
    this.frame.scrollIntoView({ block: "nearest" });
  }

  #mark({ located, number, hue }: Mark): HTMLElement | undefined {
    const corners = cornersOf(located);
    if (!corners || corners.length === 0) return undefined;
    const [width, height] = [this.image.naturalWidth || 1, this.image.naturalHeight || 1];
    const percent = (part: number, whole: number) => `${(100 * part) / whole}%`;
    const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const [wide, high] = [Math.max(...xs) - left, Math.max(...ys) - top];
    const element = h("div", { class: `${located.kind} hue-${hue}`, attrs: { role: "listitem" } });
    element.style.left = percent(left, width);
    element.style.top = percent(top, height);
    element.style.width = percent(wide, width);
    element.style.height = percent(high, height);
    const hold = element.appendChild(h("button", { attrs: { type: "button" } }));
    const name = plain(located.label ?? "");
    if (!name) hold.setAttribute("aria-label", `${located.kind} ${number + 1}`);
    if (located.kind === "polygon") {
      const svg = hold.appendChild(document.createElementNS(SVG, "svg"));
      svg.setAttribute("viewBox", "0 0 1 1");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      const points = corners.map(([x, y]) => `${(x - left) / (wide || 1)},${(y - top) / (high || 1)}`).join(" ");
      // Two lines, because a light line under a coloured one can be seen on every picture.
      for (const name of ["under", "over"]) {
        const outline = svg.appendChild(document.createElementNS(SVG, "polygon"));
        outline.setAttribute("points", points);
        outline.setAttribute("class", name);
      }
    }
    if (name) {
      hold.append(h("span", {}, name));
      // Labels stay inside the picture: below what is at the top edge, leftwards from what is at the right.
      element.classList.toggle("low", top < 0.1 * height);
      element.classList.toggle("right", left > 0.6 * width);
    }
    for (const event of ["pointerenter", "focus"]) hold.addEventListener(event, () => this.onpoint(number));
    for (const event of ["pointerleave", "blur"]) hold.addEventListener(event, () => this.onpoint(undefined));
    this.#elements.set(number, element);
    return element;
  }
}

/** The corners of what a mark surrounds; nothing for a 3D box, which is not given in pixels. */
export function cornersOf(located: Located): Point[] | undefined {
  switch (located.kind) {
    case "box": {
      const [left, top, right, bottom] = located.at;
      return [[left, top], [right, bottom]];
    }
    case "point":
      return [located.at];
    case "polygon":
      return located.at;
    case "box3d":
      return undefined;
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
