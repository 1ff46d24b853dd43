// The conversation as it stands: what was asked and answered, and the session of the model that holds it.

import { FanlightError, type Message, type Model, type Part, type Result, type Session } from "../../src/index.js";
import { settings } from "../base/settings.js";
import type { Mark } from "../stage/overlay.js";
import type { Picture } from "../stage/pictures.js";
import { TOOLS } from "./tools.js";

/** A question that was asked, and what came of it. */
export interface Turn {
  question: string;
  pictures: Picture[];
  /** What it added to the conversation: nothing, if it failed. */
  said: Message[];
  /** The conversation as it was before, to begin again from there. */
  before?: Session;
  results: Result[];
  marks: Mark[];
  article: HTMLElement;
}

/** What every part of the conversation sees, and may change. */
export const talk = {
  turns: [] as Turn[],
  /** Pictures that go with the next question. */
  pending: [] as Picture[],
  /** Ends the answer that is being written; undefined while none is. */
  generating: undefined as AbortController | undefined,
  /** The last question, while it is being edited: it goes when the new one is sent. */
  edited: undefined as Turn | undefined,
  /** The turn whose marks are in the picture. */
  active: undefined as Turn | undefined,
  /** Tokens that the conversation takes. */
  used: 0,
};

let session: Session | undefined;
/** What the session was made with: with other tools or instructions it has to be another. */
let sessionKey = "";

/** The last answer's figures, for the diagnostics. */
export const lastResult = (): Result | undefined => talk.turns.at(-1)?.results.at(-1);

/** The pictures of the conversation without its videos, as the engine counts them. */
export const stills = (): Picture[] => talk.turns.flatMap(({ pictures }) => pictures.filter(({ kind }) => kind === "image"));
export const allPictures = (): Picture[] => [...talk.turns.flatMap(({ pictures }) => pictures), ...talk.pending];

export const nameOf = (picture: Picture): string =>
  `${picture.kind === "image" ? "Picture" : "Video"} ${allPictures().indexOf(picture) + 1}: ${picture.name}`;

export function content(text: string, pictures: Picture[]): Part[] {
  const seen = pictures.map(({ kind, blob }): Part => (kind === "image" ? { type: kind, image: blob } : { type: kind, video: blob }));
  return [...seen, { type: "text", text }];
}

const currentKey = () => JSON.stringify([settings.tools, settings.sampling.system ?? ""]);

async function freshSession(model: Model, history: Message[]): Promise<Session> {
  const { system } = settings.sampling;
  const before: Message[] = system ? [{ role: "system", content: system }] : [];
  sessionKey = currentKey();
  return model.session({ messages: [...before, ...history], ...(settings.tools && { tools: TOOLS }) });
}

const history = (): Message[] => talk.turns.flatMap(({ said }) => said);

/** A session that is being made; `epoch` tells one that nobody waits for any more. */
let opening: Promise<Session> | undefined;
let epoch = 0;

export async function currentSession(model: Model): Promise<Session> {
  if (session && sessionKey !== currentKey()) forget();
  if (session) return session;
  const mine = epoch;
  opening ??= freshSession(model, history()).then((made) => {
    if (mine === epoch) {
      opening = undefined;
      return (session = made);
    }
    made.destroy();
    throw new FanlightError("aborted", "the conversation was ended");
  });
  opening.catch(() => {
    if (mine === epoch) opening = undefined;
  });
  return opening;
}

/** Ends the session; what was said can be told to another. */
export function forget(): void {
  session?.destroy();
  session = opening = undefined;
  epoch++;
}

/** Takes back the last question, so that it or another can be asked in its place. */
export async function takeBack(turn: Turn): Promise<void> {
  talk.turns = talk.turns.filter((one) => one !== turn);
  turn.article.remove();
  const { before } = turn;
  if (before || turn.said.length > 0) {
    forget();
    if (sessionKey === currentKey()) session = before;
    else before?.destroy();
  }
  const last = talk.turns.at(-1)?.results.at(-1);
  talk.used = last ? last.usage.promptTokens + last.usage.completionTokens : 0;
}

/** What the assistant said, as a message of the conversation. */
export function spoken({ text, reasoning, toolCalls }: Result): Message {
  return { role: "assistant", content: text, ...(reasoning && { reasoning }), ...(toolCalls?.length && { toolCalls }) };
}
