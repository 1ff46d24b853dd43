//! The native command line: `fanlight ask | chat | trace | inspect | convert`.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
#[expect(clippy::disallowed_methods, reason = "a native program: it may block and has a clock")]
mod native {
    use std::io::{BufRead, IsTerminal, Write};
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use clap::{Args, Parser, Subcommand};
    use fanlight::chat::messages::{self, RawPart};
    use fanlight::chat::{AskOptions, Content, Conversation, DEFAULT_CONTEXT, Engine, Hooks, Message, Part, template};
    use fanlight::dtype::CacheFormat;
    use fanlight::error::in_words;
    use fanlight::generate::config::GenerationConfig;
    use fanlight::generate::estimate::{self, Weights, Wish, parse_bytes};
    use fanlight::generate::sampler::SamplingParams;
    use fanlight::gpu::{Gpu, GpuOptions};
    use fanlight::hub::{self, Options, Progress, Snapshot, Want, Watch};
    use fanlight::image::{ImageOptions, Picture, decode};
    use fanlight::model::gguf::GgufModel;
    use fanlight::model::gguf::export::{Export, Outgoing};
    use fanlight::model::registry;
    use fanlight::text::ChatTemplate;
    use fanlight::weights::output::NewFile;
    use fanlight::weights::plan::Limits;
    use fanlight::weights::safetensors;
    use fanlight::weights::source::{Directory, Source};
    use fanlight::{Error, Result};
    use pollster::block_on;

