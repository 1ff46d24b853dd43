// The tools that a model may call, and the constraints on its answer.

/** A JSON schema. */
export type JsonSchema = Record<string, unknown>;

/** A tool that the model may call, in OpenAI's form. Your code runs the tool. */
export interface Tool {
  type: "function";
  /** The name, description and parameters of the tool. The model reads all of them. */
  function: {
    name: string;
    description?: string;
    /** A JSON schema of the arguments. They are always an object. */
    parameters?: JsonSchema;
    /** Force the model to write only arguments that match the schema. */
    strict?: boolean;
  };
}

/** A tool call that the model makes. */
export interface ToolCall {
  /** An id that Fanlight makes for the call. The message with the result names it as `toolCallId`. */
  id: string;
  /** The `function.name` of the tool. */
  name: string;
  /** The arguments, parsed from the JSON that the model wrote. */
  arguments: Record<string, unknown>;
  /**
   * The arguments as the model wrote them, as JSON. JavaScript rounds whole numbers above 2^53, such as long ids, in `arguments`, but not
   * here. A call in a message of yours does not need this field; if it is there, the model is shown this text.
   */
  argumentsText?: string;
}

/**
 * Whether the model calls a tool: "auto", if it decides to; "none", never; "required", at least one; or the tool with this
 * name.
 */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/**
 * What the answer must be: JSON that matches a schema, text that a regular expression matches as a whole, or text of a
 * grammar in llguidance's Lark format.
 */
export type ResponseConstraint = JsonSchema | RegExp | { lark: string };
