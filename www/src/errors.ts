// The one kind of error this package throws. It crosses the worker boundary as plain fields.

export type ErrorCode =
  | "webgpu_unavailable" // no WebGPU here, or no adapter
  | "limits" // the device is too small; the message names the limit and what was needed
  | "oom"
  | "device_lost"
  | "gpu" // the driver refused something
  | "io" // a source of bytes did not keep its word
  | "network"
  | "cors"
  | "auth" // a token is needed, or may not read this
  | "integrity" // a file is not what its server says it is
  | "busy" // another tab is using it
  | "not_found"
  | "bad_model"
  | "bad_image"
  | "bad_video" // no video, one without frames, or in a format that this browser cannot decode
  | "no_program" // of native programs alone: ffmpeg is not there
  | "bad_request" // an option, a message or a picture that is not what it may be
  | "context_full"
  | "unsupported"
  | "aborted"
  | "internal"; // a fault of ours: the engine stopped

export interface ErrorFields {
  code: ErrorCode;
  message: string;
  /** What the person or the page can do about it. May be empty. */
  hint: string;
  /** Whether the same call may succeed when it is made again. */
  retryable: boolean;
}

export class FanlightError extends Error {
  override readonly name = "FanlightError";
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, hint = "", retryable = false) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.retryable = retryable;
  }

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