    /// Qwen2.5-VL on your GPU.
    #[derive(Parser)]
    #[command(name = "fanlight", version)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        /// Ask one question, with any number of images.
        Ask(Ask),
        /// Talk over several turns; /image FILE adds an image to the next one.
        Chat(Chat),
        /// Run a prompt and write everything it computes to a safetensors file.
        Trace(Trace),
        /// Show what a checkpoint is and what it takes.
        Inspect(Inspect),
        /// Write a checkpoint as a GGUF file, quantized by --quantize; a vision tower goes to a file of its own.
        Convert(Convert),
    }

    #[derive(Args)]
    struct ModelArgs {
        /// Checkpoint folder in Hugging Face layout, a .gguf file, or ORG/NAME on the Hub, downloaded into its cache.
        #[arg(long, value_name = "DIR|FILE.gguf|ORG/NAME")]
        model: PathBuf,
        /// Branch, tag or commit of ORG/NAME.
        #[arg(long, default_value = "main")]
        revision: String,
        /// Which GGUF file of ORG/NAME, if it has several.
        #[arg(long, value_name = "NAME.gguf")]
        file: Option<String>,
        /// The vision tower of a .gguf file (of ORG/NAME: its name there); found by itself if it is the only mmproj*.gguf
        /// beside it.
        #[arg(long, value_name = "FILE.gguf")]
        mmproj: Option<PathBuf>,
        /// Server to download from [env: HF_ENDPOINT] [default: https://huggingface.co].
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
        /// Use what the Hub's cache has and make no request [env: HF_HUB_OFFLINE].
        #[arg(long)]
        offline: bool,
        /// Quantize floats while they are loaded: q8, q4, or by part as in text=q4,vision=keep,embeddings=q8; auto chooses,
        /// together with the context and max_pixels, what fits --memory.
        #[arg(long, value_name = "FORMATS|auto", default_value = "keep")]
        quantize: Weights,
        /// Keep keys and values of a conversation in this format; f32 unless --quantize auto chooses q8, which takes 31 %.
        #[arg(long, value_name = "f32|q8")]
        kv_cache: Option<CacheFormat>,
        /// Memory that the model may take, such as 4GiB.
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
        memory: Option<u64>,
        /// Take a software adapter even where there is a hardware one.
        #[arg(long)]
        software: bool,
    }

    #[derive(Args)]
    struct SamplingArgs {
        /// Most new tokens.
        #[arg(long, value_name = "N")]
        max_tokens: Option<usize>,
        /// Divides the logits; 0 is greedy.
        #[arg(long, value_name = "T")]
        temperature: Option<f64>,
        /// Keep this many of the best tokens (0 keeps all).
        #[arg(long, value_name = "K")]
        top_k: Option<usize>,
        /// Keep this much probability.
        #[arg(long, value_name = "P")]
        top_p: Option<f64>,
        /// Drop tokens below this share of the best one's probability.
        #[arg(long, value_name = "P")]
        min_p: Option<f64>,
        /// Weakens tokens that already occurred (1 is off).
        #[arg(long, value_name = "R")]
        repetition_penalty: Option<f64>,
        /// Where the random numbers start.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Ends the answer; may be given several times.
        #[arg(long, value_name = "TEXT")]
        stop: Vec<String>,
        /// Start from greedy decoding instead of the checkpoint's generation_config.json.
        #[arg(long)]
        no_generation_config: bool,
        /// Prefix images with "Picture N: ".
        #[arg(long)]
        add_vision_id: bool,
        /// Longest conversation in tokens.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_CONTEXT)]
        context: usize,
    }

    impl SamplingArgs {
        fn options(&self, checkpoint: &GenerationConfig) -> AskOptions {
            let mut sampling = if self.no_generation_config {
                SamplingParams { seed: self.seed, ..SamplingParams::default() }
            } else {
                checkpoint.sampling(self.seed)
            };
            if let Some(t) = self.temperature {
                sampling.temperature = t;
                sampling.do_sample = t != 0.0;
            } else if self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some() {
                sampling.do_sample = true;
            }
            sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
            sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
            sampling.min_p = self.min_p.or(sampling.min_p);
            sampling.repetition_penalty = self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
            AskOptions {
                sampling: Some(sampling),
                max_tokens: self.max_tokens,
                stop: self.stop.clone(),
                add_vision_id: self.add_vision_id,
            }
        }
    }

    #[derive(Args)]
    struct Ask {
        #[command(flatten)]
        model: ModelArgs,
        /// Image file; may be given several times.
        #[arg(long, value_name = "FILE")]
        image: Vec<PathBuf>,
        /// Messages in Hugging Face's form instead of a question.
        #[arg(long, value_name = "FILE.json", conflicts_with_all = ["image", "question"])]
        messages: Option<PathBuf>,
        /// The question.
        #[arg(required_unless_present = "messages")]
        question: Option<String>,
        /// Fewest pixels of an image after resizing.
        #[arg(long, value_name = "N")]
        min_pixels: Option<u64>,
        /// Most pixels of an image after resizing.
        #[arg(long, value_name = "N")]
        max_pixels: Option<u64>,
        #[command(flatten)]
        sampling: SamplingArgs,
        /// Print one JSON object instead of streaming text.
        #[arg(long)]
        json: bool,
    }

    #[derive(Args)]
    struct Chat {
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    #[derive(Args)]
    struct Trace {
        #[command(flatten)]
        model: ModelArgs,
        /// Messages in Hugging Face's form; image paths are relative to the file.
        #[arg(long, value_name = "FILE.json")]
        messages: PathBuf,
        /// Where the tensors go.
        #[arg(long, value_name = "FILE.safetensors")]
        out: PathBuf,
        /// Prefix images with "Picture N: ".
        #[arg(long)]
        add_vision_id: bool,
    }

    #[derive(Args)]
    struct Inspect {
        #[command(flatten)]
        model: ModelArgs,
        /// Tokens of the longest conversation that is estimated.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_CONTEXT)]
        context: usize,
        /// Pixels of the largest picture that is estimated; the checkpoint's own otherwise.
        #[arg(long, value_name = "N")]
        max_pixels: Option<u64>,
        /// Print the estimate as one JSON object.
        #[arg(long, conflicts_with = "tensors")]
        json: bool,
        /// List every tensor.
        #[arg(long)]
        tensors: bool,
    }

    #[derive(Args)]
    struct Convert {
        #[command(flatten)]
        model: ModelArgs,
        /// The new file.
        #[arg(long, value_name = "FILE.gguf")]
        out: PathBuf,
        /// The new file of the vision tower; mmproj-OUT beside the other one unless given.
        #[arg(long, value_name = "FILE.gguf")]
        mmproj_out: Option<PathBuf>,
        /// Replace files that are there already.
        #[arg(long)]
        force: bool,
    }

    pub fn main() -> ExitCode {
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // Without it Mesa's device-select layer prints an error for every device, harmless and confusing.
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
                Command::Ask(args) => ask(args).await,
                Command::Chat(args) => chat(args).await,
                Command::Trace(args) => trace(args).await,
                Command::Inspect(args) => inspect(args).await,
                Command::Convert(args) => convert(args).await,
            }
        });
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if json {
                    let message = error.to_string();
                    let body = serde_json::json!({"code": error.code(), "message": message, "hint": error.hint()});
                    println!("{}", serde_json::json!({ "error": body }));
                }
                eprintln!("error: {error}\n{}", error.hint());
                ExitCode::FAILURE
            }
        }
    }

    /// Where a model is: a folder, or files of GGUF.
    struct Place {
        files: Directory,
        gguf: Option<(String, Option<String>)>,
    }

    impl Place {
        fn of(args: &ModelArgs) -> Result<Self> {
            let model = &args.model;
            if let Some(file) = args.file.as_ref().filter(|_| model.exists()) {
                let expected = "no --file, as --model is on this machine: name the .gguf file itself";
                return Err(Error::invalid("file", expected, file));
            }
            if model.is_dir() && args.mmproj.is_none() {
                return Ok(Place { files: Directory::new(model), gguf: None });
            }
            let name = model.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".gguf"));
            let Some(name) = name.filter(|_| model.is_file()) else {
                return Place::on_hub(args);
            };
            let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut files = Directory::new(folder);
            let mmproj = match &args.mmproj {
                Some(path) => {
                    files.alias("mmproj.gguf", path);
                    Some("mmproj.gguf".to_owned())
                }
                None => beside(folder, name)?,
            };
            Ok(Place { files, gguf: Some((name.to_owned(), mmproj)) })
        }

        /// A repository of the Hub: from the cache, and from the network what is not there.
        fn on_hub(args: &ModelArgs) -> Result<Self> {
            let name = args.model.display().to_string();
            if hub::cache::check_repo(&name).is_err() || args.model.exists() {
                return Err(Error::missing(name, "the file system (a folder or a .gguf file was expected)"));
            }
            let mut options = Options::from_env(|name| std::env::var(name).ok())?;
            options.endpoint = args.endpoint.clone().unwrap_or(options.endpoint);
            // One word alone is more likely a folder mistyped than one of the Hub's oldest repositories.
            options.offline |= args.offline || !name.contains('/');
            let mmproj = args.mmproj.as_ref().map(|path| path.display().to_string());
            let want = Want { file: args.file.clone(), mmproj };
            let found = hub::checkpoint(&options, &name, &args.revision, &want, &mut Teller::new());
            let Snapshot { folder, gguf } = found.map_err(|error| match error {
                Error::Missing { what, place } => {
                    Error::missing(what, format!("{place}, and there is no folder or .gguf file of that name"))
                }
                other => other,
            })?;
            Ok(Place { files: Directory::new(folder), gguf })
        }

        /// The GGUF files as a checkpoint folder, if that is what there is.
        async fn open(&self) -> Result<Option<GgufModel<'_>>> {
            match &self.gguf {
                Some((file, mmproj)) => GgufModel::open(&self.files, file, mmproj.as_deref()).await.map(Some),
                None => Ok(None),
            }
        }
    }

    /// Tells the person at the terminal how far a download is.
    struct Teller {
        /// When this file began, its bytes that were there then, and when it was last spoken of.
        begin: Option<(Instant, u64, Instant)>,
        file: String,
    }

    impl Teller {
        fn new() -> Self {
            Teller { begin: None, file: String::new() }
        }
    }

    impl Watch for Teller {
        fn pause(&mut self, time: Duration, error: &Error) {
            self.note(&format!("{error}; trying again in {:.0} s", time.as_secs_f64().ceil()));
            std::thread::sleep(time);
        }

        fn progress(&mut self, progress: &Progress<'_>) {
            if !std::io::stderr().is_terminal() {
                return;
            }
            let now = Instant::now();
            if self.file != progress.file {
                self.file = progress.file.to_owned();
                self.begin = None;
            }
            let complete = progress.done == progress.size;
            let (begin, before, said) = self.begin.unwrap_or((now, progress.done, now));
            if self.begin.is_some() && !complete && now - said < Duration::from_millis(200) {
                return;
            }
            self.begin = Some((begin, before, now));
            let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            // A download that starts over has less than it began with.
            let came = mib(progress.done.saturating_sub(before));
            let rate = came / (now - begin).as_secs_f64().max(0.001);
            eprint!(
                "\r\x1b[K{} {:.1} of {:.1} MiB, {rate:.1} MiB/s (all: {:.1} of {:.1}){}",
                progress.file,
                mib(progress.done),
                mib(progress.size),
                mib(progress.all_done),
                mib(progress.all),
                if complete { "\n" } else { "" }
            );
        }

        fn note(&mut self, text: &str) {
            eprintln!("{}{text}", if self.begin.is_some() { "\n" } else { "" });
        }
    }

    /// The only vision tower in the folder, unless the file is a tower itself.
    fn beside(folder: &Path, name: &str) -> Result<Option<String>> {
        let entries = std::fs::read_dir(folder)
            .map_err(|e| Error::Io { path: folder.display().to_string(), message: e.to_string() })?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let towers: Vec<String> = names.filter(|n| n != name && n.contains("mmproj") && n.ends_with(".gguf")).collect();
        match &towers[..] {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => {
                let found = several.join(", ");
                Err(Error::invalid("vision tower", "one mmproj*.gguf beside the model, or --mmproj FILE", found))
            }
        }
    }

    /// Shows how far something is, to people.
    fn progress(what: &'static str) -> impl FnMut(u64, u64) {
        let show = std::io::stderr().is_terminal();
        let mut percent = 0;
        move |done, total| {
            let now = (100 * done).checked_div(total).unwrap_or(100);
            if show && now != percent {
                percent = now;
                eprint!("\r{what} {now} %{}", if now == 100 { "\n" } else { "" });
            }
        }
    }

    /// A loaded checkpoint, the context to use with it, and max_pixels if that was chosen or asked for.
    struct Ready {
        engine: Engine,
        context: usize,
        max_pixels: Option<u64>,
    }

    async fn load(args: &ModelArgs, context: usize, max_pixels: Option<u64>) -> Result<Ready> {
        let place = Place::of(args)?;
        let gpu = Gpu::open(&GpuOptions { software: args.software, ..GpuOptions::default() }).await?;
        let gguf = place.open().await?;
        let source: &dyn Source = gguf.as_ref().map_or(&place.files, |gguf| gguf as &dyn Source);
        let (formats, cache, context, max_pixels) = match args.quantize {
            Weights::Fixed(formats) => (formats, args.kv_cache.unwrap_or_default(), context, max_pixels),
            Weights::Auto => {
                let wish =
                    Wish { weights: Weights::Auto, cache: args.kv_cache, context, max_pixels, memory: args.memory };
                let chosen = estimate::of(source, gpu.caps().limits(), &wish).await?;
                chosen.decisions.iter().for_each(|decision| eprintln!("{decision}"));
                chosen.check()?;
                (chosen.formats, chosen.cache, chosen.context_length, chosen.max_pixels)
            }
        };
        let mut engine = Engine::load_with(&gpu, source, &formats, cache, &mut progress("loading"), &|| {}).await?;
        if let (Weights::Auto, Some(most)) = (args.quantize, max_pixels) {
            engine.lower_max_pixels(most);
        }
        Ok(Ready { engine, context, max_pixels })
    }

    fn read(path: &Path) -> Result<Vec<u8>> {
        std::fs::read(path).map_err(|e| Error::Io { path: path.display().to_string(), message: e.to_string() })
    }

    fn picture(path: &Path) -> Result<Rc<Picture>> {
        let bytes = read(path)?;
        decode(&bytes).map(Rc::new).map_err(|e| match e {
            Error::Image { expected, found } => {
                Error::Image { expected, found: format!("{}: {found}", path.display()) }
            }
            other => other,
        })
    }

    /// Messages from a file; paths of images are relative to it.
    fn read_messages(path: &Path) -> Result<Vec<Message>> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let raw = messages::parse(&read(path)?)?;
        raw.into_iter()
            .map(|message| {
                let content = match message.text {
                    Some(text) => Content::Text(text),
                    None => {
                        let parts = message.parts.into_iter().map(|part| {
                            Ok(match part {
                                RawPart::Text(text) => Part::Text(text),
                                RawPart::Image(name, options) => {
                                    let name = name.strip_prefix("file://").unwrap_or(&name);
                                    Part::Image(picture(&folder.join(name))?, options)
                                }
                            })
                        });
                        Content::Parts(parts.collect::<Result<_>>()?)
                    }
                };
                Ok(Message { role: message.role, content })
            })
            .collect()
    }

    async fn ask(args: Ask) -> Result<()> {
        // What cannot be read is known before the weights are.
        let pictures = args.image.iter().map(|path| picture(path)).collect::<Result<Vec<_>>>()?;
        let messages = args.messages.as_deref().map(read_messages).transpose()?;
        let begin = Instant::now();
        let Ready { engine, context, max_pixels } = load(&args.model, args.sampling.context, args.max_pixels).await?;
        let messages = messages.unwrap_or_else(|| {
            let pixels = ImageOptions { min_pixels: args.min_pixels, max_pixels, ..ImageOptions::default() };
            let mut parts: Vec<Part> = pictures.into_iter().map(|picture| Part::Image(picture, pixels)).collect();
            parts.push(Part::Text(args.question.clone().unwrap_or_default()));
            vec![Message { role: "user".into(), content: Content::Parts(parts) }]
        });
        let load_ms = begin.elapsed().as_secs_f64() * 1000.0;
        let options = args.sampling.options(engine.generation_config());
        let mut conversation = engine.conversation(context)?;
        let json = args.json;
        let mut out = std::io::stdout();
        let mut on_text = |text: &str| {
            if !json {
                // A closed pipe is no reason to stop computing the answer.
                let _ = write!(out, "{text}").and_then(|()| out.flush());
            }
        };
        let hooks =
            Hooks { on_text: &mut on_text, cancelled: &|| false, clock: &|| begin.elapsed().as_secs_f64() * 1000.0 };
        let answer = engine.ask(&mut conversation, &messages, &options, hooks).await?;
        if json {
            let mut object = serde_json::to_value(&answer)
                .map_err(|e| Error::invalid("answer", "what JSON can hold", e.to_string()))?;
            object["timings"]["load_ms"] = load_ms.into();
            object["adapter"] = engine.gpu().caps().adapter.clone().into();
            println!("{object}");
        } else {
            println!();
        }
        Ok(())
    }

    async fn chat(args: Chat) -> Result<()> {
        let Ready { engine, context, .. } = load(&args.model, args.sampling.context, None).await?;
        let options = args.sampling.options(engine.generation_config());
        let mut conversation: Conversation = engine.conversation(context)?;
        let mut messages: Vec<Message> = Vec::new();
        let mut waiting: Vec<Part> = Vec::new();
        let begin = Instant::now();
        let prompt = std::io::stdin().is_terminal();
        if prompt {
            eprintln!("/image FILE adds an image, /new starts over, /quit ends.");
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
                        eprintln!("{}×{} pixels, for the next message", picture.width, picture.height);
                        waiting.push(Part::Image(picture, ImageOptions::default()));
                    }
                    Err(e) => eprintln!("error: {e}\n{}", e.hint()),
                }
                continue;
            }
            match line {
                "" => continue,
                "/quit" => return Ok(()),
                "/new" => {
                    messages.clear();
                    waiting.clear();
                    continue;
                }
                command if command.starts_with('/') => {
                    eprintln!("unknown command {command}: /image FILE, /new or /quit");
                    continue;
                }
                _ => {}
            }
            let mut parts = std::mem::take(&mut waiting);
            parts.push(Part::Text(line.to_owned()));
            messages.push(Message { role: "user".into(), content: Content::Parts(parts) });
            let mut out = std::io::stdout();
            let mut on_text = |text: &str| {
                let _ = write!(out, "{text}").and_then(|()| out.flush());
            };
            let hooks = Hooks {
                on_text: &mut on_text,
                cancelled: &|| false,
                clock: &|| begin.elapsed().as_secs_f64() * 1000.0,
            };
            match engine.ask(&mut conversation, &messages, &options, hooks).await {
                Ok(answer) => {
                    println!();
                    messages.push(Message::text("assistant", &answer.text));
                }
                Err(e @ Error::DeviceLost { .. }) => return Err(e),
                Err(e) => {
                    eprintln!("error: {e}\n{}", e.hint());
                    messages.pop();
                }
            }
        }
    }

    async fn trace(args: Trace) -> Result<()> {
        let messages = read_messages(&args.messages)?;
        let Ready { engine, .. } = load(&args.model, DEFAULT_CONTEXT, None).await?;
        let t = engine.trace(&messages, args.add_vision_id).await?;
        let n = t.input_ids.len() as u64;
        let images = t.image_grid_thw.len() as u64 / 3;
        let shape = |len: usize, width: usize| [(len / width.max(1)) as u64, width as u64];
        let delta = [i32::try_from(t.rope_delta).unwrap_or(i32::MIN)];
        let bytes = safetensors::write(&[
            ("input_ids", "I32", &[n], bytemuck::cast_slice(&t.input_ids)),
            ("position_ids", "I32", &[3, n], bytemuck::cast_slice(&t.position_ids)),
            ("pixel_values", "F32", &shape(t.pixel_values.len(), t.patch_len), bytemuck::cast_slice(&t.pixel_values)),
            ("image_grid_thw", "I32", &[images, 3], bytemuck::cast_slice(&t.image_grid_thw)),
            ("image_embeds", "F32", &shape(t.image_embeds.len(), t.hidden), bytemuck::cast_slice(&t.image_embeds)),
            ("logits", "F32", &shape(t.logits.len(), t.vocab), bytemuck::cast_slice(&t.logits)),
            ("rope_delta", "I32", &[1], bytemuck::cast_slice(&delta)),
        ])?;
        std::fs::write(&args.out, &bytes)
            .map_err(|e| Error::Io { path: args.out.display().to_string(), message: e.to_string() })?;
        eprintln!("{} tokens, {images} images, {} bytes to {}", n, bytes.len(), args.out.display());
        Ok(())
    }

    async fn convert(args: Convert) -> Result<()> {
        let place = Place::of(&args.model)?;
        let source = &place.files;
        let formats = &match args.model.quantize {
            Weights::Fixed(formats) => formats,
            Weights::Auto => {
                let gguf = place.open().await?;
                let source: &dyn Source = gguf.as_ref().map_or(source, |gguf| gguf as &dyn Source);
                // For whatever device it will be: only the memory counts.
                let limits = Limits { max_binding: u64::MAX, max_buffer: u64::MAX };
                let wish = Wish {
                    weights: Weights::Auto,
                    // A file does not say how its keys and values are to be kept.
                    cache: Some(args.model.kv_cache.unwrap_or_default()),
                    context: DEFAULT_CONTEXT,
                    max_pixels: None,
                    memory: args.model.memory,
                };
                let chosen = estimate::of(source, limits, &wish).await?;
                chosen.decisions.iter().for_each(|decision| println!("{decision}"));
                chosen.check()?;
                chosen.formats
            }
        };
        let export = match &place.gguf {
            Some((file, mmproj)) => Export::of_gguf(source, file, mmproj.as_deref(), formats).await?,
            None => {
                let template = match template(source).await {
                    Ok(template) => Some(template),
                    Err(Error::Missing { .. }) => None,
                    Err(other) => return Err(other),
                };
                let name = args.model.model.file_name().and_then(|name| name.to_str()).unwrap_or("model");
                let texts = template.as_ref().map(ChatTemplate::sources);
                if texts.is_some_and(|(_, tools)| tools.is_some()) {
                    println!("note: the chat template for tools is not kept");
                }
                Export::of_folder(source, formats, name, texts.map(|(text, _)| text)).await?
            }
        };
        let out = args.out.file_name().and_then(|name| name.to_str());
        let out = out.ok_or_else(|| Error::invalid("--out", "a file's name", args.out.display().to_string()))?;
        let beside_out = args.out.with_file_name(format!("mmproj-{out}"));
        let mmproj_out = args.mmproj_out.as_deref().unwrap_or(&beside_out);
        if export.vision.is_none() && args.mmproj_out.is_some() {
            return Err(Error::invalid("--mmproj-out", "a model with a vision tower", "a text model"));
        }
        if export.vision.is_some() && mmproj_out == args.out {
            return Err(Error::invalid("--mmproj-out", "another file than --out", args.out.display().to_string()));
        }
        // The tower first, so that no text file is without its own.
        let files: Vec<(&Outgoing, &Path)> =
            export.vision.iter().map(|tower| (tower, mmproj_out)).chain([(&export.text, &*args.out)]).collect();
        let total = files.iter().map(|(file, _)| file.source_bytes()).sum();
        let (mut done, mut progress) = (0, progress("converting"));
        let mut written = Vec::new();
        for (_, path) in &files {
            written.push(NewFile::create(path, args.force)?);
        }
        for ((file, _), new) in files.iter().zip(&mut written) {
            let mut heard = |bytes: u64| {
                done += bytes;
                progress(done, total);
            };
            file.write(source, &mut |bytes| new.write(bytes), &mut heard).await?;
        }
        written.into_iter().try_for_each(NewFile::finish)?;
        for (file, path) in files.into_iter().rev() {
            println!("{}", path.display());
            for (dtype, (count, bytes)) in file.totals()? {
                println!("  {:<6} {count:>4} tensors {:>12}", dtype.name(), in_words(bytes));
            }
            for tensor in file.tensors() {
                if let Some(remark) = &tensor.remark {
                    println!("  {} is {}: {remark}", tensor.head.name, tensor.head.dtype);
                }
            }
        }
        export.notes.iter().for_each(|note| println!("note: {note}"));
        // Whoever loads the new file takes the tower that lies beside it.
        let tower = export.vision.as_ref().and(mmproj_out.file_name()).and_then(|name| name.to_str());
        let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match (beside(folder, out), tower) {
            (Ok(found), _) if found.as_deref() == tower => {}
            (_, Some(_)) => println!("note: to load it, name its vision tower with --mmproj"),
            (_, None) => println!("note: the mmproj*.gguf beside it would be taken for its vision tower"),
        }
        Ok(())
    }

    async fn inspect(args: Inspect) -> Result<()> {
        let place = Place::of(&args.model)?;
        let gpu = Gpu::open(&GpuOptions { software: args.model.software, ..GpuOptions::default() }).await;
        // Without a device: WebGPU's guaranteed limits.
        let (max_binding, max_buffer) =
            gpu.as_ref().map_or((128 << 20, 256 << 20), |g| (g.caps().max_binding, g.caps().max_buffer));
        let limits = Limits { max_binding, max_buffer };
        let gguf = place.open().await?;
        let source: &dyn Source = gguf.as_ref().map_or(&place.files, |gguf| gguf as &dyn Source);
        let Inspect {
            model: ModelArgs { quantize: weights, kv_cache: cache, memory, .. }, context, max_pixels, ..
        } = args;
        let e = estimate::of(source, limits, &Wish { weights, cache, context, max_pixels, memory }).await?;
        if args.json {
            println!("{}", e.to_json());
            return Ok(());
        }
        let d = registry::describe(source, limits, &e.formats).await?;
        println!("model          {}", d.family);
        println!("parameters     {}", d.parameters);
        println!(
            "decoder        {} layers, hidden {}, {} query and {} key-value heads of {}, {} vocabulary rows, context {}",
            d.decoder.layers,
            d.decoder.hidden,
            d.decoder.heads.q,
            d.decoder.heads.kv,
            d.decoder.heads.dim,
            d.decoder.vocab,
            d.max_positions
        );
        match d.vision {
            Some((blocks, hidden)) => println!("vision         {blocks} blocks, hidden {hidden}"),
            None => println!("vision         none: texts alone"),
        }
        match &gpu {
            Ok(gpu) => {
                let caps = gpu.caps();
                let kind = if caps.software { ", software" } else { "" };
                let f16 = if caps.shader_f16 { "shader-f16" } else { "no shader-f16" };
                println!(
                    "device         {} ({}{kind}), {f16}, {} per binding",
                    caps.adapter,
                    caps.backend,
                    in_words(max_binding)
                );
            }
            Err(e) => println!("device         none ({e}); planned with WebGPU's guaranteed limits"),
        }
        println!(
            "estimate       for a context of {} tokens{}",
            e.context_length,
            match e.max_pixels {
                Some(pixels) => format!(" and pictures of at most {pixels} pixels"),
                None => String::new(),
            }
        );
        println!("  download     {}", in_words(e.download_bytes));
        println!("  weights      {}: {}", in_words(e.weight_bytes.iter().map(|(_, bytes)| bytes).sum()), e.formats);
        for (part, bytes) in &e.weight_bytes {
            println!("    {part:<10} {}", in_words(*bytes));
        }
        let per = in_words(d.cache_bytes(1024, e.cache));
        println!("  KV cache     {}: {}, {per} per 1024 tokens", in_words(e.kv_bytes), e.cache);
        println!(
            "  activations  {} for a picture, {} for a prompt, one at a time",
            in_words(e.activation_bytes.vision),
            in_words(e.activation_bytes.prefill)
        );
        println!("  in passing   {}", in_words(e.staging_bytes));
        println!("  total        {}", in_words(e.total_bytes));
        println!("  largest      {} of one buffer: {}", in_words(e.largest_buffer.bytes), e.largest_buffer.name);
        println!("{}  {}", if e.fits { "fits         " } else { "does not fit " }, e.reason);
        for decision in &e.decisions {
            println!("  {decision}");
        }
        if args.tensors {
            for m in &d.plan.matrices {
                let cut = if m.shards.len() > 1 { format!(" in {} shards", m.shards.len()) } else { String::new() };
                let mut layouts: Vec<&str> = m.shards.iter().map(|s| s.layout.name()).collect();
                layouts.dedup();
                println!("{:<40} {} [{}, {}]{cut}", m.name, layouts.join("+"), m.rows, m.cols);
            }
            for v in &d.plan.vectors {
                println!("{:<40} F32 [{}]", v.name, v.len);
            }
        }
        Ok(())
    }
}
