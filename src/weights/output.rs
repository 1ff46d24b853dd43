//! A file that appears whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that is being written. Until [`NewFile::finish`] it lies beside its final place under another name, and if that
/// is never called, it is removed. Compiles on wasm32 too, where the standard library answers "unsupported".
pub struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
}

impl NewFile {
    /// Begins a file for `path`. With `replace` there may be a file already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is one and it may not be replaced, [`Error::Io`] if it cannot be created.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::invalid("output", "a file's name", path.display().to_string()))?;
        if path.is_dir() || (path.exists() && !replace) {
            return Err(Error::invalid("output", "a file that does not exist yet", path.display().to_string()));
        }
        let temporary = path.with_file_name(format!(".{name}.part"));
        let file = File::create(&temporary).map_err(|e| io(&temporary, &e))?;
        Ok(NewFile { path: path.to_owned(), temporary, file: Some(file) })
    }

    /// Appends.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(|e| io(&self.temporary, &e)),
            None => Ok(()), // cannot happen: only `finish` leaves none, and it consumes the file
        }
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(|e| io(&self.temporary, &e))?;
        }
        std::fs::rename(&self.temporary, &self.path).map_err(|e| io(&self.path, &e))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), message: error.to_string() }
}
