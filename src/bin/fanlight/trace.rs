//! `fanlight trace`: everything that a prompt computes, in a file.

use std::path::PathBuf;

use clap::Args;
use fanlight::chat::DEFAULT_CONTEXT;
use fanlight::weights::safetensors;
use fanlight::{Error, Result};

use super::input::read_messages;
use super::model::{ModelArgs, Ready, load};

#[derive(Args)]
pub struct Trace {
    #[command(flatten)]
    model: ModelArgs,
    /// Messages in Hugging Face's form; image paths are relative to the file.
    #[arg(long, value_name = "FILE.json")]
    messages: PathBuf,
    /// Where the tensors go.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Prefix images with "Picture N: ".
    #[arg(long)]
    add_vision_id: bool,
}

pub async fn run(args: Trace) -> Result<()> {
    let messages = read_messages(&args.messages)?;
    let Ready { engine, .. } = load(&args.model, DEFAULT_CONTEXT, None).await?;
    let t = engine.trace(&messages, args.add_vision_id).await?;
    let n = t.input_ids.len() as u64;
    let images = t.image_grid_thw.len() as u64 / 3;
    let shape = |len: usize, width: usize| [(len / width.max(1)) as u64, width as u64];
    let delta = [i32::try_from(t.rope_delta).unwrap_or(i32::MIN)];
    let bytes = safetensors::write(&[
        ("input_ids", "I32", &[n], bytemuck::cast_slice(&t.input_ids)),
        ("position_ids", "I32", &[3, n], bytemuck::cast_slice(&t.position_ids)),
        ("pixel_values", "F32", &shape(t.pixel_values.len(), t.patch_len), bytemuck::cast_slice(&t.pixel_values)),
        ("image_grid_thw", "I32", &[images, 3], bytemuck::cast_slice(&t.image_grid_thw)),
        ("image_embeds", "F32", &shape(t.image_embeds.len(), t.hidden), bytemuck::cast_slice(&t.image_embeds)),
        ("logits", "F32", &shape(t.logits.len(), t.vocab), bytemuck::cast_slice(&t.logits)),
        ("rope_delta", "I32", &[1], bytemuck::cast_slice(&delta)),
    ])?;
    std::fs::write(&args.out, &bytes)
        .map_err(|e| Error::Io { path: args.out.display().to_string(), message: e.to_string() })?;
    eprintln!("{} tokens, {images} images, {} bytes to {}", n, bytes.len(), args.out.display());
    Ok(())
}
