//! Chooses the frames of a video and their size, by the rules of qwen-vl-utils 0.0.14 and within a budget of tokens.

use super::{Times, Track, VideoOptions, VideoPlan};
use crate::error::{Error, Result};
use crate::image::{MAX_PIXELS, PreprocessorConfig};

/// Frames per second that the model sees unless the caller says otherwise (`FPS`).
const FPS: f64 = 2.0;
/// Numbers of frames are multiples of this (`FRAME_FACTOR`).
const FRAME_FACTOR: usize = 2;
/// Fewest frames (`FPS_MIN_FRAMES`).
const MIN_FRAMES: usize = 4;
/// Most frames (`FPS_MAX_FRAMES`).
const MAX_FRAMES: usize = 768;
/// Fewest and most tokens of one frame (`VIDEO_MIN_TOKEN_NUM`, `VIDEO_MAX_TOKEN_NUM`).
const FRAME_TOKENS: (f64, f64) = (128.0, 768.0);
/// Fewest and most tokens of a size that the caller asks for (`IMAGE_MIN_TOKEN_NUM`, `IMAGE_MAX_TOKEN_NUM`).
const WISHED_TOKENS: (f64, f64) = (4.0, 16384.0);
/// Nine tenths of this are the most tokens of all pairs of frames (`MODEL_SEQ_LEN`).
const SEQUENCE: f64 = 128_000.0;
/// The most frames that a plan has, whatever the options say.
pub const MOST_FRAMES: usize = 4096;
/// The most bytes of RGB that the frames of a plan take.
const MOST_BYTES: usize = 1 << 30;

/// A range of frames of the track: the first and the last one.
type Span = (usize, usize);

/// The default for the fewest and most pixels of a frame, for tokens of `factor`² pixels.
pub fn frame_pixels(factor: u32) -> [u64; 2] {
    [FRAME_TOKENS.0, FRAME_TOKENS.1].map(|tokens| (tokens * f64::from(factor).powi(2)) as u64)
}

/// Chooses which frames of `track` the model sees, and their size.
///
/// If the frames have equal distances in time, frames and sizes are exactly those of qwen-vl-utils: `smart_nframes`, the range
/// of `video_start` and `video_end`, torch's `linspace` in f32 rounded half to even, `sample_fps`, the limits of `fetch_video`
/// and its `smart_resize`. Otherwise the same rules are applied to seconds: the plan takes the frames nearest to moments at
/// equal distances.
///
/// `most_tokens` is the number of tokens that are left in the context. If the plan would take more, the frames are made
/// smaller, down to `min_pixels`, and then fewer, down to `min_frames`, still at equal distances from the first to the last.
/// [`VideoPlan::decisions`] reports both.
///
/// # Errors
/// [`Error::ContextOverflow`]: even the fewest frames at their smallest size take more than `most_tokens`.
/// [`Error::Invalid`]: options that contradict each other or the track, a track without frames or with times that
/// descend. [`Error::AspectRatio`]: one side is more than 200 times the other.
pub fn plan(
    track: &Track,
    options: &VideoOptions,
    config: &PreprocessorConfig,
    most_tokens: usize,
) -> Result<VideoPlan> {
    check(track, options)?;
    let factor = config.factor()?;
    let depth = config.temporal_patch_size;
    if depth == 0 {
        return Err(Error::invalid("preprocessor configuration", "a positive temporal_patch_size", "0"));
    }
    let mut decisions = Vec::new();
    let (span, fps) = range(track, options)?;
    let total = span.1 - span.0 + 1;
    // A measured rate is not a round number, so allow for small deviations.
    let slack = if matches!(track.times, Times::Each(_)) { 0.01 } else { 0.0 };
    let wanted = if options.every_frame { total } else { nframes(options, total, fps, slack)? };
    let mut frames = wanted.min(MOST_FRAMES);
    let lowest =
        options.min_frames.unwrap_or(MIN_FRAMES).div_ceil(FRAME_FACTOR).saturating_mul(FRAME_FACTOR).min(frames).max(1);

    let mut size = size(track, options, factor, frames, &mut decisions)?;
    // The frames must fit into memory too, however long the context is.
    let pixel_bytes = (factor as usize).saturating_pow(2).saturating_mul(depth).saturating_mul(3).max(1);
    let most = most_tokens.min(MOST_BYTES / pixel_bytes);
    let tokens = |frames: usize, size: Size| frames.div_ceil(depth).saturating_mul(size.cells(factor));
    let first = (frames, size, tokens(frames, size));
    if first.2 > most {
        let smallest = size.min(size.of_track(track, options).shrunk(factor, least_tokens(options, factor)), factor);
        let cells = smallest.cells(factor);
        if most / cells < frames.div_ceil(depth) {
            frames = (most / cells).saturating_mul(depth) / FRAME_FACTOR * FRAME_FACTOR;
            if frames < lowest {
                return Err(Error::ContextOverflow { needed: tokens(lowest, smallest), limit: most });
            }
            size = self::size(track, options, factor, frames, &mut Vec::new())?;
        }
        let share = most / frames.div_ceil(depth);
        if size.cells(factor) > share {
            size = size.min(size.of_track(track, options).shrunk(factor, share), factor);
        }
    }
    let taken = tokens(frames, size);
    debug_assert!(taken <= most);
    if wanted > first.0 {
        decisions.push(format!("{} frames instead of {wanted}: this is the most that a video may have.", first.0));
    }
    if first.2 > most {
        let why =
            format!("{} frames of {} pixels would take {} tokens, and {most} are left", first.0, first.1, first.2);
        if size != first.1 {
            decisions.push(format!("Frames of {size} instead of {} pixels: {why}.", first.1));
        }
        if frames != first.0 {
            decisions.push(format!("{frames} frames instead of {}: {why}.", first.0));
        }
    }

    let indices = match &track.times {
        Times::Even { .. } => by_number(span, frames),
        Times::Each(_) if frames == total => (span.0..=span.1).collect(),
        Times::Each(times) => by_time(times, span, frames),
    };
    let times = indices.iter().filter_map(|&index| track.times.of(index)).collect();
    let sample_fps = frames as f64 / total as f64 * fps;
    Ok(VideoPlan { indices, times, sample_fps, width: size.width, height: size.height, tokens: taken, decisions })
}

