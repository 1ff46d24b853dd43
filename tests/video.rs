//! Plans of videos: against qwen-vl-utils (fixture of `tests/golden/goldenlib/video.py`), and what a budget does to them.

use fanlight::Error;
use fanlight::image::PreprocessorConfig;
use fanlight::video::{MOST_FRAMES, Times, Track, VideoOptions, VideoPlan, plan};
use serde_json::Value;

const NO_LIMIT: usize = usize::MAX;

fn config(patch_size: usize) -> PreprocessorConfig {
    PreprocessorConfig { patch_size, ..Default::default() }
}

fn track(frames: usize, fps: f64, height: u32, width: u32) -> Track {
    Track { width, height, times: Times::Even { frames, fps } }
}

fn each(times: impl IntoIterator<Item = f64>) -> Track {
    Track { width: 640, height: 480, times: Times::Each(times.into_iter().collect()) }
}

/// A float to the last bit: `serde_json` may be one off.
fn float(text: &Value) -> f64 {
    text.as_str().unwrap().parse().unwrap()
}

/// Everything of a plan that does not depend on what was said of it.
fn numbers(plan: &VideoPlan) -> (&[usize], f64, u32, u32) {
    (&plan.indices, plan.sample_fps, plan.height, plan.width)
}

#[test]
fn plans_are_those_of_qwen_vl_utils() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/video.json");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut same, mut refused) = (0, 0);
    for row in &rows {
        let number = |i: usize| row[i].as_u64().unwrap();
        let (frames, fps) = (number(0) as usize, float(&row[1]));
        let options = VideoOptions::from_json(&row[5], "").unwrap();
        let config = config(number(4) as usize);
        let track = track(frames, fps, number(2) as u32, number(3) as u32);
        let got = plan(&track, &options, &config, NO_LIMIT);
        let what = format!("{frames} frames of {fps} per second, {}×{}, {}", row[3], row[2], row[5]);
        match &row[6] {
            // The package refuses a video of one frame; here it is one picture.
            Value::Null if frames == 1 => {}
            Value::Null => {
                assert!(got.is_err(), "{what}: {got:?}");
                refused += 1;
            }
            Value::Array(expected) => {
                let got = got.unwrap_or_else(|e| panic!("{what}: {e}"));
                let indices: Vec<usize> = serde_json::from_value(expected[0].clone()).unwrap();
                let sample_fps = float(&expected[1]);
                let (height, width) = (expected[2].as_u64().unwrap() as u32, expected[3].as_u64().unwrap() as u32);
                if indices.len() * (height * width) as usize * 3 > 1 << 30 {
                    assert!(got.indices.len() * (got.height * got.width) as usize * 3 <= 1 << 30, "{what}");
                    continue;
                }
                assert_eq!(numbers(&got), (&*indices, sample_fps, height, width), "{what}");
                let factor = config.factor().unwrap();
                let tokens = indices.len() / 2 * (height / factor * (width / factor)) as usize;
                assert_eq!(got.tokens, tokens, "{what}");
                let times: Vec<f64> = indices.iter().map(|i| *i as f64 / fps).collect();
                assert_eq!(got.times, times, "{what}");
                same += 1;
            }
            other => panic!("a row with {other}"),
        }
    }
    assert!(same > 300 && refused > 10, "{same} and {refused} rows");
}

#[test]
fn even_times_are_sampled_alike_whether_numbered_or_timed() {
    for (frames, fps) in [(300, 30.0), (250, 25.0), (2, 10.0), (101, 30.0), (1001, 24000.0 / 1001.0), (48, 6.0)] {
        let rates = [0.5, 1.0, 2.0, 4.0].map(|fps| VideoOptions { fps: Some(fps), ..Default::default() });
        let numbers = [2, 4, 10, 26, 96].map(|n| VideoOptions { nframes: Some(n), ..Default::default() });
        for options in rates.into_iter().chain(numbers) {
            let numbered = track(frames, fps, 480, 640);
            let timed = each((0..frames).map(|i| i as f64 / fps));
            let (a, b) =
                (plan(&numbered, &options, &config(14), NO_LIMIT), plan(&timed, &options, &config(14), NO_LIMIT));
            match (a, b) {
                (Ok(a), Ok(b)) => {
                    assert_eq!(a.indices, b.indices, "{options:?} of {frames} at {fps}");
                    assert!((a.sample_fps - b.sample_fps).abs() < 1e-9 * a.sample_fps);
                }
                (a, b) => {
                    assert!(a.is_err() && b.is_err() && options.nframes > Some(frames), "{options:?}: {a:?} {b:?}")
                }
            }
        }
    }
}

