// Keeps what a person chose for the next visit, if the browser allows that. Stored values are checked when they are read, because an
// older version of the page or another program may have written them.

export interface Sampling {
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  seed?: number;
  maxTokens?: number;
  stop?: string;
  loopGuard?: boolean;
  system?: string;
}

export type OutputMode = "text" | "json" | "regex" | "lark";

export interface Settings {
  theme: "auto" | "light" | "dark";
  sampling: Sampling;
  output: { mode: OutputMode; schema: string; regex: string; lark: string };
  tools: boolean;
  picker: { hub: string; address: string; weights: string; kvCache: string; contextLength: string; maxPixels: string };
}

const KEY = "fanlight.settings";

const DEFAULTS: Settings = {
  theme: "auto",
  sampling: {},
  output: { mode: "text", schema: "", regex: "", lark: "" },
  tools: false,
  picker: { hub: "", address: "", weights: "auto", kvCache: "", contextLength: "", maxPixels: "" },
};

const SAMPLING: Record<keyof Sampling, "number" | "string" | "boolean"> = {
  temperature: "number",
  topP: "number",
  topK: "number",
  minP: "number",
  repetitionPenalty: "number",
  presencePenalty: "number",
  frequencyPenalty: "number",
  seed: "number",
  maxTokens: "number",
  stop: "string",
  loopGuard: "boolean",
  system: "string",
};

export function save(): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // The storage may be switched off or full. Then the settings last for this visit only.
  }
}

function read(): Settings {
  let kept: unknown;
  try {
    kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
  } catch {
    kept = undefined;
  }
  const from = record(kept);
  const [output, picker, sampling] = [record(from["output"]), record(from["picker"]), record(from["sampling"])];
  return {
    theme: oneOf(from["theme"], ["auto", "light", "dark"]),
    sampling: Object.fromEntries(
      Object.entries(SAMPLING).flatMap(([name, kind]) => (typeof sampling[name] === kind ? [[name, sampling[name]]] : [])),
    ),
    output: { ...strings(output, DEFAULTS.output), mode: oneOf(output["mode"], ["text", "json", "regex", "lark"]) },
    tools: from["tools"] === true,
    picker: strings(picker, DEFAULTS.picker),
  };
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

const oneOf = <T extends string>(value: unknown, all: [T, ...T[]]): T => all.find((one) => one === value) ?? all[0];

function strings<T extends Record<string, string>>(from: Record<string, unknown>, defaults: T): T {
  const entries = Object.entries(defaults).map(([name, value]) => {
    const kept = from[name];
    return [name, typeof kept === "string" && kept.length < 20_000 ? kept : value];
  });
  return Object.fromEntries(entries) as T;
}

export const settings: Settings = read();
