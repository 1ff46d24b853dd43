// Finds out whether this browser can run models. Uses no network.

import { FanlightError } from "../errors.js";
import type { AdapterInfo, Support } from "../types.js";

// Only the parts of WebGPU that are used here, so that the package does not depend on a version of WebGPU's types.
interface Adapter {
  features: ReadonlySet<string>;
  limits: Record<string, number>;
  info: { vendor: string; architecture: string; description: string; isFallbackAdapter?: boolean };
  isFallbackAdapter?: boolean;
}
interface Gpu {
  requestAdapter(options?: { powerPreference?: "high-performance" }): Promise<Adapter | null>;
}

const LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize", "maxComputeWorkgroupStorageSize"] as const;

/** Whether this browser can run models, and if not, why. Uses no network and loads nothing. */
export async function support(): Promise<Support> {
  if (!globalThis.isSecureContext) {
    return none(INSECURE, OVER_HTTPS);
  }
  const gpu = (navigator as { gpu?: Gpu }).gpu;
  if (!gpu) return none("this browser has no WebGPU", BROWSERS);
  let adapter: Adapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return none(`WebGPU answered with an error: ${String(error)}`, NO_ADAPTER);
  }
  if (!adapter) return none("this browser has WebGPU, but no graphics adapter is available", NO_ADAPTER);
  const limits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name] ?? 0]));
  return { webgpu: true, adapter: adapterInfo(adapter), limits };
}

/**
 * Throws on a page that was loaded over plain http from another machine. Browsers hide WebGPU, locks and private files from such a
 * page, so that everything would fail later and with worse words.
 */
export function requireSecure(): void {
  if (!globalThis.isSecureContext) throw new FanlightError("webgpu_unavailable", INSECURE, OVER_HTTPS);
}

const INSECURE = "this page was not loaded securely";
const OVER_HTTPS = "Open it over https, or from localhost.";

function adapterInfo(adapter: Adapter): AdapterInfo {
  const { vendor, architecture, description } = adapter.info;
  const software =
    adapter.info.isFallbackAdapter ??
    adapter.isFallbackAdapter ??
    /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${description}`);
  const [f16, subgroups] = [adapter.features.has("shader-f16"), adapter.features.has("subgroups")];
  return { vendor, architecture, description, software, f16, subgroups };
}

function none(reason: string, hint: string): Support {
  return { webgpu: false, reason, hint };
}

const BROWSERS =
  "Use a recent Chrome or Edge (113 or newer), Safari 26, or Firefox 141 on Windows and 145 on macOS. " +
  "On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.";
const NO_ADAPTER =
  "Turn on hardware acceleration in the browser's settings, update the graphics driver, and reload. " +
  "After a crash of the graphics process the whole browser may have to be restarted.";
