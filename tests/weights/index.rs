//! Checkpoints in one file and in shards, and lists of shards that lie.

use fanlight::Error;
use fanlight::weights::index::{INDEX, SINGLE};
use fanlight::weights::{Checkpoint, Memory};

use crate::support::{Noting, block_on, memory, one, open};

#[test]
fn a_single_file_wins_over_an_index() {
    let checkpoint = open(memory(&[(SINGLE, &one("a")), (INDEX, b"not even JSON")])).unwrap();
    assert_eq!(checkpoint.tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(matches!(open(Memory::new()), Err(Error::Missing { .. })));
    assert!(matches!(open(memory(&[(SINGLE, b"")])), Err(Error::Malformed { .. })));
}

#[test]
fn shards_join() {
    let index = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "x/s1.safetensors", "b": "s2.safetensors"}}"#;
    let files = Noting::new(memory(&[(INDEX, index), ("x/s1.safetensors", &one("a")), ("s2.safetensors", &one("b"))]));
    let checkpoint = block_on(Checkpoint::open(&files)).unwrap();
    assert_eq!(checkpoint.get("a").unwrap().file, "x/s1.safetensors");
    assert_eq!(checkpoint.get("b").unwrap().file, "s2.safetensors");
    assert_eq!(files.reads.borrow().len(), 5, "the index and two small reads a shard");
    let renamed = checkpoint.clone().renamed(|name| format!("model.{name}")).unwrap();
    assert_eq!(renamed.get("model.a").unwrap().range, checkpoint.get("a").unwrap().range);
    assert!(matches!(checkpoint.renamed(|_| "x".to_owned()), Err(Error::Malformed { .. })));
}

#[test]
fn an_index_cannot_lie() {
    let check = |index: &str, shards: &[(&str, &[u8])]| {
        let mut files = memory(shards);
        files.insert(INDEX, index.as_bytes().to_vec());
        open(files)
    };
    let (a, b) = (one("a"), one("b"));
    let both: &[(&str, &[u8])] = &[("s1", &a), ("s2", &b)];
    check(r#"{"weight_map": {"a": "s1", "b": "s2"}}"#, both).unwrap();
    // A tensor that no shard has may be one that nobody wants, such as a tied head; transformers loads these too.
    check(r#"{"weight_map": {"a": "s1", "c": "s2"}}"#, both).unwrap();
    let missing = check(r#"{"weight_map": {"a": "s1", "b": "s3"}}"#, both);
    assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    for (index, shards) in [
        (r#"{"weight_map": {"a": "s2", "b": "s1"}}"#, both), // in another shard
        (r#"{"weight_map": {"a": "s1", "b": "s2"}}"#, &[("s1", &a), ("s2", &a)]), // in both shards
        (r#"{"weight_map": {"a": "s1", "a": "s2"}}"#, both),
        (r#"{"weight_map": {}}"#, both),
        (r#"{"weight_map": {"a": 1}}"#, both),
        (r#"{"weight_map": ["s1"]}"#, both),
        (r#"{}"#, both),
        ("", both),
    ] {
        let error = check(index, shards).expect_err(index);
        assert!(matches!(error, Error::Malformed { .. }), "{index}: {error}");
    }
    let twice = check(r#"{"weight_map": {"a": "s1", "b": "s2", "a": "s1"}}"#, both).unwrap_err();
    assert!(twice.to_string().contains("duplicate key"), "{twice}");
}

#[test]
fn a_hostile_shard_name_is_never_read() {
    for name in
        ["../secret", "/etc/passwd", "..\\\\x", "https://evil.example/x", "%2e%2e/x", "a/../../x", "C:x", "x\\u0000"]
    {
        let index = format!(r#"{{"weight_map": {{"a": "a.safetensors", "b": "{name}"}}}}"#);
        let files = Noting::new(memory(&[(INDEX, index.as_bytes()), ("a.safetensors", &one("a"))]));
        let error = block_on(Checkpoint::open(&files)).expect_err(name);
        assert!(matches!(error, Error::Malformed { .. }), "{name}: {error}");
        assert_eq!(files.reads.borrow().len(), 1, "nothing but the index");
    }
}
