//! Reads pictures, videos and messages from files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fanlight::chat::message_json::{self, RawPart, RawVideo};
use fanlight::chat::{Content, Engine, Message, Part};
use fanlight::error::in_words;
use fanlight::ffmpeg::{Tools, VideoFile};
use fanlight::image::{ImageOptions, Picture, Still, decode};
use fanlight::video::{Times, Track, VideoBuilder, VideoOptions};
use fanlight::{Error, Result};

use super::terminal::note;

/// Largest file that is read whole. A picture of the largest size has 256 MiB uncompressed.
const MAX_FILE: u64 = 512 << 20;

/// The bytes of a file that the caller names. It may be a pipe.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::Io { path: path.display().to_string(), message: e.to_string() };
    let mut bytes = Vec::new();
    // One byte more tells a file that is too long; `/dev/zero` never ends.
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        let expected = format!("at most {}", in_words(MAX_FILE));
        return Err(Error::invalid(path.display().to_string(), expected, "a longer file"));
    }
    Ok(bytes)
}

/// Refuses what is no plain file: a device never ends, and a pipe that a file names may never begin. Missing files are left to whoever
/// opens them.
fn plain(path: PathBuf) -> Result<PathBuf> {
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => Err(Error::invalid(
            path.display().to_string(),
            "a plain file, as it is named in a file of messages",
            "something else",
        )),
        _ => Ok(path),
    }
}

/// Puts the file's name into an error.
fn named<T>(path: &Path, result: Result<T>) -> Result<T> {
    result.map_err(|e| match e {
        Error::Image { expected, found, hint } => {
            Error::Image { expected, found: format!("{}: {found}", path.display()), hint }
        }
        other => other,
    })
}

pub fn picture(path: &Path) -> Result<Rc<Still>> {
    named(path, Still::open(read(path)?)).map(Rc::new)
}

/// A frame of a video.
fn frame(path: &Path) -> Result<Picture> {
    named(path, decode(&read(path)?))
}

/// A part of a message, read before the model is loaded. The frames of a video are chosen later.
pub enum Draft {
    Text(String),
    Image(Rc<Still>, ImageOptions),
    Video(Box<(Footage, VideoOptions)>),
}

impl Draft {
    pub fn video(footage: Footage, options: VideoOptions) -> Self {
        Draft::Video(Box::new((footage, options)))
    }
}

/// A video whose frames are not decoded yet.
pub enum Footage {
    File(VideoFile),
    /// A list of picture files. All must have the size of the first.
    Pictures(Vec<PathBuf>, Track),
}

impl Footage {
    pub fn file(path: &Path) -> Result<Self> {
        VideoFile::open(path, &Tools::default(), &|| false).map(Footage::File)
    }

    fn pictures(paths: Vec<PathBuf>, times: Times) -> Result<Self> {
        let first = paths.first().ok_or_else(|| Error::invalid("video", "at least one picture", "none"))?;
        let (width, height) = picture(first)?.size();
        Ok(Footage::Pictures(paths, Track { width, height, times }))
    }

    /// The frames that fit into `left` tokens. Prints to standard error what was changed to make them fit.
    pub fn take(self, options: &VideoOptions, engine: &Engine, left: usize) -> Result<Part> {
        let mut choose = |track: &Track| engine.plan_video(track, options, left);
        let (video, plan) = match self {
            Footage::File(mut file) => file.read(&mut choose, &|| false)?,
            Footage::Pictures(paths, track) => {
                let plan = choose(&track)?;
                let mut builder = VideoBuilder::new(plan.clone());
                for (index, time) in plan.indices.iter().zip(&plan.times) {
                    builder.push(&frame(&paths[*index])?, *time)?;
                }
                (builder.finish()?, plan)
            }
        };
        plan.decisions.iter().for_each(|decision| note!("{decision}"));
        Ok(Part::Video(Rc::new(video)))
    }
}

/// The messages of a conversation, read before the model is loaded.
pub struct Drafts(Vec<Turn>);

#[derive(Default)]
struct Turn {
    role: String,
    parts: Vec<Draft>,
    /// The content, if it is a string and has no parts.
    text: Option<String>,
    /// All other fields of the message.
    rest: Message,
}

impl Drafts {
    /// A conversation of one user message.
    pub fn of(parts: Vec<Draft>) -> Self {
        Drafts(vec![Turn { role: "user".into(), parts, ..Turn::default() }])
    }

    /// Reads messages from a file. Paths in them are relative to it.
    pub fn read(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let at = |name: &str| {
            if let Some((scheme, _)) =
                name.split_once(':').filter(|(scheme, _)| ["http", "https", "data"].contains(scheme))
            {
                let expected = "the path of a file, because the command line fetches nothing";
                return Err(Error::invalid("image or video", expected, format!("an address with {scheme}:")));
            }
            plain(folder.join(name.strip_prefix("file://").unwrap_or(name)))
        };
        let draft = |part| {
            Ok(match part {
                RawPart::Text(text) => Draft::Text(text),
                RawPart::Image(name, options) => Draft::Image(picture(&at(&name)?)?, options),
                RawPart::Video(RawVideo::File(name), options) => Draft::video(Footage::file(&at(&name)?)?, options),
                RawPart::Video(RawVideo::Pictures(names, times), options) => {
                    let paths = names.iter().map(|name| at(name)).collect::<Result<_>>()?;
                    Draft::video(Footage::pictures(paths, times)?, options)
                }
            })
        };
        let raw = message_json::parse(&read(path)?)?.into_iter();
        let drafts = raw.map(|message| {
            let parts = message.parts.into_iter().map(draft).collect::<Result<_>>()?;
            let rest = Message {
                reasoning: message.reasoning,
                tool_calls: message.tool_calls,
                tool_call_id: message.tool_call_id,
                prefix: message.prefix,
                ..Message::default()
            };
            Ok(Turn { role: message.role, parts, text: message.text, rest })
        });
        drafts.collect::<Result<_>>().map(Drafts)
    }

    /// The messages for this engine and context length. Videos share the tokens that texts and pictures leave free.
    pub fn finish(self, engine: &Engine, context: usize) -> Result<Vec<Message>> {
        let parts = || self.0.iter().flat_map(|turn| &turn.parts);
        let videos = parts().filter(|part| matches!(part, Draft::Video(..))).count();
        let words = |text: &String| engine.tokens(&Part::Text(text.clone()));
        let others = parts().map(|part| match part {
            Draft::Text(text) => words(text),
            Draft::Image(picture, options) => engine.tokens(&Part::Image(picture.clone(), *options)),
            Draft::Video(..) => 0,
        });
        let held =
            others.sum::<usize>() + self.0.iter().filter_map(|turn| turn.text.as_ref()).map(words).sum::<usize>();
        let context = context.min(engine.model().max_positions);
        let left = context.saturating_sub(held) / videos.max(1);
        let finish = |part| match part {
            Draft::Text(text) => Ok(Part::Text(text)),
            Draft::Image(picture, options) => Ok(Part::Image(picture, options)),
            Draft::Video(video) => video.0.take(&video.1, engine, left),
        };
        let messages = self.0.into_iter().map(|turn| {
            let content = match turn.text {
                Some(text) => Content::Text(text),
                None => Content::Parts(turn.parts.into_iter().map(finish).collect::<Result<_>>()?),
            };
            Ok(Message { role: turn.role, content, ..turn.rest })
        });
        messages.collect()
    }
}
