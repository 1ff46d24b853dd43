// `cargo xtask build` puts the module that wasm-bindgen writes here in dist/; src/worker/wasm.ts has its types.
export {};
