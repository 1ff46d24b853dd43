//! The options that all commands share: which checkpoint to use and how to load it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use fanlight::chat::Engine;
use fanlight::dtype::CacheFormat;
use fanlight::generate::estimate::{self, Weights, Wish, parse_bytes};
use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::hub::{self, Options, Progress, Snapshot, Want, Watch};
use fanlight::model::gguf::GgufModel;
use fanlight::weights::{Directory, Folder};
use fanlight::{Error, Result};

use super::terminal::note;

#[derive(Args)]
pub struct ModelArgs {
    /// A checkpoint folder in Hugging Face layout, a .gguf file, or a repository ORG/NAME of the Hub.
    #[arg(long, value_name = "DIR|FILE.gguf|ORG/NAME")]
    pub model: PathBuf,
    /// Branch, tag or commit of the repository.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// The GGUF file to use, if the repository has several.
    #[arg(long, value_name = "NAME.gguf")]
    pub file: Option<String>,
    /// The file with the vision tower of a .gguf model, or its name in the repository. Not needed if there is only one
    /// mmproj*.gguf file beside the model, or only one with the model's name in its own.
    #[arg(long, value_name = "FILE.gguf")]
    pub mmproj: Option<PathBuf>,
    /// Server to download from [env: HF_ENDPOINT] [default: https://huggingface.co].
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Also send the Hugging Face token to the server of --endpoint.
    #[arg(long, requires = "endpoint")]
    pub send_token: bool,
    /// Use only files that are in the Hub's cache, and make no request [env: HF_HUB_OFFLINE].
    #[arg(long)]
    pub offline: bool,
    /// Quantize floats while they are loaded: q8, q4, or by part as in text=q4,vision=keep,embeddings=q8. auto chooses
    /// formats, context and max_pixels that fit --memory.
    #[arg(long, value_name = "FORMATS|auto", default_value = "keep")]
    pub quantize: Weights,
    /// Format for the keys and values of a conversation [default: f32, or what --quantize auto chooses]. q8 takes 31 % of
    /// the memory of f32.
    #[arg(long, value_name = "f32|q8")]
    pub kv_cache: Option<CacheFormat>,
    /// Memory that the model may take, such as 4GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Use a software adapter even if there is a GPU.
    #[arg(long)]
    pub software: bool,
}

/// Where the model is: a folder, and for GGUF the names of the model's file and of its vision tower in it.
pub struct Place {
    pub files: Directory,
    pub gguf: Option<(String, Option<String>)>,
}

impl Place {
    pub fn of(args: &ModelArgs) -> Result<Self> {
        let model = &args.model;
        if let Some(file) = args.file.as_ref().filter(|_| model.exists()) {
            let expected = "no --file if --model is a local path (name the .gguf file in --model)";
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

    /// A repository of the Hub: files that are not in the cache are downloaded.
    fn on_hub(args: &ModelArgs) -> Result<Self> {
        let name = args.model.display().to_string();
        if hub::cache::check_repo(&name).is_err() || args.model.exists() {
            return Err(Error::missing(name, "the file system (a folder or a .gguf file was expected)"));
        }
        let mut options = Options::from_env(|name| std::env::var(name).ok())?;
        if let Some(endpoint) = &args.endpoint {
            // The token was made for the server of the environment. Another one gets it only if the person says so.
            if *endpoint != options.endpoint && !args.send_token && options.token.take().is_some() {
                note!("{endpoint} does not get your Hugging Face token; --send-token would send it.");
            }
            options.endpoint.clone_from(endpoint);
        }
        // A name without a slash is more likely a mistyped folder than one of the Hub's oldest repositories, so it is
        // only looked up in the cache.
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

    /// The GGUF files, presented as a checkpoint folder; `None` if this is a folder already.
    pub async fn open(&self) -> Result<Option<GgufModel<'_>>> {
        match &self.gguf {
            Some((file, mmproj)) => GgufModel::open(&self.files, file, mmproj.as_deref()).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Shows the progress of a download on the terminal.
struct Teller {
    /// When this file's download began, how many bytes were already there, and when its progress was last shown.
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
        // If a download starts over, fewer bytes are there than at the beginning.
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
        note!("{}{text}", if self.begin.is_some() { "\n" } else { "" });
    }
}

/// The vision tower for the GGUF file `name`: the only `mmproj*.gguf` in the folder or, if there are several, the only one
/// whose name contains the model's name (`mmproj-MODEL.gguf`). The file itself does not count.
pub fn beside(folder: &Path, name: &str) -> Result<Option<String>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| Error::Io { path: folder.display().to_string(), message: e.to_string() })?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let towers: Vec<String> = names.filter(|n| n != name && n.contains("mmproj") && n.ends_with(".gguf")).collect();
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let named: Vec<&String> = towers.iter().filter(|tower| tower.contains(stem)).collect();
    match (&towers[..], &named[..]) {
        ([], _) => Ok(None),
        ([one], _) | (_, &[one]) => Ok(Some(one.clone())),
        (several, _) => {
            let found = several.join(", ");
            Err(Error::invalid("vision tower", "a single mmproj*.gguf beside the model, or --mmproj FILE", found))
        }
    }
}

/// Shows a percentage on the terminal, if standard error is one.
pub fn progress(what: &'static str) -> impl FnMut(u64, u64) {
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

/// A loaded checkpoint, the context length to use with it, and max_pixels if it was given or chosen.
pub struct Ready {
    pub engine: Engine,
    pub context: usize,
    pub max_pixels: Option<u64>,
}

pub async fn load(args: &ModelArgs, context: usize, max_pixels: Option<u64>) -> Result<Ready> {
    let place = Place::of(args)?;
    let gpu = Gpu::open(&GpuOptions { software: args.software, ..GpuOptions::default() }).await?;
    let gguf = place.open().await?;
    let source: &dyn Folder = gguf.as_ref().map_or(&place.files, |gguf| gguf as &dyn Folder);
    let (formats, cache, context, max_pixels) = match args.quantize {
        Weights::Fixed(formats) => (formats, args.kv_cache.unwrap_or_default(), context, max_pixels),
        Weights::Auto => {
            let wish = Wish { weights: Weights::Auto, cache: args.kv_cache, context, max_pixels, memory: args.memory };
            let chosen = estimate::of(source, gpu.caps().limits(), &wish).await?;
            chosen.decisions.iter().for_each(|decision| note!("{decision}"));
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
