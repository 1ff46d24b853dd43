// Constraints, as the worker uses them: a separate wasm module, which is downloaded when a prompt first has a constraint.

import { errorFields, FanlightError } from "../errors.js";
import { fetched, unusable } from "../shared/wasm-file.js";
import type { GrammarModule, WasmConstraint, WasmEngine, WasmGrammar } from "./wasm.js";

export class Grammars {
  readonly #engine: WasmEngine;
  #grammar: Promise<WasmGrammar> | undefined;
  /** The wasm trap that ended the module. After a trap it must not be used again. */
  #ended: unknown;

  constructor(engine: WasmEngine) {
    this.#engine = engine;
  }

  /** A constraint for one answer, from what `WasmEngine.constraint` returned. */
  async constraint(spec: string): Promise<WasmConstraint> {
    this.#grammar ??= load(this.#engine).catch((error: unknown) => {
      this.#grammar = undefined;
      throw error;
    });
    const grammar = await this.#grammar;
    const made = this.#run(() => grammar.constraint(spec));
    return {
      mask: () => this.#run(() => made.mask()),
      allows: (id) => this.#run(() => made.allows(id)),
      commit: (id) => this.#run(() => made.commit(id)),
      complete: () => this.#run(() => made.complete()),
      free: () => {
        if (!this.#ended) made.free();
      },
    };
  }

  #run<T>(work: () => T): T {
    if (!this.#ended) {
      try {
        return work();
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error;
        this.#ended = error;
      }
    }
    const message = `constraints have stopped working: ${errorFields(this.#ended).message}`;
    throw new FanlightError("internal", message, "Load the model again, and make the constraint simpler.");
  }
}

async function load(engine: WasmEngine): Promise<WasmGrammar> {
  // Bundlers recognise both expressions and copy the files. An import that they follow would split the worker, which Vite up
  // to version 7 cannot do with its default settings.
  const url = new URL("../../wasm/fanlight_grammar_bg.wasm", import.meta.url).href;
  const script = new URL("../../wasm/fanlight_grammar.js", import.meta.url).href;
  let module: GrammarModule;
  try {
    module = (await import(/* @vite-ignore */ /* webpackIgnore: true */ script)) as GrammarModule;
  } catch (error) {
    const message = `the module for constrained answers could not be loaded: ${String(error)}`;
    throw new FanlightError("network", message, "Check the connection, then try again.", true);
  }
  const wasm = await fetched(url);
  try {
    await module.default({ module_or_path: wasm });
  } catch (error) {
    throw unusable(url, error);
  }
  const { bytes, ends, control, stop } = engine.vocabulary();
  return new module.Grammar(bytes, ends, control, stop);
}
