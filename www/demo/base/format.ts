// Writes numbers for people. A space that does not break keeps a number and its unit on one line.

const NARROW = "\u00a0";

export const bytes = (count: number) =>
  count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)}${NARROW}MB` : `${(count / 1e9).toFixed(1)}${NARROW}GB`;

export const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)}${NARROW}s`;

export const perSecond = (rate: number) => `${rate.toFixed(rate < 10 ? 1 : 0)}${NARROW}tokens/s`;

export const whole = (count: number) => Math.round(count).toLocaleString("en");

export const many = (count: number, one: string, more = `${one}s`) => `${whole(count)}${NARROW}${count === 1 ? one : more}`;

export const size = ({ width, height }: { width: number; height: number }) => `${width}\u00d7${height}`;

export const millions = (count: number) =>
  count < 1e9 ? `${(count / 1e6).toFixed(1)} million parameters` : `${(count / 1e9).toFixed(1)} billion parameters`;

/** Roughly how much time is left. Seconds are left out if it is more than a minute. */
export function remaining(ms: number): string {
  const left = ms / 1000;
  if (left < 60) return `${Math.max(1, Math.round(left))}${NARROW}s left`;
  if (left < 3600) return `${Math.round(left / 60)}${NARROW}min left`;
  return `${Math.floor(left / 3600)}${NARROW}h ${Math.round((left % 3600) / 60)}${NARROW}min left`;
}

/** Makes a sentence: with a full stop, and with a capital letter unless it begins with the name of a file. */
export const sentence = (text: string) =>
  text && (/^\S*[._/]\w/.test(text) ? text.charAt(0) : text.charAt(0).toUpperCase()) + text.slice(1).replace(/[.]?$/, ".");

// Characters that are invisible or change the direction of a text. With them, a label or a link could look like another one.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Text from outside without such characters. */
export const plain = (text: string) => text.replace(UNSEEN, "");
