//! Which files are downloaded, where the cache puts them, and what is used without a network.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use fanlight::hub::{Snapshot, Want, checkpoint};
use serde_json::{Value, json};

use crate::cache::{Cache, Log, assert_whole, list};
use crate::server::{COMMIT, Hub, LARGE, REPO, content, git, sha256};

#[test]
fn a_checkpoint_comes_into_the_layout_of_huggingface_hub() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(result.unwrap(), Snapshot { folder: cache.repo().join("snapshots").join(COMMIT), gguf: None });
    assert!(log.pauses.is_empty() && log.notes.is_empty());
    let total = (LARGE + 2 + 8) as u64;
    assert_eq!(log.last, Some((total, total)));
    assert_eq!(std::fs::read_to_string(cache.repo().join("refs/main")).unwrap(), COMMIT);
    // Three of the five files are needed; their list has three pages.
    let blobs: Vec<_> = list(&cache.repo().join("blobs"));
    assert_eq!(blobs.len(), 3);
    assert_eq!(hub.log().iter().filter(|r| r.target.contains("/tree/")).count(), 3);
    let snapshot = cache.repo().join("snapshots").join(COMMIT);
    assert_eq!(list(&snapshot).len(), 3);
    let mut digest = PathBuf::from("../../blobs");
    digest.push(git(b"{}"));
    if cfg!(unix) {
        assert_eq!(std::fs::read_link(snapshot.join("config.json")).unwrap(), digest);
    }
    let lock = cache.0.join(".locks/models--org--model").join(format!("{}.lock", git(b"{}")));
    assert!(lock.is_file());

    // The second time only the API is asked and no file is read. Offline, no request is sent at all.
    hub.forget();
    assert_whole(&cache.get(&hub).0);
    assert!(hub.log().iter().all(|request| request.target.starts_with("/api/models/")), "{:?}", hub.log());
    hub.forget();
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_whole(&cache.get_as(&offline, &Want::default()).0);
    assert_whole(&checkpoint(&offline, REPO, COMMIT, &Want::default(), &mut Log::default()));
    assert!(hub.log().is_empty());
    // A file whose content was deleted is an error offline, and is downloaded again online.
    std::fs::remove_file(cache.repo().join("blobs").join(git(b"{}"))).unwrap();
    let error = checkpoint(&offline, REPO, "main", &Want::default(), &mut Log::default()).unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains("config.json"), "{error}");
    assert!(hub.log().is_empty());
    assert_whole(&cache.get(&hub).0);
    assert!(hub.downloads().is_empty());
    // Another revision of the same commit has nothing to download.
    hub.forget();
    assert_whole(&checkpoint(&cache.options(&hub), REPO, "refs/pr/1", &Want::default(), &mut Log::default()));
    assert!(hub.downloads().is_empty() && cache.repo().join("refs/refs/pr/1").is_file());
}

#[test]
fn offline_and_not_there() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let mut offline = cache.options(&hub);
    offline.offline = true;
    let error = cache.get_as(&offline, &Want::default()).0.unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains(REPO), "{error}");
    assert!(hub.log().is_empty() && !cache.0.exists());
}

#[test]
fn without_a_network_the_cache_serves() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let nowhere = {
        // A port on which nobody listens any more, once the listener is dropped.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mut options = cache.options(&hub);
    options.endpoint = nowhere;
    let (result, log) = cache.get_as(&options, &Want::default());
    let error = result.unwrap_err();
    assert!(error.code() == "network" && error.retryable() && error.to_string().contains("6 attempts"), "{error}");
    let pauses: Vec<f64> = log.pauses.iter().map(|(time, _)| time.as_secs_f64()).collect();
    assert_eq!(pauses.len(), 5);
    for (n, pause) in pauses.iter().enumerate() {
        let longest = f64::from(1 << n);
        assert!((longest / 2.0..=longest).contains(pause), "{pauses:?}");
    }
    assert_whole(&cache.get(&hub).0);
    // Once the cache has the files, they are used without waiting, and a note says so.
    let (result, log) = cache.get_as(&options, &Want::default());
    assert_whole(&result);
    assert!(log.pauses.is_empty() && log.notes[0].contains("from the cache"), "{:?}", log.notes);
}

