//! Embeddings of pictures that have been through the vision tower, shared by all conversations of an engine.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use sha2::{Digest, Sha256};

use crate::image::{self, Picture};
use crate::model::Embeds;

/// Finds embeddings that a conversation has made. Only conversations own them, so that their memory is freed with the last conversation
/// that holds them.
#[derive(Default)]
pub(super) struct Encoded {
    embeds: RefCell<HashMap<u128, Weak<[Embeds]>>>,
    /// Hashes of pictures that were hashed before: every prompt needs those of all its pictures, and hashing a large one takes a while.
    digests: RefCell<Vec<(Weak<Picture>, u128)>>,
    runs: Cell<usize>,
}

impl Encoded {
    /// The key of the embeddings of a picture at this (width, height).
    pub(super) fn key(&self, picture: &Rc<Picture>, (width, height): (u32, u32)) -> u128 {
        let hasher = Sha256::new().chain_update(b"image").chain_update(self.digest(picture).to_le_bytes());
        image::key(hasher.chain_update(width.to_le_bytes()).chain_update(height.to_le_bytes()))
    }

    fn digest(&self, picture: &Rc<Picture>) -> u128 {
        let mut digests = self.digests.borrow_mut();
        // The list's weak reference keeps the address of a dropped picture from being used again, so none is taken for another.
        if let Some((_, digest)) = digests.iter().find(|(known, _)| std::ptr::eq(known.as_ptr(), Rc::as_ptr(picture))) {
            return *digest;
        }
        digests.retain(|(known, _)| known.strong_count() > 0);
        let digest = picture.digest();
        digests.push((Rc::downgrade(picture), digest));
        digest
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

    fn picture(width: u32, rgb: Vec<u8>) -> Rc<Picture> {
        let height = rgb.len() as u32 / 3 / width;
        Rc::new(Picture::new(width, height, rgb).unwrap())
    }

    #[test]
    fn equal_pictures_have_equal_keys_and_no_others() {
        let encoded = Encoded::default();
        let a = picture(2, vec![1, 2, 3, 4, 5, 6]);
        let key = |picture: &Rc<Picture>, size| encoded.key(picture, size);
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

    #[test]
    fn a_picture_at_the_address_of_one_that_is_gone_is_another() {
        let encoded = Encoded::default();
        let keys: Vec<u128> = (0..50).map(|n| encoded.key(&picture(1, vec![n, 0, 0]), (28, 28))).collect();
        assert!((1..50).all(|n| !keys[..n].contains(&keys[n])));
        assert!(encoded.digests.borrow().len() <= 2);
    }
}
