//! `fanlight ask`: one question.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fanlight::chat::tools::{Tool, ToolChoice};
use fanlight::chat::{AskOptions, Delta, Hooks, Plan};
use fanlight::error::in_words;
use fanlight::grammar::Grammar;
use fanlight::image::ImageOptions;
use fanlight::video::VideoOptions;
use fanlight::{Error, Result};
use serde_json::{Value, json};

use super::input::{Draft, Drafts, Footage, picture};
use super::model::{ModelArgs, Ready, load};
use super::sampling::SamplingArgs;
use super::terminal::{self, say};

#[derive(Args)]
pub struct Ask {
    #[command(flatten)]
    model: ModelArgs,
    /// An image file. May be given several times.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A video file, which is placed after the images. May be given several times. Needs ffmpeg and ffprobe.
    #[arg(long, value_name = "FILE")]
    video: Vec<PathBuf>,
    /// Frames per second that the model sees of a video [default: 2].
    #[arg(long, value_name = "N", requires = "video")]
    fps: Option<f64>,
    /// How many frames the model sees of a video, instead of --fps.
    #[arg(long, value_name = "N", requires = "video", conflicts_with = "fps")]
    nframes: Option<usize>,
    /// Use only the part of a video after this time.
    #[arg(long, value_name = "SECONDS", requires = "video")]
    video_start: Option<f64>,
    /// Use only the part of a video before this time.
    #[arg(long, value_name = "SECONDS", requires = "video")]
    video_end: Option<f64>,
    /// Most pixels of a video, where each pair of frames counts once.
    #[arg(long, value_name = "N", requires = "video")]
    total_pixels: Option<u64>,
    /// Messages in Hugging Face's format, instead of a question.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["image", "video", "question"])]
    messages: Option<PathBuf>,
    /// The question.
    #[arg(required_unless_present = "messages")]
    question: Option<String>,
    /// Fewest pixels of an image, or of a video's frame, after resizing.
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// Most pixels of an image, or of a video's frame, after resizing.
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Tools that the model may call: a JSON list in OpenAI's format.
    #[arg(long, value_name = "FILE.json")]
    tools: Option<PathBuf>,
    /// auto, none, required, or the name of a tool that must be called.
    #[arg(long, value_name = "CHOICE", requires = "tools")]
    tool_choice: Option<String>,
    /// Do not answer; print how many tokens and how much memory the prompt would need.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print one JSON object instead of streaming text.
    #[arg(long)]
    pub json: bool,
}

/// Constraints on the answer, of which at most one may be given.
#[derive(Args)]
#[group(multiple = false)]
struct FormArgs {
    /// The answer must be JSON that matches this schema.
    #[arg(long, value_name = "FILE.json")]
    json_schema: Option<PathBuf>,
    /// This JavaScript regular expression must match the whole answer: `yes|no`, or `/yes|no/i`.
    #[arg(long, value_name = "RE")]
    regex: Option<String>,
    /// The answer must match this grammar, in llguidance's Lark syntax.
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
}

impl FormArgs {
    /// The constraint in the JSON form that `fanlight-grammar` reads.
    fn read(&self) -> Result<Option<Value>> {
        let read = |path: &Path| {
            let io = |e: std::io::Error| Error::Io { path: path.display().to_string(), message: e.to_string() };
            std::fs::read_to_string(path).map_err(io)
        };
        if let Some(path) = &self.json_schema {
            let wrong = |e: serde_json::Error| Error::invalid("--json-schema", "a JSON schema", e.to_string());
            let schema: Value = serde_json::from_str(&read(path)?).map_err(wrong)?;
            return Ok(Some(json!({"jsonSchema": schema})));
        }
        if let Some(path) = &self.lark {
            return Ok(Some(json!({"lark": read(path)?})));
        }
        let expression = |text: &String| {
            let flagged = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
            let (source, flags) = flagged.unwrap_or((text, ""));
            json!({"regex": source, "flags": flags})
        };
        Ok(self.regex.as_ref().map(expression))
    }
}

