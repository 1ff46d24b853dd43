//! `fanlight chat`: a conversation of several turns.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use clap::Args;
use fanlight::chat::{Content, Conversation, Delta, Hooks, Message, Part};
use fanlight::image::ImageOptions;
use fanlight::video::VideoOptions;
use fanlight::{Error, Result};

use super::input::{Footage, picture};
use super::model::{ModelArgs, Ready, load};
use super::sampling::SamplingArgs;
use super::terminal::{self, note, say};

#[derive(Args)]
pub struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub async fn run(args: Chat) -> Result<()> {
    let Ready { engine, context, .. } = load(&args.model, args.sampling.context, None).await?;
    let options = args.sampling.options(engine.generation_config());
    let mut conversation: Conversation = engine.conversation(context)?;
    // Tokens of the conversation so far.
    let mut used = 0;
    let mut messages: Vec<Message> = Vec::new();
    let mut waiting: Vec<Part> = Vec::new();
    let begin = Instant::now();
    let prompt = std::io::stdin().is_terminal();
    if prompt {
        note!("/image FILE adds an image, /video FILE adds a video, /new starts over, /quit ends.");
    }
    loop {
        if prompt {
            eprint!("> ");
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(Error::Io { path: "standard input".into(), message: e.to_string() }),
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(path) = line.strip_prefix("/image ") {
            match picture(Path::new(path.trim())) {
                Ok(picture) => {
                    let (width, height) = picture.size();
                    note!("{width}×{height} pixels, for the next message");
                    waiting.push(Part::Image(picture, ImageOptions::default()));
                }
                Err(e) => note!("error: {e}\n{}", e.hint()),
            }
            continue;
        }
        if let Some(path) = line.strip_prefix("/video ") {
            let options = VideoOptions::default();
            let held = used + waiting.iter().map(|part| engine.tokens(part)).sum::<usize>();
            let left = context.min(engine.model().max_positions).saturating_sub(held);
            match Footage::file(Path::new(path.trim())).and_then(|footage| footage.take(&options, &engine, left)) {
                Ok(Part::Video(video)) => {
                    let (n, frame) = (video.frames.len(), &video.frames[0]);
                    note!("{n} frames of {}×{} pixels, for the next message", frame.width, frame.height);
                    waiting.push(Part::Video(video));
                }
                Ok(other) => waiting.push(other),
                Err(e) => note!("error: {e}\n{}", e.hint()),
            }
            continue;
        }
        match line {
            "" => continue,
            "/quit" => return Ok(()),
            "/new" => {
                messages.clear();
                waiting.clear();
                used = 0;
                continue;
            }
            command if command.starts_with('/') => {
                note!("unknown command {command}: /image FILE, /video FILE, /new or /quit");
                continue;
            }
            _ => {}
        }
        let mut parts = std::mem::take(&mut waiting);
        parts.push(Part::Text(line.to_owned()));
        messages.push(Message { role: "user".into(), content: Content::Parts(parts), ..Message::default() });
        let mut out = std::io::stdout();
        let terminal = out.is_terminal();
        let mut on_delta = |delta: Delta| {
            // Reasoning goes to standard error, since it is not part of the answer.
            terminal::err(format_args!("{}", delta.reasoning));
            let said = if terminal { terminal::shown(delta.text) } else { delta.text.into() };
            let _ = out.write_all(said.as_bytes()).and_then(|()| out.flush());
        };
        let hooks =
            Hooks { on_delta: &mut on_delta, cancelled: &|| false, clock: &|| begin.elapsed().as_secs_f64() * 1000.0 };
        match engine.ask(&mut conversation, &messages, &options, hooks).await {
            Ok(answer) => {
                say!("");
                used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
                answer.join(&mut messages);
            }
            Err(e @ Error::DeviceLost { .. }) => return Err(e),
            Err(e) => {
                note!("error: {e}\n{}", e.hint());
                // Pictures and videos wait for another question.
                if let Some(Message { content: Content::Parts(mut parts), .. }) = messages.pop() {
                    parts.pop();
                    waiting = parts;
                }
            }
        }
    }
}
