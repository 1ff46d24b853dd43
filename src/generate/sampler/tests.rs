use super::*;

fn sampling(edit: impl FnOnce(&mut SamplingParams)) -> Sampler {
    let mut params = SamplingParams { do_sample: true, ..SamplingParams::default() };
    edit(&mut params);
    Sampler::new(params).unwrap()
}

fn ids(sampler: &Sampler, logits: &[f32]) -> Vec<u32> {
    sampler.probabilities(logits, &[]).unwrap().into_iter().map(|(id, _)| id).collect()
}

// The reference implementations' published outputs for these states.
#[test]
fn the_generator_is_the_published_one() {
    let mut random = Random { state: [1, 2, 3, 4] };
    let first: [u64; 4] = std::array::from_fn(|_| random.next());
    assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    // SplitMix64 from 1234567.
    let random = Random::new(1234567);
    let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
    assert_eq!(random.state, expected);
    let mut random = Random::new(0);
    assert!((0..1000).map(|_| random.unit()).all(|u| (0.0..1.0).contains(&u)));
}

#[test]
fn greedy_takes_the_first_of_equals_after_penalties() {
    let mut greedy = Sampler::new(SamplingParams::default()).unwrap();
    assert_eq!(greedy.sample(&[1.0, 3.0, 3.0, -1.0], &[]).unwrap(), 1);
    let penalty = SamplingParams { repetition_penalty: 1.5, ..SamplingParams::default() };
    let mut greedy = Sampler::new(penalty).unwrap();
    // 3 → 2 once, although id 1 occurs twice; −1 → −1.5; ids beyond the logits are ignored.
    assert_eq!(greedy.sample(&[1.9, 3.0, 1.99, -1.0], &[1, 1, 9, u32::MAX]).unwrap(), 1);
    assert_eq!(greedy.sample(&[-1.0, -1.4], &[0]).unwrap(), 1);
    assert_eq!(greedy.sample(&[0.0, -0.1], &[0]).unwrap(), 0);
}

#[test]
fn padding_ids_are_never_chosen() {
    let mut greedy = Sampler::new(SamplingParams::default()).unwrap().with_vocab(2);
    assert_eq!(greedy.sample(&[1.0, 2.0, 9.0], &[]).unwrap(), 1);
    assert_eq!(greedy.sample(&[1.0, 2.0, f32::NAN], &[]).unwrap(), 1);
    assert!(greedy.with_vocab(0).sample(&[1.0], &[]).is_err());
}

#[test]
fn top_k_keeps_ties() {
    assert_eq!(ids(&sampling(|p| p.top_k = 2), &[1.0, 2.0, 3.0, 2.0, 0.0]), [1, 2, 3]);
    assert_eq!(ids(&sampling(|p| p.top_k = 1), &[1.0, 2.0, 3.0, 2.0, 0.0]), [2]);
    assert_eq!(ids(&sampling(|p| p.top_k = 9), &[1.0, 2.0]), [0, 1]);
}

#[test]
fn top_p_drops_from_below() {
    // Probabilities 0.5, 0.25, 0.125, 0.125: exact in f32, sums hit thresholds exactly, and "at most" drops.
    let logits = [4f32.ln(), 2f32.ln(), 0.0, 0.0];
    assert_eq!(ids(&sampling(|p| p.top_p = 0.75), &logits), [0, 1]);
    assert_eq!(ids(&sampling(|p| p.top_p = 0.76), &logits), [0, 1, 3]);
    assert_eq!(ids(&sampling(|p| p.top_p = 0.5), &logits), [0]);
    assert_eq!(ids(&sampling(|p| p.top_p = 0.0), &logits), [0]);
    assert_eq!(ids(&sampling(|p| p.top_p = 1.0), &logits), [0, 1, 2, 3]);
    assert_eq!(ids(&sampling(|p| p.top_p = 0.5), &[0.0, 0.0]), [1], "of equals the lower id goes first");
}

