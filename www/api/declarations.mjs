// What the package exports, as its sources declare it: names, signatures and doc comments.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import ts from "typescript-api";

import { escape, nodeHtml } from "./code.mjs";

const www = join(dirname(fileURLToPath(import.meta.url)), "..");
/** A signature that would be longer has a line for each parameter. */
const WIDTH = 88;
const TAGS = new Set(["internal", "deprecated", "example", "throws"]);

/** Whose members are OpenAI's own: what is not said about them is what OpenAI says. */
const BORROWED = /\/openai\/types\.ts$/;

/** What can be imported: `fanlight` and what package.json has beside it, with the source of each. */
function entryPoints() {
  const { name, exports } = JSON.parse(readFileSync(join(www, "package.json"), "utf8"));
  const typed = Object.entries(exports).filter(([, to]) => typeof to === "object" && to.types);
  const source = ({ types }) => join(www, types.replace(/^\.\/dist\/(.*)\.d\.ts$/, "$1.ts"));
  return typed.map(([path, to]) => ({ from: join(name, path), file: source(to) }));
}

/**
 * `entries` by name: `{ name, from, kind, signature, doc, members, usedBy }`, members as `{ name, signature, doc }`, signatures in HTML, docs
 * in Markdown. `problems`: what keeps it from being documentation, a sentence each.
 */
