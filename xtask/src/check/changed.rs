//! `cargo xtask test --changed`: the parts of the tests that a change can have touched.

use std::collections::BTreeSet;

use super::parts::{named, web_file};
use crate::Outcome;
use crate::process::{ask, command, root};

/// Whatever is checked in Rust.
const CODE: [&str; 3] = ["fmt", "clippy", "doc"];

/// Which parts a file can change, by the beginning of its path, or by its end where the row begins with `*`. The first row that
/// fits decides; a file without a row can change everything.
const TOUCHES: &[(&str, &[&str])] = &[
    // The code in Markdown files is compiled by one test; the rest of them is read by people alone.
    ("*.md", &["snippets"]),
    ("docs/", &[]),
    ("LICENSE", &[]),
    ("train/", &[]),
    ("www/demo/", &["web/page", "web/engine/e2e"]),
    ("www/index.html", &["web/page", "web/engine/e2e"]),
    ("www/sw.js", &["web/page"]),
    ("www/api/", &["web/page/api"]),
    ("www/", &["web"]),
    ("examples/", &["web/install"]),
    ("tests/web/kernels/", &["fmt", "clippy", "clippy-wasm", "web/engine/kernels"]),
    ("tests/web/", &["web"]),
    ("tests/kernel_table/", &["fmt", "clippy", "rust/kernels", "web/engine/kernels"]),
    ("tests/reference/", &["fmt", "clippy", "rust", "web/engine/kernels"]),
    ("tests/golden/", &["rust", "fuzz", "web/engine"]),
    ("tests/screens/", &["rust/screens", "web/engine", "web/install"]),
    ("models/", &["rust/screens", "web/engine", "web/install"]),
    ("tests/", &["fmt", "clippy", "rust"]),
    (
        "grammar/",
        &[
            "fmt",
            "clippy",
            "clippy-wasm",
            "doc",
            "rust/grammar",
            "rust/constraint",
            "rust/cli",
            "web/engine/constraint",
        ],
    ),
    ("fuzz/", &["fmt", "fuzz"]),
    ("xtask/", &["fmt", "clippy", "rust/xtask", "shaderstats", "web/engine/e2e"]),
    ("shaders/", &["rust", "shaderstats", "web/engine"]),
    // What is not there on wasm32.
    ("src/bin/", &["fmt", "clippy", "doc", "rust"]),
    ("src/hub/", &["fmt", "clippy", "doc", "rust"]),
    ("src/ffmpeg/", &["fmt", "clippy", "doc", "rust"]),
    ("src/grammar/", &["fmt", "clippy", "doc", "rust"]),
    ("src/", &["fmt", "clippy", "clippy-wasm", "doc", "rust", "shaderstats", "fuzz", "web"]),
];

/// The files that differ from `since` (a revision of git; without one, the last commit that the upstream branch has), with those
/// that git does not know yet; and what they were compared with.
pub fn files(since: Option<&str>) -> Outcome<(Vec<String>, String)> {
    let git = |args: &[&str]| ask(command("git").args(args));
    let base = match since {
        Some(revision) => revision.to_owned(),
        None => git(&["merge-base", "HEAD", "@{upstream}"])
            .or_else(|| git(&["merge-base", "HEAD", "origin/HEAD"]))
            .unwrap_or_else(|| "HEAD".to_owned()),
    };
    let listed = git(&["diff", "--name-only", "--no-renames", &base, "--"])
        .ok_or_else(|| format!("git cannot compare the working tree with `{base}`"))?;
    let fresh = git(&["ls-files", "--others", "--exclude-standard"]).unwrap_or_default();
    Ok((listed.lines().chain(fresh.lines()).map(str::to_owned).collect(), base))
}

/// The parts that these files can have touched.
pub fn touched(files: &[String], all: &[String]) -> Outcome<BTreeSet<String>> {
    let mut parts = BTreeSet::new();
    for file in files {
        if let Some(part) = all.iter().find(|part| is_of(file, part)) {
            // A test's own file changes that test alone; one in Rust is also compiled and formatted.
            parts.insert(part.clone());
            if part.starts_with("rust/") {
                parts.extend(CODE[..2].iter().map(|word| (*word).to_owned()));
            }
            continue;
        }
        match TOUCHES.iter().find(|(pattern, _)| fits(pattern, file)) {
            Some((_, words)) => {
                for word in *words {
                    parts.extend(named(word, all)?.into_iter().cloned());
                }
            }
            None => parts.extend(all.iter().cloned()),
        }
    }
    Ok(parts)
}

fn fits(pattern: &str, file: &str) -> bool {
    pattern.strip_prefix('*').map_or_else(|| file.starts_with(pattern), |end| file.ends_with(end))
}

/// Whether a file is that of a test, or lies in the test's own folder.
fn is_of(file: &str, part: &str) -> bool {
    let Some(target) = part.strip_prefix("rust/") else { return file == web_file(part) };
    let folder = format!("tests/{target}/");
    file == format!("tests/{target}.rs") || (file.starts_with(&folder) && root().join(folder).join("main.rs").is_file())
}

#[cfg(test)]
mod tests {
    use super::super::parts::all;
    use super::*;

    #[test]
    fn every_row_fits_a_file_and_names_parts() {
        let all = all().unwrap();
        let tracked = ask(command("git").args(["ls-files"])).expect("git lists the files");
        for (pattern, words) in TOUCHES {
            let first = |file: &str| TOUCHES.iter().find(|(p, _)| fits(p, file)).is_some_and(|(p, _)| p == pattern);
            assert!(tracked.lines().any(first), "no file is left for {pattern}");
            for word in *words {
                assert!(named(word, &all).is_ok(), "{pattern} names {word}");
            }
        }
    }

    #[test]
    fn a_change_touches_what_depends_on_it() {
        let all = all().unwrap();
        let of = |file: &str| touched(&[file.to_owned()], &all).unwrap();
        assert_eq!(of("Cargo.lock").len(), all.len());
        assert_eq!(of("src/error.rs").len(), all.len());
        assert!(of("docs/demo.png").is_empty() && of("README.md").len() == 1);
        let test = of("tests/golden.rs");
        assert!(test.contains("rust/golden") && test.contains("fmt") && !test.contains("rust/gguf"), "{test:?}");
        assert_eq!(of("tests/hub/server.rs").len(), 3);
        assert!(of("tests/golden/MANIFEST.json").contains("rust/gguf"));
        let page = of("www/demo/demo.ts");
        assert!(page.iter().all(|part| part.starts_with("web/")) && page.len() < 12, "{page:?}");
        let kernel = of("shaders/softmax.wgsl");
        assert!(kernel.contains("rust/kernels") && kernel.contains("web/engine/kernels") && !kernel.contains("doc"));
    }
}
