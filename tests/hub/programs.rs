//! Several programs on one cache, and the command line.

use std::path::Path;
use std::process::Command;
use std::thread;

use fanlight::hub::{Want, checkpoint};

use crate::cache::{Cache, Log, assert_whole, list};
use crate::server::{Hub, LARGE, REPO};

/// Several programs at once: one downloads, the others wait for it, and all have the files.
#[test]
fn two_at_once_download_once() {
    let (hub, cache) = (Hub::single(), Cache::new());
    let options = cache.options(&hub);
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| checkpoint(&options, REPO, "main", &Want::default(), &mut Log::default())))
            .collect();
        runs.into_iter().for_each(|run| assert_whole(&run.join().unwrap()));
    });
    cache.audit();
    assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), LARGE);
    assert!(cache.incomplete().is_empty());
}

/// The command line, with a small checkpoint that loads.
#[test]
fn the_command_line_downloads_and_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/base");
    let files: Vec<(String, Vec<u8>)> = list(&folder)
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let (hub, cache) = (Hub::start(&files), Cache::new());
    hub.state.lock().unwrap().token = Some("hf_right");
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanlight"));
        for name in
            ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_TOKEN", "HF_ENDPOINT"]
        {
            command.env_remove(name);
        }
        command.env("HF_HOME", &cache.0).args(["inspect", "--model", REPO]).args(more);
        let out = command.output().expect("the binary runs");
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    std::fs::create_dir_all(&cache.0).unwrap();
    let endpoint = ["--endpoint", hub.url.as_str()];
    let (ok, text) = run(&endpoint);
    assert!(!ok && text.contains("GatedRepo") && text.contains("hf auth login"), "{text}");
    std::fs::write(cache.0.join("token"), "hf_right\n").unwrap();
    // The token is for the Hub: another server does not get it unasked.
    let (ok, text) = run(&endpoint);
    assert!(!ok && text.contains("no token was sent") && text.contains("--send-token"), "{text}");
    let endpoint = [endpoint[0], endpoint[1], "--send-token"];
    let (ok, text) = run(&endpoint);
    assert!(ok && text.contains("qwen2_5_vl"), "{text}");
    hub.forget();
    let (ok, text) = run(&["--offline"]);
    assert!(ok && text.contains("qwen2_5_vl"), "{text}");
    let (ok, text) = run(&["--offline", "--revision", "other"]);
    assert!(!ok && text.contains(REPO), "{text}");
    assert!(hub.log().is_empty());
}
