//! `fanlight convert`: a checkpoint as GGUF files.

use std::path::{Path, PathBuf};

use clap::Args;
use fanlight::chat::{DEFAULT_CONTEXT, template};
use fanlight::error::in_words;
use fanlight::generate::estimate::{self, Weights, Wish};
use fanlight::model::gguf::export::{Export, Outgoing};
use fanlight::text::ChatTemplate;
use fanlight::weights::output::NewFile;
use fanlight::weights::{Folder, Limits};
use fanlight::{Error, Result};

use super::model::{ModelArgs, Place, beside, progress};
use super::terminal::say;

#[derive(Args)]
pub struct Convert {
    #[command(flatten)]
    model: ModelArgs,
    /// The file to write.
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// The file to write the vision tower to [default: mmproj-OUT, beside OUT].
    #[arg(long, value_name = "FILE.gguf")]
    mmproj_out: Option<PathBuf>,
    /// Replace files that exist already.
    #[arg(long)]
    force: bool,
}

pub async fn run(args: Convert) -> Result<()> {
    let place = Place::of(&args.model)?;
    let source = &place.files;
    let formats = &match args.model.quantize {
        Weights::Fixed(formats) => formats,
        Weights::Auto => {
            let gguf = place.open().await?;
            let source: &dyn Folder = gguf.as_ref().map_or(source, |gguf| gguf as &dyn Folder);
            // The device on which the file will be used is unknown, so only the memory counts.
            let limits = Limits { max_binding: u64::MAX, max_buffer: u64::MAX };
            let wish = Wish {
                weights: Weights::Auto,
                // A GGUF file does not say how keys and values are stored.
                cache: Some(args.model.kv_cache.unwrap_or_default()),
                context: DEFAULT_CONTEXT,
                max_pixels: None,
                memory: args.model.memory,
            };
            let chosen = estimate::of(source, limits, &wish).await?;
            chosen.decisions.iter().for_each(|decision| say!("{decision}"));
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
                say!("note: the chat template for tools is not written");
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
    // The tower is written first, so that a text file never exists without its tower.
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
        say!("{}", path.display());
        for (dtype, (count, bytes)) in file.totals()? {
            say!("  {:<6} {count:>4} tensors {:>12}", dtype.name(), in_words(bytes));
        }
        for tensor in file.tensors() {
            if let Some(remark) = &tensor.remark {
                say!("  {} is {}: {remark}", tensor.head.name, tensor.head.dtype);
            }
        }
    }
    export.notes.iter().for_each(|note| say!("note: {note}"));
    // Loading the new file would use the tower that `beside` finds, so check that it is the right one.
    let tower = export.vision.as_ref().and(mmproj_out.file_name()).and_then(|name| name.to_str());
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (beside(folder, out), tower) {
        (Ok(found), _) if found.as_deref() == tower => {}
        (_, Some(_)) => say!("note: to load this file, give its vision tower with --mmproj"),
        (_, None) => say!("note: the mmproj*.gguf file in the same folder would be used as its vision tower"),
    }
    Ok(())
}
