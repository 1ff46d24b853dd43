//! Parses the output of ffprobe. Everything here is pure.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::image::MAX_PIXELS;
use crate::video::Times;

/// Codecs in which every shown packet is exactly one frame, in any container.
const ONE_FRAME_A_PACKET: [&str; 12] =
    ["h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "prores", "ffv1", "gif", "apng", "png", "dnxhd"];
/// Containers in which seeking finds the requested packet.
const INDEXED: [&str; 3] = ["mov", "mp4", "matroska"];

/// A fraction: numerator and denominator.
pub type Ratio = (i64, i64);

/// The video stream of a file.
#[derive(Debug, PartialEq)]
pub struct Stream {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// Length of a tick in seconds.
    pub tick: Ratio,
    /// Frame rates that the file states, the more reliable one first.
    pub rates: Vec<Ratio>,
    /// Whether the frames can be listed by their packets, without decoding.
    pub listed: bool,
    /// Whether reading can start in the middle of the file.
    pub indexed: bool,
}

/// When a frame is shown, in ticks, and whether decoding can start there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    pub pts: i64,
    pub key: bool,
}

fn broken(expected: &str, found: impl Into<String>) -> Error {
    Error::Video { expected: expected.into(), found: found.into() }
}

/// Reads the stream from the JSON output of `-show_entries`.
///
/// # Errors
/// [`Error::Video`]: no video stream, or none of a usable size.
pub fn stream(json: &[u8]) -> Result<Stream> {
    let value: Value =
        serde_json::from_slice(json).map_err(|e| broken("an answer of ffprobe in JSON", e.to_string()))?;
    let Some(stream) = value["streams"].as_array().and_then(|streams| streams.first()) else {
        return Err(broken("a video stream", "none in this file"));
    };
    let side = |name: &str| stream[name].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (width, height) = (side("width"), side("height"));
    if !(1..=MAX_PIXELS).contains(&(u64::from(width) * u64::from(height))) {
        return Err(broken(&format!("1 to {MAX_PIXELS} pixels"), format!("frames of {width}×{height}")));
    }
    let texts = |name: &str| stream[name].as_str().unwrap_or_default();
    let tick = ratio(texts("time_base")).ok_or_else(|| broken("a time base", texts("time_base")))?;
    let rates = ["avg_frame_rate", "r_frame_rate"].into_iter().filter_map(|name| ratio(texts(name))).collect();
    let container = value["format"]["format_name"].as_str().unwrap_or_default();
    // ffmpeg turns frames according to the display matrix. A turn by less than a right angle keeps the frame's size.
    let sides = stream["side_data_list"].as_array().map_or(&[][..], Vec::as_slice);
    let turned = sides.iter().find_map(|side| side["rotation"].as_f64()).unwrap_or(0.0);
    let (width, height) = if (turned.abs() % 180.0 - 90.0).abs() < 1.0 { (height, width) } else { (width, height) };
    Ok(Stream {
        width,
        height,
        tick,
        rates,
        listed: ONE_FRAME_A_PACKET.contains(&texts("codec_name")),
        indexed: container.split(',').any(|name| INDEXED.contains(&name)),
    })
}

/// Parses `30000/1001`, if both numbers are positive.
fn ratio(text: &str) -> Option<Ratio> {
    let (above, below) = text.split_once('/')?;
    let ratio = (above.parse().ok()?, below.parse().ok()?);
    (ratio.0 > 0 && ratio.1 > 0).then_some(ratio)
}

/// Reads the frames from lines of `pts,flags`, in the order in which they are shown. `None` if the packets do not determine the
/// frames: one has no time, or two have the same time.
pub fn packets(csv: &str) -> Option<Vec<Shown>> {
    let mut frames = Vec::new();
    for line in csv.lines() {
        let mut fields = line.split(',');
        let (Some(pts), Some(flags)) = (fields.next(), fields.next()) else { continue };
        // Packets before the start of an edit list are not shown.
        if !flags.contains('D') {
            frames.push(Shown { pts: pts.parse().ok()?, key: flags.contains('K') });
        }
    }
    frames.sort_by_key(|frame| frame.pts);
    frames.windows(2).all(|pair| pair[0].pts < pair[1].pts).then_some(frames)
}

/// Reads the times of decoded frames, one per line. `None` for a frame without a time.
pub fn decoded(csv: &str) -> Vec<Option<i64>> {
    let fields = csv.lines().map(|line| line.split(',').next().unwrap_or_default().trim());
    fields.filter(|field| !field.is_empty()).map(|field| field.parse().ok()).collect()
}