#[test]
fn min_p_is_relative_to_the_best() {
    let logits = [4f32.ln(), 2f32.ln(), 0.0, -1.0];
    assert_eq!(ids(&sampling(|p| p.min_p = Some(0.3)), &logits), [0, 1]);
    assert_eq!(ids(&sampling(|p| p.min_p = Some(1.0)), &logits), [0]);
    assert_eq!(ids(&sampling(|p| p.min_p = Some(0.0)), &logits), [0, 1, 2, 3]);
}

#[test]
fn temperatures() {
    let p = sampling(|p| p.temperature = 0.5).probabilities(&[0.0, 0.5f32.ln()], &[]).unwrap();
    assert!((p[0].1 - 0.8).abs() < 1e-7 && (p[1].1 - 0.2).abs() < 1e-7, "{p:?}");
    // The hub's 1e-6, and what overflows or vanishes in f32, are all greedy.
    for temperature in [1e-6, 1e-38, 1e-44, 1e-60, 0.0] {
        let sampler = sampling(|p| p.temperature = temperature);
        assert_eq!(ids(&sampler, &[1.0, 30.0, 29.5, -4.0]), [1], "{temperature}");
        assert_eq!(ids(&sampler, &[-30.0, -29.5, -4.0]), [2], "{temperature}");
    }
    assert_eq!(ids(&sampling(|p| p.temperature = 1e38), &[1.0, 30.0]), [0, 1]);
}

#[test]
fn presence_and_frequency_count_what_was_generated() {
    let params = SamplingParams { presence_penalty: 0.5, frequency_penalty: 1.0, ..SamplingParams::default() };
    let mut greedy = Sampler::new(params).unwrap().with_prompt(2);
    assert_eq!(greedy.sample(&[3.0, 2.0], &[0, 0]).unwrap(), 0);
    assert_eq!(greedy.sample(&[3.0, 1.4], &[0, 0, 0]).unwrap(), 0);
    assert_eq!(greedy.sample(&[3.0, 1.6], &[0, 0, 0]).unwrap(), 1);
    assert_eq!(greedy.sample(&[3.0, 1.6], &[0]).unwrap(), 0, "a history shorter than the prompt");
}

#[test]
fn a_bias_comes_before_the_penalties() {
    let bias = |logit_bias: Vec<(u32, f32)>| SamplingParams { logit_bias, ..SamplingParams::default() };
    let mut greedy = Sampler::new(bias(vec![(0, -100.0), (9, 5.0)])).unwrap();
    assert_eq!(greedy.sample(&[50.0, 1.0, 0.0], &[]).unwrap(), 1, "banned; an id beyond the logits is nobody's");
    let mut greedy = Sampler::new(bias(vec![(2, 100.0)])).unwrap();
    assert_eq!(greedy.sample(&[50.0, 1.0, 0.0], &[]).unwrap(), 2);
    // (1 − 3) · 2 = −4 against −3: after the penalty it would be 1 / 2 − 3 = −2.5.
    let both = SamplingParams { repetition_penalty: 2.0, ..bias(vec![(0, -3.0)]) };
    assert_eq!(Sampler::new(both).unwrap().sample(&[1.0, -3.0], &[0]).unwrap(), 1);
}

