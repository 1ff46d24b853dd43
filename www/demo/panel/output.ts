// Chooses the form of answers: free text, or text that matches a JSON schema, a regular expression or a grammar.

import type { JsonSchema, ResponseConstraint } from "../../src/index.js";
import { button, field, h, part, select } from "../base/dom.js";
import { type OutputMode, save, settings } from "../base/settings.js";

const PRESETS: Record<string, { name: string; ask: string; schema: JsonSchema }> = {
  receipt: {
    name: "Receipt",
    ask: "Read this receipt.",
    schema: {
      type: "object",
      properties: {
        merchant: { type: "string" },
        date: { type: "string", pattern: "^\\d{4}-\\d{2}-\\d{2}$" },
        items: {
          type: "array",
          items: {
            type: "object",
            properties: { name: { type: "string" }, quantity: { type: "integer" }, price: { type: "number" } },
            required: ["name", "quantity", "price"],
            additionalProperties: false,
          },
        },
        total: { type: "number" },
        currency: { type: "string", enum: ["EUR", "USD", "GBP", "JPY", "CHF", "other"] },
      },
      required: ["merchant", "date", "items", "total", "currency"],
      additionalProperties: false,
    },
  },
  screen: {
    name: "Screen elements",
    ask: "List everything on this screen that can be used.",
    schema: {
      type: "array",
      items: {
        type: "object",
        properties: {
          bbox_2d: { type: "array", items: { type: "integer" }, minItems: 4, maxItems: 4 },
          label: { type: "string" },
          kind: { type: "string", enum: ["button", "link", "text field", "checkbox", "image", "text"] },
        },
        required: ["bbox_2d", "label", "kind"],
        additionalProperties: false,
      },
    },
  },
  free: {
    name: "Empty object",
    ask: "",
    schema: { type: "object", properties: { answer: { type: "string" } }, required: ["answer"], additionalProperties: false },
  },
};

const SUGGESTED_REGEX = "(yes|no), because [a-z ,]{3,80}\\.";
const SUGGESTED_LARK = 'start: "Buttons: " NUMBER\nNUMBER: /[0-9]{1,3}/\n';

/** The constraint that is set; `undefined` if there is none. Throws an error with an explanation if its text is not valid. */
export function constraint(): ResponseConstraint | undefined {
  const { mode, schema, regex, lark } = settings.output;
  switch (mode) {
    case "json":
      return parseSchema(schema);
    case "regex":
      if (!regex.trim()) throw new Error("The regular expression is empty.");
      try {
        return new RegExp(regex, "u");
      } catch (error) {
        throw new Error(`The regular expression is not valid: ${message(error)}`);
      }
    case "lark":
      if (!lark.trim()) throw new Error("The grammar is empty.");
      return { lark };
    default:
      return undefined;
  }
}

function parseSchema(text: string): JsonSchema {
  if (!text.trim()) throw new Error("The schema is empty.");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`The schema is not JSON: ${message(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("A schema is an object: { \u2026 }.");
  return value as JsonSchema;
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** The name of the form, for the chip beside the question. */
export const MODES: Record<OutputMode, string> = { text: "Free text", json: "JSON schema", regex: "Regular expression", lark: "Lark grammar" };

export function outputPage(changed: () => void): HTMLElement {
  const { output } = settings;
  const wrong = h("p", { class: "problem", attrs: { role: "alert" } });
  const area = (name: "schema" | "regex" | "lark", label: string, rows: number, help: string) => {
    const text = h("textarea", { class: "mono", attrs: { rows: String(rows), spellcheck: "false", autocapitalize: "off" } });
    text.value = output[name];
    text.addEventListener("input", () => {
      output[name] = text.value;
      check();
    });
    return { text, wrapped: field(label, text, help) };
  };
  const schema = area("schema", "Schema", 12, "In JSON. The answer always matches it.");
  const regex = area("regex", "Expression", 3, "It is matched against the whole answer.");
  const lark = area("lark", "Grammar", 6, "In the Lark format of llguidance.");
  const presets = h(
    "div",
    { class: "row", attrs: { role: "group", "aria-label": "Presets" } },
    ...Object.values(PRESETS).map(({ name, ask, schema: preset }) =>
      button(
        name,
        () => {
          schema.text.value = output.schema = JSON.stringify(preset, null, 2);
          const question = part("question", HTMLTextAreaElement);
          if (!question.value.trim() && ask) question.value = ask;
          question.dispatchEvent(new Event("input"));
          check();
        },
        { class: "chip" },
      ),
    ),
  );
  const mode = select(MODES, output.mode, (value) => {
    output.mode = value;
    if (value === "json" && !output.schema) schema.text.value = output.schema = JSON.stringify(PRESETS["free"]?.schema, null, 2);
    if (value === "regex" && !output.regex) regex.text.value = output.regex = SUGGESTED_REGEX;
    if (value === "lark" && !output.lark) lark.text.value = output.lark = SUGGESTED_LARK;
    check();
  });
  const json = h("div", { class: "stack" }, presets, schema.wrapped);
  const check = () => {
    json.hidden = output.mode !== "json";
    regex.wrapped.hidden = output.mode !== "regex";
    lark.wrapped.hidden = output.mode !== "lark";
    wrong.textContent = "";
    try {
      constraint();
    } catch (error) {
      wrong.textContent = message(error);
    }
    save();
    changed();
  };
  check();
  return h(
    "div",
    { class: "stack" },
    h("p", { class: "note" }, "Choose a format for the answer. The model can then write only what this format allows."),
    field("The answer is", mode),
    json,
    regex.wrapped,
    lark.wrapped,
    wrong,
  );
}
