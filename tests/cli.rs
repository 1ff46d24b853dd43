//! The command line as a user types it, against fixtures of Hugging Face.

mod golden_fixture;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use golden_fixture::{Case, cases, folder, relative_error};
use safetensors::SafeTensors;
use serde_json::Value;

fn fanlight(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanlight")).args(args).output().expect("the binary runs")
}

fn path(p: &Path) -> String {
    p.to_str().unwrap().to_owned()
}

/// `fanlight trace` writes what transformers computes, from messages to logits, for every golden prompt of one turn.
#[test]
fn trace_equals_transformers() {
    let mut count = 0;
    for model in [
        "base",
        "flat",
        "head80",
        "bf16",
        "f16",
        "qwen2_vl",
        "qwen2_vl_flat",
        "qwen3_vl",
        "qwen3_vl_bf16",
        "qwen3_vl_head72",
    ] {
        count += compare_traces(&["--model", &path(&folder(model))], model, None);
    }
    assert!(count >= 14, "only {count} prompts were compared");
}

/// The same from a GGUF file, which finds its vision tower beside it, and from one that is told where.
#[test]
fn trace_of_a_gguf_file_equals_transformers() {
    let (model, mmproj) = (path(&folder("../gguf/base.gguf")), path(&folder("../gguf/base-mmproj.gguf")));
    assert!(compare_traces(&["--model", &model], "base", None) > 4);
    let elsewhere = std::env::temp_dir().join(format!("fanlight-gguf-{}", std::process::id()));
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::copy(&model, elsewhere.join("alone.gguf")).unwrap();
    let alone = path(&elsewhere.join("alone.gguf"));
    assert_eq!(compare_traces(&["--model", &alone, "--mmproj", &mmproj], "base", Some("image")), 1);
    // Without its tower it is a text model.
    let run = fanlight(&["inspect", "--model", &alone]);
    assert!(String::from_utf8_lossy(&run.stdout).contains("none: a text model"));
    std::fs::remove_dir_all(elsewhere).unwrap();
}