#[test]
fn shards_come_from_the_index() {
    let index = json!({"metadata": {}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
        "c": "model-00001-of-00002.safetensors",
    }});
    let files = |index: &Value| {
        Hub::start(&[
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("model.safetensors.index.json", index.to_string().into_bytes()),
            ("model-00001-of-00002.safetensors", content(1, 1000)),
            ("model-00002-of-00002.safetensors", content(2, 2000)),
            ("consolidated.safetensors", content(3, 3000)),
        ])
    };
    let (hub, cache) = (files(&index), Cache::new());
    let snapshot = cache.get(&hub).0.unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join("model-00002-of-00002.safetensors")).unwrap(), content(2, 2000));
    assert_eq!(hub.downloads().len(), 2);
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_eq!(cache.get_as(&offline, &Want::default()).0.unwrap(), snapshot);
    std::fs::remove_file(snapshot.folder.join("model-00001-of-00002.safetensors")).unwrap();
    let error = cache.get_as(&offline, &Want::default()).0.unwrap_err();
    assert!(error.to_string().contains("model-00001-of-00002"), "{error}");
    // Names that lead out of the cache, and one that the repository does not have.
    for (name, code) in
        [("../../../evil", "bad_model"), ("/etc/passwd", "bad_model"), ("absent.safetensors", "not_found")]
    {
        let (hub, cache) = (files(&json!({"weight_map": {"a": name}})), Cache::new());
        assert_eq!(cache.get(&hub).0.unwrap_err().code(), code, "{name}");
        assert!(hub.downloads().is_empty());
    }
}

#[test]
fn gguf_files_are_chosen() {
    let hub = Hub::start(&[
        ("config.json", b"{}".to_vec()),
        ("model-Q4_K_M.gguf", content(4, 1000)),
        ("sub/model-Q8_0-00001-of-00002.gguf", content(8, 1000)),
        ("sub/model-Q8_0-00002-of-00002.gguf", content(9, 1000)),
        ("mmproj-F16.gguf", content(16, 1000)),
        ("mmproj-F32.gguf", content(32, 1000)),
    ]);
    let cache = Cache::new();
    let error = cache.get(&hub).0.unwrap_err();
    let text = error.to_string();
    assert!(error.code() == "bad_request" && text.contains("Q4_K_M") && text.contains("Q8_0-00001"), "{text}");
    assert!(hub.downloads().is_empty() && !cache.repo().exists());
    let want = |file: &str| Want { file: Some(file.to_owned()), mmproj: None };
    let found = cache.get_as(&cache.options(&hub), &want("model-Q4_K_M.gguf")).0.unwrap();
    assert_eq!(found.gguf, Some(("model-Q4_K_M.gguf".to_owned(), Some("mmproj-F16.gguf".to_owned()))));
    assert_eq!(hub.downloads().len(), 2);
    let split = "sub/model-Q8_0-00001-of-00002.gguf";
    let found = cache.get_as(&cache.options(&hub), &want(split)).0.unwrap();
    assert_eq!(std::fs::read(found.folder.join(split.replace("-00001-", "-00002-"))).unwrap(), content(9, 1000));
    if cfg!(unix) {
        let link = std::fs::read_link(found.folder.join(split)).unwrap();
        assert_eq!(link, Path::new("../../../blobs").join(sha256(&content(8, 1000))));
    }
    let mut offline = cache.options(&hub);
    offline.offline = true;
    assert_eq!(cache.get_as(&offline, &want(split)).0.unwrap(), found);
    assert!(cache.get_as(&cache.options(&hub), &want("other.gguf")).0.unwrap_err().to_string().contains("Q4_K_M"));
}

#[test]
fn what_is_not_there() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let get = |repo: &str, revision: &str| {
        checkpoint(&cache.options(&hub), repo, revision, &Want::default(), &mut Log::default()).unwrap_err()
    };
    for (repo, revision) in [("org/other", "main"), (REPO, "other")] {
        let error = get(repo, revision);
        assert!(error.code() == "not_found" && error.to_string().contains(repo), "{error}");
    }
    for (repo, revision) in [("../x", "main"), (REPO, "../x"), (REPO, "")] {
        hub.forget();
        assert_eq!(get(repo, revision).code(), "bad_request");
        assert!(hub.log().is_empty());
    }
    let hub = Hub::start(&[("config.json", b"{}".to_vec()), ("pytorch_model.bin", b"".to_vec())]);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "not_found" && error.to_string().contains("model.safetensors"), "{error}");
}
