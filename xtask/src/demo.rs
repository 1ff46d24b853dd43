//! `cargo xtask demo`: serves the page on localhost, or asks one question in a headless browser.

use std::path::PathBuf;

use crate::process::{command, run};
use crate::serve::Server;
use crate::{Outcome, USAGE, setup, site};

struct Options {
    headless: bool,
    port: u16,
    model: Option<PathBuf>,
    image: Option<PathBuf>,
    ask: Option<String>,
}

pub fn demo(args: &[String]) -> Outcome {
    let options = options(args)?;
    let tools = setup::setup()?;
    let mut mounts = vec![("/".to_owned(), site::build(&tools)?)];
    let mut query = "";
    if let Some(folder) = options.model {
        mounts.push(("/models/yours/".to_owned(), folder));
        query = "?model=models/yours/";
    }
    let server = Server::with_headers(mounts, &[("Content-Security-Policy", site::policy()?)], options.port)?;
    let address = format!("{}{query}", server.url());
    if options.headless {
        let mut node = command("node");
        node.arg("tests/web/ask.mjs").arg(address).env("FANLIGHT_CHROMIUM", tools.chromium);
        node.args(options.image.iter().flat_map(|file| ["--image".into(), file.as_os_str().to_owned()]));
        node.args(options.ask.iter().flat_map(|text| ["--ask", text.as_str()]));
        return run(&mut node);
    }
    println!("\nFanlight's demo: {address}\n(Ctrl+C stops it)");
    server.forever();
    Ok(())
}

fn options(args: &[String]) -> Outcome<Options> {
    let mut options = Options { headless: false, port: 8787, model: None, image: None, ask: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--headless" => options.headless = true,
            "--port" => options.port = value()?.parse().map_err(|_| "--port takes a number up to 65535".to_owned())?,
            "--model" => options.model = Some(existing(value()?)?),
            "--image" => options.image = Some(existing(value()?)?),
            "--ask" => options.ask = Some(value()?.clone()),
            _ => return Err(format!("`{arg}` was not expected\n\n{USAGE}")),
        }
    }
    if !options.headless && (options.image.is_some() || options.ask.is_some()) {
        return Err("--image and --ask need --headless".into());
    }
    Ok(options)
}

/// Makes a path absolute. It is relative to the current folder, not to the repository.
fn existing(text: &str) -> Outcome<PathBuf> {
    std::fs::canonicalize(text).map_err(|e| format!("{text}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Outcome<Options> {
        options(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_checked() {
        let all = parse(&["--headless", "--port", "9000", "--ask", "why?"]).ok().unwrap();
        assert!(all.headless && all.port == 9000 && all.ask.as_deref() == Some("why?"));
        for bad in [&["--port"][..], &["--port", "70000"], &["--image", "no such file"], &["--ask", "x"], &["x"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
