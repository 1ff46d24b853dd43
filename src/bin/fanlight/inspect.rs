//! `fanlight inspect`: a checkpoint's configuration and the memory that it needs.

use clap::Args;
use fanlight::Result;
use fanlight::chat::DEFAULT_CONTEXT;
use fanlight::error::in_words;
use fanlight::generate::estimate::{self, Wish};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::model::registry;
use fanlight::weights::{Folder, Limits};

use super::model::{ModelArgs, Place};
use super::terminal::say;

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
    /// Length in tokens of the conversation to estimate.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONTEXT)]
    context: usize,
    /// Pixels of the largest picture to estimate [default: the checkpoint's own limit].
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Print the estimate as one JSON object.
    #[arg(long, conflicts_with = "tensors")]
    pub json: bool,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

pub async fn run(args: Inspect) -> Result<()> {
    let place = Place::of(&args.model)?;
    let gpu = Gpu::open(&GpuOptions { software: args.model.software, ..GpuOptions::default() }).await;
    // If there is no device, use the limits that WebGPU guarantees.
    let (max_binding, max_buffer) =
        gpu.as_ref().map_or((128 << 20, 256 << 20), |g| (g.caps().max_binding, g.caps().max_buffer));
    let limits = Limits { max_binding, max_buffer };
    let gguf = place.open().await?;
    let source: &dyn Folder = gguf.as_ref().map_or(&place.files, |gguf| gguf as &dyn Folder);
    let Inspect { model: ModelArgs { quantize: weights, kv_cache: cache, memory, .. }, context, max_pixels, .. } = args;
    let e = estimate::of(source, limits, &Wish { weights, cache, context, max_pixels, memory }).await?;
    if args.json {
        say!("{}", e.to_json());
        return Ok(());
    }
    let d = registry::describe(source, limits, &e.formats).await?;
    say!("model          {}", d.family);
    say!("parameters     {}", d.parameters);
    say!(
        "decoder        {} layers, hidden {}, {} query and {} key-value heads of {}, {} vocabulary rows, context {}",
        d.decoder.layers,
        d.decoder.hidden,
        d.decoder.heads.q,
        d.decoder.heads.kv,
        d.decoder.heads.dim,
        d.decoder.vocab,
        d.max_positions
    );
    match d.vision {
        Some((blocks, hidden)) => say!("vision         {blocks} blocks, hidden {hidden}"),
        None => say!("vision         none: a text model"),
    }
    match &gpu {
        Ok(gpu) => {
            let caps = gpu.caps();
            let kind = if caps.software { ", software" } else { "" };
            let f16 = if caps.shader_f16 { "shader-f16" } else { "no shader-f16" };
            say!(
                "device         {} ({}{kind}), {f16}, {} per binding",
                caps.adapter,
                caps.backend,
                in_words(max_binding)
            );
        }
        Err(e) => say!("device         none ({e}); planned with WebGPU's guaranteed limits"),
    }
    say!(
        "estimate       for a context of {} tokens{}",
        e.context_length,
        match e.max_pixels {
            Some(pixels) => format!(" and pictures of at most {pixels} pixels"),
            None => String::new(),
        }
    );
    say!("  download     {}", in_words(e.download_bytes));
    say!("  weights      {}: {}", in_words(e.weight_bytes.iter().map(|(_, bytes)| bytes).sum()), e.formats);
    for (part, bytes) in &e.weight_bytes {
        say!("    {part:<10} {}", in_words(*bytes));
    }
    let per = in_words(d.cache_bytes(1024, e.cache));
    say!("  KV cache     {}: {}, {per} per 1024 tokens", in_words(e.kv_bytes), e.cache);
    say!(
        "  activations  {} for a picture, {} for a prompt, one at a time",
        in_words(e.activation_bytes.vision),
        in_words(e.activation_bytes.prefill)
    );
    say!("  in passing   {}", in_words(e.staging_bytes));
    say!("  total        {}", in_words(e.total_bytes));
    say!("  largest      {} of one buffer: {}", in_words(e.largest_buffer.bytes), e.largest_buffer.name);
    say!("{}  {}", if e.fits { "fits         " } else { "does not fit " }, e.reason);
    for decision in &e.decisions {
        say!("  {decision}");
    }
    if args.tensors {
        for m in &d.plan.matrices {
            let cut = if m.shards.len() > 1 { format!(" in {} shards", m.shards.len()) } else { String::new() };
            let mut layouts: Vec<&str> = m.shards.iter().map(|s| s.layout.name()).collect();
            layouts.dedup();
            say!("{:<40} {} [{}, {}]{cut}", m.name, layouts.join("+"), m.rows, m.cols);
        }
        for v in &d.plan.vectors {
            say!("{:<40} F32 [{}]", v.name, v.len);
        }
    }
    Ok(())
}
