// Which of many GGUF files make a model.

import { FanlightError } from "../errors.js";

/** Which files of GGUF to load, where a caller has named none and there is no folder in Hugging Face layout. */
export function findGguf(names: string[], gguf?: string, mmproj?: string): { gguf?: string; mmproj?: string } {
  if (!gguf) {
    if (names.includes("config.json") && names.some((name) => /^model.*\.safetensors$/.test(name))) return {};
    // Of a split file the first part stands for all.
    const whole = names.filter((name) => /\.gguf$/.test(name) && !/mmproj/.test(name));
    const files = whole.filter((name) => !/-(?!00001)\d{5}-of-\d{5}\.gguf$/.test(name));
    if (files.length === 0) return {};
    if (files.length > 1) {
      const message = `there are ${files.length} GGUF models to choose from: ${files.join(", ")}`;
      throw new FanlightError("bad_request", message, "Name one of them with the option `gguf`.");
    }
    gguf = files[0] as string;
  }
  const all = names.filter((name) => /mmproj.*\.gguf$/.test(name));
  // Where several models lie side by side, a tower has its model's name in its own.
  const stem = gguf.replace(/\.gguf$/, "");
  const named = all.filter((name) => name.includes(stem));
  const towers = named.length > 0 ? named : all;
  // Sixteen bits are what the tower is made for; it is small.
  mmproj ??= towers.find((name) => /b?f16/i.test(name)) ?? (towers.length === 1 ? towers[0] : undefined);
  return mmproj ? { gguf, mmproj } : { gguf };
}
