// The one kind of error this package throws. It crosses the worker boundary as plain fields.

/** What went wrong, for programs: only these words. */
export type ErrorCode =
  | "webgpu_unavailable" // no WebGPU here, or no adapter
  | "limits" // the device is too small; the message names the limit and what was needed
  | "oom" // the device has no room; the hint has what to lower
  | "device_lost" // the driver or the browser took the device away
  | "gpu" // the driver refused something
  | "io" // a source of bytes did not keep its word
  | "network" // a server did not answer, or not as one of its kind; what has arrived is kept
  | "cors" // another site does not let this page read what it has
  | "auth" // a token is needed, or may not read this
  | "integrity" // a file is not what its server says it is
  | "busy" // another tab is using it
  | "not_found" // no such repository, revision or file
  | "bad_model" // a file of the checkpoint is broken, or does not belong to the others
  | "bad_image" // no picture, or one that cannot be read
  | "bad_video" // no video, one without frames, or in a format that this browser cannot decode
  | "no_program" // of native programs alone: ffmpeg is not there
  | "bad_request" // an option, a message or a picture that is not what it may be
  | "context_full" // the conversation is longer than the context; the message has both numbers
  | "unsupported" // a model of a family that is not one of ours
  | "aborted" // by a signal, or by `destroy()`
  | "internal"; // a fault of ours: the engine stopped

export interface ErrorFields {
  code: ErrorCode;
  message: string;
  /** What the person or the page can do about it. May be empty. */
  hint: string;
  /** Whether the same call may succeed when it is made again. */
  retryable: boolean;
}

/** The only kind of error that this package throws. */
export class FanlightError extends Error {
  override readonly name = "FanlightError";
  /** For programs. It says what is wrong, not where. */
  readonly code: ErrorCode;
  /** What the person or the page can do about it. May be empty. */
  readonly hint: string;
  /** Whether the same call may succeed when it is made again. */
  readonly retryable: boolean;

  /** @internal */
  constructor(code: ErrorCode, message: string, hint = "", retryable = false) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.retryable = retryable;
  }

  /** @internal */
  static from(fields: ErrorFields): FanlightError {
    return new FanlightError(fields.code, fields.message, fields.hint, fields.retryable);
  }
}

/** The fields of whatever was thrown. What is not ours (a trap, a bug) becomes "internal". */
export function errorFields(thrown: unknown): ErrorFields {
  const { code, hint, retryable } = (thrown ?? {}) as Partial<ErrorFields>;
  const message = thrown instanceof Error || isRecord(thrown) ? String(thrown.message) : String(thrown);
  if (typeof code === "string") return { code, message, hint: hint ?? "", retryable: retryable ?? false };
  return { code: "internal", message, hint: "This is a fault in Fanlight. Load the model again.", retryable: false };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && "message" in value;
}