#[test]
fn uneven_times_are_sampled_by_time() {
    // Two seconds of 30 frames each, then 8 seconds of one frame each: 68 frames in 9 seconds.
    let times: Vec<f64> = (0..60).map(|i| f64::from(i) / 30.0).chain((2..10).map(f64::from)).collect();
    let options = VideoOptions { nframes: Some(10), ..Default::default() };
    let got = plan(&each(times.clone()), &options, &config(14), NO_LIMIT).unwrap();
    assert_eq!(got.times, (0..10).map(f64::from).collect::<Vec<_>>(), "one a second");
    assert_eq!(got.indices, [0, 30, 60, 61, 62, 63, 64, 65, 66, 67]);
    assert!((got.sample_fps - 10.0 / 68.0 * 67.0 / 9.0).abs() < 1e-12);

    // Where nothing happens for long, the frame that is next stands for every moment.
    let got = plan(
        &each([0.0, 0.1, 0.2, 0.3, 0.4, 10.0]),
        &VideoOptions { nframes: Some(6), ..options },
        &config(14),
        NO_LIMIT,
    );
    assert_eq!(got.unwrap().indices, [0, 1, 2, 3, 4, 5], "all that there are");
    let options = VideoOptions { nframes: Some(4), ..Default::default() };
    let got = plan(&each([0.0, 0.1, 0.2, 0.3, 0.4, 10.0]), &options, &config(14), NO_LIMIT).unwrap();
    assert_eq!(got.indices, [0, 4, 5, 5]);

    // A range in the track's own seconds.
    let options = VideoOptions { video_start: Some(0.5), video_end: Some(3.5), ..Default::default() };
    let got = plan(&each(times), &options, &config(14), NO_LIMIT).unwrap();
    assert_eq!((got.times[0], *got.times.last().unwrap()), (0.5, 3.0));
}

#[test]
fn a_list_keeps_every_picture() {
    let options = VideoOptions { every_frame: true, ..Default::default() };
    for frames in [1, 2, 3, 5, 768, 1001] {
        let got = plan(&track(frames, 2.0, 90, 160), &options, &config(14), NO_LIMIT).unwrap();
        assert_eq!(got.indices, (0..frames).collect::<Vec<_>>());
        assert_eq!(got.sample_fps, 2.0);
        assert_eq!(got.tokens, frames.div_ceil(2) * (got.width / 28 * (got.height / 28)) as usize);
        // As large as frames of a video of the next even number.
        if frames > 1 {
            let even = frames.next_multiple_of(2);
            let options = VideoOptions { nframes: Some(even), ..Default::default() };
            let of_video = plan(&track(even, 2.0, 90, 160), &options, &config(14), NO_LIMIT).unwrap();
            assert_eq!((got.width, got.height), (of_video.width, of_video.height));
        }
    }
    // The budget alone thins it out, and says so.
    let got = plan(&track(101, 2.0, 480, 640), &options, &config(14), 11 * 128).unwrap();
    assert_eq!((got.indices.len() % 2, got.indices[0], *got.indices.last().unwrap()), (0, 0, 100));
    assert_eq!(got.decisions.len(), 2, "{:?}", got.decisions);
}

#[test]
fn an_hour_fits_every_context() {
    let hour = track(108_000, 30.0, 1080, 1920);
    let free = plan(&hour, &VideoOptions::default(), &config(14), NO_LIMIT).unwrap();
    assert_eq!((free.indices.len(), free.decisions.len()), (768, 0));
    let mut before = free.tokens + 1;
    for budget in [free.tokens, 64_000, 32_000, 8_000, 1_000, 256] {
        let got = plan(&hour, &VideoOptions::default(), &config(14), budget).unwrap();
        assert!(got.tokens <= budget && got.tokens < before, "{budget}: {}", got.tokens);
        assert!(got.tokens * 10 > budget * 8, "{budget} tokens, of which {} are used", got.tokens);
        assert_eq!((got.indices[0], *got.indices.last().unwrap()), (0, 107_999));
        before = got.tokens;
    }
    // Pixels first: no frame goes while pixels can.
    let got = plan(&hour, &VideoOptions::default(), &config(14), 64_000).unwrap();
    assert_eq!((got.indices.len(), got.decisions.len()), (768, 1), "{:?}", got.decisions);
    let got = plan(&hour, &VideoOptions::default(), &config(14), 32_000).unwrap();
    assert_eq!(got.decisions.len(), 2, "{:?}", got.decisions);
    assert!(got.width / 28 * (got.height / 28) > 110 && got.indices.len() > 480, "{got:?}");
}

