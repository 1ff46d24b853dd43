//! `cargo xtask test`: everything CI runs, or the parts that are named.
//!
//! `parts` (what there is, by name) and `changed` (what a change can have touched) choose; `web` knows how a test runs in a browser;
//! `queue` runs the jobs, a few at a time; `count` reads what the test runners counted.

mod changed;
mod count;
mod parts;
mod queue;
mod web;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::process::{cargo, run, say};
use crate::setup::{WASM, WasmRust};
use crate::{Outcome, USAGE, fuzz, setup, shaderstats};
use count::Count;
use queue::{Done, Job};
use web::Browser;

/// What a person asked for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    names: Vec<String>,
    changed: bool,
    since: Option<String>,
    filter: Option<String>,
    browser: Option<Browser>,
    jobs: Option<usize>,
    list: bool,
}

pub fn check(args: &[String]) -> Outcome {
    let options = options(args)?;
    let all = parts::all()?;
    let wanted = wanted(&options, &all)?;
    if options.list {
        wanted.iter().for_each(|part| println!("{part}"));
        return Ok(());
    }
    if wanted.is_empty() {
        println!("nothing to test: no part of the tests depends on what has changed");
        return Ok(());
    }
    let jobs = jobs(&options, &wanted, &all)?;
    let single = jobs.len() == 1;
    let at_once = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |n| n.get().min(4)));
    if !single {
        println!("{} jobs, {at_once} at once; what a job prints is shown when it ends", jobs.len());
    }
    let started = |name: &str| say(&format!("── {name}: started"));
    let ended = |done: &Done| {
        if !single && !done.output.trim().is_empty() {
            say(&format!("\n{}\n", done.output.trim_matches('\n')));
        }
        say(&format!("── {}", ending(done)));
    };
    report(&queue::run(jobs, at_once, &started, &ended))
}

fn ending(Done { name, outcome, time, .. }: &Done) -> String {
    match outcome {
        Ok(()) => format!("{name}: ok after {:.0} s", time.as_secs_f64()),
        Err(message) => format!("{name}: FAILED after {:.0} s: {message}", time.as_secs_f64()),
    }
}

/// How each job ended, the longest first, and the line of numbers that closes a run.
fn report(done: &[Done]) -> Outcome {
    let mut count = Count::default();
    done.iter().for_each(|done| count.join(done.count));
    let mut by_time: Vec<&Done> = done.iter().collect();
    by_time.sort_by_key(|done| std::cmp::Reverse(done.time));
    if done.len() > 1 {
        say("");
        by_time.iter().for_each(|done| say(&format!("   {}", ending(done))));
    }
    let failed: Vec<&str> = done.iter().filter(|d| d.outcome.is_err()).map(|d| d.name.as_str()).collect();
    let at_least = u32::from(!failed.is_empty());
    let numbers = [count.passed, count.failed.max(at_least), count.skipped];
    say(&format!("\n{} passed, {} failed, {} skipped", numbers[0], numbers[1], numbers[2]));
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// The parts to run: those that are named, those that a change can have touched, or all.
fn wanted(options: &Options, all: &[String]) -> Outcome<BTreeSet<String>> {
    let mut wanted = BTreeSet::new();
    for name in &options.names {
        wanted.extend(parts::named(name, all)?.into_iter().cloned());
    }
    if options.changed {
        let (files, base) = changed::files(options.since.as_deref())?;
        println!("{} files differ from {base}", files.len());
        wanted.extend(changed::touched(&files, all)?);
    } else if options.names.is_empty() {
        wanted.extend(all.iter().cloned());
    }
    Ok(wanted)
}

/// The jobs that run these parts. The build for browsers begins early: the longest chain of jobs hangs on it.
fn jobs(options: &Options, wanted: &BTreeSet<String>, all: &[String]) -> Outcome<Vec<Job>> {
    let tools = Arc::new(setup::setup()?);
    let wasm = tools.wasm;
    let (builds, tests) = web::jobs(wanted, options.browser, options.filter.as_deref(), &tools)?;
    let commands = parts::cargo_tests(wanted, all);
    let filter = options.filter.clone();
    let step = |name: &str, work: fn(WasmRust) -> Outcome| {
        wanted.contains(name).then(|| Job::new(name, &[], move || work(wasm)))
    };
    let rust = (!commands.is_empty()).then(|| Job::new("rust", &[], move || rust(&commands, filter.as_deref())));
    let early = step("fmt", fmt).into_iter().chain(builds).chain(step("clippy", clippy)).chain(rust);
    let late = [("doc", doc as fn(WasmRust) -> Outcome), ("clippy-wasm", clippy_wasm), ("fuzz", fuzz)];
    let late = late.into_iter().chain([("shaderstats", (|_| shaderstats::shaderstats()) as fn(WasmRust) -> Outcome)]);
    let late = late.filter_map(|(name, work)| step(name, work));
    Ok(early.chain(tests).chain(late).collect())
}

fn fmt(_: WasmRust) -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--all", "--check", "--manifest-path", "fuzz/Cargo.toml"]))
}

