//! What a model takes on a device, known from its small files alone, and the choice of formats, context and picture size
//! for a given amount of memory. Nothing here touches a device; [`of`] reads the small files, the rest is pure.
//!
//! All sizes are those of the buffers that the engine makes (`tests/memory.rs` compares). They do not include what the driver
//! needs for itself (staging of writes beyond what is counted here, compiled pipelines), nor what other programs have on the
//! device.
//!
//! - `wish`: what is wanted
//! - `report`: what it takes, and whether it fits
//! - `case`: how that is computed, from the rehearsals of the graphs
//! - `choose`, `steps`: what `auto` takes instead where it does not fit
//! - `prompt`: what one prompt of a running conversation takes

mod case;
mod choose;
mod prompt;
mod report;
mod steps;
mod wish;

use crate::error::{Error, Result};
use crate::image::PreprocessorConfig;
use crate::model::processor;
use crate::model::registry::Tables;
use crate::weights::folder::Folder;
use crate::weights::plan::Limits;
use crate::weights::quantize::Formats;

use case::{Case, Loadable};
use choose::choose;

pub use case::MIN_PICTURE_TOKENS;
pub use choose::MIN_CONTEXT;
pub use prompt::{Taken, Work, work};
pub use report::{ActivationBytes, Estimate, LargestBuffer};
pub use wish::{Weights, Wish, parse_bytes};

/// Reads the small files of a checkpoint, then [`estimate`]s.
///
/// # Errors
/// Any error of the source or of the checkpoint's files, as [`estimate`].
pub async fn of(source: &dyn Folder, limits: Limits, wish: &Wish) -> Result<Estimate> {
    let tables = Tables::read(source).await?;
    let mut wish = *wish;
    if wish.max_pixels.is_none() {
        wish.max_pixels = processor::read(source).await?.map(|p| p.max_pixels);
    }
    estimate(&tables, limits, &wish)
}

/// What the wish takes under the limits, or with [`Weights::Auto`] what should be taken instead.
///
/// `auto` first lowers max_pixels until no buffer is above the limits and a picture takes at most three quarters of the
/// context. Then, where a memory is given, it goes down [`Formats::LADDER`] until the total fits, with the cache's format before
/// the text's would get 4 bits, since the cache in 8 loses far less; then with the context to [`MIN_CONTEXT`], then with
/// max_pixels to [`MIN_PICTURE_TOKENS`]. What does not fit even then comes back with `fits` false. Less memory never makes
/// any of the five larger.
///
/// # Errors
/// As [`Tables::plan`]: tensors that are not there or not as they should be, rows that no binding holds.
pub fn estimate(tables: &Tables, limits: Limits, wish: &Wish) -> Result<Estimate> {
    let context = wish.context.min(tables.max_positions).max(1);
    let max_pixels =
        tables.vision.as_ref().map(|_| wish.max_pixels.unwrap_or(PreprocessorConfig::default().max_pixels));
    let cache = wish.cache.unwrap_or_default();
    let case = |weights| Case { tables, limits, memory: wish.memory, weights, cache };
    match wish.weights {
        Weights::Fixed(formats) => Ok(case(Loadable::new(tables, limits, formats)?).estimate(context, max_pixels)),
        Weights::Auto => {
            let mut ladder = Formats::LADDER.into_iter().map(|formats| Loadable::new(tables, limits, formats));
            let Some(kept) = ladder.next() else { return Err(Error::missing("a format", "the ladder")) };
            choose(case(kept?), ladder, wish.cache.is_none(), context, max_pixels)
        }
    }
}
