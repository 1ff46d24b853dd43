import { load } from "fanlight";
import { screenReader } from "fanlight/screen-reader";

const model = await load(screenReader);
const session = await model.session();
const content = [
  { type: "image", image: "screen.png" },
  { type: "text", text: "What does the purple button say?" },
];
for await (const { text } of session.promptStreaming([{ role: "user", content }])) document.body.append(text);
