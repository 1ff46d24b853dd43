//! `bindgen IN.wasm OUT_DIR`: writes `fanlight.js`, `fanlight.d.ts` and `fanlight_bg.wasm` for the browser.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(input), Some(out), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: bindgen IN.wasm OUT_DIR");
        return ExitCode::FAILURE;
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    let result = bindgen
        .web(true)
        .map(|b| b.input_path(input).out_name("fanlight").typescript(true).remove_producers_section(true))
        .and_then(|b| b.generate(out));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bindgen: {e:#}");
            ExitCode::FAILURE
        }
    }
}
