// The kernels in a real browser: every shader exactly as assembled compiles, and the table of cases that the native
// tests run against the plain f64 references passes here as well.

import assert from "node:assert/strict";
import { test } from "node:test";

import { open, withBrowser } from "../support/helpers.mjs";

withBrowser();

const inWasm = (body) => `(async () => {
  const wasm = await import("/kernel-tests/fanlight_kernel_tests.js");
  await wasm.default({ module_or_path: "/kernel-tests/fanlight_kernel_tests_bg.wasm" });
  return (${body})(wasm);
})()`;

test("every assembled shader compiles and makes a pipeline", async (t) => {
  const page = await open(t);
  const failures = await page.evaluate(
    inWasm(`async (wasm) => {
      const shaders = JSON.parse(wasm.shader_sources());
      const adapter = await navigator.gpu.requestAdapter();
      const wanted = ["shader-f16", "subgroups"].filter((feature) => adapter.features.has(feature));
      const device = await adapter.requestDevice({ requiredFeatures: wanted });
      const failures = [];
      for (const { name, source, entry, constants, f16 } of shaders) {
        if (f16 && !wanted.includes("shader-f16")) continue;
        const module = device.createShaderModule({ code: source });
        const { messages } = await module.getCompilationInfo();
        const errors = messages.filter(({ type }) => type === "error").map(({ lineNum, message }) => lineNum + ": " + message);
        const compute = { module, entryPoint: entry, constants };
        if (errors.length === 0) {
          await device.createComputePipelineAsync({ layout: "auto", compute }).catch((e) => errors.push(e.message));
        }
        if (errors.length > 0) failures.push(name + " " + entry + ": " + errors.join("; "));
      }
      return { count: shaders.length, failures };
    }`),
  );
  assert.deepEqual(failures.failures, []);
  assert.ok(failures.count > 0, "there are shaders to compile");
});

test("every kernel agrees with its reference", async (t) => {
  const page = await open(t);
  const cases = JSON.parse(await page.evaluate(inWasm("(wasm) => wasm.kernel_tests()")));
  assert.ok(cases.length > 0, "there are cases to run");
  const failed = cases.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);
  assert.deepEqual(failed, []);
  t.diagnostic(`${cases.length} cases`);
});
