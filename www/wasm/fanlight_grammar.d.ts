// `cargo xtask build` puts the module that wasm-bindgen writes here in dist/; src/wasm.ts has its types.
export {};