/// Refuses invalid tracks and options, so that the rules below need not consider them.
fn check(track: &Track, o: &VideoOptions) -> Result<()> {
    if track.width == 0 || track.height == 0 {
        let found = format!("{}×{}", track.width, track.height);
        return Err(Error::invalid("size of a video", "a width and height of at least 1", found));
    }
    match &track.times {
        times if times.is_empty() => return Err(Error::invalid("frames of a video", "at least one", "none")),
        Times::Even { fps, .. } if !(fps.is_finite() && *fps > 0.0) => {
            return Err(Error::invalid("frames per second of a video", "a positive number", fps.to_string()));
        }
        Times::Even { .. } => {}
        Times::Each(times) => {
            let wrong = times
                .iter()
                .find(|t| !t.is_finite())
                .or(times.windows(2).find(|pair| pair[0] > pair[1]).map(|pair| &pair[1]));
            if let Some(wrong) = wrong {
                return Err(Error::invalid("times of a video", "seconds in ascending order", wrong.to_string()));
            }
        }
    }
    if o.fps.is_some() && o.nframes.is_some() {
        return Err(Error::invalid("fps and nframes", "one of them", "both"));
    }
    if let Some(fps) = o.fps.filter(|fps| !(fps.is_finite() && *fps > 0.0)) {
        return Err(Error::invalid("fps", "a positive number", fps.to_string()));
    }
    for (name, value) in [("video_start", o.video_start), ("video_end", o.video_end)] {
        if let Some(value) = value.filter(|v| !v.is_finite()) {
            return Err(Error::invalid(name, "seconds", value.to_string()));
        }
    }
    if o.resized_height.is_some() != o.resized_width.is_some() {
        let found = format!("resized_height {:?}, resized_width {:?}", o.resized_height, o.resized_width);
        return Err(Error::invalid("resized_height and resized_width", "both or neither", found));
    }
    Ok(())
}

