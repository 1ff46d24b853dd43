//! Chooses the next id from logits, as `generate` of transformers 5.23 does.
//!
//! The processors and their order are those of `_get_logits_processor` in `generation/utils.py`, their arithmetic that
//! of `generation/logits_process.py`: repetition penalty → temperature → top-k → top-p → min-p → softmax. Scores are
//! f32 throughout. torch's softmax in f32 is only approximate; here it is computed in f64 and rounded once, so that native and
//! wasm builds agree. A token can differ only if its probability is within rounding of a threshold.
//!
//! Some steps are additions, all off by default. Ids beyond the tokenizer are masked first. Then a bias is added, before all
//! penalties, as in vLLM and in transformers' `SequenceBiasLogitsProcessor`. Frequency and presence penalties are applied after the
//! repetition penalty, as in vLLM's `apply_penalties`. The random numbers for a seed are not those of transformers.

mod random;

use super::constraint::has;
use super::session::{Few, Head};
use crate::error::{Error, Result};
use crate::ops::top_merge::TOP;

use random::Random;

/// How to choose the next id. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Draw at random. If false, the best id after the penalties is taken, and temperature and the limits below have no effect.
    pub do_sample: bool,
    /// The scores are divided by this. 0 means greedy (transformers refuses 0).
    pub temperature: f64,
    /// Keep the scores that are at least as large as the k-th largest (more than k if there are ties). 0 keeps all.
    pub top_k: usize,
    /// Sort by score, ascending, and drop tokens while the sum of their probabilities is at most 1 − `top_p`. 1 keeps all. The
    /// best token is always kept. Of equal scores, the lowest ids are dropped first (torch's sort does not define their order).
    pub top_p: f64,
    /// Drop tokens whose probability is below this share of the best token's probability.
    pub min_p: Option<f64>,
    /// Applied once to the score of every id in the history: positive scores are divided by it, negative ones multiplied. 1 is
    /// off.
    pub repetition_penalty: f64,
    /// Subtracted once from the score of every generated id.
    pub presence_penalty: f64,
    /// Subtracted from the score of every generated id, as often as it was generated.
    pub frequency_penalty: f64,
    /// Added to the scores of these ids, greedy or not.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// Chooses the ids of one reply.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    /// Ids from this one on are never chosen.
    vocab: usize,
    /// The place in the history where the generated ids begin.
    prompt: usize,
    random: Random,
}

impl Sampler {
    /// A sampler with these parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that transformers refuses: a temperature or penalty that is negative or not
    /// finite, or `top_p` or `min_p` outside 0 to 1. Also for a presence or frequency penalty beyond ±2 or a bias beyond ±100.
    pub fn new(params: SamplingParams) -> Result<Self> {
        let p = &params;
        let check = |name: &str, value: f64, ok: bool, expected: &str| {
            if ok { Ok(()) } else { Err(Error::invalid(name, expected, value.to_string())) }
        };
        // Check it as f32, since the scores are f32.
        let finite = |value: f64| (value as f32).is_finite();
        let (t, r) = (p.temperature, p.repetition_penalty);
        check("temperature", t, finite(t) && t >= 0.0, "a finite number that is not negative")?;
        check("repetition_penalty", r, finite(r) && r as f32 > 0.0, "a finite number above 0")?;
        check("top_p", p.top_p, (0.0..=1.0).contains(&p.top_p), "a number from 0 to 1")?;
        if let Some(min_p) = p.min_p {
            check("min_p", min_p, (0.0..=1.0).contains(&min_p), "a number from 0 to 1")?;
        }
        // These are the ranges of OpenAI and vLLM.
        for (name, value) in [("presence_penalty", p.presence_penalty), ("frequency_penalty", p.frequency_penalty)] {
            check(name, value, (-2.0..=2.0).contains(&value), "a number from -2 to 2")?;
        }
        for &(id, bias) in &p.logit_bias {
            let name = format!("logit_bias of {id}");
            check(&name, f64::from(bias), (-100.0..=100.0).contains(&bias), "a number from -100 to 100")?;
        }
        let random = Random::new(params.seed);
        Ok(Sampler { params, vocab: usize::MAX, prompt: 0, random })
    }

