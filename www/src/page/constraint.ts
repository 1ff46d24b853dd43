// What an answer may be, as the page says it and as it crosses to the worker.

import { FanlightError } from "../errors.js";
import type { WireConstraint } from "../protocol.js";
import type { JsonSchema, ResponseConstraint, Result } from "../types.js";

/** As it crosses to the worker. */
export function wireConstraint(constraint: ResponseConstraint): WireConstraint {
  if (constraint instanceof RegExp) return { regex: constraint.source, flags: constraint.flags };
  if (typeof constraint !== "object" || constraint === null || Array.isArray(constraint)) {
    const found = `found ${constraint === null ? "null" : Array.isArray(constraint) ? "a list" : typeof constraint}`;
    throw new FanlightError("bad_request", `responseConstraint: expected a JSON schema, a RegExp or {lark}, ${found}`, "Correct the argument.");
  }
  const { lark } = constraint;
  if (typeof lark === "string") return { lark };
  try {
    return { jsonSchema: JSON.parse(JSON.stringify(constraint)) as JsonSchema };
  } catch (error) {
    throw new FanlightError("bad_request", `responseConstraint: expected an object that can be written as JSON: ${String(error)}`, "Correct the argument.");
  }
}

/** With the value of a whole answer of a schema. What goes on with a message may be no JSON by itself; then there is nothing to add. */
export function withParsed(result: Result, constraint?: ResponseConstraint): Result {
  if (result.finishReason !== "stop" || constraint === undefined || !("jsonSchema" in wireConstraint(constraint))) return result;
  try {
    return { ...result, parsed: JSON.parse(result.text) as unknown };
  } catch {
    return result;
  }
}