/// A converted checkpoint, which finds its vision tower beside it, computes what transformers computes with the original.
#[test]
fn convert_writes_what_transformers_would_read() {
    let home = std::env::temp_dir().join(format!("fanlight-convert-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let out = path(&home.join("new.gguf"));
    let convert = |model: &str, more: &[&str]| {
        let run = fanlight(&[&["convert", "--model", model, "--out", &out], more].concat());
        let text = [run.stdout, run.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.contains("panicked"), "{text}");
        (run.status.success(), text)
    };
    let names = || {
        let mut names: Vec<String> =
            std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let base = path(&folder("base"));
    let (fine, text) = convert(&base, &[]);
    assert!(fine && text.contains("F32      27 tensors"), "{text}");
    assert_eq!(names(), ["mmproj-new.gguf", "new.gguf"]);
    assert!(compare_traces(&["--model", &out], "base", None) > 4);
    // What is there stays unless it may go.
    let before = std::fs::read(&out).unwrap();
    let (fine, text) = convert(&base, &["--quantize", "q8"]);
    assert!(!fine && text.contains("new.gguf"), "{text}");
    assert_eq!(std::fs::read(&out).unwrap(), before);
    let (fine, text) = convert(&base, &["--quantize", "q8", "--force"]);
    assert!(fine, "{text}");
    for line in [
        "Q8_0     14 tensors",
        "blk.0.ffn_down.weight is F32: its rows have 56 elements, which is not a multiple of 32",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    // From GGUF to GGUF, into the file itself.
    let quantized = std::fs::read(&out).unwrap();
    let (fine, text) = convert(&out, &["--force"]);
    assert!(fine, "{text}");
    assert!(std::fs::read(&out).unwrap() == quantized, "the same file");
    assert_eq!(names(), ["mmproj-new.gguf", "new.gguf"], "nothing else");
    // Another tower beside it, and a text model that has none.
    let elsewhere = path(&home.join("mmproj-other.gguf"));
    let (fine, text) = convert(&base, &["--force", "--mmproj-out", &elsewhere]);
    assert!(fine && text.contains("give its vision tower with --mmproj"), "{text}");
    let awq = path(&folder("../packed/awq"));
    let (fine, text) = convert(&awq, &["--force", "--mmproj-out", &elsewhere]);
    assert!(!fine && text.contains("--mmproj-out: expected a model with a vision tower"), "{text}");
    // A checkpoint that breaks off half way leaves nothing.
    let broken = home.join("broken");
    std::fs::create_dir_all(&broken).unwrap();
    for entry in std::fs::read_dir(folder("base")).unwrap().flatten() {
        std::fs::copy(entry.path(), broken.join(entry.file_name())).unwrap();
    }
    let mut weights = std::fs::read(broken.join("model.safetensors")).unwrap();
    let end = weights.len();
    weights[end - 200_000..].fill(255); // NaNs
    std::fs::write(broken.join("model.safetensors"), weights).unwrap();
    let before = (std::fs::read(&out).unwrap(), names());
    let (fine, text) = convert(&path(&broken), &["--force", "--quantize", "q4"]);
    assert!(!fine && text.contains("NaN"), "{text}");
    assert!((std::fs::read(&out).unwrap(), names()) == before, "{:?}", names());
    std::fs::remove_dir_all(home).unwrap();
}

/// ORG/NAME is looked for where Python left it.
#[test]
fn inspect_finds_checkpoints_in_the_cache_of_the_hub() {
    let home = std::env::temp_dir().join(format!("fanlight-home-{}", std::process::id()));
    let repo = home.join("hub/models--test--base");
    let snapshot = repo.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), "0123456789abcdef0123456789abcdef01234567").unwrap();
    for entry in std::fs::read_dir(folder("base")).unwrap().flatten() {
        std::fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanlight"));
        command.args(args).env_remove("HF_HUB_CACHE").env_remove("HUGGINGFACE_HUB_CACHE").env("HF_HOME", &home);
        command.env("HF_HUB_OFFLINE", "1");
        command.output().expect("the binary runs")
    };
    let found = run(&["inspect", "--model", "test/base"]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("qwen2_5_vl"), "{found:?}");
    let missing = run(&["inspect", "--model", "test/base", "--revision", "other"]);
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("test/base"));
    std::fs::remove_dir_all(home).unwrap();
}

/// Runs `trace` on the one-turn prompts of a golden model (or one of them) and compares; gives how many there were.
fn compare_traces(model_args: &[&str], model: &str, only: Option<&str>) -> usize {
    // Tests run side by side.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let out = std::env::temp_dir().join(format!("fanlight-trace-{}-{run}.safetensors", std::process::id()));
    let mut count = 0;
    for (name, options) in cases(model) {
        if options.get("then").is_some() || only.is_some_and(|only| only != name) {
            continue; // the reply between two turns is generated: tests/golden.rs
        }
        let messages = path(&folder(model).join(options["messages"].as_str().unwrap()));
        let mut args = [&["trace"], model_args, &["--messages", &messages, "--out", out.to_str().unwrap()]].concat();
        if options["add_vision_id"] == true {
            args.push("--add-vision-id");
        }
        let run = fanlight(&args);
        assert!(run.status.success(), "{model}/{name}: {}", String::from_utf8_lossy(&run.stderr));
        let bytes = std::fs::read(&out).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            file.tensor(name).unwrap().data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
        };
        let i32s = |name: &str| words(name).into_iter().map(i32::from_le_bytes).collect::<Vec<_>>();
        let f32s = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
        let case = Case::open(model, &name);
        for tensor in ["input_ids", "position_ids", "image_grid_thw", "rope_delta"] {
            assert_eq!(i32s(tensor), case.i32(tensor), "{model}/{name}: {tensor}");
        }
        let n = i32s("input_ids").len();
        assert_eq!(file.tensor("position_ids").unwrap().shape(), [3, n]);
        assert_eq!(file.tensor("logits").unwrap().shape()[0], n);
        let (embeds, logits) = (f32s("image_embeds"), f32s("logits"));
        let expected = case.logits();
        for (what, found, expected) in [
            ("image_embeds", &embeds[..], case.f32(&case.exact("image_embeds"))),
            ("logits", &logits[logits.len() - expected.len()..], expected),
        ] {
            let error = relative_error(found, &expected);
            assert!(error <= 1e-4, "{model}/{name}: {what} differ by {error:e}");
        }
        count += 1;
    }
    std::fs::remove_file(&out).unwrap();
    count
}

