//! `bindgen IN.wasm OUT_DIR`: writes `IN.js`, `IN.d.ts` and `IN_bg.wasm` for the browser.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(input), Some(out), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: bindgen IN.wasm OUT_DIR");
        return ExitCode::FAILURE;
    };
    let name = std::path::Path::new(&input).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    let result = bindgen
        .web(true)
        .map(|b| b.input_path(input).out_name(&name).typescript(true))
        // Leave out the names of functions, which are an eighth of the file. A panic prints its message without them.
        .map(|b| b.remove_name_section(true).remove_producers_section(true))
        .and_then(|b| b.generate(out));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bindgen: {e:#}");
            ExitCode::FAILURE
        }
    }
}
