//! Qwen-VL vision-language models on WebGPU, natively and in the browser.
//!
//! The modules in reading order are [`error`], [`dtype`] → [`weights`] → [`gpu`] → [`ops`] → [`model`] → [`generate`] →
//! [`chat`]. A module imports only from modules before it, which `tests/architecture` checks. [`image`], [`text`] and
//! [`video`] have the same place as [`model`]. Three modules exist only in native programs: `hub`, at the place of
//! [`gpu`]; `ffmpeg`, which uses [`video`]; and `grammar`, which uses [`chat`].
//!
//! Not supported yet: mixtures of experts, the first generation of Qwen-VL, and Qwen3.5.
//!
//! ```no_run
//! use fanlight::chat::{AskOptions, Engine, Hooks, Message};
//! use fanlight::gpu::{Gpu, GpuOptions};
//! use fanlight::weights::Directory;
//!
//! # async fn example() -> fanlight::Result<()> {
//! let gpu = Gpu::open(&GpuOptions::default()).await?;
//! let engine = Engine::load(&gpu, &Directory::new("models/screen-reader"), &mut |_, _| {}).await?;
//! let mut conversation = engine.conversation(4096)?;
//! let messages = [Message::text("user", "Hello!")];
//! let hooks = Hooks {
//!     on_delta: &mut |delta| print!("{}", delta.text),
//!     cancelled: &|| false,
//!     clock: &|| 0.0,
//! };
//! let answer = engine.ask(&mut conversation, &messages, &AskOptions::default(), hooks).await?;
//! println!("{} tokens", answer.usage.completion_tokens);
//! # Ok(())
//! # }
//! ```

pub mod chat;
pub mod dtype;
pub mod error;
#[cfg(not(target_arch = "wasm32"))]
pub mod ffmpeg;
pub mod generate;
pub mod gpu;
#[cfg(not(target_arch = "wasm32"))]
pub mod grammar;
#[cfg(not(target_arch = "wasm32"))]
pub mod hub;
pub mod image;
pub mod model;
pub mod ops;
pub mod text;
pub mod video;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

pub use error::{Error, Result};