    /// Sets the size of the tokenizer's vocabulary. Logits from `len` on belong to no token and are masked first.
    pub fn with_vocab(mut self, len: usize) -> Self {
        self.vocab = len;
        self
    }

    /// Sets the length of the prompt. The presence and frequency penalties count only ids after it in the history. (The
    /// repetition penalty counts the prompt too, as in transformers.)
    pub fn with_prompt(mut self, len: usize) -> Self {
        self.prompt = len;
        self
    }

    /// The parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The ids that may come next and their probabilities, by ascending id, without ids of probability 0. If greedy, this is
    /// only the best id (of equal ones the lowest, as for `torch.argmax`).
    ///
    /// `logits` is one row `[vocab]`. `history` has the ids of the prompt and all ids that were generated since.
    ///
    /// # Errors
    /// [`Error::Gpu`] if a logit is NaN or +∞, or if all are −∞, which means that a kernel overflowed. [`Error::Invalid`] if
    /// there are no logits.
    pub fn probabilities(&self, logits: &[f32], history: &[u32]) -> Result<Vec<(u32, f32)>> {
        let scores = self.penalized(logits, history)?;
        let best = argmax(&scores);
        if scores[best].1 == f32::NEG_INFINITY {
            return Err(Error::Gpu { message: "every logit is -inf".to_owned() });
        }
        Ok(self.distribution(&scores, scores[best]))
    }

    /// The probabilities of `scores`, which are sorted by id and of which `best` is the best.
    fn distribution(&self, scores: &[(u32, f32)], best: (u32, f32)) -> Vec<(u32, f32)> {
        let p = &self.params;
        let temperature = p.temperature as f32;
        // So low a temperature that f32 overflows, to either side, is the same as greedy.
        if self.greedy() || (best.1 / temperature).is_infinite() {
            return vec![(best.0, 1.0)];
        }
        // Ids are in ascending order, and no step below changes this.
        let mut kept: Vec<(u32, f32)> =
            scores.iter().filter(|(_, s)| *s > f32::NEG_INFINITY).map(|&(id, s)| (id, s / temperature)).collect();
        if p.top_k > 0 && p.top_k < kept.len() {
            let least = largest(&kept, p.top_k);
            kept.retain(|&(_, s)| s >= least);
        }
        if p.top_p < 1.0 {
            top_p(&mut kept, p.top_p);
        }
        if let Some(min_p) = p.min_p {
            let probabilities = softmax(&kept);
            let least = min_p as f32 * probabilities.iter().copied().fold(0.0, f32::max);
            let mut each = probabilities.into_iter();
            kept.retain(|_| each.next().is_some_and(|p| p >= least));
        }
        let probabilities = softmax(&kept);
        let kept = kept.into_iter().zip(probabilities).map(|((id, _), p)| (id, p));
        kept.filter(|&(_, p)| p > 0.0).collect()
    }

