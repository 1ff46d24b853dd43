// Names that nothing else has.

/** 32 random hexadecimal digits. `crypto.randomUUID` does not exist on pages that were loaded over plain http. */
export function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
