//! Embeddings of pictures that have been through the vision tower, shared by all conversations of an engine.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use sha2::{Digest, Sha256};

use crate::image::{self, Still};
use crate::model::Embeds;

/// Finds embeddings that a conversation has made. Only conversations own them, so that their memory is freed with the last conversation
/// that holds them.
#[derive(Default)]
pub(super) struct Encoded {
    embeds: RefCell<HashMap<u128, Weak<[Embeds]>>>,
    runs: Cell<usize>,
}

impl Encoded {
    /// The key of the embeddings of a picture at this (width, height).
    pub(super) fn key(&self, picture: &Still, (width, height): (u32, u32)) -> u128 {
        let hasher = Sha256::new().chain_update(b"image").chain_update(picture.digest().to_le_bytes());
        image::key(hasher.chain_update(width.to_le_bytes()).chain_update(height.to_le_bytes()))
    }

    /// The embeddings of this key, if a conversation holds them.
    pub(super) fn find(&self, key: u128) -> Option<Rc<[Embeds]>> {
        self.embeds.borrow().get(&key).and_then(Weak::upgrade)
    }

    /// Notes new embeddings.
    pub(super) fn insert(&self, key: u128, embeds: &Rc<[Embeds]>) {
        let mut all = self.embeds.borrow_mut();
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(key, Rc::downgrade(embeds));
        self.runs.set(self.runs.get() + 1);
    }

    /// How many pictures have been encoded.
    pub(super) fn runs(&self) -> usize {
        self.runs.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    fn picture(width: u32, rgb: Vec<u8>) -> Still {
        let height = rgb.len() as u32 / 3 / width;
        Still::from(Picture::new(width, height, rgb).unwrap())
    }

    #[test]
    fn equal_pictures_have_equal_keys_and_no_others() {
        let encoded = Encoded::default();
        let a = picture(2, vec![1, 2, 3, 4, 5, 6]);
        let key = |picture: &Still, size| encoded.key(picture, size);
        assert_eq!(key(&a, (28, 28)), key(&a, (28, 28)));
        assert_eq!(key(&a, (28, 28)), key(&picture(2, vec![1, 2, 3, 4, 5, 6]), (28, 28)));
        let others = [
            key(&picture(1, vec![1, 2, 3, 4, 5, 6]), (28, 28)),
            key(&picture(2, vec![1, 2, 3, 4, 5, 7]), (28, 28)),
            key(&a, (28, 56)),
            key(&a, (56, 28)),
        ];
        assert!(others.iter().all(|other| *other != key(&a, (28, 28))), "{others:x?}");
    }
}
