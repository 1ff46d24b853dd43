//! `fanlight locate`: what a text points at, in pixels. For trying how answers are read, without a model.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use fanlight::chat::ImageInfo;
use fanlight::chat::grounding::{self, Convention};
use fanlight::image::{ImageOptions, PreprocessorConfig, resized};
use fanlight::model::registry::FAMILIES;
use fanlight::{Error, Result};

use super::input::picture;
use super::terminal::say;

#[derive(Args)]
pub struct Locate {
    /// The text, with or without control tokens; `-` reads it from standard input.
    text: String,
    /// The picture that it is about.
    #[arg(long, value_name = "FILE", required_unless_present = "size")]
    image: Option<PathBuf>,
    /// Or only the picture's size.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = pair, conflicts_with = "image")]
    size: Option<(u32, u32)>,
    /// The size at which the model saw it [default: as by the family's own limits].
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = pair)]
    seen: Option<(u32, u32)>,
    /// The model_type of the model that wrote it, which decides the unit of coordinates.
    #[arg(long, value_name = "NAME", default_value = "qwen2_5_vl")]
    family: String,
    /// Print the times of a video instead.
    #[arg(long)]
    events: bool,
}

pub fn run(args: Locate) -> Result<()> {
    let text = match args.text.as_str() {
        "-" => {
            let mut text = String::new();
            let failed = |e: std::io::Error| Error::Io { path: "standard input".into(), message: e.to_string() };
            std::io::stdin().read_to_string(&mut text).map_err(failed)?;
            text
        }
        text => text.to_owned(),
    };
    let print = |found: serde_json::Result<String>| {
        found.map(|found| say!("{found}")).map_err(|e| Error::invalid("answer", "what JSON can hold", e.to_string()))
    };
    if args.events {
        return print(serde_json::to_string(&grounding::events(&text)));
    }
    let Some(convention) = Convention::of(&args.family) else {
        let known: Vec<&str> = FAMILIES.iter().filter(|f| f.vision.is_some()).map(|f| f.model_type).collect();
        return Err(Error::invalid("--family", format!("one of {known:?}"), args.family));
    };
    let size = match (&args.image, args.size) {
        (Some(path), _) => picture(path)?.size(),
        (None, size) => size.unwrap_or((0, 0)),
    };
    // As in the checkpoints on the Hub.
    let (patch_size, min_pixels, max_pixels) =
        if convention == Convention::ThousandJson { (16, 65_536, 16_777_216) } else { (14, 3136, 12_845_056) };
    let config = PreprocessorConfig { patch_size, min_pixels, max_pixels, ..PreprocessorConfig::default() };
    let seen = match args.seen {
        Some(seen) => seen,
        None => resized(size, &config, &ImageOptions::default())?,
    };
    let image = ImageInfo { original: size.into(), resized: seen.into(), tokens: 0 };
    print(serde_json::to_string(&grounding::locate(&text, convention, &[image])))
}

fn pair(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', '×']).and_then(|(w, h)| w.parse().ok().zip(h.parse().ok()));
    sides.filter(|(w, h)| *w > 0 && *h > 0).ok_or_else(|| "expected a size such as 1344x896".to_owned())
}