#[test]
fn a_budget_for_nothing_says_what_it_would_take() {
    let hour = track(108_000, 30.0, 1080, 1920);
    let (options, config) = (VideoOptions::default(), config(14));
    let Err(Error::ContextOverflow { needed, limit: 100 }) = plan(&hour, &options, &config, 100) else { panic!() };
    assert_eq!(plan(&hour, &options, &config, needed).unwrap().indices.len(), 4);
    assert!(plan(&hour, &options, &config, needed - 1).is_err());
    assert!(plan(&hour, &options, &config, 0).is_err());
    // Two frames where there are no four.
    let short = track(2, 30.0, 1080, 1920);
    let Err(Error::ContextOverflow { needed: two, .. }) = plan(&short, &options, &config, 0) else { panic!() };
    assert_eq!(two * 2, needed);
    // The caller's own least counts.
    let options = VideoOptions { min_frames: Some(9), min_pixels: Some(50 * 784), ..options };
    let Err(Error::ContextOverflow { needed, .. }) = plan(&hour, &options, &config, 10) else { panic!() };
    assert!((5 * 40..=5 * 50).contains(&needed), "{needed}");
    assert_eq!(plan(&hour, &options, &config, needed).unwrap().indices.len(), 10);
}

#[test]
fn memory_bounds_what_the_context_does_not() {
    let day = track(5_184_000, 60.0, 1080, 1920);
    let options = VideoOptions {
        fps: Some(60.0),
        max_frames: Some(10_000_000),
        min_pixels: Some(16 * 784),
        ..Default::default()
    };
    let got = plan(&day, &options, &config(14), NO_LIMIT).unwrap();
    assert_eq!(got.indices.len(), MOST_FRAMES);
    assert!(got.decisions[0].contains("4096 frames"), "{:?}", got.decisions);
    let large = VideoOptions { resized_height: Some(3000), resized_width: Some(4000), ..Default::default() };
    let got = plan(&day, &large, &config(14), NO_LIMIT).unwrap();
    assert!(got.indices.len() * (got.width * got.height) as usize * 3 <= 1 << 30, "{got:?}");
}

#[test]
fn what_is_off_is_refused() {
    let fine = track(300, 30.0, 480, 640);
    let o = VideoOptions::default;
    for (track, options) in [
        (track(0, 30.0, 480, 640), o()),
        (track(300, 0.0, 480, 640), o()),
        (track(300, f64::NAN, 480, 640), o()),
        (track(300, 30.0, 0, 640), o()),
        (each([]), o()),
        (each([0.0, 2.0, 1.0]), o()),
        (each([0.0, f64::NAN]), o()),
        (each([1.0, 1.0, 1.0]), o()),
        (fine.clone(), VideoOptions { fps: Some(-1.0), ..o() }),
        (fine.clone(), VideoOptions { fps: Some(f64::INFINITY), ..o() }),
        (fine.clone(), VideoOptions { video_end: Some(f64::NAN), ..o() }),
        (fine.clone(), VideoOptions { resized_height: Some(280), ..o() }),
        (fine.clone(), VideoOptions { min_pixels: Some(u64::MAX), ..o() }),
        (each([0.0, 1.0, 2.0]), VideoOptions { video_start: Some(1.5), ..o() }),
        (each([0.0, 1.0, 2.0]), VideoOptions { video_end: Some(-1.0), ..o() }),
    ] {
        let got = plan(&track, &options, &config(14), 10_000);
        assert_eq!(got.as_ref().map_err(Error::code), Err("bad_request"), "{track:?} {options:?}");
    }
    assert_eq!(plan(&track(300, 30.0, 3, 640), &o(), &config(14), 10_000).unwrap_err().code(), "bad_image");
    assert!(plan(&fine, &o(), &PreprocessorConfig { temporal_patch_size: 0, ..config(14) }, 10_000).is_err());
    assert!(plan(&fine, &o(), &config(0), 10_000).is_err());
}

/// xorshift: the same videos on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % (most + 1)
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.roll(2) == 0).then(|| value(self))
    }

    /// From 1, small numbers as often as large ones.
    fn size(&mut self, digits: u64) -> u64 {
        let power = 10u64.pow(self.roll(digits - 1) as u32);
        1 + self.roll(power * 10 - 1)
    }
}

