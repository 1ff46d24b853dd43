//! The checkpoint's chat template: messages → [`RenderedPrompt`](super::RenderedPrompt).
//!
//! - `message`: messages as a template takes them
//! - `chat_template`: the template, found in a checkpoint's files
//! - `render`: messages → the prompt
//! - `guard`: marks that keep what somebody wrote from becoming a control token
//! - `turn`: a guarded message as the template sees it
//! - `hermes`: tools for templates that know none
//! - `source`: a template before it is parsed
//! - `environment`: the dialect of Jinja that templates are written in
//! - `json_dumps`: its filter `tojson`
//! - `strftime`: its function `strftime_now`
//! - `limits`: how long, deep and slow a template may be

mod chat_template;
mod environment;
mod guard;
mod hermes;
mod json_dumps;
mod limits;
mod message;
mod render;
mod source;
mod strftime;
mod turn;

pub use chat_template::ChatTemplate;
pub use message::{Content, Message, Part, RenderOptions};

#[cfg(test)]
mod tests;
