// A picture, a question, the streamed answer, and boxes over the picture that show what the answer points at.

import { type FormEvent, StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import type { Located } from "fanlight";
import { useFanlight } from "./useFanlight";

export function App() {
  const { status, problem, answer, ask, stop } = useFanlight();
  const [file, setFile] = useState<File>();
  const [question, setQuestion] = useState("Locate the red button.");

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (file) void ask(file, question);
  };
  return (
    <main style={{ maxWidth: "40rem", margin: "2rem auto", font: "1rem/1.5 system-ui" }}>
      <h1>Where is it?</h1>
      <p role="status">{problem || status}</p>
      <form onSubmit={submit} style={{ display: "grid", gap: "0.75rem" }}>
        <label>
          Picture <input type="file" accept="image/*" required onChange={(event) => setFile(event.target.files?.[0])} />
        </label>
        <label>
          Question <input value={question} onChange={(event) => setQuestion(event.target.value)} required />
        </label>
        {status === "answering" ? <button type="button" onClick={stop}>Stop</button> : <button disabled={status !== "ready"}>Ask</button>}
      </form>
      {file && <Picture file={file} located={answer.located} />}
      <p aria-live="polite">{answer.text}</p>
    </main>
  );
}

/** Boxes are in pixels of the picture. Drawn in an SVG of the picture's own size, they are in the right place at any size on the page. */
function Picture({ file, located }: { file: File; located: Located[] }) {
  const [url, setUrl] = useState("");
  const [size, setSize] = useState({ width: 1, height: 1 });
  const image = useRef<HTMLImageElement>(null);
  useEffect(() => {
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  const measured = () => setSize({ width: image.current!.naturalWidth, height: image.current!.naturalHeight });
  return (
    <figure style={{ position: "relative", margin: 0 }}>
      {url && <img ref={image} src={url} alt={file.name} onLoad={measured} style={{ display: "block", width: "100%" }} />}
      <svg viewBox={`0 0 ${size.width} ${size.height}`} style={{ position: "absolute", inset: 0, width: "100%", height: "100%" }} role="img" aria-label="What was located">
        {located.map((one, index) => {
          if (one.kind !== "box") return null;
          const [left, top, right, bottom] = one.at;
          const stroke = { fill: "none", stroke: "#f5287a", strokeWidth: 2, vectorEffect: "non-scaling-stroke" } as const;
          return (
            <rect key={index} x={left} y={top} width={right - left} height={bottom - top} {...stroke}>
              <title>{one.label}</title>
            </rect>
          );
        })}
      </svg>
    </figure>
  );
}

export const root = createRoot(document.querySelector("#root")!);
root.render(<StrictMode><App /></StrictMode>);
