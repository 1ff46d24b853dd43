//! Text: messages → the prompt the checkpoint's template makes of them → token ids, and ids → text again.
//!
//! One rule runs through the room: **what somebody wrote never becomes a control token.** [`ChatTemplate::render`]
//! returns spans, and only the template itself can put a [`Span::Control`] among them; [`Tokenizer::encode`] gives
//! ids of control tokens to those spans alone.
//!
//! - `template`: messages → prompt
//! - `prompt`: a prompt in spans
//! - `tokenizer`: text ↔ ids
//! - `stream`: ids → text while they come, up to a stop string

mod prompt;
mod stream;
mod template;
mod tokenizer;

pub use prompt::{RenderedPrompt, Span};
pub use stream::{StopMatcher, StreamDecoder};
pub use template::{ChatTemplate, Content, Message, Part, RenderOptions};
pub use tokenizer::Tokenizer;
