//! `cargo xtask COMMAND`: all commands that people and CI use in this repository.
//!
//! Reading order: `setup` (installs what is needed) → `site` (builds wasm and page into one folder) → `serve` (serves that
//! folder on localhost) → `demo` and `check` (the two commands that people use; `check` also runs `fuzz` and `shaderstats`). `process` holds the
//! helpers that all of them share.

#[cfg(test)]
mod assembly;
mod bench;
mod check;
mod demo;
mod fuzz;
mod process;
mod serve;
mod setup;
mod shaderstats;
mod site;

use std::process::ExitCode;

/// Every error of an xtask is shown to a person as one message, so it is a string from the start.
pub type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                 install what is missing: wasm32 target, Vulkan driver, browsers, npm packages
  demo                  build the page and serve it on localhost
      --port N          first port to try (8787)
      --model DIR       also serve your checkpoint folder DIR, and open the page with it
      --headless        ask the sample question in headless Chromium and print the streamed answer
      --image FILE      use this image instead     --ask TEXT    ask this question instead
  build                 build the page into www/dist
  pack                  build the page, and make the npm package in target/package
  bench                 load a model and answer in headless Chromium; print times and peak memory
      --model PATH      checkpoint folder or .gguf file (default: the demonstration model)
      --tokens N        how many tokens to generate    --weights FORMAT   quantize while loading
  shaderstats           compile the kernels as an AMD GPU's driver does; print instructions for each weight, and check them
  soak                  have a model answer many prompts about pictures in headless Chromium; fails if its memory grows
      --model PATH      as for bench                   --aborts N    how many of the prompts are aborted (200)
      --prompts N       how many prompts (500)         --pictures N  about how many pictures (50)
  test [NAME…]          run everything that CI runs, or only the named parts (fmt, golden, web, page/xss, …)
      --list            print the names of the parts
      --changed         run the parts that can be affected by what differs from the upstream branch
      --since REVISION  …by what differs from this git revision
      --filter TEXT     only tests whose name contains TEXT
      --browser NAME    only in this browser: chromium or firefox
      --jobs N          how many jobs run at the same time (default: one for each core, at most 4)
  fuzz [TARGET…]        run the parsers of foreign files on random input; also makes the seeds for `cargo +nightly fuzz run`
      --runs N          how many inputs for each target
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("setup") => no_more(&args[1..]).and_then(|()| setup::setup().map(drop)),
        Some("demo") => demo::demo(&args[1..]),
        Some("build") => {
            no_more(&args[1..]).and_then(|()| setup::setup()).and_then(|tools| site::build(&tools).map(drop))
        }
        Some("pack") => no_more(&args[1..])
            .and_then(|()| setup::setup())
            .and_then(|tools| site::build(&tools))
            .and_then(|_| site::pack().map(|tarball| println!("{}", tarball.display()))),
        Some("bench") => bench::bench(&args[1..]),
        Some("shaderstats") => no_more(&args[1..]).and_then(|()| shaderstats::shaderstats()),
        Some("soak") => bench::soak(&args[1..]),
        Some("test") => check::check(&args[1..]),
        Some("fuzz") => fuzz::fuzz(&args[1..]),
        Some("help" | "--help" | "-h") | None => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("there is no command `{other}`\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn no_more(rest: &[String]) -> Outcome {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(format!("`{extra}` was not expected\n\n{USAGE}")),
    }
}
