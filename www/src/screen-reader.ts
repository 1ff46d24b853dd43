// The demonstration model that comes with the package: `import { screenReader } from "fanlight/screen-reader"`.

/**
 * A tiny Qwen2.5-VL of 4.86 million parameters (9.7 MB) to try everything with: `load(screenReader)`. It has only ever seen simple,
 * computer-drawn screens, of which it reads buttons and finds boxes; it knows nothing about photographs or the world.
 */
export const screenReader: Readonly<Record<string, URL>> = {
  // A line for each file, written out: bundlers look for exactly this.
  "chat_template.jinja": new URL("../models/screen-reader/chat_template.jinja", import.meta.url),
  "config.json": new URL("../models/screen-reader/config.json", import.meta.url),
  "generation_config.json": new URL("../models/screen-reader/generation_config.json", import.meta.url),
  "model.safetensors": new URL("../models/screen-reader/model.safetensors", import.meta.url),
  "preprocessor_config.json": new URL("../models/screen-reader/preprocessor_config.json", import.meta.url),
  "tokenizer.json": new URL("../models/screen-reader/tokenizer.json", import.meta.url),
  "tokenizer_config.json": new URL("../models/screen-reader/tokenizer_config.json", import.meta.url),
};
