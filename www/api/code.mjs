// TypeScript as HTML: coloured, and every name that has a place is a link to it. Everything is escaped here.

import ts from "typescript-api";

export const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const PRIMITIVES = new Set(["string", "number", "boolean", "unknown", "never", "void", "undefined", "null", "any", "object"]);

/** A node of a parsed file, `from` its start or earlier. `place(identifier)`: the address that a name leads to, if it has one. */
export function nodeHtml(node, place, from = node.getStart()) {
  const file = node.getSourceFile();
  const line = file.text.slice(file.getPositionOfLineAndCharacter(file.getLineAndCharacterOfPosition(from).line, 0));
  const indent = /^ */.exec(line)[0];
  let [html, end] = ["", from];
  for (const leaf of leaves(node, file)) {
    html += trivia(file.text.slice(end, leaf.getStart()), indent) + token(leaf, place);
    end = leaf.end;
  }
  return html;
}

/** Source text that stands alone: a fenced block, or a type that the checker wrote. */
export function textHtml(text, place) {
  const file = ts.createSourceFile("text.ts", text, ts.ScriptTarget.Latest, true);
  let [html, end] = ["", 0];
  for (const leaf of leaves(file, file)) {
    html += trivia(text.slice(end, leaf.getStart()), "") + token(leaf, place);
    end = leaf.end;
  }
  return html;
}

function* leaves(node, file) {
  if (ts.isJSDoc(node)) return;
  const children = node.getChildren(file).filter((child) => !ts.isJSDoc(child));
  if (children.length === 0) yield node;
  for (const child of children) yield* leaves(child, file);
}

/** What lies between tokens: space, which keeps its lines, and comments. */
function trivia(text, indent) {
  const shifted = text.replaceAll(`\n${indent}`, "\n");
  return shifted.replace(/(\/\/.*|\/\*[^]*?\*\/)|[^/]+|\//g, (all, comment) =>
    comment === undefined ? escape(all) : `<i>${escape(comment.replace(/^\/\*\* (.*) \*\/$/, "// $1"))}</i>`,
  );
}

function token(leaf, place) {
  const text = escape(leaf.getText());
  const { kind } = leaf;
  if (PRIMITIVES.has(text) && kind !== ts.SyntaxKind.Identifier) return `<b class="t">${text}</b>`;
  if (kind >= ts.SyntaxKind.FirstKeyword && kind <= ts.SyntaxKind.LastKeyword) return `<b>${text}</b>`;
  if (ts.isStringLiteralLike(leaf) || ts.isTemplateLiteralToken(leaf) || kind === ts.SyntaxKind.RegularExpressionLiteral) {
    return `<b class="s">${text}</b>`;
  }
  if (kind === ts.SyntaxKind.NumericLiteral) return `<b class="n">${text}</b>`;
  const href = kind === ts.SyntaxKind.Identifier ? place(leaf) : undefined;
  return href === undefined ? text : `<a href="${escape(href)}">${text}</a>`;
}