    /// The next id. Draws one random number if `do_sample` is set, none if not.
    ///
    /// With u uniform in [0, 1), the choice is the first id, in ascending order, at which the sum of probabilities exceeds
    /// u·Σp.
    ///
    /// # Errors
    /// As for [`Sampler::probabilities`].
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        let choices = self.probabilities(logits, history)?;
        Ok(self.draw(&choices))
    }

    fn draw(&mut self, choices: &[(u32, f32)]) -> u32 {
        if !self.params.do_sample {
            return choices[0].0; // greedy gives exactly one
        }
        let total: f64 = choices.iter().map(|&(_, p)| f64::from(p)).sum();
        let draw = self.random.unit() * total;
        let mut sum = 0.0;
        let hit = choices.iter().find(|&&(_, p)| {
            sum += f64::from(p);
            sum > draw
        });
        // If rounding kept the sum from exceeding the draw, take the last id. There is one, since the best id is among them.
        hit.unwrap_or(&choices[choices.len() - 1]).0
    }

    /// Whether there is no temperature, so that the best is chosen.
    fn greedy(&self) -> bool {
        !self.params.do_sample || self.params.temperature as f32 == 0.0
    }

    /// Whether no step raises a score, so that a logit bounds what becomes of it: every division and product below is rounded
    /// correctly, and rounding keeps order.
    fn lowers(&self) -> bool {
        let p = &self.params;
        p.repetition_penalty as f32 >= 1.0
            && p.presence_penalty >= 0.0
            && p.frequency_penalty >= 0.0
            && p.logit_bias.iter().all(|(_, bias)| *bias <= 0.0)
    }

    /// What to read from the device for these parameters.
    pub fn wants(&self) -> Wants {
        let p = &self.params;
        let nearly_greedy = self.greedy() || p.temperature <= NEARLY_GREEDY;
        let plain = p.presence_penalty == 0.0 && p.frequency_penalty == 0.0 && p.logit_bias.is_empty();
        match self.lowers() {
            true if nearly_greedy && plain => Wants::Best,
            true if nearly_greedy || (1..TOP).contains(&p.top_k) => Wants::Few,
            _ => Wants::All,
        }
    }

    /// The id that [`Sampler::sample`] would give for the logits of which the device says this, if that is certain. Takes as many
    /// random numbers. Only where [`Sampler::wants`] the best.
    ///
    /// A draw cannot give another id if the probabilities of all others are exactly 0, and `exponentials` makes them 0 where a
    /// score is more than 104 below the best one, both divided by the temperature. (In f64 that is e^-104 ≈ 7e-46, less than half of
    /// the smallest f32. A draw may be exactly 0, with which any id of a probability above 0 could be chosen; so it is not enough
    /// that a probability is below the generator's smallest step, 2^-53.) Steps that drop ids keep the best one.
    ///
    /// The margin, in f64: the two quotients and their difference are each rounded to within 2^-24 of their size, and the two
    /// scores are off by at most 3 of their last places, of 2^-23, where a penalty divided them on the device.
    pub fn decide(&mut self, best: &Head) -> Option<u32> {
        let p = &self.params;
        let (score, second) = (f64::from(best.score), f64::from(best.second));
        let last_place = f64::from(f32::EPSILON);
        let size = score.abs() + if second.is_finite() { second.abs() } else { 0.0 };
        let penalized = p.repetition_penalty != 1.0;
        // What is too small to be a normal number may be 0 on a device.
        let off = if penalized { 3.0 * last_place * size + f64::from(f32::MIN_POSITIVE) } else { 0.0 };
        let ahead = score - second - off;
        let certain = if self.greedy() {
            // Without a penalty the device's order is exact, and of equal ones it takes the lowest id.
            ahead > 0.0 || !penalized
        } else {
            // If the quotient overflows, it is infinitely far ahead of any that does not, and greedy is what `sample` is then.
            ahead - 2.0 * last_place * size > 105.0 * f64::from(p.temperature as f32)
        };
        if certain && self.params.do_sample {
            self.random.next();
        }
        certain.then_some(best.id)
    }

    /// The id that [`Sampler::sample`] would give for the logits of which these are the highest, with −∞ for the ids that are not in
    /// `mask` if there is one, or `None` if they do not tell. Takes as many random numbers as it in the one case, none in the other.
    ///
    /// # Errors
    /// As for [`Sampler::probabilities`].
    pub fn pick(&mut self, few: &Few, mask: Option<&[u32]>, history: &[u32]) -> Result<Option<u32>> {
        if !self.lowers() {
            return Ok(None);
        }
        let mut scores = few.logits.clone();
        check(&scores)?;
        scores.sort_unstable_by_key(|&(id, _)| id);
        if let Some(mask) = mask {
            scores.iter_mut().filter(|(id, _)| !has(mask, *id)).for_each(|(_, score)| *score = f32::NEG_INFINITY);
        }
        self.penalize(&mut scores, history);
        let best = scores[argmax(&scores)];
        let rest = few.rest.unwrap_or(f32::NEG_INFINITY);
        // No step raises a score, so what is not listed is at most `rest`. One that equals it may have a lower id.
        if best.1 <= rest || best.1 == f32::NEG_INFINITY {
            return Ok(None);
        }
        let temperature = self.params.temperature as f32;
        let k = self.params.top_k;
        let told = if self.greedy() || few.rest.is_none() || (best.1 / temperature).is_infinite() {
            true
        } else {
            // Quotients keep the order of scores. First whether the best is alone, as in `decide`, here by the same arithmetic.
            let others = scores.iter().filter(|(id, _)| *id != best.0).fold(rest, |most, (_, score)| most.max(*score));
            if others / temperature - best.1 / temperature < VANISHES {
                return Ok(Some(self.draw(&[(best.0, 1.0)])));
            }
            // If the k-th is above all that is not listed, then the same ids are kept as of all.
            let above = |score: f32| score / temperature > rest / temperature;
            k > 0 && scores.iter().filter(|(_, score)| above(*score)).count() >= k
        };
        Ok(told.then(|| {
            let choices = self.distribution(&scores, best);
            self.draw(&choices)
        }))
    }

    /// The scores of the tokenizer's ids, after the penalties.
    ///
    /// # Errors
    /// As for [`Sampler::probabilities`].
    pub(super) fn penalized(&self, logits: &[f32], history: &[u32]) -> Result<Vec<(u32, f32)>> {
        let used = logits.len().min(self.vocab).min(u32::MAX as usize);
        let mut scores: Vec<(u32, f32)> = (0..).zip(logits[..used].iter().copied()).collect();
        if scores.is_empty() {
            return Err(Error::invalid("logits", "at least one", format!("{}", logits.len())));
        }
        check(&scores)?;
        self.penalize(&mut scores, history);
        Ok(scores)
    }

    /// Applies bias and penalties to scores that are sorted by id, of all ids or of some.
    fn penalize(&self, scores: &mut [(u32, f32)], history: &[u32]) {
        let all = scores.last().is_some_and(|(id, _)| *id as usize + 1 == scores.len());
        let place = |scores: &[(u32, f32)], id: u32| match all {
            true => Some(id as usize).filter(|place| *place < scores.len()),
            false => scores.binary_search_by_key(&id, |&(id, _)| id).ok(),
        };
        let p = &self.params;
        for &(id, bias) in &p.logit_bias {
            if let Some(place) = place(scores, id) {
                scores[place].1 += bias;
            }
        }
        if p.repetition_penalty != 1.0 {
            let penalty = p.repetition_penalty as f32;
            let mut seen = vec![false; scores.len()];
            for &id in history {
                let Some(place) = place(scores, id) else { continue };
                if !std::mem::replace(&mut seen[place], true) {
                    let score = &mut scores[place].1;
                    *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
                }
            }
        }
        if p.presence_penalty != 0.0 || p.frequency_penalty != 0.0 {
            let mut counts = vec![0u32; scores.len()];
            for &id in history.get(self.prompt..).unwrap_or_default() {
                if let Some(place) = place(scores, id) {
                    counts[place] += 1;
                }
            }
            let (presence, frequency) = (p.presence_penalty as f32, p.frequency_penalty as f32);
            for ((_, score), &count) in scores.iter_mut().zip(&counts).filter(|(_, count)| **count > 0) {
                *score -= frequency * count as f32;
                *score -= presence;
            }
        }
        // A tiny divisor or a huge negative penalty can overflow to infinity. Keep the scores finite, so that they compare.
        scores.iter_mut().for_each(|(_, s)| *s = s.min(f32::MAX));
    }
}