/// The range of frames between `video_start` and `video_end` (`calculate_video_frame_range`), and the frames per second.
fn range(track: &Track, o: &VideoOptions) -> Result<(Span, f64)> {
    let total = track.times.len();
    let all = (0, total - 1);
    let (start, end) = if o.every_frame { (None, None) } else { (o.video_start, o.video_end) };
    let (first, last, seconds) = match &track.times {
        Times::Even { fps, .. } => {
            let seconds = total as f64 / fps;
            let clamped = |t: f64| t.min(seconds).max(0.0) * fps;
            let first = start.map_or(all.0, |t| clamped(t).ceil() as usize);
            let last = end.map_or(all.1, |t| (clamped(t).floor() as usize).min(all.1));
            (first, last, seconds)
        }
        Times::Each(times) => {
            let first = start.map_or(all.0, |start| times.partition_point(|t| *t < start));
            // If no frame is at or before the end, set the last frame before the first one; the range is refused below.
            let behind = end.map_or(total, |end| times.partition_point(|t| *t <= end));
            if behind == 0 { (1, 0, times[all.1]) } else { (first, behind - 1, times[all.1]) }
        }
    };
    if (start.is_some() || end.is_some()) && first >= last {
        let expected = format!("a range of at least two of the {total} frames in {seconds:.3} seconds");
        let found = format!("{} to {}", start.unwrap_or(0.0), end.unwrap_or(seconds));
        return Err(Error::invalid("video_start and video_end", expected, found));
    }
    let fps = match &track.times {
        Times::Even { fps, .. } => *fps,
        // Assume that the last frame is shown for as long as the others on average.
        Times::Each(times) if last > first => (last - first) as f64 / (times[last] - times[first]),
        Times::Each(_) => 1.0,
    };
    if !fps.is_finite() {
        return Err(Error::invalid("times of a video", "seconds in ascending order", "the same time for all frames"));
    }
    Ok(((first, last), fps))
}

/// The number of frames, by `smart_nframes`. A video of one frame, which that function refuses, has one.
fn nframes(o: &VideoOptions, total: usize, fps: f64, slack: f64) -> Result<usize> {
    let floor = |n: f64| (n / FRAME_FACTOR as f64).floor() * FRAME_FACTOR as f64;
    let ceil = |n: usize| (n as f64 / FRAME_FACTOR as f64).ceil() * FRAME_FACTOR as f64;
    if total == 1 && o.nframes.is_none_or(|n| n == 1) {
        return Ok(1);
    }
    let n = match o.nframes {
        Some(n) => (n as f64 / FRAME_FACTOR as f64).round_ties_even() * FRAME_FACTOR as f64,
        None => {
            let least = ceil(o.min_frames.unwrap_or(MIN_FRAMES));
            let most = floor(o.max_frames.unwrap_or(MAX_FRAMES.min(total)) as f64);
            let n = total as f64 / fps * o.fps.unwrap_or(FPS) + slack;
            floor(n.max(least).min(most).min(total as f64))
        }
    };
    if n < FRAME_FACTOR as f64 || n > total as f64 {
        let what = if o.nframes.is_some() { "nframes" } else { "frames of a video" };
        return Err(Error::invalid(
            what,
            format!("{FRAME_FACTOR} to {total}, the number of frames in the video"),
            n.to_string(),
        ));
    }
    Ok(n as usize)
}

/// `torch.linspace(first, last, frames).round()`: steps in f32 from both ends, with fused multiplication and addition,
/// rounded half to even.
fn by_number((first, last): Span, frames: usize) -> Vec<usize> {
    let (start, end) = (first as f32, last as f32);
    let step = (end - start) / (frames.max(2) - 1) as f32;
    let at = |i: usize| match i {
        _ if frames == 1 => start,
        i if i < frames / 2 => step.mul_add(i as f32, start),
        i => (-step).mul_add((frames - 1 - i) as f32, end),
    };
    // f32 cannot represent all indices above 2^24. Below that, the clamping changes nothing.
    let mut next = first;
    let mut index = |i: usize| {
        let index = (at(i).round_ties_even() as usize).min(last - (frames - 1 - i)).max(next);
        next = index + 1;
        index
    };
    (0..frames).map(&mut index).collect()
}

/// The frames that are nearest to moments at equal distances.
fn by_time(times: &[f64], (first, last): Span, frames: usize) -> Vec<usize> {
    let (start, end) = (times[first], times[last]);
    let index = |i: usize| {
        let moment = start + (end - start) * (i as f64 / (frames.max(2) - 1) as f64);
        let after = times.partition_point(|t| *t <= moment).clamp(first + 1, last);
        let (before, gap) = (times[after - 1], times[after] - times[after - 1]);
        let part = if gap > 0.0 { ((moment - before) / gap).clamp(0.0, 1.0) } else { 0.0 };
        // If the moment is in the middle between two frames (but for rounding), take the even one, as for even times.
        let part = if (part - 0.5).abs() < 1e-6 { 0.5 } else { part };
        ((after - 1) as f64 + part).round_ties_even() as usize
    };
    (0..frames).map(index).collect()
}

/// The size of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size {
    width: u32,
    height: u32,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

impl Size {
    /// Tokens of a pair of frames.
    fn cells(self, factor: u32) -> usize {
        (self.width / factor) as usize * (self.height / factor) as usize
    }

