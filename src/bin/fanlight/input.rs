//! Pictures and messages from files.

use std::path::Path;
use std::rc::Rc;

use fanlight::chat::messages::{self, RawPart};
use fanlight::chat::{Content, Message, Part};
use fanlight::image::{Picture, decode};
use fanlight::{Error, Result};

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::Io { path: path.display().to_string(), message: e.to_string() })
}

pub fn picture(path: &Path) -> Result<Rc<Picture>> {
    let bytes = read(path)?;
    decode(&bytes).map(Rc::new).map_err(|e| match e {
        Error::Image { expected, found } => Error::Image { expected, found: format!("{}: {found}", path.display()) },
        other => other,
    })
}

/// Messages from a file; paths of images are relative to it.
pub fn read_messages(path: &Path) -> Result<Vec<Message>> {
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