pub async fn run(args: Ask) -> Result<()> {
    // Read all inputs before the weights, so that a mistake is reported at once.
    let pictures = args.image.iter().map(|path| picture(path)).collect::<Result<Vec<_>>>()?;
    let videos = args.video.iter().map(|path| Footage::file(path)).collect::<Result<Vec<_>>>()?;
    let drafts = args.messages.as_deref().map(Drafts::read).transpose()?;
    let tools = args.tools.as_deref().map(tools).transpose()?.unwrap_or_default();
    let form = args.form.read()?;
    let begin = Instant::now();
    let Ready { engine, context, max_pixels } = load(&args.model, args.sampling.context, args.max_pixels).await?;
    let drafts = drafts.unwrap_or_else(|| {
        let pixels = ImageOptions { min_pixels: args.min_pixels, max_pixels, ..ImageOptions::default() };
        let frames = VideoOptions {
            fps: args.fps,
            nframes: args.nframes,
            video_start: args.video_start,
            video_end: args.video_end,
            min_pixels: args.min_pixels,
            max_pixels: args.max_pixels,
            total_pixels: args.total_pixels,
            ..VideoOptions::default()
        };
        let pictures = pictures.into_iter().map(|picture| Draft::Image(picture, pixels));
        let videos = videos.into_iter().map(|footage| Draft::video(footage, frames.clone()));
        let question = Draft::Text(args.question.clone().unwrap_or_default());
        Drafts::of(pictures.chain(videos).chain([question]).collect())
    });
    let messages = drafts.finish(&engine, context)?;
    let load_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let tool_choice = args.tool_choice.as_deref().map_or(ToolChoice::Auto, |choice| match choice {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        name => ToolChoice::Named(name.to_owned()),
    });
    let options = AskOptions { tools, tool_choice, ..args.sampling.options(engine.generation_config()) };
    let mut conversation = engine.conversation(context)?;
    let json = args.json;
    if args.plan {
        return print(&engine.plan(&conversation, &messages, &options)?, json);
    }
    let spec = engine.compose(&options.tools, &options.tool_choice, form)?;
    let constraint = spec.map(|spec| Grammar::new(&engine)?.composed(&spec)).transpose()?;
    let options = AskOptions { constraint, ..options };
    let mut out = std::io::stdout();
    let terminal = out.is_terminal();
    let mut begun = false;
    let mut on_delta = |delta: Delta| {
        if json {
            return;
        }
        // Reasoning goes to standard error, since it is not part of the answer.
        terminal::err(format_args!("{}", delta.reasoning));
        let call = delta.call.and_then(|call| serde_json::to_string(call).ok());
        let call = call.map(|call| format!("{}{call}\n", if begun { "\n" } else { "" }));
        begun = !delta.text.is_empty();
        // If standard output is closed, the answer is still computed.
        let said = format!("{}{}", delta.text, call.unwrap_or_default());
        let said = if terminal { terminal::shown(&said) } else { said.as_str().into() };
        let _ = out.write_all(said.as_bytes()).and_then(|()| out.flush());
    };
    let hooks =
        Hooks { on_delta: &mut on_delta, cancelled: &|| false, clock: &|| begin.elapsed().as_secs_f64() * 1000.0 };
    let answer = engine.ask(&mut conversation, &messages, &options, hooks).await?;
    if json {
        let mut object =
            serde_json::to_value(&answer).map_err(|e| Error::invalid("answer", "what JSON can hold", e.to_string()))?;
        let located = engine.locate(&answer);
        if !located.is_empty() {
            object["located"] = serde_json::to_value(&located)
                .map_err(|e| Error::invalid("answer", "what JSON can hold", e.to_string()))?;
        }
        object["timings"]["load_ms"] = load_ms.into();
        object["adapter"] = engine.gpu().caps().adapter.clone().into();
        say!("{object}");
    } else {
        say!("");
    }
    Ok(())
}

fn tools(path: &Path) -> Result<Vec<Tool>> {
    let io = |e: std::io::Error| Error::Io { path: path.display().to_string(), message: e.to_string() };
    let bytes = std::fs::read(path).map_err(io)?;
    let json = serde_json::from_slice(&bytes).map_err(|e| Error::invalid("tools", "a JSON list", e.to_string()))?;
    Tool::list(&json)
}

fn print(plan: &Plan, json: bool) -> Result<()> {
    if json {
        let object = serde_json::to_string(plan);
        say!("{}", object.map_err(|e| Error::invalid("plan", "what JSON can hold", e.to_string()))?);
        return Ok(());
    }
    let Plan { prompt_tokens, image_tokens, video_tokens, context_window, left, .. } = plan;
    say!("prompt         {prompt_tokens} tokens, {image_tokens} of them images and {video_tokens} videos");
    say!("context        {context_window} tokens, {left} left for the answer");
    say!("memory         {} beside the weights", in_words(plan.bytes));
    say!("work           {:.3e} multiplications and additions before the first word", plan.flops as f64);
    for (i, image) in plan.images.iter().enumerate() {
        let ([width, height], [w, h]) = (image.info.original, image.info.resized);
        say!("image {:<8} {width}×{height}, seen at {w}×{h}: {} tokens", i + 1, image.info.tokens);
        image.warnings.iter().for_each(|warning| say!("  {warning}"));
    }
    for (i, video) in plan.videos.iter().enumerate() {
        let ([w, h], frames) = (video.resized, video.timestamps.len());
        say!("video {:<8} {frames} frames, seen at {w}×{h}: {} tokens", i + 1, video.tokens);
    }
    if !plan.fits {
        say!("does not fit   the context");
    }
    Ok(())
}
