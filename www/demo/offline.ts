// Lets the page work without a network: a service worker keeps one complete version of it (sw.js).

import { button, h, part } from "./base/dom.js";

export function startOffline(): void {
  const mark = part("offline-mark");
  const show = () => {
    mark.hidden = navigator.onLine;
    mark.title = "You are offline. This page and the models that are kept on this device still work.";
  };
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
  if ("serviceWorker" in navigator) void register();
}

async function register(): Promise<void> {
  try {
    const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
    // A version that was downloaded on an earlier visit may take over at once, because nothing has begun on this page yet.
    if (registration.waiting && navigator.serviceWorker.controller) return void takeOver(registration.waiting, false);
    registration.addEventListener("updatefound", () => {
      const next = registration.installing;
      next?.addEventListener("statechange", () => {
        if (next.state === "installed" && navigator.serviceWorker.controller) offer(next);
      });
    });
  } catch {
    // Without a service worker (in a private window, or without sw.js) the page still works online.
  }
}

function offer(next: ServiceWorker): void {
  const bar = h("div", { attrs: { id: "update", role: "status" } }, h("span", {}, "A new version of this page is ready."));
  bar.append(button("Use it", () => takeOver(next, true), { class: "small" }));
  bar.append(button("Later", () => bar.remove(), { class: "small quiet" }));
  document.body.append(bar);
}

/** The new version takes over when this is the only tab: two versions never work on one page. */
function takeOver(next: ServiceWorker, asked: boolean): void {
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  const answer = new MessageChannel();
  answer.port1.onmessage = ({ data }) => {
    if (data !== "others") return;
    if (asked) part("update").firstElementChild?.replaceChildren("Close the other tabs of this page first.");
    else offer(next);
  };
  next.postMessage("take over", [answer.port2]);
}
