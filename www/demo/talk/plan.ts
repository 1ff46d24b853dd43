// What a question would take, said before it is sent.

import type { Plan } from "../../src/index.js";
import { h, part } from "../base/dom.js";
import { many, plain, sentence, size, whole } from "../base/format.js";
import { asError, engine } from "../model/engine.js";
import { words } from "../model/notices.js";
import { content, currentSession, talk } from "./conversation.js";

const question = part("question", HTMLTextAreaElement);
const planLine = part("plan");
let planned = 0;
let planning: AbortController | undefined;
let waiting: ReturnType<typeof setTimeout> | undefined;

/** Says what the question would take, a moment after it has changed. */
export function replan(): void {
  clearTimeout(waiting);
  planning?.abort();
  const mine = ++planned;
  const text = question.value.trim();
  if (!engine.model || talk.generating || talk.edited || (!text && talk.pending.length === 0)) {
    planLine.hidden = true;
    return;
  }
  // A question that is sent meanwhile does not wait for it.
  const asking = (planning = new AbortController());
  waiting = setTimeout(async () => {
    try {
      const { model } = engine;
      const conversation = model && !talk.generating ? await currentSession(model) : undefined;
      const plan = await conversation?.plan([{ role: "user", content: content(text, talk.pending) }], { signal: asking.signal });
      if (mine !== planned || talk.generating) return;
      planLine.hidden = !plan;
      if (plan) planLine.replaceChildren(...planFacts(plan));
    } catch (error) {
      if (mine !== planned || talk.generating) return;
      const { what, todo } = words(asError(error));
      planLine.hidden = false;
      planLine.replaceChildren(h("p", { class: "warning" }, `${what} ${todo}`));
    }
  }, 350);
}

function planFacts(plan: Plan): HTMLElement[] {
  const images = plan.images.map(({ original, resized, tokens }) => `${size(original)} seen as ${size(resized)}, ${many(tokens, "token")}`);
  const videos = plan.videos.map(({ frames, resized, tokens }) => `${frames} frames of ${size(resized)}, ${many(tokens, "token")}`);
  const fresh = plan.promptTokens - plan.cachedTokens;
  const prompt = `${many(fresh, "token")} to read, ${whole(Math.max(0, plan.left))} left for the answer`;
  const warnings = [...plan.images.flatMap((image) => image.warnings), ...plan.videos.flatMap((video) => video.decisions)];
  if (!plan.fits) warnings.unshift("this does not fit: begin a new conversation, or send a smaller picture");
  return [
    h("p", {}, [...images, ...videos, prompt].join(" \u00b7 ")),
    ...warnings.map((warning) => h("p", { class: "warning" }, sentence(plain(warning)))),
  ];
}
