// The only kind of error that this package throws. Between worker and page it is sent as plain fields.

/** What went wrong, as one of these fixed words for programs. */
export type ErrorCode =
  | "webgpu_unavailable" // the browser has no WebGPU, or offers no adapter
  | "limits" // a limit of the device is too low; the message names it and says what was needed
  | "oom" // the device has not enough memory; the hint says what to lower
  | "device_lost" // the driver or the browser closed the GPU device, and it could not be recovered
  | "gpu" // the driver rejected an operation
  | "io" // bytes could not be read, or a source returned the wrong ones
  | "network" // a server did not answer, or sent something unexpected; what has been downloaded is kept
  | "cors" // another site does not allow this page to read its file
  | "auth" // a token is needed, or the given token has no access
  | "integrity" // a file does not have the length or hash that its server lists
  | "busy" // another load or tab is using the files
  | "not_found" // the repository, revision or file does not exist
  | "bad_model" // a file of the checkpoint is broken, or does not fit the other files
  | "bad_image" // this is not a picture, or it cannot be read
  | "bad_video" // this is not a video, it has no frames, or this browser cannot decode its format
  | "no_program" // only in native programs: ffmpeg is not installed
  | "bad_request" // an option, a message or another argument is not valid
  | "context_full" // the conversation is longer than the context; the message has both numbers
  | "unsupported" // the model belongs to no supported family
  | "aborted" // your code aborted the call, by a signal or by `destroy()`
  | "internal"; // a bug in this package, or the engine crashed

/** An error as plain fields, which can be sent between the worker and the page. */
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
  /** What kind of error this is, for programs. */
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

/** The fields of any thrown value. Errors other than `FanlightError` (a wasm trap, a bug) get the code "internal". */
export function errorFields(thrown: unknown): ErrorFields {
  const { code, hint, retryable } = (thrown ?? {}) as Partial<ErrorFields>;
  const message = thrown instanceof Error || isRecord(thrown) ? String(thrown.message) : String(thrown);
  if (typeof code === "string") return { code, message, hint: hint ?? "", retryable: retryable ?? false };
  return { code: "internal", message, hint: "This is a bug in Fanlight. Load the model again.", retryable: false };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && "message" in value;
}
