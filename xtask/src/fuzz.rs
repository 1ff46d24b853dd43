//! `cargo xtask fuzz`: runs the parsers of foreign files on random input, for a fixed number of inputs instead of a fixed time.
//!
//! The targets are those of `cargo +nightly fuzz run TARGET`, but built by the stable compiler. The coverage passes belong to LLVM
//! and do not need nightly. Only address sanitizing would, and code without `unsafe` does not need it.

use std::path::Path;

use crate::process::{ask, cargo, command, root, run, say};
use crate::{Outcome, USAGE};

/// The targets, and how many inputs each one gets in `cargo xtask test`, which takes a few seconds.
const TARGETS: [(&str, u64); 8] = [
    ("safetensors", 100_000),
    ("gguf", 4_000),
    ("tokenizer", 2_000),
    ("template", 5_000),
    ("config", 15_000),
    ("index", 30_000),
    ("grounding", 20_000),
    ("image", 3_000),
];

/// The compiler flags of cargo-fuzz, without the sanitizer.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

pub fn fuzz(args: &[String]) -> Outcome {
    let (mut names, mut runs) = (vec![], None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => {
                let number = args.next().and_then(|n| n.parse::<u64>().ok());
                runs = Some(number.ok_or_else(|| format!("--runs needs a number\n\n{USAGE}"))?);
            }
            name if TARGETS.iter().any(|(target, _)| *target == name) => names.push(name),
            other => return Err(format!("`{other}` was not expected\n\n{USAGE}")),
        }
    }
    let host = host()?;
    let folder = root().join("fuzz");
    // With --target, build scripts and macros are compiled without these flags.
    let mut build = cargo();
    build.args(["build", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bins", "--target", &host]);
    run(build.env("RUSTFLAGS", FLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    for (target, few) in TARGETS.into_iter().filter(|(target, _)| names.is_empty() || names.contains(target)) {
        say(&format!("\n── fuzz {target}"));
        seeds(target, &folder.join("corpus").join(target))?;
        // Always start from the seeds alone, so that a number of runs means the same everywhere.
        let fresh = folder.join("target/check").join(target);
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
        }
        seeds(target, &fresh)?;
        let artifacts = folder.join("artifacts").join(target);
        std::fs::create_dir_all(&artifacts).map_err(|e| format!("{}: {e}", artifacts.display()))?;
        let mut fuzzer = command(folder.join("target").join(&host).join("debug").join(target));
        fuzzer.args([format!("-runs={}", runs.unwrap_or(few)), format!("-artifact_prefix={}/", artifacts.display())]);
        // The slowest input takes a hundredth of a second, so the timeout is generous. Each target limits its memory itself.
        fuzzer.args([
            "-seed=1",
            "-timeout=20",
            "-rss_limit_mb=3072",
            "-max_len=65536",
            "-verbosity=0",
            "-print_funcs=0",
        ]);
        run(fuzzer.args(["-print_final_stats=1"]).arg(&fresh))?;
    }
    Ok(())
}

/// The triple of this machine.
fn host() -> Outcome<String> {
    let version = ask(command("rustc").arg("-vV")).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc -vV` does not say what this machine is".to_owned())
}

/// Small true files from `tests/golden`, as the targets take them.
fn seeds(target: &str, folder: &Path) -> Outcome {
    let golden = root().join("tests/golden");
    let read = |path: &str| std::fs::read(golden.join(path)).map_err(|e| format!("tests/golden/{path}: {e}"));
    // The length of the rest, then the beginning: see `Beginnings::input`.
    let beginning = |bytes: &[u8], length: usize, mark: u8| {
        let length = length.min(bytes.len());
        let mut rest = ((bytes.len() - length) as u32).to_le_bytes();
        rest[3] |= mark;
        [&rest, &bytes[..length]].concat()
    };
    let files: Vec<Vec<u8>> = match target {
        "safetensors" => {
            let shards = "models/flat/model-00001-of-00003.safetensors";
            let paths = ["models/base/model.safetensors", "packed/awq/model.safetensors", shards];
            let header = |bytes: Vec<u8>| {
                let length = bytes.iter().take(8).rev().fold(0, |n, &byte| n << 8 | usize::from(byte));
                beginning(&bytes, 8 + length, 0)
            };
            let empty = [&[0, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0], b"{}"].concat();
            let mut files = paths.map(|path| read(path).map(header)).into_iter().collect::<Outcome<Vec<_>>>()?;
            files.push(empty);
            files
        }
        // Longer than the headers; what follows them are weights.
        "gguf" => vec![
            beginning(&read("gguf/base.gguf")?, 24 << 10, 0),
            beginning(&read("gguf/base-mmproj.gguf")?, 8 << 10, 1),
            beginning(&read("gguf/qwen3_vl.gguf")?, 24 << 10, 0),
            beginning(&read("gguf/qwen3_vl-mmproj.gguf")?, 8 << 10, 1),
            beginning(&read("gguf/qwen2_vl-legacy-mmproj.gguf")?, 8 << 10, 1),
        ],
        // With the pattern once as it is and once with a count to grow.
        "tokenizer" => {
            let true_one = read("text/tokenizer.json")?;
            let counted = String::from_utf8_lossy(&true_one).replacen(r"\\p{N}|", r"\\p{N}{1,3}|", 1).into_bytes();
            vec![true_one, counted]
        }
        "template" => {
            let thinking = "text/qwen3/chat_template_thinking.jinja";
            let mut files =
                vec![read("text/chat_template.jinja")?, read("text/chat_template.json")?, read(thinking)?];
            let features = [
                "{{ messages | tojson(indent=2) }}{{ strftime_now('%Y-%m-%d') }}",
                "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role.upper() }}{% endfor %}",
                "{% macro f(x, y=[1, {'a': none}]) %}{{ x ~ y[0] ** 2 // 3 % 4 }}{% endmacro %}{{ f('a' * 3)[1:] | trim }}",
                "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ raise_exception('no') if ns.n is odd else 'x' }}",
                "{%- call(x) f() -%}{%- endcall -%}{# note #}{% filter upper %}{{ range(9) | join(',') }}{% endfilter %}",
                "{% set ns = namespace(x=[1]) %}{% for i in range(9) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            ];
            files.extend(features.map(|text| text.as_bytes().to_vec()));
            files
        }
        "config" => {
            let models = ["base", "flat", "head80", "qwen2_vl_flat", "qwen3_vl"].map(|name| format!("models/{name}/config.json"));
            let packed = ["awq", "gptq4"].map(|name| format!("packed/{name}/config.json"));
            let others = ["generation_config.json", "preprocessor_config.json"].map(|n| format!("models/base/{n}"));
            models.iter().chain(&packed).chain(&others).map(|path| read(path)).collect::<Outcome<_>>()?
        }
        "index" => vec![
            read("models/flat/model.safetensors.index.json")?,
            br#"{"weight_map": {"a": "model-00001-of-00003.safetensors"}, "metadata": {"total_size": 1}}"#.to_vec(),
        ],
        // One of each form.
        "grounding" => [
            r#"```json
[{"bbox_2d": [10, 20, 30, 40], "label": "a"}, {'point_2d': (5, 6), 'image': 2}, {"polygon": [[1, 2], [3, 4], [5, 6]]}]
```"#,
            "<|object_ref_start|>a<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|><|quad_start|>(1,2),(3,4),(5,6),(7,8)",
            "<ref>a</ref><box>(1,2),(3,4)</box> b(1,2),(3,4)",
            r#"<points x1="1" y1="2" x2="3.5" y2="4" alt="a &amp; b">c</points>"#,
            r#"<h1 data-bbox="1 2 3 4">A</h1><ol><li data-bbox="5 6 7 8">b<table><tr><td>c</td></tr></table><img alt='d'/>"#,
            r#"{"00:12.5 - 1:02:03": "a", "events": [{"start_time": 3, "end": "7s"}]} From 2 to 4.5 seconds: b"#,
            "<think>\na\n</think>\n\nb",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "image" => pictures(&read)?,
        other => unreachable!("no target {other}"),
    };
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    for (n, bytes) in files.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{n}")), bytes).map_err(failed)?;
    }
    Ok(())
}

/// Small pictures of every format, and files whose metadata claims gigabytes.
fn pictures(read: &dyn Fn(&str) -> Outcome<Vec<u8>>) -> Outcome<Vec<Vec<u8>>> {
    let names = [
        "images/bits_90x45.png",
        "images/gray_alpha_50x70.png",
        "images/palette_alpha_61x43.png",
        "images/exif6_120x80.jpg",
        "images/lossless_alpha_60x44.webp",
        "images/two_frames_75x50.gif",
        "images/scene_61x37.bmp",
        "jpeg/progressive.jpg",
        "jpeg/restarts.jpg",
        "jpeg/thirds_split.jpg",
        "jpeg/ycck.jpg",
    ];
    let mut files = names.map(read).into_iter().collect::<Outcome<Vec<_>>>()?;
    // A WebP of one pixel whose EXIF chunk says that it has 3.7 GiB.
    let mut webp = b"RIFF\xf0\xff\xff\xffWEBPVP8X\x0a\0\0\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
    webp.extend(b"VP8L\x09\0\0\0\x2f\0\0\0\0\x88\x88\x08\0\0EXIF\0\0\0\xf0II*\0");
    files.push(webp);
    // A PNG of 64 megapixels that has only a header.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x20\0\0\0\x20\0\x08\x02\0\0\0\xfd\xc8\x5d\x0e\0\0\0\0IDAT";
    files.push(png.to_vec());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fuzzer tests what ships: of every package that both lock files have, they have the same versions. Otherwise a fault, or a limit,
    /// of one version is looked for in another.
    #[test]
    fn both_locks_agree() {
        let packages = |path: &str| {
            let lock = std::fs::read_to_string(root().join(path)).unwrap();
            let field = |entry: &str, name: &str| {
                let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")).map(str::to_owned));
                line.map(|line| line.trim_end_matches('"').to_owned()).unwrap_or_default()
            };
            let mut all = std::collections::BTreeMap::<String, Vec<String>>::new();
            for entry in lock.split("[[package]]").skip(1) {
                all.entry(field(entry, "name")).or_default().push(field(entry, "version"));
            }
            all
        };
        let (product, fuzzer) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
        let differ: Vec<_> = fuzzer
            .iter()
            .filter(|(name, versions)| {
                // A tool of the fuzzer may need another version beside the product's.
                product.get(*name).is_some_and(|ours| versions.iter().all(|version| !ours.contains(version)))
            })
            .collect();
        assert!(product.len() > 100 && fuzzer.len() > 100);
        assert!(
            differ.is_empty(),
            "cargo update --manifest-path fuzz/Cargo.toml -p NAME --precise VERSION for {differ:?}"
        );
    }

    /// The targets here are those of fuzz/Cargo.toml, and each one has seeds.
    #[test]
    fn targets_have_files_and_seeds() {
        let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            let folder = std::env::temp_dir().join(format!("fanlight-seeds-{}-{target}", std::process::id()));
            seeds(target, &folder).unwrap();
            let files: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
            assert!(!files.is_empty());
            assert!(files.iter().all(|file| file.metadata().unwrap().len() < 64 << 10), "{target}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