fn clippy(_: WasmRust) -> Outcome {
    let what = ["clippy", "--locked", "--workspace", "--all-targets", "--features", "xtask/bindgen,xtask/shaderstats"];
    run(cargo().args(what).args(["--", "-D", "warnings"]))
}

fn clippy_wasm(wasm: WasmRust) -> Outcome {
    if wasm == WasmRust::Debian {
        say("not run: Debian's rustc-web has no clippy; the wasm build still denies warnings");
        return Ok(());
    }
    let packages = ["--package", "fanlight", "--package", "fanlight-grammar", "--package", "fanlight-kernel-tests"];
    // The profile and folder of the wasm build, so that its build scripts and macros are compiled once.
    let same = ["--lib", "--profile", "wasm", "--target", WASM, "--target-dir", "target/wasm"];
    run(cargo().args(["clippy", "--locked"]).args(packages).args(same).args(["--", "-D", "warnings"]))
}

fn doc(_: WasmRust) -> Outcome {
    run(cargo().args(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn fuzz(_: WasmRust) -> Outcome {
    if !cfg!(unix) {
        say("not run: libFuzzer is linked for Linux and macOS here");
        return Ok(());
    }
    fuzz::fuzz(&[])
}

fn rust(commands: &[Vec<String>], filter: Option<&str>) -> Outcome {
    for args in commands {
        run(cargo().args(["test", "--locked", "--no-fail-fast"]).args(args).arg("--").args(filter))?;
    }
    Ok(())
}

fn options(args: &[String]) -> Outcome<Options> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--changed" => options.changed = true,
            "--since" => (options.changed, options.since) = (true, Some(value()?.clone())),
            "--filter" => options.filter = Some(value()?.clone()),
            "--browser" => options.browser = Some(Browser::named(value()?)?),
            "--jobs" => {
                let number = value()?.parse().ok().filter(|n| *n > 0);
                options.jobs = Some(number.ok_or("--jobs takes a number of at least 1")?);
            }
            "--list" => options.list = true,
            name if !name.starts_with('-') => options.names.push(name.to_owned()),
            _ => return Err(format!("`{arg}` was not expected\n\n{USAGE}")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Options> {
        options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_checked() {
        let some = parse("fmt golden --filter boxes --browser firefox --jobs 3").unwrap();
        assert_eq!((some.names, some.filter.as_deref()), (vec!["fmt".into(), "golden".into()], Some("boxes")));
        assert_eq!((some.browser, some.jobs, some.changed), (Some(Browser::Firefox), Some(3), false));
        assert!(parse("--since main").unwrap().changed && parse("").unwrap() == Options::default());
        for bad in ["--filter", "--browser opera", "--jobs 0", "--jobs many", "--only fmt"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_run() {
        let all = parts::all().unwrap();
        let of = |text: &str| wanted(&parse(text).unwrap(), &all);
        assert_eq!(of("").unwrap().len(), all.len());
        assert_eq!(of("fmt rust/golden").unwrap().into_iter().collect::<Vec<_>>(), ["fmt", "rust/golden"]);
        assert!(of("everything").is_err());
    }
}
