//! What `auto` chooses: the heaviest formats, the longest context and the largest pictures that fit.

use super::case::{Case, Loadable};
use super::report::Estimate;
use super::steps::steps;
use crate::dtype::{CacheFormat, Layout};
use crate::error::{Result, in_words};
use crate::weights::quantize::Formats;

/// `auto` does not lower the context below this.
pub const MIN_CONTEXT: usize = 2048;

/// Goes from `case` down the ladder, then to shorter contexts and smaller pictures, until the memory suffices.
/// `any_cache`: the format of keys and values may be chosen too.
pub(super) fn choose(
    mut case: Case<'_>,
    ladder: impl Iterator<Item = Result<Loadable>>,
    any_cache: bool,
    context: usize,
    wanted_pixels: Option<u64>,
) -> Result<Estimate> {
    let mut decisions = Vec::new();
    // First the largest buffer of the vision tower, which no format of the weights changes.
    let pixels = wanted_pixels.map(|wanted| {
        let small = |pixels: &u64| case.vision(context, *pixels).largest().1 <= case.limit();
        let pixels = case.pixel_steps(wanted).find(small).unwrap_or_else(|| case.least_pixels(wanted));
        if pixels < wanted {
            let (name, bytes) = case.vision(context, wanted).largest();
            let (needed, limit) = (in_words(bytes), in_words(case.limit()));
            decisions.push(format!(
                "max_pixels: {pixels} instead of {wanted} because the buffer \"{name}\" of the vision tower would take {needed} and \
                 the device allows {limit}"
            ));
        }
        pixels
    });
    // A picture takes at most three quarters of the context, so that there is room for text.
    let room =
        |case: &Case<'_>, context: usize| pixels.map(|pixels| pixels.min(case.pixels_of(context as u64 * 3 / 4)));
    let mut best = case.estimate(context, room(&case, context));

    let memory = in_words(case.memory.unwrap_or(u64::MAX));
    let mut tried = Vec::new();
    let mut cached = None;
    for lighter in ladder {
        if case.affords(&best) {
            break;
        }
        let lighter = lighter?;
        if any_cache && cached.is_none() && lighter.formats.text == Some(Layout::Q4) {
            cached = Some(best.total_bytes);
            case.cache = CacheFormat::Q8;
            best = case.estimate(context, room(&case, context));
            if case.affords(&best) {
                break;
            }
        }
        // A checkpoint that is quantized already does not become lighter.
        if lighter.bytes() < case.weights.bytes() {
            tried.push((best.formats, best.total_bytes));
            case.weights = lighter;
            best = case.estimate(context, room(&case, context));
        }
    }
    let name = |layout: Option<Layout>| layout.map_or("the weights kept", Layout::name);
    for (part, of) in
        [("text", (|f: &Formats| f.text) as fn(&Formats) -> Option<Layout>), ("embeddings", |f| f.embeddings)]
    {
        let Some(layout) = of(&best.formats) else { continue };
        // The other formats of this part that were tried with the other parts as they are now: all of them took too much.
        let others =
            tried.iter().filter(|(f, _)| of(f) != Some(layout) && (part == "text" || f.text == best.formats.text));
        let totals: Vec<String> =
            others.map(|(f, total)| format!("{} with {}", in_words(*total), name(of(f)))).collect();
        let totals = totals.join(" and ");
        decisions.push(format!("{part}: {layout} because the model would take {totals}, more than the {memory} given"));
    }
    let exceed = |total: u64| format!("because the model would take {}, more than the {memory} given", in_words(total));
    if let Some(before) = cached {
        decisions.push(format!("KV cache: q8 {}", exceed(before)));
    }
    let floor = MIN_CONTEXT.min(context);
    let before = best.total_bytes;
    for shorter in steps(context, floor, 256).skip(1) {
        if case.affords(&best) {
            break;
        }
        best = case.estimate(shorter, room(&case, shorter));
    }
    if best.context_length < context {
        decisions.push(format!("context: {} instead of {context} {}", best.context_length, exceed(before)));
    }
    let roomy = best.max_pixels;
    if let (Some(pixels), Some(roomy)) = (pixels, roomy)
        && roomy < pixels
    {
        let context = best.context_length;
        decisions.push(format!(
            "max_pixels: {roomy} instead of {pixels} to leave room for text in a context of {context} tokens"
        ));
    }
    if let Some(roomy) = roomy {
        let before = best.total_bytes;
        for fewer in case.pixel_steps(roomy).skip(1) {
            if case.affords(&best) {
                break;
            }
            best = case.estimate(best.context_length, Some(fewer));
        }
        if let Some(now) = best.max_pixels.filter(|now| *now < roomy) {
            decisions.push(format!("max_pixels: {now} instead of {roomy} {}", exceed(before)));
        }
    }
    Ok(Estimate { decisions, ..best })
}
