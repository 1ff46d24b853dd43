//! The decoder's rotary embedding: base, sections and context extension.

use serde_json::Map;

use crate::error::Result;
use crate::model::family::TextFamily;
use crate::model::positions::{MAX_POSITION, Yarn};
use crate::model::section::{Section, bad, kind, unsupported};
use crate::model::sizes::MAX_HIDDEN;

/// θ, sections and scaling from `rope_scaling` (old) or `rope_parameters` (new), in transformers' order of preference.
pub(super) fn read_rope(
    c: &Section<'_>,
    family: &TextFamily,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<(f64, [usize; 3], Option<Yarn>)> {
    const MAX_THETA: f64 = 1e12;
    let empty = Map::new();
    let given = match c.section("rope_scaling")?.filter(|s| !s.map.is_empty()) {
        Some(old) => Some(old),
        None => c.section("rope_parameters")?,
    };
    let r = given.unwrap_or(Section { path: c.at("rope_parameters."), map: &empty });
    let outer = c.number("rope_theta", family.rope_theta, 1e-6, MAX_THETA)?;
    let theta = r.number("rope_theta", outer, 1e-6, MAX_THETA)?;
    let half = head_dim / 2;
    let section = match (family.mrope_section, r.get("mrope_section")) {
        // All frequencies turn with the one position there is.
        (None, _) => [half, 0, 0],
        (Some(default), None) => default,
        (Some(_), Some(value)) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let counts: Vec<usize> = list.iter().take(4).filter_map(|v| usize::try_from(v.as_u64()?).ok()).collect();
            match counts[..] {
                [t, h, w] if list.len() == 3 && [t, h, w].iter().all(|&n| n <= MAX_HIDDEN) => [t, h, w],
                _ => return Err(bad(r.at("mrope_section"), "three counts", kind(value))),
            }
        }
    };
    if section.iter().sum::<usize>() != half {
        let expected = format!("three counts that sum to head_dim / 2 = {half}");
        return Err(bad(r.at("mrope_section"), expected, format!("{section:?}")));
    }
    if r.number("partial_rotary_factor", 1.0, 0.0, 1.0)? != 1.0 {
        return Err(unsupported("partial rotary embedding", "rotation of whole heads"));
    }
    // `rope_type` is the new name of `type`; configs saved in between have both.
    let kind = match r.get("rope_type") {
        Some(_) => r.text("rope_type", "default")?,
        None => r.text("type", "default")?,
    };
    let yarn = match kind.as_str() {
        "default" | "mrope" => None,
        "yarn" => Some(read_yarn(&r, theta, max_position_embeddings)?),
        other => return Err(unsupported(format!("rotary scaling {other}"), "default, mrope or yarn")),
    };
    Ok((theta, section, yarn))
}

/// `_compute_yarn_parameters` of transformers' `modeling_rope_utils.py`, as far as it is independent of the frequency.
fn read_yarn(r: &Section<'_>, theta: f64, max_position_embeddings: usize) -> Result<Yarn> {
    const MOST: f64 = 1e6;
    if theta <= 1.0 {
        return Err(bad(r.at("rope_theta"), "more than 1 for YaRN", theta));
    }
    let name = "original_max_position_embeddings";
    let original = r.count(name, max_position_embeddings, MAX_POSITION as usize)?;
    let factor = r.number("factor", max_position_embeddings as f64 / original as f64, 1e-3, MOST)?;
    // Python's `or`: absent and 0 both mean the default.
    let or = |value: f64, default: f64| if value == 0.0 { default } else { value };
    let (mscale, all) = (r.number("mscale", 0.0, 0.0, MOST)?, r.number("mscale_all_dim", 0.0, 0.0, MOST)?);
    let magnitude = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let inferred = if mscale != 0.0 && all != 0.0 { magnitude(mscale) / magnitude(all) } else { magnitude(1.0) };
    Ok(Yarn {
        factor,
        original_max_position_embeddings: original,
        beta_fast: or(r.number("beta_fast", 32.0, 0.0, MOST)?, 32.0),
        beta_slow: or(r.number("beta_slow", 1.0, 0.0, MOST)?, 1.0),
        attention_factor: r.number("attention_factor", inferred, 0.0, MOST)?,
        truncate: r.flag("truncate", true)?,
    })
}