#[test]
fn no_plan_breaks_a_promise() {
    let mut dice = Dice(0x5eed);
    let (mut planned, mut thinned, mut uneven) = (0, 0, 0);
    for round in 0..6000 {
        let d = &mut dice;
        let times = if d.roll(1) == 0 {
            Times::Even { frames: d.size(7) as usize, fps: d.size(5) as f64 / 100.0 }
        } else {
            let mut t = d.roll(100) as f64 / 10.0;
            let step = |d: &mut Dice| {
                t += d.roll(60) as f64 * d.roll(9) as f64 / 1000.0;
                t
            };
            let mut step = step;
            let frames = d.size(3);
            Times::Each((0..frames).map(|_| step(d)).collect())
        };
        let track = Track { width: d.size(4) as u32, height: d.size(4) as u32, times };
        let by_fps = d.roll(1) == 0;
        let mut options = VideoOptions {
            fps: d.maybe(|d| d.size(4) as f64 / 100.0).filter(|_| by_fps),
            nframes: d.maybe(|d| d.size(4) as usize).filter(|_| !by_fps),
            min_frames: d.maybe(|d| d.size(3) as usize),
            max_frames: d.maybe(|d| d.size(7) as usize),
            video_start: d.maybe(|d| d.size(3) as f64 / 7.0),
            video_end: d.maybe(|d| d.size(4) as f64 / 3.0),
            min_pixels: d.maybe(|d| d.size(6)),
            max_pixels: d.maybe(|d| d.size(8)),
            total_pixels: d.maybe(|d| d.size(9)),
            every_frame: d.roll(4) == 0,
            ..Default::default()
        };
        if d.roll(4) == 0 {
            (options.resized_height, options.resized_width) = (Some(d.size(4) as u32), Some(d.size(4) as u32));
        }
        let config = PreprocessorConfig { patch_size: [14, 16, 1][d.roll(2) as usize], ..Default::default() };
        let most = if d.roll(9) == 0 { NO_LIMIT } else { d.size(6) as usize };
        let what = || format!("round {round}: {most} tokens, {options:?}, {}×{}", track.width, track.height);
        let got = match plan(&track, &options, &config, most) {
            Ok(got) => got,
            Err(Error::ContextOverflow { needed, limit }) => {
                assert!(needed > limit, "{}: {needed} of {limit}", what());
                let enough = plan(&track, &options, &config, needed);
                assert!(limit < most || enough.is_ok(), "{}: {enough:?}", what());
                continue;
            }
            Err(Error::Invalid { .. } | Error::AspectRatio { .. }) => continue,
            Err(other) => panic!("{}: {other}", what()),
        };
        let factor = config.factor().unwrap();
        let n = got.indices.len();
        assert!(got.tokens <= most, "{}: {got:?}", what());
        assert!((1..=MOST_FRAMES).contains(&n) && got.times.len() == n, "{}", what());
        assert!(got.width % factor == 0 && got.height % factor == 0 && got.width * got.height > 0, "{}", what());
        assert_eq!(got.tokens, n.div_ceil(2) * (got.width / factor * (got.height / factor)) as usize, "{}", what());
        assert!(got.sample_fps.is_finite() && got.sample_fps > 0.0, "{}", what());
        assert!(got.indices.iter().zip(&got.times).all(|(i, t)| track.times.of(*i) == Some(*t)), "{}: {got:?}", what());
        let even = matches!(track.times, Times::Even { .. });
        let ascend = |pair: &[usize]| pair[0] < pair[1] || (!even && pair[0] == pair[1]);
        assert!(got.indices.windows(2).all(ascend), "{}: {:?}", what(), got.indices);
        if let (true, Some(start)) = (!options.every_frame && !even, options.video_start) {
            assert!(got.times[0] >= start, "{}", what());
        }
        planned += 1;
        uneven += usize::from(!even);
        thinned += usize::from(got.decisions.iter().any(|d| d.contains("frames instead of")));
    }
    assert!(planned > 1000 && thinned > 100 && uneven > 300, "{planned} plans, {thinned} thinned, {uneven} uneven");
}

/// Times as Qwen3-VL is told them, halves to the even digit: `tests/golden/text/timestamps.json`.
#[test]
fn written_times_are_transformers() {
    let file = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text/timestamps.json");
    let rows: Vec<(f64, f64, f64, String)> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(rows.len() >= 20);
    for (first, last, fps, text) in rows {
        let times = fanlight::video::patch_times(&[first / fps, last / fps], 2);
        assert_eq!(fanlight::video::stamp(times[0]), text, "{first} {last} at {fps}");
    }
    // An odd last frame is its patch alone.
    assert_eq!(fanlight::video::patch_times(&[0.0, 0.5, 1.0], 2), [0.25, 1.0]);
}

/// Nobody wants no frame, and no budget divides by it.
#[test]
fn no_frame_at_least_is_one() {
    use fanlight::image::PreprocessorConfig;
    use fanlight::video::{Times, Track, VideoOptions, plan};
    let track = Track { width: 640, height: 480, times: Times::Even { frames: 100, fps: 25.0 } };
    for every_frame in [false, true] {
        let options = VideoOptions { min_frames: Some(0), every_frame, ..VideoOptions::default() };
        for most in [0, 1, 50, 100, 200, 10_000] {
            match plan(&track, &options, &PreprocessorConfig::default(), most) {
                Ok(plan) => assert!(!plan.indices.is_empty() && plan.tokens <= most),
                Err(error) => assert_eq!(error.code(), "context_full"),
            }
        }
    }
}