    /// The size from which the sides are derived: the one that the caller asks for, or that of the track.
    fn of_track(self, track: &Track, o: &VideoOptions) -> Self {
        match (o.resized_height, o.resized_width) {
            (Some(height), Some(width)) => Size { width, height },
            _ => Size { width: track.width, height: track.height },
        }
    }

    /// The smaller of two sizes.
    fn min(self, other: Self, factor: u32) -> Self {
        if other.cells(factor) < self.cells(factor) { other } else { self }
    }

    /// The size of this aspect ratio that takes at most `tokens` (at least 1): the branch of `smart_resize` that rounds down.
    fn shrunk(self, factor: u32, tokens: usize) -> Self {
        let tokens = tokens.max(1);
        let (w, h, f) = (f64::from(self.width), f64::from(self.height), f64::from(factor));
        let beta = (w * h / (tokens as f64 * f * f)).sqrt();
        let cells = |side: f64| ((side / beta / f).floor() as usize).max(1);
        let (mut across, mut down) = (cells(w), cells(h));
        // The short side of a thin frame has at least one token, so the long side must be shorter.
        if across >= down {
            across = across.min((tokens / down).max(1));
        }
        down = down.min((tokens / across).max(1));
        Size { width: across as u32 * factor, height: down as u32 * factor }
    }
}

/// Tokens of the smallest frame that a plan may have.
fn least_tokens(o: &VideoOptions, factor: u32) -> usize {
    let token = u64::from(factor).pow(2);
    o.min_pixels.map_or(FRAME_TOKENS.0 as usize, |pixels| (pixels / token) as usize).max(1)
}

/// The size of each of `frames` frames, by the last part of `fetch_video`.
fn size(track: &Track, o: &VideoOptions, factor: u32, frames: usize, told: &mut Vec<String>) -> Result<Size> {
    let token = f64::from(factor).powi(2);
    if let (Some(height), Some(width)) = (o.resized_height, o.resized_width) {
        return smart_resize(Size { width, height }, factor, WISHED_TOKENS.0 * token, WISHED_TOKENS.1 * token);
    }
    // A list with an odd number of frames is made even before its size is chosen.
    let frames = frames.div_ceil(FRAME_FACTOR) * FRAME_FACTOR;
    let least = o.min_pixels.map_or(FRAME_TOKENS.0 * token, |n| n as f64);
    let total = o.total_pixels.map_or(SEQUENCE * token * 0.9, |n| n as f64);
    let most = (FRAME_TOKENS.1 * token).min(total / frames as f64 * FRAME_FACTOR as f64).max((least * 1.05).trunc());
    let wish = o.max_pixels.map_or(most, |n| n as f64);
    if wish > most {
        let most = most.floor();
        told.push(format!("max_pixels of {most} instead of {wish}: this is the most for one of {frames} frames."));
    }
    smart_resize(Size { width: track.width, height: track.height }, factor, least, wish.min(most))
}

/// `smart_resize` of qwen-vl-utils. It differs from that of [`crate::image`]: limits need not be whole numbers, and a side of 0
/// becomes one token before the limits are applied.
fn smart_resize(size: Size, factor: u32, least: f64, most: f64) -> Result<Size> {
    if most < least {
        let expected = format!("max_pixels of at least min_pixels, {least}");
        return Err(Error::invalid("max_pixels of a video", expected, most.to_string()));
    }
    let Size { width, height } = size;
    let (w, h, f) = (f64::from(width), f64::from(height), f64::from(factor));
    if w.min(h) == 0.0 || w.max(h) / w.min(h) > 200.0 {
        return Err(Error::AspectRatio { width, height });
    }
    let near = |side: f64| ((side / f).round_ties_even() * f).max(f);
    let (mut w_bar, mut h_bar) = (near(w), near(h));
    if w_bar * h_bar > most {
        let beta = (w * h / most).sqrt();
        let floor = |side: f64| ((side / beta / f).floor() * f).max(f);
        (w_bar, h_bar) = (floor(w), floor(h));
    } else if w_bar * h_bar < least {
        let beta = (least / (w * h)).sqrt();
        let ceil = |side: f64| (side * beta / f).ceil() * f;
        (w_bar, h_bar) = (ceil(w), ceil(h));
    }
    if !(w_bar * h_bar >= 1.0 && w_bar * h_bar <= MAX_PIXELS as f64) {
        let expected = format!("limits that lead to 1 to {MAX_PIXELS} pixels");
        let found = format!("{least} and {most}, which make {width}×{height} into {w_bar}×{h_bar}");
        return Err(Error::invalid("min_pixels and max_pixels", expected, found));
    }
    Ok(Size { width: w_bar as u32, height: h_bar as u32 })
}
