//! The crate's only error type. Every variant says what was expected and what was found.

use std::fmt;

/// A `Result` whose error is [`Error`] unless another one is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as a value: nothing in this crate panics on bad input.
///
/// [`Error::code`] is a stable name for programs, which JavaScript sees too. [`Error::hint`] says what the caller can do
/// about the error. The `Display` text says what was expected and what was found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A file or a tensor that the checkpoint needs does not exist.
    Missing {
        /// What is needed, for example `config.json` or the name of a tensor.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// The system could not read or write: a disk, network or permission error.
    Io {
        /// The file or URL.
        path: String,
        /// The system's message.
        message: String,
    },
    /// A server could not be reached, or its answer was not what such a server sends.
    Network {
        /// The URL without its query, since the query of a signed URL is a secret.
        url: String,
        /// What happened.
        message: String,
    },
    /// A server asks for a login, or does not allow this user.
    Auth {
        /// What was requested, and from where.
        what: String,
        /// The server's answer, and whether a token was sent.
        message: String,
    },
    /// A downloaded file is not the one that the repository lists. The download was discarded.
    Integrity {
        /// The file.
        what: String,
        /// The length or digest that the repository lists.
        expected: String,
        /// The length or digest of the download.
        found: String,
    },
    /// A file of the checkpoint is malformed: it is truncated, crafted to do harm, or not what its name says.
    Malformed {
        /// The file and, if known, the place in it.
        what: String,
        /// What a well-formed file has there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A tensor does not have the shape that the configuration implies.
    Shape {
        /// The name of the tensor or operation.
        what: String,
        /// Expected dimensions, outermost first.
        expected: Vec<usize>,
        /// The dimensions that were found.
        found: Vec<usize>,
    },
    /// A tensor has an element type that is not supported here.
    Dtype {
        /// The tensor's name.
        what: String,
        /// The types that are supported.
        expected: String,
        /// The type that was found.
        found: String,
    },
    /// The checkpoint's `model_type`, or a variant of it, is not supported by any model family.
    UnsupportedModel {
        /// What the configuration says.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// The bytes are not an image that can be read.
    Image {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
        /// What the caller can do about it.
        hint: &'static str,
    },
    /// One side of an image is more than 200 times as long as the other, which `smart_resize` refuses.
    AspectRatio {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The file is not a video that can be read.
    Video {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A program that is needed, such as ffmpeg, is not installed or cannot be started.
    Program {
        /// The name of the program.
        name: String,
        /// The system's message.
        message: String,
    },
    /// The conversation is longer than the context.
    ContextOverflow {
        /// Tokens that the conversation needs.
        needed: usize,
        /// Tokens that fit the context.
        limit: usize,
    },
    /// The caller passed an invalid argument or message.
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
        /// The message of the template engine.
        message: String,
    },
    /// No GPU adapter is available.
    NoAdapter {
        /// What was requested, and the system's message.
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
        /// What needs it: a kernel, a tensor or a buffer.
        what: String,
    },
    /// The device has not enough memory for an allocation.
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// How many bytes were requested; 0 if the driver does not say which allocation failed.
        bytes: u64,
        /// How many bytes were in use already.
        held: u64,
        /// What the caller can lower, with numbers. Empty if the code that noticed the failure does not know.
        advice: String,
    },
    /// The program's own memory is too small for something whose size a file or a caller gave.
    NoMemory {
        /// What was to be held.
        what: String,
        /// How many bytes it needs.
        bytes: u64,
    },
    /// The device was lost, and with it everything in its memory.
    DeviceLost {
        /// The driver's message.
        message: String,
    },
    /// The GPU rejected an operation of this crate, which is a bug in the crate or in the driver.
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
            Error::OutOfMemory { .. } | Error::NoMemory { .. } => "oom",
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
            Error::Network { .. } => {
                "Check the connection and the address, then try again. What has been downloaded is kept."
            }
            Error::Auth { .. } => {
                "Set HF_TOKEN or run `hf auth login`. If the model has terms of use, accept them on its page first."
            }
            Error::Integrity { .. } => {
                "Try again. If this happens again, something between you and the server changes the files."
            }
            Error::Malformed { .. } => "Download the file again. If this happens again, the checkpoint is broken.",
            Error::Shape { .. } | Error::Dtype { .. } => "Check that the weights belong to this config.json.",
            Error::Template { .. } => "Check the checkpoint's chat template.",
            Error::UnsupportedModel { .. } => "Choose a checkpoint of a supported family and format.",
            Error::Image { hint, .. } => hint,
            Error::Video { .. } => "Use a video that ffmpeg can read, or pass its frames as a list of pictures.",
            Error::Program { .. } => {
                "Install ffmpeg (apt install ffmpeg, brew install ffmpeg, winget install Gyan.FFmpeg), or pass the frames as pictures."
            }
            Error::AspectRatio { .. } => "Crop the image so that one side is at most 200 times the other.",
            Error::ContextOverflow { .. } => {
                "Shorten the conversation, lower max_pixels (for a video, min_pixels) or raise the context length."
            }
            Error::Invalid { .. } => "Correct the argument or message.",
            Error::NoAdapter { .. } => "Use a browser with WebGPU, or install a Vulkan, Metal or DX12 driver.",
            Error::DeviceTooSmall { .. } => "Lower max_pixels or the context length, or use a smaller model.",
            Error::OutOfMemory { advice, .. } if !advice.is_empty() => advice,
            Error::OutOfMemory { .. } => {
                "Close other programs, quantize the weights, lower the context length or max_pixels, or use a smaller model."
            }
            Error::NoMemory { .. } => "Use a smaller picture or file, or fewer of them at once.",
            Error::DeviceLost { .. } => "Load the model again.",
            Error::Gpu { .. } => "Please report this as a bug, with the name of your graphics adapter.",
            Error::Cancelled => "Nothing needs to be done.",
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

    /// Adds a hint with numbers to [`Error::OutOfMemory`], unless it has one. Other errors are returned unchanged.
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

/// An empty vector with room for `length` elements. Use it wherever data says how many: on wasm32, memory that cannot be had ends
/// the whole engine unless it is asked for like this.
///
/// # Errors
/// [`Error::NoMemory`].
pub(crate) fn room<T>(length: usize, what: &str) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
    vector.try_reserve_exact(length).map_err(|_| Error::NoMemory { what: what.to_owned(), bytes })?;
    Ok(vector)
}

/// [`room`] filled with zeros.
///
/// # Errors
/// As [`room`].
pub(crate) fn zeros(length: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = room(length, what)?;
    bytes.resize(length, 0);
    Ok(bytes)
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
            Error::Image { expected, found, .. } => write!(f, "not a usable image: expected {expected}, found {found}"),
            Error::Video { expected, found } => write!(f, "not a usable video: expected {expected}, found {found}"),
            Error::Program { name, message } => write!(f, "cannot run {name}: {message}"),
            Error::AspectRatio { width, height } => {
                write!(f, "image of {width}×{height} pixels: expected sides whose ratio is at most 200")
            }
            Error::ContextOverflow { needed, limit } => {
                write!(f, "the conversation needs {needed} tokens, but the context holds {limit}")
            }
            Error::Invalid { what, expected, found } => write!(f, "{what}: expected {expected}, found {found}"),
            Error::Template { message } => write!(f, "chat template: {message}"),
            Error::NoAdapter { message } => write!(f, "no GPU adapter: {message}"),
            Error::DeviceTooSmall { limit, needed, available, what } => {
                write!(f, "{what} needs {limit} of {needed}, but the device has {available}")
            }
            Error::OutOfMemory { what, bytes: 0, held, .. } => {
                write!(f, "out of GPU memory at {what}: {} are in use already", in_words(*held))
            }
            Error::OutOfMemory { what, bytes, held, .. } => {
                let (needed, held) = (in_words(*bytes), in_words(*held));
                write!(f, "out of GPU memory: {what} needs {needed} ({bytes} bytes), and {held} are in use already")
            }
            Error::NoMemory { what, bytes } => {
                write!(f, "out of memory: {what} needs {} ({bytes} bytes)", in_words(*bytes))
            }
            Error::DeviceLost { message } => write!(f, "the GPU device was lost: {message}"),
            Error::Gpu { message } => write!(f, "the GPU rejected an operation: {message}"),
            Error::Cancelled => write!(f, "cancelled"),
        }
    }
}

impl std::error::Error for Error {}
