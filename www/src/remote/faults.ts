// The errors for a server that cannot be reached, refuses a request, or sends an unexpected answer.

import { FanlightError } from "../errors.js";
import { aborted } from "../shared/abort.js";

export const WRONG_SERVER = "Check baseURL: it must be a server that speaks OpenAI's Chat Completions.";

export function unreachable(url: URL, error: unknown, signal: AbortSignal): FanlightError {
  if (signal.aborted) return aborted("the request was aborted");
  const what = `${url.origin} could not be reached (${String(error)})`;
  if (url.origin === location.origin || !navigator.onLine) return new FanlightError("network", what, "Check the connection.", true);
  const hint = "The server must be running and send Access-Control-Allow-Origin, and allow the header Authorization.";
  return new FanlightError("cors", what, hint, true);
}

/** The error for an answer with an error status. It includes the server's own message. */
export async function refused(url: URL, response: Response): Promise<FanlightError> {
  const { status } = response;
  const text = await response.text().catch(() => "");
  const said = messageOf(safely(text)) || text.slice(0, 200);
  const message = `${url} answered ${status}${said ? `: ${said}` : ""}`;
  if (status === 401 || status === 403) return new FanlightError("auth", message, "Check apiKey, and whether it has access to this model.");
  if (status === 404) return new FanlightError("not_found", message, "Check baseURL and the name of the model.");
  if (status === 429) return new FanlightError("network", message, "The server has received too many requests. Try again later.", true);
  if (status === 408 || status >= 500) return new FanlightError("network", message, "The server has a problem. Try again later.", true);
  if (/context[ _]length|maximum context|too many tokens/i.test(said)) {
    return new FanlightError("context_full", message, "Ask with fewer or smaller pictures, or begin a new conversation.");
  }
  return new FanlightError("bad_request", message, "The server refused the request for the reason in the message.");
}

function safely(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The message in an error response: `{error: {message}}`, `{error: "…"}`, `{message}` or FastAPI's `{detail}`. */
export function messageOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "";
  const { error, message, detail } = value as Record<string, unknown>;
  return messageOf(error) || messageOf(message) || messageOf(detail);
}