#[test]
fn logprobs_are_of_the_raw_logits() {
    // Probabilities 0.5, 0.25, 0.125, 0.125, the last of an id that no tokenizer has.
    let logits = [4f32.ln(), 2f32.ln(), 0.0, 0.0];
    let found = logprobs(&logits, 3, 1, 20).unwrap();
    assert!((found.logprob - 0.25f64.ln()).abs() < 1e-7);
    assert_eq!(found.top.iter().map(|top| top.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!((found.top[2].1 - 0.125f64.ln()).abs() < 1e-7);
    assert_eq!(logprobs(&logits, 4, 2, 0).unwrap().top, []);
    assert_eq!(logprobs(&[1.0, 3.0, 3.0], 3, 0, 2).unwrap().top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(logprobs(&[f32::NEG_INFINITY, 0.0], 2, 1, 1).unwrap().logprob, 0.0);
    assert!(logprobs(&[1.0, f32::NAN], 2, 0, 0).is_err());
    assert!(logprobs(&[1.0], 1, 1, 0).is_err());
}

#[test]
fn broken_logits_are_errors() {
    for do_sample in [false, true] {
        let sampler = sampling(|p| p.do_sample = do_sample);
        for bad in [&[1.0, f32::NAN][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 3]] {
            assert!(matches!(sampler.probabilities(bad, &[]), Err(Error::Gpu { .. })), "{bad:?}");
        }
        assert!(matches!(sampler.probabilities(&[], &[]), Err(Error::Invalid { .. })));
        assert!(sampler.probabilities(&[f32::NEG_INFINITY, f32::MIN, f32::MAX], &[]).is_ok());
    }
}

#[test]
fn parameters_are_checked() {
    let refuse = |edit: fn(&mut SamplingParams)| {
        let mut params = SamplingParams::default();
        edit(&mut params);
        assert!(matches!(Sampler::new(params.clone()), Err(Error::Invalid { .. })), "{params:?}");
    };
    refuse(|p| p.temperature = -1.0);
    refuse(|p| p.temperature = f64::NAN);
    refuse(|p| p.temperature = 1e300);
    refuse(|p| p.top_p = 1.1);
    refuse(|p| p.top_p = f64::NAN);
    refuse(|p| p.min_p = Some(-0.1));
    refuse(|p| p.repetition_penalty = 0.0);
    refuse(|p| p.repetition_penalty = 1e-60);
    refuse(|p| p.presence_penalty = f64::INFINITY);
    refuse(|p| p.frequency_penalty = f64::NAN);
    refuse(|p| p.frequency_penalty = -2.1);
    refuse(|p| p.logit_bias = vec![(3, 100.5)]);
    refuse(|p| p.logit_bias = vec![(3, f32::NAN)]);
}

#[test]
fn draws_follow_the_probabilities_and_the_seed() {
    let logits = [4f32.ln(), 2f32.ln(), 0.0, 0.0];
    let draw = |seed: u64| {
        let mut sampler = sampling(|p| p.seed = seed);
        (0..4000).map(|_| sampler.sample(&logits, &[]).unwrap()).collect::<Vec<u32>>()
    };
    let drawn = draw(42);
    assert_eq!(drawn, draw(42));
    assert_ne!(drawn, draw(43));
    for (id, p) in [(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.125)] {
        let share = drawn.iter().filter(|&&d| d == id).count() as f64 / 4000.0;
        // Five standard deviations.
        assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / 4000.0f64).sqrt(), "{id}: {share}");
    }
}

#[test]
fn a_whole_vocabulary() {
    let mut random = Random::new(5);
    let logits: Vec<f32> = (0..151_936).map(|_| (random.unit() * 20.0 - 10.0) as f32).collect();
    let sorted = |sampler: &Sampler| {
        let p = sampler.probabilities(&logits, &[1, 2, 3]).unwrap();
        assert!(p.is_sorted_by(|a, b| a.0 < b.0));
        assert!((p.iter().map(|c| f64::from(c.1)).sum::<f64>() - 1.0).abs() < 1e-5);
        p.len()
    };
    assert_eq!(sorted(&sampling(|_| {})), 151_936);
    assert!((50..60).contains(&sorted(&sampling(|p| p.top_k = 50))));
    // Cross-check the shortcut of top-p against the plain rule.
    for share in [0.1, 0.8, 0.999] {
        let mut plain: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        let probabilities = softmax(&plain);
        plain.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut sum = 0.0;
        plain.retain(|&(id, _)| {
            sum += f64::from(probabilities[id as usize]);
            sum as f32 > (1.0 - share) as f32
        });
        assert_eq!(sorted(&sampling(|p| p.top_p = share)), plain.len(), "{share}");
    }
}
