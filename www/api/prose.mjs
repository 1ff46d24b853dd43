// The Markdown that doc comments and page.md use, as HTML: headings, paragraphs, lists, fences, `code`, **bold**, *emphasis* and
// links. All else is text, and all text is escaped.

import ts from "typescript-api";

import { escape, textHtml } from "./code.mjs";

/** `place(name)`: the address of `Session`, `Session.prompt` or `load()`, if there is one. */
export function prose(text, place) {
  return blocks(text).map((block) => html(block, place)).join("\n");
}

/** What a text is made of, in order. */
export function blocks(text) {
  const found = [];
  const lines = text.split("\n");
  while (lines.length > 0) {
    const line = lines.shift();
    const fence = /^```(\w*)$/.exec(line.trim());
    const last = found.at(-1);
    if (fence) {
      const end = lines.findIndex((l) => l.trim() === "```");
      if (end < 0) throw new Error(`a fence is not closed: ${line} ${lines[0]}`);
      found.push({ kind: "code", language: fence[1], text: lines.splice(0, end + 1).slice(0, -1).join("\n") });
    } else if (/^#+ /.test(line)) {
      const [, marks, title] = /^(#+) (.*)$/.exec(line);
      found.push({ kind: "heading", level: marks.length, text: title });
    } else if (/^ *- /.test(line)) {
      const item = line.replace(/^ *- /, "");
      if (last?.kind === "list" && last.open) last.items.push(item);
      else found.push({ kind: "list", items: [item], open: true });
    } else if (line.trim() === "") {
      if (last) last.open = false;
    } else if (last?.open && last.kind === "list") {
      last.items[last.items.length - 1] += ` ${line.trim()}`;
    } else if (last?.open && last.kind === "paragraph") {
      last.text += `\n${line}`;
    } else {
      found.push({ kind: "paragraph", text: line, open: true });
    }
  }
  return found;
}

function html(block, place) {
  switch (block.kind) {
    case "code": {
      const code = /^(ts|js)$/.test(block.language) ? textHtml(block.text, (name) => placeInCode(name, place)) : escape(block.text);
      return `<pre tabindex="0"><code>${code}</code></pre>`;
    }
    case "heading":
      return `<h${block.level}>${inline(block.text, place)}</h${block.level}>`;
    case "list":
      return `<ul>${block.items.map((item) => `<li>${inline(item, place)}</li>`).join("")}</ul>`;
    default:
      return `<p>${inline(block.text, place)}</p>`;
  }
}

/** In an example what the package exports is a link where it is imported or used, not where something else has its name. */
function placeInCode(identifier, place) {
  const { parent } = identifier;
  const used = ts.isImportSpecifier(parent) || ts.isTypeReferenceNode(parent) || parent.expression === identifier || parent.right === identifier;
  return used ? place(identifier.text) : undefined;
}

export function inline(text, place) {
  const pattern = /(`+)(.+?)\1|\*\*(.+?)\*\*|\*(?! )(.+?)\*|\[([^\]]+)\]\(((?:https:|#|\.)[^)\s]*)\)/gs;
  let [out, end] = ["", 0];
  for (const match of text.matchAll(pattern)) {
    const [all, , code, bold, emphasis, label, address] = match;
    out += escape(text.slice(end, match.index));
    end = match.index + all.length;
    if (code !== undefined) {
      const href = place(code.replace(/\(\)$/, ""));
      const inner = `<code>${escape(code.replaceAll("\n", " "))}</code>`;
      out += href === undefined ? inner : `<a href="${escape(href)}">${inner}</a>`;
    } else if (bold !== undefined) out += `<strong>${inline(bold, place)}</strong>`;
    else if (emphasis !== undefined) out += `<em>${inline(emphasis, place)}</em>`;
    else out += `<a href="${escape(address)}">${inline(label, place)}</a>`;
  }
  return out + escape(text.slice(end));
}
