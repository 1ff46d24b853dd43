//! The tiny checkpoints of `tests/golden/models`, as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use fanlight::dtype::Layout;
use fanlight::model::registry::parse_config;
use fanlight::model::{names, section};
use fanlight::weights::plan::plan;
use fanlight::weights::stream::CHUNK_BYTES;
use fanlight::weights::{Checkpoint, Directory, Limits, Source, TensorInfo};

use crate::headers::{our_facts, their_facts};
use crate::plan::{KEEP, ROOMY, check, run};
use crate::support::block_on;

#[test]
fn the_golden_checkpoints_load() {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&models).expect("tests/golden/models").map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("config.json").exists());
    assert!(folders.len() >= 5, "{folders:?}");
    let mut seen = Vec::new();
    for folder in folders {
        let source = Directory::new(&folder);
        let text = block_on(source.read_all(section::FILE, 1 << 20)).unwrap();
        let config = parse_config(&text).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let checkpoint = block_on(Checkpoint::open(&source)).unwrap();
        // The crate sees the same tensors.
        let mut files = BTreeMap::new();
        for file in checkpoint.tensors().map(|t| t.file.clone()).collect::<BTreeSet<_>>() {
            let bytes = std::fs::read(folder.join(&file)).unwrap();
            let infos: Vec<TensorInfo> = checkpoint.tensors().filter(|t| t.file == file).cloned().collect();
            assert_eq!(our_facts(infos), their_facts(&bytes).unwrap());
            files.insert(file, bytes);
        }
        let before = checkpoint.tensors().count();
        let checkpoint = checkpoint.renamed(names::canonical).unwrap();
        let (matrices, vectors) = names::specs(&config, &|name| checkpoint.get(name).is_some());
        let used: usize = matrices.iter().map(|m| m.sources.len()).sum::<usize>()
            + vectors.iter().map(|v| v.sources.len()).sum::<usize>();
        assert_eq!(used, before, "{}: every tensor of the file has its place", folder.display());
        for limits in [ROOMY, Limits { max_binding: 2048, max_buffer: 1 << 20 }] {
            let Ok(plan) = plan(&checkpoint, &matrices, &vectors, limits, &KEEP) else {
                assert_ne!(limits, ROOMY);
                continue;
            };
            for chunk in [4096, CHUNK_BYTES] {
                let buffers = run(&plan, &source, chunk);
                check(&plan, &buffers, &matrices, &vectors, &checkpoint, &files);
            }
            seen.push((plan.matrices[1].shards[0].layout, files.len() > 1));
        }
    }
    for wanted in [(Layout::F32, false), (Layout::F32, true), (Layout::F16, false), (Layout::Bf16, false)] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
    }
}