export function declarations(points = entryPoints()) {
  const config = ts.readConfigFile(join(www, "tsconfig.json"), ts.sys.readFile).config;
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, www);
  const program = ts.createProgram(points.map(({ file }) => file), { ...options, noEmit: true });
  const checker = program.getTypeChecker();
  const resolved = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
  const [exported, origin] = [new Map(), new Map()];
  for (const { from, file } of points) {
    for (const symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)))) {
      if (exported.has(resolved(symbol))) continue;
      exported.set(resolved(symbol), symbol.name);
      origin.set(symbol.name, from);
    }
  }
  const [entries, problems, uses] = [new Map(), [], new Map()];
  for (const [symbol, name] of exported) {
    const place = (identifier) => placeOf(identifier, name);
    const entry = { name, from: origin.get(name), members: [], ...described(symbol, name, place) };
    if (entry.doc === "") problems.push(`${name} has no doc comment`);
    const borrowed = BORROWED.test(symbol.declarations[0].getSourceFile().fileName);
    for (const member of borrowed ? [] : entry.members) {
      if (member.doc === "" && !member.plain) problems.push(`${name}.${member.name} has no doc comment`);
    }
    entries.set(name, entry);
  }
  for (const entry of entries.values()) entry.usedBy = [...(uses.get(entry.name) ?? [])].filter((name) => name !== entry.name);
  return { entries, problems };

  function described(symbol, name, place) {
    const declaration = symbol.declarations[0];
    const doc = docOf(declaration, name);
    const head = (word) => `<b>${word}</b> <b class="d">${escape(name)}</b>${typeParameters(declaration, place)}`;
    if (ts.isFunctionDeclaration(declaration)) {
      // The implementation of an overloaded function is nobody's to call.
      const callable = symbol.declarations.filter((d) => symbol.declarations.length === 1 || !d.body);
      const signature = callable.map((d) => `<b>function</b> ${callHtml(d, name, place)}`).join("\n");
      return { kind: "function", signature, doc };
    }
    if (ts.isClassDeclaration(declaration) || ts.isInterfaceDeclaration(declaration)) {
      const kind = ts.isClassDeclaration(declaration) ? "class" : "interface";
      const heritage = (declaration.heritageClauses ?? []).map((clause) => ` ${nodeHtml(clause, place)}`).join("");
      // One that says no more than its heading does is not shown.
      const signature = heritage || declaration.typeParameters ? head(kind) + heritage : "";
      return { kind, signature, doc, members: members(declaration.members, name, place) };
    }
    if (ts.isTypeAliasDeclaration(declaration)) {
      const words = wordsOf(declaration.type, place);
      // Where the source has a union begin on a line of its own, perhaps with a comment, so does the page.
      const [space] = /^\s*/.exec(declaration.getSourceFile().text.slice(declaration.type.pos));
      const type = words ? "" : nodeHtml(declaration.type, place, declaration.type.pos + space.length);
      const signature = words ? "" : `${head("type")} =${space.includes("\n") ? `\n${type}`.replaceAll("\n", "\n  ") : ` ${type}`}`;
      return { kind: "type", signature, doc, members: words ?? [] };
    }
    if (ts.isVariableDeclaration(declaration)) {
      const { initializer, type } = declaration;
      const properties = !type && initializer && ts.isObjectLiteralExpression(initializer) ? initializer.properties : undefined;
      if (properties) return { kind: "object", signature: "", doc, members: members(properties, name, place) };
      const typed = type ? nodeHtml(type, place) : checked(checker.getTypeAtLocation(declaration), declaration);
      return { kind: "const", signature: `${head("const")}: ${typed}`, doc };
    }
    throw new Error(`${name}: a ${ts.SyntaxKind[declaration.kind]} cannot be documented yet`);
  }

  /** The members that are anyone's to use. */
  function members(nodes, name, place) {
    const shown = [];
    for (const node of nodes) {
      const modifiers = (ts.canHaveModifiers(node) && ts.getModifiers(node)) || [];
      const hidden = modifiers.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword || kind === ts.SyntaxKind.ProtectedKeyword);
      if (hidden || (node.name && ts.isPrivateIdentifier(node.name)) || isInternal(node) || ts.isSemicolonClassElement(node)) continue;
      if (ts.isSetAccessorDeclaration(node) && nodes.some((n) => ts.isGetAccessorDeclaration(n) && n.name.getText() === node.name.getText())) continue;
      const overloads = isMethod(node) ? nodes.filter((n) => isMethod(n) && n.name.getText() === node.name.getText()) : [];
      if (overloads.length > 1 && node.body) continue;
      const own = ts.isConstructorDeclaration(node) ? "constructor" : (node.name?.getText() ?? node.getText());
      const doc = docOf(node, `${name}.${own}`);
      // `type: "image"` says all there is to say.
      const plain = (node.type && ts.isLiteralTypeNode(node.type)) || (node.initializer && ts.isStringLiteral(node.initializer));
      const before = shown.at(-1);
      const signature = memberHtml(node, own, modifiers, place);
      if (overloads.length > 1 && before?.name === own) {
        before.signature += `\n${signature}`;
        before.doc = [before.doc, doc].filter(Boolean).join("\n\n");
      } else shown.push({ name: own, signature, doc, plain });
    }
    return shown;
  }

  function memberHtml(node, own, modifiers, place) {
    const said = modifiers.filter(({ kind }) => kind === ts.SyntaxKind.StaticKeyword || kind === ts.SyntaxKind.ReadonlyKeyword);
    const before = said.map((modifier) => `<b>${modifier.getText()}</b> `).join("");
    if (isMethod(node)) return before + callHtml(node, own, place);
    if (ts.isConstructorDeclaration(node)) return `<b>new</b> ${callHtml(node, node.parent.name.text, place)}`;
    if (ts.isCallSignatureDeclaration(node) || ts.isIndexSignatureDeclaration(node)) return nodeHtml(node, place).replace(/;$/, "");
    const readonly = ts.isGetAccessorDeclaration(node) ? `<b>readonly</b> ` : before;
    const optional = node.questionToken ? "?" : "";
    const type = node.type ? typeHtml(node.type, place) : checked(checker.getTypeAtLocation(node), node);
    return `${readonly}<b class="d">${escape(own)}</b>${optional}: ${type}`;
  }

  /** A type as it is written, but a long object has a line for each of its members. */
  function typeHtml(type, place) {
    const text = type.getText();
    if (!ts.isTypeLiteralNode(type) || text.includes("\n") || text.length < WIDTH - 16) return nodeHtml(type, place);
    return `{\n${type.members.map((m) => `  ${nodeHtml(m, place).replace(/;$/, "")};\n`).join("")}}`;
  }

  /** Name, parameters and result, without a body. A parameter with a default is one that may be left out. */
  function callHtml(node, name, place) {
    const parameters = node.parameters.map((parameter) => {
      const optional = parameter.questionToken || parameter.initializer ? "?" : "";
      const type = parameter.type ? nodeHtml(parameter.type, place) : checked(checker.getTypeAtLocation(parameter), node);
      const own = ts.isIdentifier(parameter.name) ? parameter.name.text : "options";
      return `${parameter.dotDotDotToken ? "..." : ""}${escape(own)}${optional}: ${type}`;
    });
    const result = node.type
      ? nodeHtml(node.type, place)
      : ts.isConstructorDeclaration(node)
        ? ""
        : checked(checker.getReturnTypeOfSignature(checker.getSignatureFromDeclaration(node)), node);
    const open = `<b class="d">${escape(name)}</b>${typeParameters(node, place)}(`;
    const close = result === "" ? ")" : `): ${result}`;
    const line = `${open}${parameters.join(", ")}${close}`;
    const long = line.replace(/<[^>]*>/g, "").length > WIDTH && parameters.length > 0;
    return long ? `${open}\n${parameters.map((p) => `  ${p.replaceAll("\n", "\n  ")},\n`).join("")}${close}` : line;
  }

  function typeParameters(node, place) {
    const parameters = (node.typeParameters ?? []).map((parameter) => nodeHtml(parameter, place));
    return parameters.length > 0 ? `${escape("<")}${parameters.join(", ")}${escape(">")}` : "";
  }

  /** A union of words of which each has a line, with what it means at its end, as members. */
  function wordsOf(type, place) {
    if (!ts.isUnionTypeNode(type) || !type.types.every((t) => ts.isLiteralTypeNode(t))) return undefined;
    const text = type.getSourceFile().text;
    const words = type.types.map((word) => {
      const doc = /^;?[^\S\n]*\/\/ ?(.*)/.exec(text.slice(word.end))?.[1] ?? "";
      return { name: word.literal.text, signature: nodeHtml(word, place), doc };
    });
    return words.some(({ doc }) => doc !== "") ? words : undefined;
  }

  function checked(type, node) {
    const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope;
    const file = ts.createSourceFile("type.ts", `type T = ${checker.typeToString(type, node, flags)}`, ts.ScriptTarget.Latest, true);
    const names = [...exported.values()];
    return nodeHtml(file.statements[0].type, ({ text }) => (names.includes(text) ? `#${text}` : undefined));
  }

  /** The section of a type of ours, the page on MDN of one that browsers have. */
  function placeOf(identifier, from) {
    if (!isReference(identifier)) return undefined;
    const found = checker.getSymbolAtLocation(identifier);
    const symbol = found && resolved(found);
    const declaration = symbol?.declarations?.[0];
    if (!declaration || ts.isTypeParameterDeclaration(declaration)) return undefined;
    const name = exported.get(symbol);
    if (name !== undefined) {
      if (!uses.has(name)) uses.set(name, new Set());
      uses.get(name).add(from);
      return `#${name}`;
    }
    const file = declaration.getSourceFile();
    if (!program.isSourceFileDefaultLibrary(file)) {
      problems.push(`${from} names ${symbol.name}, which is not exported`);
      return undefined;
    }
    // What is only a type (a dictionary, an alias) has no page.
    if (!(symbol.flags & ts.SymbolFlags.Value) || ts.isQualifiedName(identifier.parent)) return undefined;
    const kind = /lib\.dom\b/.test(file.fileName) ? "API" : "JavaScript/Reference/Global_Objects";
    return `https://developer.mozilla.org/docs/Web/${kind}/${symbol.name}`;
  }

  function docOf(node, name) {
    const holder = ts.isVariableDeclaration(node) ? node.parent.parent : node;
    const comment = (holder.jsDoc ?? []).at(-1);
    if (!comment) return "";
    for (const { tagName } of comment.tags ?? []) {
      if (!TAGS.has(tagName.text)) problems.push(`${name} uses @${tagName.text}, which the page does not show`);
    }
    const tags = (comment.tags ?? []).map((tag) => tagged(tag.tagName.text, ts.getTextOfJSDocComment(tag.comment) ?? ""));
    return [ts.getTextOfJSDocComment(comment.comment) ?? "", ...tags].filter(Boolean).join("\n\n");
  }
}

const isMethod = (node) => ts.isMethodDeclaration(node) || ts.isMethodSignature(node);

function tagged(name, text) {
  return { deprecated: `**Deprecated.** ${text}`, throws: `**Throws** ${text}`, example: text }[name] ?? "";
}

function isInternal(node) {
  return ts.getJSDocTags(node).some(({ tagName }) => tagName.text === "internal");
}

/** Whether an identifier names a type here, and is not a name that is given here. */
function isReference(identifier) {
  const { parent } = identifier;
  return ts.isTypeReferenceNode(parent) || ts.isExpressionWithTypeArguments(parent) || ts.isTypeQueryNode(parent) || ts.isQualifiedName(parent);
}
