//! A picture as a conversation keeps it.

use std::borrow::Cow;

use super::{Picture, decode};
use crate::error::Result;

/// A still picture of a conversation. It is kept as its file if that is smaller than its pixels, because a conversation may have
/// many pictures and needs the pixels of each only once: for the vision tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Still {
    width: u32,
    height: u32,
    digest: u128,
    kept: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    File(Vec<u8>),
    Pixels(Picture),
}

impl Still {
    /// A picture from the bytes of its file.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn open(file: Vec<u8>) -> Result<Self> {
        let picture = decode(&file)?;
        let still = |kept| Self { width: picture.width, height: picture.height, digest: picture.digest(), kept };
        Ok(match file.len() < picture.rgb.len() {
            true => still(Kept::File(file)),
            false => Self::from(picture),
        })
    }

    /// Width and height in pixels, upright.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// [`Picture::digest`] of its pixels.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// Its pixels, which are decoded again if only the file is kept.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn picture(&self) -> Result<Cow<'_, Picture>> {
        match &self.kept {
            Kept::File(file) => decode(file).map(Cow::Owned),
            Kept::Pixels(picture) => Ok(Cow::Borrowed(picture)),
        }
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        match &self.kept {
            Kept::File(file) => file.len(),
            Kept::Pixels(picture) => picture.rgb.len(),
        }
    }
}

impl From<Picture> for Still {
    fn from(picture: Picture) -> Self {
        let (width, height, digest) = (picture.width, picture.height, picture.digest());
        Self { width, height, digest, kept: Kept::Pixels(picture) }
    }
}
