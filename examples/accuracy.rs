//! Measures how often a checkpoint answers right: `cargo run --release --example accuracy --
//! [--model DIR] [--quantize FORMATS] QUESTIONS.json`.
//!
//! QUESTIONS.json is what `train/evalset.py` writes: `[{image, question, kind, answer, words}]`, images beside it. Every
//! question goes through the real pipeline (file → decode → resize → tower → decoder → text). An answer is right if it is
//! the expected text; a box (`locate`) if its intersection over union with the expected one is at least one half.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fanlight::chat::grounding::{Convention, Shape, locate};
use fanlight::chat::{AskOptions, Content, Engine, Hooks, ImageInfo, Message, Part};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::{ImageOptions, Still};
use fanlight::weights::Directory;
use fanlight::weights::quantize::Formats;
use fanlight::{Error, Result};
use serde_json::Value;

fn main() -> Result<()> {
    let mut model = PathBuf::from("models/screen-reader");
    let mut formats = Formats::default();
    let mut questions = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--model" => model = args.next().unwrap_or_default().into(),
            "--quantize" => formats = args.next().unwrap_or_default().parse()?,
            _ => questions = Some(PathBuf::from(arg)),
        }
    }
    let questions = questions.ok_or_else(|| Error::missing("QUESTIONS.json", "the arguments"))?;
    #[expect(clippy::disallowed_methods, reason = "this is the main of a native program")]
    pollster::block_on(run(&model, &formats, &questions))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::Io { path: path.display().to_string(), message: e.to_string() })
}

async fn run(model: &Path, formats: &Formats, questions: &Path) -> Result<()> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    let engine = Engine::load_as(&gpu, &Directory::new(model), formats, &mut |_, _| {}).await?;
    let mut conversation = engine.conversation(4096)?;
    let list: Vec<Value> = serde_json::from_slice(&read(questions)?)
        .map_err(|e| Error::malformed("questions", "a JSON list", e.to_string()))?;
    let folder = questions.parent().unwrap_or(Path::new("."));
    // How many answers were right and how many questions were asked, by kind and by "kind, words".
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for item in &list {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let picture = Rc::new(Still::open(read(&folder.join(text("image")))?)?);
        let parts = vec![Part::Image(picture, ImageOptions::default()), Part::Text(text("question"))];
        let messages = [Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() }];
        let options = AskOptions { max_tokens: Some(160), ..AskOptions::default() };
        let hooks = Hooks { on_delta: &mut |_| {}, cancelled: &|| false, clock: &|| 0.0 };
        let answer = engine.ask(&mut conversation, &messages, &options, hooks).await?;
        let right = match text("kind").as_str() {
            "locate" => overlap(&answer.text, &text("answer"), &answer.images[0]) >= 0.5,
            _ => answer.text.trim() == text("answer"),
        };
        if std::env::var_os("SHOW").is_some() {
            println!("{} {} {:?} → {:?} ({})", text("image"), text("question"), text("answer"), answer.text, right);
        }
        let mut names = vec![text("kind")];
        if !text("words").is_empty() {
            names.push(format!("{}, {} words", text("kind"), text("words")));
        }
        for name in names {
            let row = table.entry(name).or_default();
            *row = (row.0 + usize::from(right), row.1 + 1);
        }
    }
    println!("| question | right | asked | share |\n|---|---|---|---|");
    for (name, (right, asked)) in table {
        println!("| {name} | {right} | {asked} | {:.1} % |", 100.0 * right as f64 / asked as f64);
    }
    Ok(())
}

/// Intersection over union of the first box of each.
fn overlap(found: &str, expected: &str, image: &ImageInfo) -> f64 {
    // Both boxes are in pixels of the resized picture. Scaling both by the same factor would not change the result.
    let first = |text: &str| {
        let found = locate(text, Convention::ResizedPixels, std::slice::from_ref(image));
        found.into_iter().find_map(|located| if let Shape::Box(at) = located.shape { Some(at) } else { None })
    };
    let (Some(a), Some(b)) = (first(found), first(expected)) else { return 0.0 };
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |r: &[f64]| (r[2] - r[0]) * (r[3] - r[1]);
    let shared = side(0) * side(1);
    shared / (area(&a) + area(&b) - shared).max(f64::MIN_POSITIVE)
}
