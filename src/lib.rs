//! Qwen-VL vision-language models on WebGPU, natively and in the browser.
//!
//! Rooms in reading order; a room imports only from those before it (`tests/architecture` holds it to that):
//! [`error`], [`dtype`] → [`weights`] → [`gpu`] → [`ops`] → [`model`] → [`generate`] → [`chat`]. [`image`], [`text`]
//! and [`video`] stand beside [`model`]; `hub`, which only native programs have, beside [`gpu`], and so
//! is `ffmpeg`, beside [`video`].
//!
//! What it does not do yet: mixtures of experts, Qwen-VL's first generation, Qwen3.5, constrained output.
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
