//! Messages, pictures and videos in, text out.
//!
//! What goes in:
//! - `message`: a message with its pictures and videos
//! - [`message_json`]: messages read from JSON in Hugging Face's or OpenAI's form
//! - [`surrogates`]: halves of characters in JSON
//! - [`tools`]: the tools that the model may call, and a call
//! - [`options`]: how to answer
//!
//! How it is answered:
//! - `engine`: a loaded checkpoint, and a conversation with it
//! - `media`: how many tokens pictures and videos take, and their embeddings
//! - `encoded`: embeddings of pictures, shared by all conversations
//! - `prompt`: messages → chat template → token ids and embeddings
//! - [`plan`]: what a prompt will take, before anything is computed
//! - [`constraint`]: what an answer may be, as one grammar
//! - `ask`: the session's tokens → an answer
//! - `trace`: everything that a prompt computes, for comparing with other implementations
//!
//! What comes out:
//! - `stream`: the answer while it is written
//! - [`thinking`]: reasoning told from the answer
//! - `spelled`: tags that are only spelled told from real ones
//! - `calls`: tool calls told from text, and matched with the results of tools
//! - `answer`: the finished answer
//! - [`grounding`]: what an answer points at, in pixels of the caller's pictures

mod answer;
mod ask;
mod calls;
pub mod constraint;
mod encoded;
mod engine;
pub mod grounding;
mod media;
mod message;
pub mod message_json;
pub mod options;
pub mod plan;
mod prompt;
mod spelled;
mod stream;
pub mod surrogates;
pub mod thinking;
pub mod tools;
mod trace;

pub use answer::{Answer, ImageInfo, Timings, Usage, VideoInfo};
pub use ask::{Draft, Hooks};
pub use engine::{Conversation, DEFAULT_CONTEXT, Engine, template};
pub use media::WORDS;
pub use message::{Content, Message, Part};
pub use options::{AskOptions, DEFAULT_MAX_TOKENS, MOST_LOGPROBS};
pub use plan::Plan;
pub use stream::{Delta, TokenLogprob, TopLogprob};
pub use trace::{Trace, TraceMedia};
