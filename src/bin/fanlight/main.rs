//! The native command line: `fanlight ask | chat | trace | locate | inspect | convert`, a file for each.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
#[expect(clippy::disallowed_methods, reason = "a native program: it may block and has a clock")]
#[path = "."]
mod native {
    mod ask;
    mod chat;
    mod convert;
    mod input;
    mod inspect;
    mod locate;
    mod model;
    mod sampling;
    mod terminal;
    mod trace;

    use std::process::ExitCode;

    use clap::{Parser, Subcommand};
    use pollster::block_on;
    use terminal::{note, say};

    /// Qwen's vision-language models on your GPU.
    #[derive(Parser)]
    #[command(name = "fanlight", version)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        /// Ask one question, with any number of images and videos.
        Ask(Box<ask::Ask>),
        /// Chat over several turns. /image FILE and /video FILE add an image or a video to the next message.
        Chat(chat::Chat),
        /// Process a prompt and write its intermediate results to a safetensors file.
        Trace(trace::Trace),
        /// Print what a text points at, in pixels of a picture, as JSON.
        Locate(locate::Locate),
        /// Show a checkpoint's configuration and the memory that it needs.
        Inspect(inspect::Inspect),
        /// Write a checkpoint as a GGUF file, quantized by --quantize. The vision tower is written to a separate file.
        Convert(convert::Convert),
    }

    pub fn main() -> ExitCode {
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // Without this variable, Mesa's device-select layer prints a harmless but confusing error for every device.
            // SAFETY: no other thread runs yet.
            #[expect(unsafe_code, reason = "the only way to set it for a driver in this process")]
            unsafe {
                std::env::set_var("NODEVICE_SELECT", "1");
            }
        }
        let cli = Cli::parse();
        let json = match &cli.command {
            Command::Ask(ask) => ask.json,
            Command::Inspect(inspect) => inspect.json,
            _ => false,
        };
        let result = block_on(async {
            match cli.command {
                Command::Ask(args) => ask::run(*args).await,
                Command::Chat(args) => chat::run(args).await,
                Command::Trace(args) => trace::run(args).await,
                Command::Locate(args) => locate::run(args),
                Command::Inspect(args) => inspect::run(args).await,
                Command::Convert(args) => convert::run(args).await,
            }
        });
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if json {
                    let message = error.to_string();
                    let body = serde_json::json!({"code": error.code(), "message": message, "hint": error.hint()});
                    say!("{}", serde_json::json!({ "error": body }));
                }
                note!("error: {error}\n{}", error.hint());
                ExitCode::FAILURE
            }
        }
    }
}
