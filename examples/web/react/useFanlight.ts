// One model for the whole page, and one conversation for each component that asks.

import { useCallback, useEffect, useRef, useState } from "react";
import { FanlightError, type ImageSource, load, type Located, type Model } from "fanlight";
import { screenReader } from "fanlight/screen-reader";

// The demonstration model comes with the package and reads simple screens, nothing else. To use a real model:
// load("Qwen/Qwen2.5-VL-3B-Instruct", { weights: { text: "q4", embeddings: "q8" } })
const start = () => load(screenReader);

/** The page's one model, however many components use it and however often React mounts them. It is loaded when the first one mounts. */
let loading: Promise<Model> | undefined;

/** Starts loading again if it failed before. */
function model(): Promise<Model> {
  loading ??= start();
  loading.catch(() => (loading = undefined));
  return loading;
}

export interface Answer {
  text: string;
  /** Once the answer is complete: what it points at, in the picture's own pixels. */
  located: Located[];
}

export function useFanlight() {
  const [status, setStatus] = useState<"loading" | "ready" | "answering" | "failed">("loading");
  const [answer, setAnswer] = useState<Answer>({ text: "", located: [] });
  const [problem, setProblem] = useState("");
  const running = useRef<AbortController>(undefined);

  const fail = useCallback((error: unknown) => {
    setStatus("failed");
    setProblem(error instanceof FanlightError ? `${error.message} ${error.hint}` : String(error));
  }, []);

  useEffect(() => {
    let mounted = true;
    model().then(() => mounted && setStatus("ready"), (error) => mounted && fail(error));
    return () => {
      mounted = false;
      // Nobody will read the rest of the answer, so stop generating it.
      running.current?.abort();
    };
  }, [fail]);

  const ask = useCallback(
    async (image: ImageSource, question: string) => {
      running.current?.abort();
      const mine = (running.current = new AbortController());
      const latest = () => running.current === mine;
      setStatus("answering");
      setAnswer({ text: "", located: [] });
      const session = await (await model()).session();
      try {
        const content = [{ type: "image", image } as const, { type: "text", text: question } as const];
        const stream = session.promptStreaming([{ role: "user", content }], { signal: mine.signal });
        for await (const { text } of stream) if (latest()) setAnswer((before) => ({ ...before, text: before.text + text }));
        const { text, located } = await stream.result;
        if (!latest()) return;
        setAnswer({ text, located });
        setStatus("ready");
      } catch (error) {
        if (latest()) fail(error);
      } finally {
        session.destroy();
      }
    },
    [fail],
  );

  return { status, problem, answer, ask, stop: () => running.current?.abort() };
}
