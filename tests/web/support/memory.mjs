// The memory of a page's workers, where the engine is.

/** Asks every worker of the page for the size of its heap, ten times a second. `peak` is the largest seen, `now` the last sum; `stop` ends it. */
export async function watchWorkers(page) {
  const cdp = await page.context().newCDPSession(page);
  const sessions = new Map();
  const peak = { js: 0, buffers: 0 };
  let id = 0;
  cdp.on("Target.attachedToTarget", ({ sessionId }) => sessions.set(sessionId, { js: 0, buffers: 0 }));
  cdp.on("Target.detachedFromTarget", ({ sessionId }) => sessions.delete(sessionId));
  cdp.on("Target.receivedMessageFromTarget", ({ sessionId, message }) => {
    const { usedSize, backingStorageSize } = JSON.parse(message).result ?? {};
    if (usedSize === undefined) return;
    sessions.set(sessionId, { js: usedSize, buffers: backingStorageSize });
    peak.js = Math.max(peak.js, usedSize);
    peak.buffers = Math.max(peak.buffers, backingStorageSize);
  });
  await cdp.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const timer = setInterval(() => {
    for (const sessionId of sessions.keys()) {
      const message = JSON.stringify({ id: ++id, method: "Runtime.getHeapUsage" });
      cdp.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => {});
    }
  }, 100);
  const now = () => [...sessions.values()].reduce((sum, { js, buffers }) => ({ js: sum.js + js, buffers: sum.buffers + buffers }), { js: 0, buffers: 0 });
  return { peak, now, stop: () => clearInterval(timer) };
}
