//! The import rules of ARCHITECTURE.md, read from the sources: here which room may name which and who may say what, in
//! `circles` that files of a room do not import each other in a circle.

mod circles;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sources::{code, files, words};

/// Each room and the rooms that it may name.
const ROOMS: [(&str, &[&str]); 15] = [
    ("error", &[]),
    ("dtype", &["error"]),
    ("weights", &["error", "dtype"]),
    ("hub", &["error", "weights"]),
    ("gpu", &["error", "dtype", "weights"]),
    ("ops", &["error", "dtype", "weights", "gpu"]),
    ("image", &["error"]),
    ("video", &["error", "image"]),
    ("ffmpeg", &["error", "image", "video"]),
    ("text", &["error"]),
    ("model", &["error", "dtype", "weights", "gpu", "ops", "image", "video"]),
    ("generate", &["error", "dtype", "weights", "gpu", "ops", "image", "video", "model"]),
    ("chat", &["error", "dtype", "weights", "gpu", "ops", "image", "video", "text", "model", "generate"]),
    ("grammar", &["error", "generate", "chat"]),
    ("web", &["error", "dtype", "weights", "gpu", "ops", "image", "video", "text", "model", "generate", "chat"]),
];

/// Rooms that are there from the first release on.
const FOUNDED: [&str; 14] = [
    "error", "dtype", "weights", "hub", "gpu", "ops", "image", "video", "ffmpeg", "text", "model", "generate", "chat",
    "grammar",
];

/// What follows every `crate::`, with groups `crate::{a::b, c}` opened; `Error` and `Result` live in `error`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        // `$crate::` of a macro counts, an identifier that ends so does not.
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let path = &code[at + "crate::".len()..];
        let Some(group) = path.strip_prefix('{') else {
            names.extend(words(path).next().map(str::to_owned));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => names.extend(words(&std::mem::take(&mut item)).next().map(str::to_owned)),
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        names.extend(words(&item).next().map(str::to_owned));
    }
    names
        .into_iter()
        .map(|name| if ["Error", "Result"].contains(&&*name) { "error".to_owned() } else { name })
        .collect()
}

/// Modules between the crate and what is in this file: 1 for `src/gpu/mod.rs`, 2 for `src/gpu/device.rs`.
fn depth(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

#[test]
fn rooms_import_only_what_stands_left_of_them() {
    let mut wrong = Vec::new();
    for file in files() {
        if file.room == "bin" || file.room == "lib" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == file.room) else {
            wrong.push(format!("{} is in a room that this test does not know", file.path));
            continue;
        };
        for name in imports(&file.code) {
            if name != file.room && !allowed.contains(&&*name) {
                wrong.push(format!("{} names crate::{name}", file.path));
            }
        }
        // One `super` per module leads to the crate's root, from where any room could be named.
        let way_out = "super::".repeat(depth(&file.path).max(2));
        if file.code.contains(&way_out) {
            wrong.push(format!("{} leaves its room by {way_out}", file.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No file outside the places says the word.
fn only_in(word: &str, places: &[&str]) {
    let inside = |path: &str| places.iter().any(|place| path.starts_with(place));
    let wrong: Vec<_> =
        files().into_iter().filter(|f| !inside(&f.path) && says(&f.code, word)).map(|f| f.path).collect();
    assert!(wrong.is_empty(), "{word} outside {places:?}: {wrong:?}");
}

fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(code[..at].chars().next_back()) && !part(code[at + word.len()..].chars().next())
    })
}

#[test]
fn only_the_gpu_room_names_wgpu() {
    only_in("wgpu", &["src/gpu/"]);
    assert!(files().iter().any(|file| file.path.starts_with("src/gpu/") && says(&file.code, "wgpu")));
}

#[test]
fn ops_never_see_a_configuration() {
    for file in files().iter().filter(|file| file.room == "ops") {
        let config = words(&file.code).find(|word| word.to_lowercase().contains("config"));
        assert_eq!(config, None, "{}", file.path);
    }
}

#[test]
fn only_some_places_know_the_target() {
    only_in("target_arch", &["src/gpu/", "src/web", "src/lib.rs", "src/bin/"]);
}

/// What does not exist on wasm32, or may not be done in a browser's thread.
#[test]
fn nothing_that_a_browser_lacks() {
    for word in ["SystemTime", "block_on", "pollster"] {
        only_in(word, &["src/bin/"]);
    }
    // The hub does not exist on wasm32, and has to notice servers that are too slow.
    only_in("Instant", &["src/bin/", "src/hub/pace.rs"]);
    // Two pipes of one program, behind a `cfg` of lib.rs.
    only_in("thread", &["src/bin/", "src/ffmpeg/"]);
    only_in("Command", &["src/bin/", "src/ffmpeg/"]);
    // The network and locks of a native program, behind a `cfg` of lib.rs.
    for word in ["ureq", "fs4", "sha1"] {
        only_in(word, &["src/hub/"]);
    }
    // Downloads are checked by it, and pictures and videos known again.
    only_in("sha2", &["src/hub/", "src/web", "src/chat/encoded.rs", "src/image/", "src/video/"]);
    // On the web it is a module of its own, which the core never names.
    only_in("fanlight_grammar", &["src/grammar/"]);
    for word in ["wasm_bindgen", "js_sys", "web_sys"] {
        only_in(word, &["src/gpu/", "src/web"]);
    }
}

#[test]
fn all_rooms_exist() {
    let rooms: BTreeSet<String> = files().into_iter().map(|file| file.room).collect();
    for room in FOUNDED {
        assert!(rooms.contains(room), "no room {room} among {rooms:?}");
    }
}

/// The scanner itself.
#[test]
fn the_scanner_sees_what_it_should() {
    let text = r##"
        use crate::{Error, gpu::{Gpu, ops}, model::decoder};  // crate::no
        fn f<'a>(x: &'a str) -> char { let s = "crate::not \" crate::nor"; '"' } /* wgpu */
        let y = crate::ops::linear; $crate::dtype; xcrate::other; r"crate::raw"; r#"wgpu""#;
    "##;
    let code = code(text);
    let found: Vec<_> = imports(&code).into_iter().collect();
    assert_eq!(found, ["dtype", "error", "gpu", "model", "ops"]);
    assert!(!says(&code, "wgpu") && says(&code, "linear") && !says(&code, "linea"));
    assert_eq!((depth("src/error.rs"), depth("src/gpu/mod.rs"), depth("src/gpu/device.rs")), (1, 1, 2));
}

/// Every code that an error can have is one that the package's types know.
#[test]
fn error_codes_are_those_of_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let rust = read("src/error.rs");
    let body = rust.split("pub fn code(&self)").nth(1).unwrap().split("\n    }").next().unwrap();
    let codes: BTreeSet<&str> = body.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 10, "{codes:?}");
    let package = read("www/src/errors.ts");
    let union = package.split("export type ErrorCode").nth(1).unwrap().split("export interface").next().unwrap();
    let known: BTreeSet<&str> = union.split('"').skip(1).step_by(2).collect();
    assert!(codes.is_subset(&known), "{:?}", codes.difference(&known).collect::<Vec<_>>());
}
