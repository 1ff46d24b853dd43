// Reads an object from outside field by field. Every field is checked, and unknown fields are errors.

import { FanlightError } from "../errors.js";

interface Bounds {
  least?: number;
  most?: number;
  whole?: true;
}

export class Fields {
  readonly #object: Record<string, unknown>;
  readonly #seen = new Set<string>();
  /** Where the object is in the request, for messages: `messages[0].content[1]`. */
  readonly at: string;

  constructor(value: unknown, at: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(at || "the request", "an object", value);
    this.#object = value as Record<string, unknown>;
    this.at = at;
  }

  /** The path of one of its fields, for messages. */
  path(name: string): string {
    return this.at === "" ? name : `${this.at}.${name}`;
  }

  /** The value of a field, unchecked; `undefined` if it is absent or null. */
  any(name: string): unknown {
    this.#seen.add(name);
    return this.#object[name] ?? undefined;
  }

  string(name: string): string | undefined {
    return this.#typed(name, "a string", (value): value is string => typeof value === "string");
  }

  boolean(name: string): boolean | undefined {
    return this.#typed(name, "true or false", (value): value is boolean => typeof value === "boolean");
  }

  number(name: string, { least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY, whole }: Bounds = {}): number | undefined {
    const span = [least > Number.NEGATIVE_INFINITY && `from ${least} on`, most < Number.POSITIVE_INFINITY && `to ${most}`];
    const what = [whole ? "a whole number" : "a number", ...span].filter(Boolean).join(" ");
    return this.#typed(name, what, (value): value is number => {
      return Number.isFinite(value) && (value as number) >= least && (value as number) <= most && (!whole || Number.isInteger(value));
    });
  }

  choice<T extends string>(name: string, ...choices: T[]): T | undefined {
    const what = choices.map((choice) => `"${choice}"`).join(" or ");
    return this.#typed(name, what, (value): value is T => choices.includes(value as T));
  }

  list(name: string): unknown[] | undefined {
    return this.#typed(name, "a list", Array.isArray);
  }

  object(name: string): Fields | undefined {
    const value = this.any(name);
    return value === undefined ? undefined : new Fields(value, this.path(name));
  }

  /** A schema, or another object that is passed on unchanged. */
  plain(name: string): Record<string, unknown> | undefined {
    const fields = this.object(name);
    return fields && fields.#object;
  }

  need<T>(value: T | undefined, name: string, what: string): T {
    if (value === undefined) throw wrong(this.path(name), what, undefined);
    return value;
  }

  /** Accepts these fields without reading them. */
  ignore(names: readonly string[]): void {
    for (const name of names) this.#seen.add(name);
  }

  refuse(name: string, why: string, hint = ""): void {
    if (this.any(name) !== undefined) throw new FanlightError("bad_request", `${this.path(name)} is not supported: ${why}`, hint);
  }

  /** Throws if there is a field that has not been read or ignored. */
  end(): void {
    const other = Object.entries(this.#object).find(([name, value]) => !this.#seen.has(name) && value !== undefined && value !== null);
    if (!other) return;
    const hint = `Known fields: ${[...this.#seen].join(", ")}.`;
    throw new FanlightError("bad_request", `${this.path(other[0])} is not a known field`, hint);
  }

  #typed<T>(name: string, what: string, is: (value: unknown) => value is T): T | undefined {
    const value = this.any(name);
    if (value === undefined || is(value)) return value;
    throw wrong(this.path(name), what, value);
  }
}

export function wrong(at: string, expected: string, found: unknown, hint = ""): FanlightError {
  return new FanlightError("bad_request", `${at}: expected ${expected}, found ${shown(found)}`, hint);
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
