// Chooses the GGUF files that make up a model.

import { FanlightError } from "../errors.js";

/** The GGUF files to load, if the caller has named none and there is no folder in Hugging Face layout. */
export function findGguf(names: string[], gguf?: string, mmproj?: string): { gguf?: string; mmproj?: string } {
  if (!gguf) {
    if (names.includes("config.json") && names.some((name) => /^model.*\.safetensors$/.test(name))) return {};
    // The first part of a split file stands for all parts.
    // A vision encoder is not a model, nor is an importance matrix, with which models are quantized.
    const whole = names.filter((name) => /\.gguf$/i.test(name) && !/mmproj|imatrix/i.test(name));
    const files = whole.filter((name) => !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(name));
    if (files.length === 0) return {};
    if (files.length > 1) {
      const message = `there are ${files.length} GGUF models to choose from: ${files.join(", ")}`;
      throw new FanlightError("bad_request", message, "Name one of them with the option `gguf`.");
    }
    gguf = files[0] as string;
  }
  const all = names.filter((name) => /mmproj.*\.gguf$/i.test(name));
  // If there are several models, the name of a vision encoder's file contains the name of its model.
  const stem = gguf.replace(/\.gguf$/i, "");
  const named = all.filter((name) => name.includes(stem));
  const towers = named.length > 0 ? named : all;
  // Prefer the vision encoder with 16-bit weights: it is made for them, and small anyway.
  mmproj ??= towers.find((name) => /b?f16/i.test(name)) ?? (towers.length === 1 ? towers[0] : undefined);
  return mmproj ? { gguf, mmproj } : { gguf };
}
