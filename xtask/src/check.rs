//! `cargo xtask test`: everything CI runs, cheapest first, stopping at the first step that fails.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process::{cargo, command, run, shown};
use crate::serve::Server;
use crate::setup::{Tools, WASM, WasmRust};
use crate::{Outcome, USAGE, fuzz, setup, site};

const STEPS: [&str; 7] = ["fmt", "clippy", "clippy-wasm", "doc", "rust", "fuzz", "web"];

/// What the test runners counted.
#[derive(Default, Debug, PartialEq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

pub fn check(args: &[String]) -> Outcome {
    let (only, filter) = options(args)?;
    let tools = setup::setup()?;
    let mut count = Count::default();
    for step in STEPS.into_iter().filter(|step| only.is_empty() || only.iter().any(|o| o == step)) {
        println!("\n── {step}");
        let start = Instant::now();
        let outcome = one(step, &tools, &filter, &mut count);
        println!(
            "── {step}: {} after {:.0} s",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
        if let Err(message) = outcome {
            println!("\n{} passed, {} failed", count.passed, count.failed.max(1));
            return Err(message);
        }
    }
    println!("\n{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    Ok(())
}

fn one(step: &str, tools: &Tools, filter: &Option<String>, count: &mut Count) -> Outcome {
    let deny = ["--", "-D", "warnings"];
    match step {
        "fmt" => {
            run(cargo().args(["fmt", "--all", "--check"]))?;
            run(cargo().args(["fmt", "--all", "--check", "--manifest-path", "fuzz/Cargo.toml"]))
        }
        "clippy" => run(cargo()
            .args(["clippy", "--locked", "--workspace", "--all-targets", "--features", "xtask/bindgen"])
            .args(deny)),
        "clippy-wasm" if tools.wasm == WasmRust::Debian => {
            println!("not run: Debian's rustc-web has no clippy; the wasm build below still denies warnings");
            Ok(())
        }
        // The profile and folder of the wasm build, so that its build scripts and macros are compiled once.
        "clippy-wasm" => run(cargo()
            .args([
                "clippy",
                "--locked",
                "--package",
                "fanlight",
                "--package",
                "fanlight-grammar",
                "--package",
                "fanlight-kernel-tests",
                "--lib",
                "--profile",
                "wasm",
            ])
            .args(["--target", WASM, "--target-dir", "target/wasm"])
            .args(deny)),
        "doc" => run(cargo().args(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")),
        "rust" => counted(cargo().args(["test", "--locked", "--workspace", "--no-fail-fast"]), count),
        "fuzz" if !cfg!(unix) => {
            println!("not run: libFuzzer is linked for Linux and macOS here");
            Ok(())
        }
        "fuzz" => fuzz::fuzz(&[]),
        "web" => web(tools, filter, count),
        other => unreachable!("no step {other}"),
    }
}

/// The tests in a real browser, against the page as it is built and served for people.
fn web(tools: &Tools, filter: &Option<String>, count: &mut Count) -> Outcome {
    let kernels = ("/kernel-tests/".to_owned(), site::build_kernel_tests(tools)?);
    let screens = ("/screens/".to_owned(), crate::process::root().join("tests/screens"));
    let golden = ("/golden/".to_owned(), crate::process::root().join("tests/golden"));
    let site = ("/".to_owned(), site::build(tools)?);
    let package = site::pack()?;
    let server = Server::start(vec![site, kernels, screens, golden], 8887)?;
    let mut node = command("node");
    // One file at a time: they share one software GPU.
    // A test that hangs says which it is, long after the slowest machine would have ended it.
    node.args(["--test", "--test-reporter=spec", "--test-concurrency=1", "--test-timeout=1200000"]);
    node.args(filter.iter().map(|text| format!("--test-name-pattern={text}")));
    node.args(test_files()?).env("FANLIGHT_CHROMIUM", &tools.chromium).env("FANLIGHT_URL", server.url());
    node.env("FANLIGHT_PACKAGE", package);
    counted(&mut node, count)
}

fn test_files() -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(crate::process::root().join("tests/web")).map_err(|e| format!("tests/web: {e}"))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> =
        names.filter(|name| name.ends_with(".test.mjs")).map(|n| format!("tests/web/{n}")).collect();
    files.sort();
    Ok(files)
}

/// Runs a test runner, shows its output as it comes and adds up what it counted.
fn counted(command: &mut Command, count: &mut Count) -> Outcome {
    let name = shown(command);
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("`{name}` could not be started: {e}"))?;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
        println!("{line}");
        add(&line, count);
    }
    let status = child.wait().map_err(|e| format!("`{name}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed ({status})")) }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` (cargo) and `ℹ pass 3` (node).
fn add(line: &str, count: &mut Count) {
    if let Some(rest) = line.strip_prefix("test result: ") {
        let numbers = rest.split_once(". ").map_or("", |(_, numbers)| numbers);
        for part in numbers.split("; ") {
            match part.split_once(' ').and_then(|(n, word)| Some((n.parse::<u32>().ok()?, word))) {
                Some((n, "passed")) => count.passed += n,
                Some((n, "failed")) => count.failed += n,
                Some((n, "ignored")) => count.skipped += n,
                _ => {}
            }
        }
    } else if let Some((word, n)) = line.strip_prefix("ℹ ").and_then(|rest| rest.split_once(' ')) {
        match (word, n.parse::<u32>()) {
            ("pass", Ok(n)) => count.passed += n,
            ("fail" | "cancelled", Ok(n)) => count.failed += n,
            ("skipped" | "todo", Ok(n)) => count.skipped += n,
            _ => {}
        }
    }
}

fn options(args: &[String]) -> Outcome<(Vec<String>, Option<String>)> {
    let (mut only, mut filter) = (vec![], None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--only" => only.extend(value()?.split(',').map(str::to_owned)),
            "--filter" => filter = Some(value()?.clone()),
            _ => return Err(format!("`{arg}` was not expected\n\n{USAGE}")),
        }
    }
    match only.iter().find(|step| !STEPS.contains(&step.as_str())) {
        Some(step) => Err(format!("there is no step `{step}`; the steps are {}", STEPS.join(" "))),
        None => Ok((only, filter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners() {
        let mut count = Count::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "ℹ pass 4",
            "ℹ cancelled 1",
            "ℹ skipped 1",
            "ℹ duration_ms 900",
            "running 12 tests",
        ] {
            add(line, &mut count);
        }
        assert_eq!(count, Count { passed: 17, failed: 4, skipped: 3 });
    }

    #[test]
    fn steps_are_checked() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(options(&words("--only fmt,web --filter boxes")).unwrap().1.as_deref(), Some("boxes"));
        assert!(options(&words("--only everything")).is_err());
        assert!(options(&words("--only")).is_err());
    }
}
