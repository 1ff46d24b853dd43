//! The one error of the crate. Every variant says what was expected and what came.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as a value: nothing in this crate panics on bad input.
///
/// [`Error::code`] is the stable machine-readable name that crosses to JavaScript, [`Error::hint`] says what the
/// caller can do about it, and the `Display` text says what was expected and what came.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A file or a tensor that the checkpoint needs is not there.
    Missing {
        /// What is needed, e.g. `config.json` or a tensor's name.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// Reading or writing failed below us: disk, network, permission.
    Io {
        /// The file or address.
        path: String,
        /// The system's own words.
        message: String,
    },
    /// A server could not be reached, or did not answer as one of its kind does.
    Network {
        /// The address, without its query: that of a signed link is a secret.
        url: String,
        /// What happened.
        message: String,
    },
    /// A server wants to know who asks, or knows it and refuses.
    Auth {
        /// What was asked for, and where.
        what: String,
        /// The server's answer, and whether a token was sent.
        message: String,
    },
    /// A download is not the file that the repository lists. Nothing of it was kept.
    Integrity {
        /// The file.
        what: String,
        /// Length or digest in the list.
        expected: String,
        /// What came.
        found: String,
    },
    /// A file of the checkpoint is malformed: truncated, hostile, or not what its name says.
    Malformed {
        /// The file, and where in it if known.
        what: String,
        /// What a well-formed file has there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A tensor has another shape than the configuration implies.
    Shape {
        /// The tensor's or operation's name.
        what: String,
        /// Expected dimensions, outermost first.
        expected: Vec<usize>,
        /// Dimensions that came.
        found: Vec<usize>,
    },
    /// A tensor has an element type that this place does not take.
    Dtype {
        /// The tensor's name.
        what: String,
        /// The types that are taken.
        expected: String,
        /// The type that came.
        found: String,
    },
    /// A `model_type` or a variant of one that no family here implements.
    UnsupportedModel {
        /// What the configuration says.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// Bytes that should be an image and are not one that can be read.
    Image {
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// One side of an image is more than 200 times the other (`smart_resize` refuses these).
    AspectRatio {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A file that should be a video and is not one that can be read.
    Video {
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// A program that does a part of the work is not there, or cannot be started.
    Program {
        /// Its name.
        name: String,
        /// The system's own words.
        message: String,
    },
    /// The conversation is longer than the context.
    ContextOverflow {
        /// Tokens that would have to fit.
        needed: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// A caller's argument or message is off.
    Invalid {
        /// The argument.
        what: String,
        /// What it should be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// The chat template failed to parse or to render.
    Template {
        /// What the template engine says.
        message: String,
    },
    /// No GPU adapter answers.
    NoAdapter {
        /// What was asked and what the system says.
        message: String,
    },
    /// The device's limits are too low for this model or input.
    DeviceTooSmall {
        /// The limit's WebGPU name.
        limit: String,
        /// What is needed.
        needed: u64,
        /// What the device has.
        available: u64,
        /// What needs it.
        what: String,
    },
    /// The device could not allocate.
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// How many bytes it asked for; 0 where the driver does not say which allocation failed.
        bytes: u64,
        /// How many bytes were held already.
        held: u64,
        /// What to lower, with numbers, as far as the place where it was noticed knows.
        advice: String,
    },
    /// The device was lost; everything on it is gone.
    DeviceLost {
        /// The driver's words.
        message: String,
    },
    /// The GPU refused something that this crate asked: a bug here or in the driver.
    Gpu {
        /// The validation message.
        message: String,
    },
    /// The caller cancelled.
    Cancelled,
}

impl Error {
    /// A stable name for programs. The JavaScript API passes it on as `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "not_found",
            Error::Io { .. } => "io",
            Error::Network { .. } => "network",
            Error::Auth { .. } => "auth",
            Error::Integrity { .. } => "integrity",
            Error::Malformed { .. } | Error::Shape { .. } | Error::Dtype { .. } | Error::Template { .. } => "bad_model",
            Error::UnsupportedModel { .. } => "unsupported",
            Error::Image { .. } | Error::AspectRatio { .. } => "bad_image",
            Error::Video { .. } => "bad_video",
            Error::Program { .. } => "no_program",
            Error::ContextOverflow { .. } => "context_full",
            Error::Invalid { .. } => "bad_request",
            Error::NoAdapter { .. } => "webgpu_unavailable",
            Error::DeviceTooSmall { .. } => "limits",
            Error::OutOfMemory { .. } => "oom",
            Error::DeviceLost { .. } => "device_lost",
            Error::Gpu { .. } => "gpu",
            Error::Cancelled => "aborted",
        }
    }

    /// What the caller can do about it, in a sentence or two.
    pub fn hint(&self) -> &str {
        match self {
            Error::Missing { .. } => "Check that the folder is a complete Hugging Face checkpoint.",
            Error::Io { .. } => "Check the path or the connection, then try again.",
            Error::Network { .. } => "Check the connection and the address, then try again; what has arrived is kept.",
            Error::Auth { .. } => {
                "If the model asks for it, accept its terms on its page; then set HF_TOKEN or run `hf auth login`."
            }
            Error::Integrity { .. } => "Try again; if it stays so, something on the way to the server changes files.",
            Error::Malformed { .. } => "Download the file again; if it stays so, the checkpoint is broken.",
            Error::Shape { .. } | Error::Dtype { .. } => "The weights do not belong to this config.json.",
            Error::Template { .. } => "Check the checkpoint's chat template.",
            Error::UnsupportedModel { .. } => "Choose a checkpoint of a supported family.",
            Error::Image { .. } => "Give a PNG, JPEG, WebP, GIF or BMP.",
            Error::Video { .. } => "Give a video that ffmpeg can read, or its frames as a list of pictures.",
            Error::Program { .. } => {
                "Install ffmpeg (apt install ffmpeg, brew install ffmpeg, winget install Gyan.FFmpeg), or give frames as pictures."
            }
            Error::AspectRatio { .. } => "Crop the image so that one side is at most 200 times the other.",
            Error::ContextOverflow { .. } => {
                "Shorten the conversation, lower max_pixels (min_pixels of a video) or raise the context length."
            }
            Error::Invalid { .. } => "Correct the argument.",
            Error::NoAdapter { .. } => "Use a browser with WebGPU, or install a Vulkan, Metal or DX12 driver.",
            Error::DeviceTooSmall { .. } => "Lower max_pixels or the context length, or use a smaller model.",
            Error::OutOfMemory { advice, .. } if !advice.is_empty() => advice,
            Error::OutOfMemory { .. } => {
                "Close other programs, quantize the weights, lower the context length or max_pixels, or use a smaller model."
            }
            Error::DeviceLost { .. } => "Load the model again.",
            Error::Gpu { .. } => "Please report this with the adapter's name.",
            Error::Cancelled => "Nothing to do.",
        }
    }

    /// Whether the same call may succeed later without any change.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Io { .. }
                | Error::Network { .. }
                | Error::Integrity { .. }
                | Error::DeviceLost { .. }
                | Error::OutOfMemory { .. }
        )
    }

    /// The same with a hint that knows the numbers, if memory was what ran out and nobody nearer has said more.
    pub fn advise(mut self, text: impl FnOnce() -> String) -> Self {
        if let Error::OutOfMemory { advice, .. } = &mut self
            && advice.is_empty()
        {
            *advice = text();
        }
        self
    }

    /// Shorthand for [`Error::Malformed`].
    pub fn malformed(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::Malformed { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// Shorthand for [`Error::Missing`].
    pub fn missing(what: impl Into<String>, place: impl Into<String>) -> Self {
        Error::Missing { what: what.into(), place: place.into() }
    }
}

/// Text from a file or a server, cut to what fits in an error message.
pub(crate) fn brief(text: &str) -> String {
    const MAX: usize = 160;
    match text.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A number of bytes for people, in units of 1024: `7.0 GiB`, `812 MiB`.
pub fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "bytes" || size >= 100.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing { what, place } => write!(f, "{what} is missing from {place}"),
            Error::Io { path, message } => write!(f, "cannot read or write {path}: {message}"),
            Error::Network { url, message } => write!(f, "{url}: {message}"),
            Error::Auth { what, message } => write!(f, "{what}: {message}"),
            Error::Malformed { what, expected, found } | Error::Integrity { what, expected, found } => {
                write!(f, "{what}: expected {expected}, found {found}")
            }
            Error::Shape { what, expected, found } => {
                write!(f, "{what}: expected shape {expected:?}, found {found:?}")
            }
            Error::Dtype { what, expected, found } => write!(f, "{what}: expected {expected} elements, found {found}"),
            Error::UnsupportedModel { found, expected } => {
                write!(f, "unsupported model: expected {expected}, found {found}")
            }
            Error::Image { expected, found } => write!(f, "not a usable image: expected {expected}, found {found}"),
            Error::Video { expected, found } => write!(f, "not a usable video: expected {expected}, found {found}"),
            Error::Program { name, message } => write!(f, "cannot run {name}: {message}"),
            Error::AspectRatio { width, height } => {
                write!(f, "image of {width}×{height} pixels: expected an aspect ratio of at most 200")
            }
            Error::ContextOverflow { needed, limit } => {
                write!(f, "the conversation needs {needed} tokens, the context holds {limit}")
            }
            Error::Invalid { what, expected, found } => write!(f, "{what}: expected {expected}, found {found}"),
            Error::Template { message } => write!(f, "chat template: {message}"),
            Error::NoAdapter { message } => write!(f, "no GPU adapter: {message}"),
            Error::DeviceTooSmall { limit, needed, available, what } => {
                write!(f, "{what} needs {limit} of {needed}, the device has {available}")
            }
            Error::OutOfMemory { what, bytes: 0, held, .. } => {
                write!(f, "out of GPU memory at {what}: {} are held already", in_words(*held))
            }
            Error::OutOfMemory { what, bytes, held, .. } => {
                let (needed, held) = (in_words(*bytes), in_words(*held));
                write!(f, "out of GPU memory: {what} needs {needed} ({bytes} bytes), {held} are held already")
            }
            Error::DeviceLost { message } => write!(f, "the GPU device was lost: {message}"),
            Error::Gpu { message } => write!(f, "the GPU refused: {message}"),
            Error::Cancelled => write!(f, "cancelled"),
        }
    }
}

impl std::error::Error for Error {}
