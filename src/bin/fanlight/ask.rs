//! `fanlight ask`: one question.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fanlight::chat::{Content, Hooks, Message, Part};
use fanlight::image::ImageOptions;
use fanlight::{Error, Result};

use super::input::{picture, read_messages};
use super::model::{ModelArgs, Ready, load};
use super::sampling::SamplingArgs;

#[derive(Args)]
pub struct Ask {
    #[command(flatten)]
    model: ModelArgs,
    /// Image file; may be given several times.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Messages in Hugging Face's form instead of a question.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["image", "question"])]
    messages: Option<PathBuf>,
    /// The question.
    #[arg(required_unless_present = "messages")]
    question: Option<String>,
    /// Fewest pixels of an image after resizing.
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// Most pixels of an image after resizing.
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print one JSON object instead of streaming text.
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Ask) -> Result<()> {
    // What cannot be read is known before the weights are.
    let pictures = args.image.iter().map(|path| picture(path)).collect::<Result<Vec<_>>>()?;
    let messages = args.messages.as_deref().map(read_messages).transpose()?;
    let begin = Instant::now();
    let Ready { engine, context, max_pixels } = load(&args.model, args.sampling.context, args.max_pixels).await?;
    let messages = messages.unwrap_or_else(|| {
        let pixels = ImageOptions { min_pixels: args.min_pixels, max_pixels, ..ImageOptions::default() };
        let mut parts: Vec<Part> = pictures.into_iter().map(|picture| Part::Image(picture, pixels)).collect();
        parts.push(Part::Text(args.question.clone().unwrap_or_default()));
        vec![Message { role: "user".into(), content: Content::Parts(parts) }]
    });
    let load_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let options = args.sampling.options(engine.generation_config());
    let mut conversation = engine.conversation(context)?;
    let json = args.json;
    let mut out = std::io::stdout();
    let mut on_text = |text: &str| {
        if !json {
            // A closed pipe is no reason to stop computing the answer.
            let _ = write!(out, "{text}").and_then(|()| out.flush());
        }
    };
    let hooks =
        Hooks { on_text: &mut on_text, cancelled: &|| false, clock: &|| begin.elapsed().as_secs_f64() * 1000.0 };
    let answer = engine.ask(&mut conversation, &messages, &options, hooks).await?;
    if json {
        let mut object =
            serde_json::to_value(&answer).map_err(|e| Error::invalid("answer", "what JSON can hold", e.to_string()))?;
        object["timings"]["load_ms"] = load_ms.into();
        object["adapter"] = engine.gpu().caps().adapter.clone().into();
        println!("{object}");
    } else {
        println!();
    }
    Ok(())
}
