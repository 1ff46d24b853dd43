// The errors for a server that cannot be reached, refuses a request, or sends an unexpected answer.

import { FanlightError } from "../errors.js";
import { aborted } from "../shared/abort.js";
import { shortened, shown } from "../shared/address.js";

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
  const text = await beginning(response).catch(() => "");
  const said = shortened(messageOf(safely(text)) || text);
  const message = `${shown(url)} answered ${status}${said ? `: ${said}` : ""}`;
  if (status === 401 || status === 403) return new FanlightError("auth", message, "Check apiKey, and whether it has access to this model.");
  if (status === 404) return new FanlightError("not_found", message, "Check baseURL and the name of the model.");
  if (status === 429) return new FanlightError("network", message, "The server has received too many requests. Try again later.", true);
  if (status === 408 || status >= 500) return new FanlightError("network", message, "The server has a problem. Try again later.", true);
  if (/context[ _]length|maximum context|too many tokens/i.test(said)) {
    return new FanlightError("context_full", message, "Ask with fewer or smaller pictures, or begin a new conversation.");
  }
  return new FanlightError("bad_request", message, "The server refused the request for the reason in the message.");
}

/** The error for a server that sends the request elsewhere. The request has pictures, and headers that are meant for this server. */
export function moved(url: URL): FanlightError {
  const message = `${shown(url)} answered with a redirect, which is not followed: the conversation and the headers are meant for this server`;
  return new FanlightError("network", message, "Give the address to which it redirects as baseURL, if you trust that server.");
}

/** The first characters of a body: more of an error's text is of no use. */
async function beginning(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = (await reader?.read()) ?? { value: undefined, done: true };
    if (done || text.length > 65_536) break;
    text += decoder.decode(value, { stream: true });
  }
  reader?.cancel().catch(() => {});
  return text;
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
