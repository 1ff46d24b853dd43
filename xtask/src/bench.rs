//! `cargo xtask bench`: measures loading and answering in headless Chromium. `cargo xtask soak`: has a model answer hundreds of prompts
//! there, and fails if its memory grows.

use std::path::PathBuf;

use crate::process::{command, run};
use crate::serve::Server;
use crate::{Outcome, USAGE, setup, site};

pub fn bench(args: &[String]) -> Outcome {
    with_model("tests/web/bench.mjs", &["--tokens", "--weights"], args)
}

pub fn soak(args: &[String]) -> Outcome {
    with_model("tests/web/soak.mjs", &["--prompts", "--pictures", "--aborts"], args)
}

/// Runs a script with the page and a model served. The script gets the model's address, and the options in `known` as they are.
fn with_model(script: &str, known: &[&str], args: &[String]) -> Outcome {
    let (mut model, mut passed) = (PathBuf::from("models/screen-reader"), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--model" => model = PathBuf::from(value()?),
            option if known.contains(&option) => passed.extend([arg.clone(), value()?.clone()]),
            _ => return Err(format!("`{arg}` was not expected\n\n{USAGE}")),
        }
    }
    let model = std::fs::canonicalize(&model).map_err(|e| format!("{}: {e}", model.display()))?;
    let tools = setup::setup()?;
    // Serve the whole folder of a file, since a GGUF model may have a vision tower beside it.
    let (folder, name) = match model.file_name().filter(|_| model.is_file()).and_then(|name| name.to_str()) {
        Some(name) => (model.parent().unwrap_or(&model).to_owned(), name.to_owned()),
        None => (model, String::new()),
    };
    let server = Server::start(
        vec![
            ("/".to_owned(), site::build(&tools)?),
            ("/bench/".to_owned(), folder),
            ("/blank/".to_owned(), crate::process::root().join("tests/web/support/blank")),
        ],
        8887,
    )?;
    let mut node = command("node");
    node.arg(script).arg(format!("/bench/{name}")).args(passed);
    run(node.env("FANLIGHT_CHROMIUM", tools.chromium).env("FANLIGHT_URL", server.url()))
}