/// Up to this temperature the best id is nearly always the only one with a probability above 0.
const NEARLY_GREEDY: f64 = 0.01;
/// A score so far below the best one, both divided by the temperature, has probability 0: e^-104 is less than half of the smallest
/// f32.
const VANISHES: f32 = -104.0;

/// What the choice of a token needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// The best id after the repetition penalty, and how far it is ahead: [`Sampler::decide`]. Now and then more.
    Best,
    /// The highest logits: [`Sampler::pick`]. Now and then all.
    Few,
    /// All logits: [`Sampler::sample`].
    All,
}

fn check(scores: &[(u32, f32)]) -> Result<()> {
    match scores.iter().find(|(_, score)| score.is_nan() || *score == f32::INFINITY) {
        Some((id, score)) => Err(Error::Gpu { message: format!("the logit of id {id} is {score}") }),
        None => Ok(()),
    }
}

/// The k-th largest of more than k scores.
fn largest(scores: &[(u32, f32)], k: usize) -> f32 {
    let mut values: Vec<f32> = scores.iter().map(|&(_, score)| score).collect();
    *values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// The log-probability of an id, and the likeliest ids at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// The id.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest ids at this place, the likeliest first; of equal ones the lower id first.
    pub top: Vec<(u32, f64)>,
}