#[test]
fn ask_answers_in_json_and_as_text() {
    let model = path(&folder("base"));
    let image = path(&folder("base").join("../../images/photo_150x95.jpg"));
    let args = [
        "ask",
        "--model",
        &model,
        "--image",
        &image,
        "--image",
        &image,
        "What?",
        "--max-tokens",
        "9",
        "--temperature",
        "0",
    ];
    let run = fanlight(&[&args[..], &["--json"]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(answer["token_ids"].as_array().unwrap().len() <= 9);
    assert_eq!(answer["images"][0]["original"], serde_json::json!([150, 95]));
    assert_eq!(answer["images"][0]["resized"], serde_json::json!([140, 84]));
    assert_eq!(answer["images"][0]["tokens"], 15);
    assert_eq!(answer["usage"]["image_tokens"], 30);
    let text = fanlight(&args);
    assert!(text.status.success());
    assert_eq!(String::from_utf8(text.stdout).unwrap(), format!("{}\n", answer["text"].as_str().unwrap()));
    let light = fanlight(&[&args[..], &["--json", "--kv-cache", "q8"]].concat());
    let light: Value = serde_json::from_slice(&light.stdout).unwrap();
    assert_eq!(light["token_ids"][0], answer["token_ids"][0]);
    let wrong = fanlight(&[&args[..], &["--kv-cache", "q5"]].concat());
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("f32 or q8"));
    // The same seed draws the same answer, another one another.
    let draw = |seed: &str| {
        fanlight(&["ask", "--model", &model, "Hi", "--max-tokens", "24", "--temperature", "1.5", "--seed", seed]).stdout
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn what_an_answer_locates_is_in_the_pictures_own_pixels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (model, image) = (root.join("models/screen-reader"), root.join("tests/screens/screen-000.png"));
    let question = "Where is the \"Record status\" link?";
    let args = ["ask", "--json", "--temperature", "0", "--model", &path(&model), "--image", &path(&image), question];
    let run = fanlight(&args);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let answer: Value = serde_json::from_slice(&run.stdout).unwrap();
    let written: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
    let scale = |axis: usize| {
        let side = |name: &str| answer["images"][0][name][axis].as_f64().unwrap();
        side("original") / side("resized")
    };
    let corners = written[0]["bbox_2d"].as_array().unwrap().iter().enumerate();
    let scaled: Vec<f64> = corners.map(|(i, value)| value.as_f64().unwrap() * scale(i % 2)).collect();
    let located = &answer["located"][0];
    assert_eq!((&located["kind"], &located["label"]), (&"box".into(), &written[0]["label"]));
    let at = located["at"].as_array().unwrap();
    assert_eq!(at.len(), 4);
    for (value, expected) in at.iter().zip(scaled) {
        assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{located} for {written}");
    }
}

#[test]
fn chat_takes_turns_and_images() {
    use std::io::Write;
    let image = path(&folder("base").join("../../images/scene_56x56.png"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanlight"))
        .args(["chat", "--model", &path(&folder("base")), "--max-tokens", "5"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("/image {image}\nWhat is it?\n/image nowhere.png\n/dance\nAnd now?\n/quit\nunheard\n");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let notes = String::from_utf8(out.stderr).unwrap();
    for note in ["56×56 pixels", "nowhere.png", "unknown command /dance"] {
        assert!(notes.contains(note), "{note} in {notes}");
    }
}

#[test]
fn inspect_says_what_it_is() {
    let run = fanlight(&["inspect", "--model", &path(&folder("flat")), "--tensors"]);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success());
    for word in ["qwen2_5_vl", "parameters", "KV cache", "vision.patch_embed", "text.layers.0.qkv"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// The estimate as text and as JSON, and `auto` within a memory that the model does not fit as it is.
#[test]
fn inspect_estimates_and_auto_chooses() {
    let model = path(&folder("base"));
    let inspect = |more: &[&str]| {
        let run =
            fanlight(&[&["inspect", "--model", &model, "--context", "300", "--max-pixels", "50176"], more].concat());
        (run.status.success(), String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap())
    };
    let (_, text, _) = inspect(&[]);
    for word in ["download", "activations", "total", "context of 300", "50176 pixels", "fits"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let json = |more: &[&str]| -> Value { serde_json::from_str(&inspect(&[&["--json"], more].concat()).1).unwrap() };
    let kept = json(&[]);
    assert_eq!((&kept["contextLength"], &kept["maxPixels"], &kept["fits"]), (&300.into(), &50176.into(), &true.into()));
    let light = json(&["--kv-cache", "q8"]);
    assert_eq!((&kept["kvCache"], &light["kvCache"]), (&"f32".into(), &"q8".into()));
    // A head has 16 numbers: as many bytes and a scale.
    assert_eq!(64 * light["kvBytes"].as_u64().unwrap(), 20 * kept["kvBytes"].as_u64().unwrap());
    let total = kept["totalBytes"].as_u64().unwrap();
    let memory = (total - 1).to_string();
    let chosen = json(&["--quantize", "auto", "--memory", &memory]);
    assert!(chosen["fits"] == true && chosen["totalBytes"].as_u64().unwrap() < total, "{chosen:#}");
    assert!(chosen["weights"]["text"] == "q8" && !chosen["decisions"].as_array().unwrap().is_empty(), "{chosen:#}");
    assert_eq!(json(&["--memory", &memory])["fits"], false);
    let (ok, out, _) = inspect(&["--json", "--memory", "much"]);
    assert!(!ok && out.is_empty());
    // And it runs with what was chosen, or says what to lower.
    let ask = |memory: &str| {
        fanlight(&[
            "ask",
            "--model",
            &model,
            "--quantize",
            "auto",
            "--memory",
            memory,
            "--context",
            "300",
            "--max-tokens",
            "3",
            "Hi",
        ])
    };
    let run = ask("1000000");
    let notes = String::from_utf8(run.stderr).unwrap();
    assert!(
        !run.status.success() && notes.contains("out of GPU memory") && notes.contains("lower max_pixels"),
        "{notes}"
    );
    let run = ask("12MiB");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Each fault ends in one message that says what was expected and what came, never in a panic.
#[test]
fn faults_are_named() {
    let base = path(&folder("base"));
    let readme = path(&folder("base").join("../../README.md"));
    let broken = std::env::temp_dir().join(format!("fanlight-broken-{}", std::process::id()));
    std::fs::create_dir_all(&broken).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(broken.join(name), bytes).unwrap();
    let keep = |name: &str| put(name, &std::fs::read(folder("base").join(name)).unwrap());
    let broken_path = path(&broken);
    let ask = |model: &str, more: &[&str]| {
        let run = fanlight(&[&["ask", "--model", model, "Hi"], more].concat());
        let text = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        text
    };
    assert!(ask("nowhere", &[]).contains("nowhere is missing"));
    assert!(ask(&base, &["--image", &readme]).contains("not a usable image"));
    assert!(ask(&base, &["--image", "nowhere.png"]).contains("nowhere.png"));
    assert!(ask(&base, &["--context", "8"]).contains("the context holds 8"));
    assert!(ask(&broken_path, &[]).contains("config.json is missing"));
    put("config.json", br#"{"model_type": "llama"}"#);
    assert!(ask(&broken_path, &[]).contains("llama"));
    for name in ["config.json", "tokenizer.json", "chat_template.jinja"] {
        keep(name);
    }
    assert!(ask(&broken_path, &[]).contains("preprocessor_config.json"), "not by defaults that nobody chose");
    keep("preprocessor_config.json");
    assert!(ask(&broken_path, &[]).contains("model.safetensors"));
    let weights = std::fs::read(folder("base").join("model.safetensors")).unwrap();
    put("model.safetensors", &weights[..weights.len() - 1000]);
    assert!(ask(&broken_path, &[]).contains("model.safetensors"));
    put("model.safetensors", &[255; 64]);
    assert!(ask(&broken_path, &[]).contains("model.safetensors"));
    put("model.safetensors", &weights);
    put("tokenizer.json", b"{}");
    assert!(ask(&broken_path, &[]).contains("tokenizer.json"));
    std::fs::remove_dir_all(&broken).unwrap();
}
