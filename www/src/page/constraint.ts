// Constraints on an answer: converted for the worker, and applied to the finished answer.

import { FanlightError } from "../errors.js";
import type { WireConstraint } from "../protocol.js";
import type { JsonSchema, ResponseConstraint, Result } from "../types.js";

/** A constraint in the form in which it is sent to the worker. */
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

/**
 * Adds `parsed` to a complete answer that a schema constrains. The continuation of a `prefix` message may not be JSON by
 * itself; then nothing is added.
 */
export function withParsed(result: Result, constraint?: ResponseConstraint): Result {
  if (result.finishReason !== "stop" || constraint === undefined || !("jsonSchema" in wireConstraint(constraint))) return result;
  try {
    return { ...result, parsed: JSON.parse(result.text) as unknown };
  } catch {
    return result;
  }
}
