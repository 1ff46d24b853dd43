// The demonstration model that comes with the package: `import { screenReader } from "fanlight/screen-reader"`.

/**
 * A tiny Qwen2.5-VL model of 4.86 million parameters (9.7 MB) for trying out the package: `load(screenReader)`. It was trained only on
 * simple, computer-drawn screens. It reads the buttons on them and finds boxes, and knows nothing about photographs or the world.
 */
export const screenReader: Readonly<Record<string, URL>> = {
  // The expression is written out for each file, because bundlers look for exactly this form.
  "chat_template.jinja": new URL("../models/screen-reader/chat_template.jinja", import.meta.url),
  "config.json": new URL("../models/screen-reader/config.json", import.meta.url),
  "generation_config.json": new URL("../models/screen-reader/generation_config.json", import.meta.url),
  "model.safetensors": new URL("../models/screen-reader/model.safetensors", import.meta.url),
  "preprocessor_config.json": new URL("../models/screen-reader/preprocessor_config.json", import.meta.url),
  "tokenizer.json": new URL("../models/screen-reader/tokenizer.json", import.meta.url),
  "tokenizer_config.json": new URL("../models/screen-reader/tokenizer_config.json", import.meta.url),
};
