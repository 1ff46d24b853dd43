// What answers located: the marks in the picture and the list beside the answer, of which each stands for the other.

import type { Located } from "../../src/index.js";
import { h } from "../base/dom.js";
import { plain } from "../base/format.js";
import { cornersOf, type Mark } from "../stage/overlay.js";
import type { Picture } from "../stage/pictures.js";
import { stage } from "../stage/stage.js";
import { allPictures, stills, talk, type Turn } from "./conversation.js";

export const HUES = 6;

export function marksOf(located: Located[]): Mark[] {
  const labels = [...new Set(located.map(({ label }) => label ?? ""))];
  return located.map((located, number) => ({ located, number, hue: labels.indexOf(located.label ?? "") % HUES }));
}

/** The list of what an answer found: each stands for its mark in the picture, and the other way round. */
export function findings(turn: Turn): HTMLElement {
  const several = stills().length > 1;
  const made = turn.marks.slice(0, 300).map((mark) => {
    const { located, number, hue } = mark;
    const name = plain(located.label ?? "") || located.kind;
    const picture = several && stills()[located.image] ? `picture ${allPictures().indexOf(stills()[located.image] as Picture) + 1}` : "";
    const place = h("span", { class: "place" }, [placeOf(located), picture].filter(Boolean).join(", "));
    const item = h("button", { class: `finding hue-${hue}`, attrs: { type: "button" } }, h("span", {}, name), place);
    const on = () => point(turn, number);
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, on);
    for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => point(turn, undefined));
    item.addEventListener("click", () => {
      activate(turn, mark);
      point(turn, number);
      stage.overlay.reveal();
    });
    item.dataset["number"] = String(number);
    return h("li", {}, item);
  });
  return h("ul", { class: "findings", attrs: { "aria-label": "What was located" } }, ...made);
}

const rounded = (values: number[]) => values.map((value) => Math.round(value)).join(", ");

function placeOf(located: Located): string {
  switch (located.kind) {
    case "box":
    case "point":
      return rounded(located.at);
    case "polygon":
      return `${located.at.length} corners`;
    case "box3d":
      return `${located.at.slice(0, 3).map((value) => value.toFixed(1)).join(", ")} m`;
  }
}

/** Brings out one thing, in the picture and in the list. */
export function point(turn: Turn, number: number | undefined): void {
  if (number !== undefined && turn !== talk.active) activate(turn, turn.marks[number]);
  stage.overlay.lift(number);
  for (const item of turn.article.querySelectorAll<HTMLElement>(".finding")) {
    item.classList.toggle("on", item.dataset["number"] === String(number));
  }
}

export const marksIn = (turn: Turn | undefined, picture: Picture): Mark[] =>
  turn?.marks.filter(({ located }) => cornersOf(located) && stills()[located.image] === picture) ?? [];

/** The stage shows what this turn located, in the picture that is there or in the one that it is in. */
export function activate(turn: Turn, mark?: Mark): void {
  talk.active = turn;
  const meant = mark && stills()[mark.located.image];
  const { shown } = stage;
  const there = shown && marksIn(turn, shown).length > 0;
  const first = turn.marks.map(({ located }) => stills()[located.image]).find((picture) => picture !== undefined);
  const picture = meant ?? (there ? shown : (first ?? shown ?? turn.pictures[0]));
  void stage.show(picture, picture ? marksIn(turn, picture) : []);
}