/// When frames are shown, in seconds since the first one. The times are even if, for one of the rates, every frame is at most
/// one tick away from its even time, since containers round times to ticks.
pub fn times(pts: &[i64], (above, below): Ratio, rates: &[Ratio]) -> Times {
    let first = pts.first().copied().unwrap_or(0);
    // With i128, nothing overflows and nothing is rounded before the end.
    let ticks = |i: usize| i128::from(pts[i]) - i128::from(first);
    let (above, below) = (i128::from(above), i128::from(below));
    for &(frames, seconds) in rates {
        let (n, d) = (i128::from(frames), i128::from(seconds));
        // |ticks·above/below − i·d/n| ≤ above/below
        let even = (0..pts.len()).all(|i| {
            let off = (ticks(i) * above).checked_mul(n).zip((i as i128 * d).checked_mul(below));
            off.is_some_and(|(is, should)| (is - should).abs() <= above * n)
        });
        if even {
            return Times::Even { frames: pts.len(), fps: frames as f64 / seconds as f64 };
        }
    }
    Times::Each((0..pts.len()).map(|i| (ticks(i) * above) as f64 / below as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stream: &str) -> Vec<u8> {
        format!(r#"{{"streams": [{stream}], "format": {{"format_name": "mov,mp4,m4a,3gp,3g2,mj2"}}}}"#).into_bytes()
    }

    #[test]
    fn a_stream_is_upright() {
        let plain = |more: &str| {
            stream(&answer(&format!(
                r#"{{"codec_name": "h264", "width": 64, "height": 48, "time_base": "1/15360",
                    "avg_frame_rate": "30/1", "r_frame_rate": "0/0"{more}}}"#
            )))
            .unwrap()
        };
        let expected =
            Stream { width: 64, height: 48, tick: (1, 15360), rates: vec![(30, 1)], listed: true, indexed: true };
        assert_eq!(plain(""), expected);
        for (turn, upright) in
            [(0, (64, 48)), (-90, (48, 64)), (90, (48, 64)), (180, (64, 48)), (270, (48, 64)), (45, (64, 48))]
        {
            let turned = plain(&format!(r#", "side_data_list": [{{"type": 1}}, {{"rotation": {turn}}}]"#));
            assert_eq!((turned.width, turned.height), upright, "{turn}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for json in [
            answer(""),
            answer(r#"{"codec_name": "h264", "width": 0, "height": 48, "time_base": "1/1"}"#),
            answer(r#"{"codec_name": "h264", "width": 1000000, "height": 1000000, "time_base": "1/1"}"#),
            answer(r#"{"codec_name": "h264", "width": 64, "height": 48, "time_base": "0/0"}"#),
            b"{}".to_vec(),
            b"no json".to_vec(),
        ] {
            assert_eq!(stream(&json).unwrap_err().code(), "bad_video", "{}", String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn packets_become_frames_in_order() {
        let shown = |pts, key| Shown { pts, key };
        // B-frames, a packet that an edit list hides, the flags of several versions.
        let frames = packets("-512,KD\n0,K__\n1024,___\n512,_\n\n");
        assert_eq!(frames.unwrap(), [shown(0, true), shown(512, false), shown(1024, false)]);
        assert_eq!(packets("0,K_\nN/A,__\n"), None);
        assert_eq!(packets("0,K_\n0,__\n"), None);
        assert_eq!(packets("").unwrap(), []);
        assert_eq!(decoded("0\n512,\n\nN/A\n"), [Some(0), Some(512), None]);
    }

    #[test]
    fn times_are_even_if_a_rate_explains_them() {
        let ms = |list: &[i64]| list.to_vec();
        let even = |frames, fps| Times::Even { frames, fps };
        assert_eq!(times(&ms(&[7, 40, 74, 107]), (1, 1000), &[(25, 1), (30, 1)]), even(4, 30.0));
        let exact: Vec<i64> = (0..5000).map(|i| 100 + i * 1001).collect();
        assert_eq!(times(&exact, (1, 30000), &[(30000, 1001)]), even(5000, 30000.0 / 1001.0));
        // Near, but not for long.
        assert!(matches!(times(&exact, (1, 30000), &[(2997, 100)]), Times::Each(t) if t[1] == 1001.0 / 30000.0));
        assert_eq!(times(&ms(&[5, 105, 505]), (1, 1000), &[(10, 1)]), Times::Each(vec![0.0, 0.1, 0.5]));
        assert_eq!(times(&ms(&[0, i64::MAX]), (1, i64::MAX), &[(i64::MAX, 1)]), Times::Each(vec![0.0, 1.0]));
        assert_eq!(times(&ms(&[9]), (1, 1000), &[(25, 1)]), even(1, 25.0));
        assert_eq!(times(&ms(&[9]), (1, 1000), &[]), Times::Each(vec![0.0]));
    }
}
