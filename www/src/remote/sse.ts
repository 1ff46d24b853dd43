// Reads server-sent events, as far as chat completions use them (https://html.spec.whatwg.org/multipage/server-sent-events.html).

/** The data of each event. Throws `tooLong()` after `most` bytes, because a server need not end. Lines may end in `\r\n`, `\n` or `\r`, and chunks of the body may end anywhere, even inside a character. */
export async function* eventData(body: ReadableStream<Uint8Array>, most: number, tooLong: () => Error): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let data: string[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      bytes += value?.length ?? 0;
      if (bytes > most) throw tooLong();
      text += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A `\r` at the very end may be the first half of `\r\n`.
      const lines = text.split(done ? /\r\n|\n|\r/ : /\r\n|\n|\r(?!$)/);
      text = lines.pop() ?? "";
      // Some servers leave out the last empty line.
      if (done) lines.push(text, "");
      for (const line of lines) {
        if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        } else if (/^data(:|$)/.test(line)) {
          data.push(line.slice(5).replace(/^ /, ""));
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
