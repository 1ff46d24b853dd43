// The options, in tabs. They stand beside the conversation, or over it on a small screen.

import { h, part } from "../base/dom.js";

export interface Page {
  id: string;
  name: string;
  content: HTMLElement;
  /** Called when it comes into view. */
  shown?: () => void;
}

const panel = part("panel");
const toggle = part("panel-toggle", HTMLButtonElement);

let choose: (id: string, focus?: boolean) => void = () => {};

export function startPanel(pages: Page[]): void {
  const tabs = pages.map(({ id, name }) =>
    h("button", { attrs: { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `page-${id}` } }, name),
  );
  const bodies = pages.map(({ id, content }) =>
    h("div", { attrs: { role: "tabpanel", id: `page-${id}`, "aria-labelledby": `tab-${id}`, tabindex: "0" } }, content),
  );
  choose = (id, focus = false) => {
    for (const [index, page] of pages.entries()) {
      const on = page.id === id;
      const [tab, body] = [tabs[index], bodies[index]];
      if (!tab || !body) continue;
      tab.ariaSelected = String(on);
      tab.tabIndex = on ? 0 : -1;
      body.hidden = !on;
      if (on) page.shown?.();
      if (on && focus) tab.focus();
    }
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(pages[index]?.id ?? ""));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(pages.at(to % tabs.length)?.id ?? "", true);
    });
  }
  part("tabs").append(...tabs);
  part("pages").append(...bodies);
  choose(pages[0]?.id ?? "");
  toggle.onclick = () => (panel.hidden ? openPanel() : closePanel());
  part("panel-close").onclick = closePanel;
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closePanel();
  });
}

export function openPanel(id?: string): void {
  panel.hidden = false;
  document.body.classList.add("panel-open");
  toggle.ariaExpanded = "true";
  const at = id ?? panel.querySelector<HTMLElement>("[aria-selected=true]")?.id.replace("tab-", "") ?? "";
  choose(at, true);
}

function closePanel(): void {
  panel.hidden = true;
  document.body.classList.remove("panel-open");
  toggle.ariaExpanded = "false";
  toggle.focus();
}
