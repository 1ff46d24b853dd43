// Makes elements from names, attributes and text. All elements of the page are made here, and no code of the page parses markup, so
// whatever a model, a file name or a server says is shown as text.

export type Child = Node | string | false | undefined;

interface Props {
  class?: string;
  /** Attributes by name. `true` makes an empty attribute, `false` and undefined make none. Only code of the page writes them. */
  attrs?: Record<string, string | boolean | undefined>;
  click?: (event: MouseEvent) => void;
}

/** An element with text and elements in it. */
export function h<K extends keyof HTMLElementTagNameMap>(name: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  if (props.class) element.className = props.class;
  for (const [name, value] of Object.entries(props.attrs ?? {})) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  if (props.click) element.addEventListener("click", props.click as EventListener);
  element.append(...children.filter((child): child is Node | string => child !== false && child !== undefined));
  return element;
}

/** A button with a text and an optional symbol of index.html. If it is `alone`, only the symbol is shown. */
export function button(words: string, click: () => unknown, { symbol, ...props }: { class?: string; symbol?: string; alone?: boolean } = {}) {
  const made = h("button", { ...(props.class && { class: props.class }), attrs: { type: "button" }, click: () => void click() });
  if (symbol) made.append(icon(symbol));
  if (props.alone) made.setAttribute("aria-label", words);
  else made.append(words);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(symbol: string): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", `#i-${symbol}`);
  return svg;
}

/** The element of index.html with this id. */
export function part<E extends HTMLElement = HTMLElement>(id: string, kind?: new () => E): E {
  const element = document.getElementById(id);
  if (element instanceof (kind ?? HTMLElement)) return element as E;
  throw new Error(`index.html has no ${kind?.name ?? "element"} #${id}`);
}

let count = 0;
/** A control with its label. */
export function field<E extends HTMLElement>(label: string, control: E, help?: string): HTMLElement {
  control.id ||= `field-${++count}`;
  const wrapped = h("div", { class: "field" }, h("label", { attrs: { for: control.id } }, label), control);
  if (help) {
    const note = h("p", { class: "help", attrs: { id: `${control.id}-help` } }, help);
    control.setAttribute("aria-describedby", note.id);
    wrapped.append(note);
  }
  return wrapped;
}

export function select<T extends string>(options: Record<T, string>, value: string, change: (value: T) => void): HTMLSelectElement {
  const made = h("select", {}, ...Object.entries<string>(options).map(([value, text]) => h("option", { attrs: { value } }, text)));
  made.value = value in options ? value : (Object.keys(options)[0] ?? "");
  made.addEventListener("change", () => change(made.value as T));
  return made;
}

/** Names and values in two columns. */
export function facts(rows: [name: string, value: string | undefined][]): HTMLElement {
  return h("dl", { class: "rows" }, ...rows.flatMap(([name, value]) => (value ? [h("dt", {}, name), h("dd", {}, value)] : [])));
}

const toast = part("toast");
let leaving: ReturnType<typeof setTimeout> | undefined;

/** Shows a short message for four seconds. */
export function say(text: string): void {
  toast.textContent = text;
  clearTimeout(leaving);
  leaving = setTimeout(() => (toast.textContent = ""), 4000);
}

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser did not allow copying.");
  }
}
