// Two tools that the page itself runs when the model asks for them. Both only compute.

import type { Tool, ToolCall } from "../../src/index.js";

export const TOOLS: Tool[] = [
  {
    type: "function",
    function: {
      name: "calculator",
      description: "Evaluates an arithmetic expression and gives its value.",
      parameters: {
        type: "object",
        properties: { expression: { type: "string", description: "Numbers, + - * / % ^ and parentheses." } },
        required: ["expression"],
        additionalProperties: false,
      },
    },
  },
  {
    type: "function",
    function: {
      name: "current_time",
      description: "Gives the date and the time where the user is.",
      parameters: { type: "object", properties: {}, additionalProperties: false },
    },
  },
];

/** What a call gives: always a text, also where something is wrong with it, so that the model can tell. */
export function runTool({ name, arguments: given }: ToolCall): string {
  try {
    if (name === "calculator") return String(evaluate(String(given["expression"] ?? "")));
    if (name === "current_time") return new Date().toString();
    return `Error: there is no tool "${name}".`;
  } catch (error) {
    return `Error: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Arithmetic by precedence climbing; no code is ever run. */
export function evaluate(expression: string): number {
  if (expression.length > 500) throw new Error("the expression is too long");
  const tokens = expression.match(/\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|\*\*|[-+*/%^()]|\S/gi) ?? [];
  let at = 0;
  const next = () => tokens[at];
  const STRENGTH: Record<string, number> = { "+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3, "**": 3 };

  function unary(): number {
    const token = tokens[at++];
    if (token === "-") return -binary(3);
    if (token === "+") return unary();
    if (token === "(") {
      const value = binary(1);
      if (tokens[at++] !== ")") throw new Error("a ) is missing");
      return value;
    }
    if (token === undefined || !/^[\d.]/.test(token)) throw new Error(`a number was expected, not ${token ? `"${token}"` : "the end"}`);
    return Number(token);
  }

  function binary(least: number): number {
    let left = unary();
    for (let token = next(); token !== undefined; token = next()) {
      const strength = Object.hasOwn(STRENGTH, token) ? (STRENGTH[token] ?? 0) : 0;
      if (strength < least) break;
      at++;
      // Powers go from right to left.
      const right = binary(strength === 3 ? 3 : strength + 1);
      left = apply(token, left, right);
    }
    return left;
  }

  const value = binary(1);
  if (at < tokens.length) throw new Error(`"${next()}" was not expected`);
  return value;
}

function apply(operator: string, left: number, right: number): number {
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "/":
      return left / right;
    case "%":
      return left % right;
    default:
      return left ** right;
  }
}