/// The log-softmax, in f64, of an unchanged row of logits: for `id` and for the `top` largest ids below `vocab`. Logits beyond
/// the tokenizer count in the sum, as in transformers.
///
/// # Errors
/// [`Error::Gpu`] if a logit is NaN, [`Error::Invalid`] for an id beyond the row.
pub fn logprobs(logits: &[f32], vocab: usize, id: u32, top: usize) -> Result<Logprob> {
    let Some(&own) = logits.get(id as usize) else {
        return Err(Error::invalid("id", format!("below {}", logits.len()), id.to_string()));
    };
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &score| most.max(score));
    let sum: f64 = logits.iter().map(|&score| (f64::from(score) - f64::from(most)).exp()).sum();
    if !sum.is_finite() {
        return Err(Error::Gpu { message: "a logit is not a number".to_owned() });
    }
    let log = |score: f32| f64::from(score) - f64::from(most) - sum.ln();
    let mut ids: Vec<u32> = (0..logits.len().min(vocab).min(u32::MAX as usize) as u32).collect();
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let top = top.min(ids.len());
    if top > 0 && top < ids.len() {
        ids.select_nth_unstable_by(top - 1, order);
    }
    ids.truncate(top);
    ids.sort_unstable_by(order);
    Ok(Logprob { id, logprob: log(own), top: ids.into_iter().map(|id| (id, log(logits[id as usize]))).collect() })
}

/// The place of the lowest id with the largest score. `scores` is not empty, is sorted by id and has no NaN.
fn argmax(scores: &[(u32, f32)]) -> usize {
    let (mut best, mut at) = (f32::NEG_INFINITY, 0);
    for (place, &(_, score)) in scores.iter().enumerate() {
        if score > best {
            (best, at) = (score, place);
        }
    }
    at
}

/// exp(score − largest) as f64, in the order of `kept`, and their sum. Values that would be 0 in f32 are 0.
fn exponentials(kept: &[(u32, f32)]) -> (Vec<f64>, f64) {
    let most = kept.iter().fold(f32::NEG_INFINITY, |m, &(_, s)| m.max(s));
    let exp = |&(_, s): &(u32, f32)| {
        let d = s - most;
        if d < VANISHES { 0.0 } else { f64::from(d).exp() }
    };
    let values: Vec<f64> = kept.iter().map(exp).collect();
    let sum = values.iter().sum();
    (values, sum)
}

fn softmax(kept: &[(u32, f32)]) -> Vec<f32> {
    let (values, sum) = exponentials(kept);
    values.into_iter().map(|v| (v / sum) as f32).collect()
}

/// `TopPLogitsWarper`, without sorting everything: scores that are so improbable that even their sum is below the threshold are
/// dropped at once, and the sum of the others starts with theirs.
fn top_p(kept: &mut Vec<(u32, f32)>, top_p: f64) {
    let threshold = (1.0 - top_p) as f32;
    let probabilities = softmax(kept);
    let small = f64::from(threshold) / (2.0 * kept.len() as f64);
    let mut sum = 0.0f64;
    let mut large = Vec::new();
    for (place, &p) in probabilities.iter().enumerate() {
        if f64::from(p) < small { sum += f64::from(p) } else { large.push(place) }
    }
    // The list is ascending by id, so a stable sort leaves equal scores in the order of their ids. torch's stable sort does
    // the same, but transformers does not request it, so there the order depends on the processor.
    large.sort_by(|&a, &b| kept[a].1.partial_cmp(&kept[b].1).unwrap_or(std::cmp::Ordering::Equal));
    let mut keep = vec![false; kept.len()];
    for &place in &large {
        // torch accumulates in f64 on the CPU and compares in f32.
        sum += f64::from(probabilities[place]);
        keep[place] = sum as f32 > threshold;
    }
    if let Some(&best) = large.last() {
        keep[best] = true;
    }
    let mut each = keep.into_iter();
    kept.retain(|_| each.next().unwrap_or(false));
}

#[cfg(test)]
mod tests;
