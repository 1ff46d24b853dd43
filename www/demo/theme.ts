// Chooses the colours of the page: light, dark, or those of the system.

import { part } from "./base/dom.js";
import { save, settings } from "./base/settings.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" } as const;
const WORDS = { auto: "as the system", light: "light", dark: "dark" };

export function startTheme(): void {
  const toggle = part("theme");
  const show = () => {
    document.documentElement.dataset["theme"] = settings.theme;
    toggle.ariaLabel = toggle.title = `Colours: ${WORDS[settings.theme]}`;
  };
  toggle.onclick = () => {
    settings.theme = NEXT[settings.theme];
    save();
    show();
  };
  show();
}
