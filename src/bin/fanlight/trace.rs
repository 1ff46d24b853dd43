//! `fanlight trace`: the intermediate results of a prompt, in a file.

use std::path::PathBuf;

use clap::Args;
use fanlight::chat::DEFAULT_CONTEXT;
use fanlight::weights::safetensors;
use fanlight::{Error, Result};

use super::input::Drafts;
use super::model::{ModelArgs, Ready, load};
use super::terminal::note;

#[derive(Args)]
pub struct Trace {
    #[command(flatten)]
    model: ModelArgs,
    /// Messages in Hugging Face's format. Paths in them are relative to this file.
    #[arg(long, value_name = "FILE.json")]
    messages: PathBuf,
    /// The file to write the tensors to.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Prefix images with "Picture N: ".
    #[arg(long)]
    add_vision_id: bool,
}

pub async fn run(args: Trace) -> Result<()> {
    let drafts = Drafts::read(&args.messages)?;
    let Ready { engine, .. } = load(&args.model, DEFAULT_CONTEXT, None).await?;
    let messages = drafts.finish(&engine, DEFAULT_CONTEXT)?;
    let t = engine.trace(&messages, args.add_vision_id).await?;
    let n = t.input_ids.len() as u64;
    let (images, videos) = (t.images.grid_thw.len() as u64 / 3, t.videos.grid_thw.len() as u64 / 3);
    let shape = |values: &[f32], width: usize| [(values.len() / width.max(1)) as u64, width as u64];
    let delta = [i32::try_from(t.rope_delta).unwrap_or(i32::MIN)];
    let mut floats = vec![("logits".to_owned(), &t.logits, t.vocab)];
    let mut grids = Vec::new();
    // The names are those of the arguments and results in transformers.
    for (kind, pixels, media, count) in
        [("image", "pixel_values", &t.images, images), ("video", "pixel_values_videos", &t.videos, videos)]
    {
        if count > 0 || kind == "image" {
            grids.push((format!("{kind}_grid_thw"), [count, 3], &media.grid_thw));
            floats.push((pixels.to_owned(), &media.pixel_values, t.patch_len));
            floats.push((format!("{kind}_embeds"), &media.embeds, t.hidden));
            let deep = media.deepstack.iter().enumerate();
            floats.extend(deep.map(|(n, values)| (format!("{kind}_deepstack.{n}"), values, t.hidden)));
        }
    }
    let shapes: Vec<[u64; 2]> = floats.iter().map(|(_, values, width)| shape(values, *width)).collect();
    let (row, axes) = ([n], [3, n]);
    let mut tensors: Vec<(&str, &str, &[u64], &[u8])> = vec![
        ("input_ids", "I32", &row, bytemuck::cast_slice(&t.input_ids)),
        ("position_ids", "I32", &axes, bytemuck::cast_slice(&t.position_ids)),
        ("rope_delta", "I32", &[1], bytemuck::cast_slice(&delta)),
    ];
    let shapes = shapes.iter().map(|shape| &shape[..]);
    tensors.extend(
        floats
            .iter()
            .zip(shapes)
            .map(|((name, values, _), shape)| (name.as_str(), "F32", shape, bytemuck::cast_slice(values))),
    );
    tensors
        .extend(grids.iter().map(|(name, shape, grid)| (name.as_str(), "I32", &shape[..], bytemuck::cast_slice(grid))));
    let bytes = safetensors::write(&tensors)?;
    std::fs::write(&args.out, &bytes)
        .map_err(|e| Error::Io { path: args.out.display().to_string(), message: e.to_string() })?;
    note!("{} tokens, {images} images, {videos} videos, {} bytes to {}", n, bytes.len(), args.out.display());
    Ok(())
}
