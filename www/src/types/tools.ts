// Tools that a model may ask to be called, and what an answer may be.

/** A JSON schema. */
export type JsonSchema = Record<string, unknown>;

/** Something that the model may ask to be called, in OpenAI's form. */
export interface Tool {
  type: "function";
  /** What it is, in words that the model reads. */
  function: {
    name: string;
    description?: string;
    /** A schema of its arguments, which are an object. */
    parameters?: JsonSchema;
    /** Arguments can be nothing but what the schema allows. */
    strict?: boolean;
  };
}

/** What a model asks to be called. */
export interface ToolCall {
  /** Made here: the answer names it as `toolCallId`. */
  id: string;
  /** A `function.name` of the tools. */
  name: string;
  /** As the model wrote them, parsed. */
  arguments: Record<string, unknown>;
}

/** Whether the model calls a tool: as it likes, never, at least one, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/** What an answer may be: JSON of a schema, a text that a regular expression matches as a whole, or a grammar in llguidance's Lark. */
export type ResponseConstraint = JsonSchema | RegExp | { lark: string };
