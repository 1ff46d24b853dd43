//! What `cargo xtask test` consists of, by name.
//!
//! A part is named by words with slashes: `clippy`, `rust/golden`, `web/page/xss`. What a person types matches a part if it is a run
//! of those words: `golden`, `web`, `page`, `page/xss`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Outcome;
use crate::process::root;

/// The parts that are neither tests in Rust nor in a browser.
const STEPS: [&str; 6] = ["fmt", "clippy", "clippy-wasm", "doc", "fuzz", "shaderstats"];
/// Tests in Rust that are not files of `tests/`: the crate's own modules and the other packages.
const RUST: [&str; 3] = ["rust/lib", "rust/grammar", "rust/xtask"];
const TEST_FILE: &str = ".test.mjs";

/// Every part, in the order in which they are worth knowing.
pub fn all() -> Outcome<Vec<String>> {
    let mut rust = RUST.map(str::to_owned).to_vec();
    for (folder, name, file) in entries(&root().join("tests"))? {
        let stem = if file { name.strip_suffix(".rs") } else { Some(name.as_str()) };
        let target = stem.filter(|stem| file || folder.join(stem).join("main.rs").is_file());
        rust.extend(target.map(|stem| format!("rust/{stem}")));
    }
    let mut web = vec![];
    collect_web(&root().join("tests/web"), "web", &mut web)?;
    rust.sort();
    web.sort();
    Ok(STEPS.iter().map(|step| (*step).to_owned()).chain(rust).chain(web).collect())
}

fn collect_web(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Outcome {
    for (folder, name, file) in entries(folder)? {
        match name.strip_suffix(TEST_FILE) {
            Some(stem) if file => found.push(format!("{prefix}/{stem}")),
            None if !file && name != "node_modules" => {
                collect_web(&folder.join(&name), &format!("{prefix}/{name}"), found)?
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is in a folder: the folder again, a name, and whether it is a file.
fn entries(folder: &Path) -> Outcome<Vec<(std::path::PathBuf, String, bool)>> {
    let listed = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let entry =
        |e: std::fs::DirEntry| (folder.to_owned(), e.file_name().to_string_lossy().into_owned(), e.path().is_file());
    Ok(listed.flatten().map(entry).collect())
}

/// The test file of a part that runs in a browser.
pub fn web_file(part: &str) -> String {
    format!("tests/{part}{TEST_FILE}")
}

/// The parts that a word names: those of which it is a run of words. A word that names none is an error that lists all.
pub fn named<'a>(word: &str, all: &'a [String]) -> Outcome<Vec<&'a String>> {
    let wanted = format!("/{}/", word.trim_matches('/'));
    let found: Vec<&String> = all.iter().filter(|part| format!("/{part}/").contains(&wanted)).collect();
    if found.is_empty() {
        return Err(format!("`{word}` names no part of the tests. The parts are\n  {}", all.join("\n  ")));
    }
    Ok(found)
}

/// The arguments of each `cargo test` that together run these parts; the whole workspace at once where all are wanted.
pub fn cargo_tests(wanted: &BTreeSet<String>, all: &[String]) -> Vec<Vec<String>> {
    let is_rust = |part: &&String| part.starts_with("rust/");
    let mine: Vec<&str> = wanted.iter().filter(is_rust).filter_map(|part| part.strip_prefix("rust/")).collect();
    if mine.len() == all.iter().filter(is_rust).count() {
        return vec![vec!["--workspace".into()]];
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut commands = vec![];
    let mut own = vec![];
    for part in mine {
        match part {
            "lib" => own.extend(words("--lib --bins")),
            "grammar" => commands.push(words("--package fanlight-grammar")),
            "xtask" => commands.push(words("--package xtask")),
            target => own.extend(["--test".to_owned(), target.to_owned()]),
        }
    }
    if !own.is_empty() {
        commands.insert(0, [words("--package fanlight"), own].concat());
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_parts() {
        let all = all().unwrap();
        let names = |word: &str| named(word, &all).map(|found| found.into_iter().cloned().collect::<Vec<_>>());
        assert_eq!(names("fmt").unwrap(), ["fmt"]);
        assert_eq!(names("golden").unwrap(), ["rust/golden"]);
        let both = names("kernels").unwrap();
        assert!(both.len() == 2 && both[0] == "rust/kernels" && both[1].starts_with("web/"), "{both:?}");
        assert!(names("web").unwrap().len() > 15 && names("rust").unwrap().len() > 20);
        assert!(names("gold").is_err() && names("").is_err());
        for part in names("web").unwrap() {
            assert!(root().join(web_file(&part)).is_file(), "{part}");
        }
    }

    #[test]
    fn cargo_runs_what_is_wanted_and_no_more() {
        let all = all().unwrap();
        let wanted = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
        let line =
            |words: &[&str]| cargo_tests(&wanted(words), &all).iter().map(|args| args.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            line(&["rust/golden", "rust/lib", "rust/xtask", "fmt"]),
            ["--package fanlight --test golden --lib --bins", "--package xtask"]
        );
        assert_eq!(cargo_tests(&all.iter().cloned().collect(), &all), [["--workspace"]]);
        assert!(line(&["web/page/xss"]).is_empty());
    }
}
