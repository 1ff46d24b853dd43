// The worker's side of constraints: a wasm module of its own, fetched when a prompt first has one.

import { errorFields, FanlightError } from "../errors.js";
import { fetched, unusable } from "../shared/wasm-file.js";
import type { GrammarModule, WasmConstraint, WasmEngine, WasmGrammar } from "./wasm.js";

export class Grammars {
  readonly #engine: WasmEngine;
  #grammar: Promise<WasmGrammar> | undefined;
  /** What ended the module: a trap, after which it must not be used. */
  #ended: unknown;

  constructor(engine: WasmEngine) {
    this.#engine = engine;
  }

  /** A constraint of one answer, of what `WasmEngine.constraint` gave. */
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
  // Both expressions are ones that bundlers copy files by. An import that they follow would split the worker, which Vite up to 7
  // cannot as it makes workers unless told otherwise.
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
