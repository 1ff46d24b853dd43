//! Reads and writes video options, tracks and plans as JSON. Names are in snake case, as in qwen-vl-utils, or in camel case.

use serde_json::Value;

use super::{MOST_FRAMES, Times, Track, VideoOptions, VideoPlan};
use crate::error::{Error, Result};
use crate::image::MAX_PIXELS;

/// A JSON object, and its name in errors.
struct Fields<'a> {
    at: &'a str,
    object: &'a Value,
}

impl Fields<'_> {
    /// The field `max_pixels` or `maxPixels`. A null counts as absent.
    fn get(&self, snake: &str) -> Option<&Value> {
        let value = self.object.get(snake).or_else(|| self.object.get(camel(snake)));
        value.filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Error {
        let place = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        Error::invalid(place, expected, found.to_string())
    }

    fn number(&self, name: &str, expected: &str, good: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|n| n.is_finite() && good(*n)) {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(name, expected, value)),
        }
    }

    /// A number of pixels, cut to a whole number, since Python examples write `20480 * 28 * 28 * 0.9`.
    fn pixels(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.number(name, "a number of pixels", |n| (0.0..=1e15).contains(&n))?.map(|n| n as u64))
    }

    fn side(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.number(name, "a side in pixels", |n| (0.0..=1e9).contains(&n))?.map(|n| n as u32))
    }

    fn count(&self, name: &str) -> Result<Option<usize>> {
        let whole = |n: f64| (0.0..=1e9).contains(&n) && n.fract() == 0.0;
        Ok(self.number(name, "a whole number of frames", whole)?.map(|n| n as usize))
    }

    fn times(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let times = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        times.map(Some).ok_or_else(|| self.wrong(name, "a list of seconds", value))
    }
}

/// `max_pixels` → `maxPixels`.
fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
}

impl VideoOptions {
    /// Reads the options from the fields of an object. Other fields are ignored. Errors name the object `at`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn from_json(object: &Value, at: &str) -> Result<Self> {
        let o = Fields { at, object };
        let every_frame = match o.get("every_frame") {
            None => false,
            Some(Value::Bool(every)) => *every,
            Some(other) => return Err(o.wrong("every_frame", "true or false", other)),
        };
        Ok(VideoOptions {
            fps: o.number("fps", "a positive number", |n| n > 0.0)?,
            nframes: o.count("nframes")?,
            min_frames: o.count("min_frames")?,
            max_frames: o.count("max_frames")?,
            video_start: o.number("video_start", "seconds", |_| true)?,
            video_end: o.number("video_end", "seconds", |_| true)?,
            min_pixels: o.pixels("min_pixels")?,
            max_pixels: o.pixels("max_pixels")?,
            total_pixels: o.pixels("total_pixels")?,
            resized_height: o.side("resized_height")?,
            resized_width: o.side("resized_width")?,
            every_frame,
        })
    }
}

impl Times {
    /// Reads when the pictures of a list are shown: `timestamps` (seconds of each), or `sample_fps` (default 2).
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field, also if there are not as many timestamps as pictures.
    pub fn of_list(object: &Value, at: &str, pictures: usize) -> Result<Self> {
        let o = Fields { at, object };
        match o.times("timestamps")? {
            Some(times) if times.len() == pictures => Ok(Times::Each(times)),
            Some(times) => {
                let expected = format!("{pictures}, one for each picture");
                Err(Error::invalid(format!("{at}.timestamps"), expected, times.len().to_string()))
            }
            None => {
                let fps = o.number("sample_fps", "a positive number", |n| n > 0.0)?.unwrap_or(2.0);
                Ok(Times::Even { frames: pictures, fps })
            }
        }
    }
}

impl Track {
    /// Reads `{width, height, frames, fps}` or `{width, height, times: [seconds, …]}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn from_json(object: &Value) -> Result<Self> {
        let o = Fields { at: "track", object };
        let needed = |name: &str| Error::invalid(format!("track.{name}"), "a number", "nothing");
        let times = match o.times("times")? {
            Some(times) => Times::Each(times),
            None => Times::Even {
                frames: o.count("frames")?.ok_or_else(|| needed("frames"))?,
                fps: o.number("fps", "a positive number", |n| n > 0.0)?.ok_or_else(|| needed("fps"))?,
            },
        };
        let side = |name: &str| o.side(name)?.ok_or_else(|| needed(name));
        Ok(Track { width: side("width")?, height: side("height")?, times })
    }
}

impl VideoPlan {
    /// Writes `{indices, times, sampleFps, width, height, tokens, decisions}`.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Reads a plan that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`Error::Invalid`]: anything else, a frame without a time, more than [`MOST_FRAMES`] frames, or a size that no picture
    /// can have.
    pub fn from_json(value: Value) -> Result<Self> {
        let plan: VideoPlan = serde_json::from_value(value)
            .map_err(|e| Error::invalid("plan", "the object that planVideo returned", e.to_string()))?;
        if plan.indices.is_empty() || plan.indices.len() != plan.times.len() {
            let found = format!("{} frames, {} times", plan.indices.len(), plan.times.len());
            return Err(Error::invalid("plan", "frames and a time for each", found));
        }
        let pixels = u64::from(plan.width) * u64::from(plan.height);
        if plan.indices.len() > MOST_FRAMES || !(1..=MAX_PIXELS).contains(&pixels) {
            let found = format!("{} frames of {}×{}", plan.indices.len(), plan.width, plan.height);
            let expected = format!("at most {MOST_FRAMES} frames of 1 to {MAX_PIXELS} pixels");
            return Err(Error::invalid("plan", expected, found));
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_every_option() {
        let snake = json!({"fps": 1, "nframes": 8, "min_frames": 2, "max_frames": 64, "video_start": 1.5, "video_end": 9,
            "min_pixels": 100, "max_pixels": 705.6, "total_pixels": 9e7, "resized_height": 280, "resized_width": 420,
            "every_frame": true, "type": "video", "video": "a.mp4"});
        let camel = json!({"fps": 1, "nframes": 8, "minFrames": 2, "maxFrames": 64, "videoStart": 1.5, "videoEnd": 9,
            "minPixels": 100, "maxPixels": 705.6, "totalPixels": 9e7, "resizedHeight": 280, "resizedWidth": 420,
            "everyFrame": true});
        let expected = VideoOptions {
            fps: Some(1.0),
            nframes: Some(8),
            min_frames: Some(2),
            max_frames: Some(64),
            video_start: Some(1.5),
            video_end: Some(9.0),
            min_pixels: Some(100),
            max_pixels: Some(705),
            total_pixels: Some(90_000_000),
            resized_height: Some(280),
            resized_width: Some(420),
            every_frame: true,
        };
        assert_eq!(VideoOptions::from_json(&snake, "").unwrap(), expected);
        assert_eq!(VideoOptions::from_json(&camel, "").unwrap(), expected);
        assert_eq!(VideoOptions::from_json(&json!({"fps": null}), "").unwrap(), VideoOptions::default());
        assert_eq!(VideoOptions::from_json(&Value::Null, "").unwrap(), VideoOptions::default());
    }

    #[test]
    fn wrong_fields_are_named() {
        for (options, place) in [
            (json!({"fps": 0}), "x.fps"),
            (json!({"fps": "2"}), "x.fps"),
            (json!({"nframes": 2.5}), "x.nframes"),
            (json!({"maxFrames": -2}), "x.max_frames"),
            (json!({"total_pixels": 1e30}), "x.total_pixels"),
            (json!({"resized_width": 1e12}), "x.resized_width"),
            (json!({"everyFrame": 1}), "x.every_frame"),
        ] {
            match VideoOptions::from_json(&options, "x") {
                Err(Error::Invalid { what, .. }) => assert_eq!(what, place),
                other => panic!("{options}: {other:?}"),
            }
        }
        for (track, place) in [
            (json!({"width": 4, "height": 4, "frames": 3}), "track.fps"),
            (json!({"width": 4, "height": 4, "fps": 3}), "track.frames"),
            (json!({"width": 4, "frames": 3, "fps": 3}), "track.height"),
            (json!({"width": 4, "height": 4, "times": [0, "1"]}), "track.times"),
        ] {
            match Track::from_json(&track) {
                Err(Error::Invalid { what, .. }) => assert_eq!(what, place),
                other => panic!("{track}: {other:?}"),
            }
        }
    }

    #[test]
    fn tracks_lists_and_plans() {
        let even = Track { width: 4, height: 2, times: Times::Even { frames: 3, fps: 1.5 } };
        assert_eq!(Track::from_json(&json!({"width": 4, "height": 2, "frames": 3, "fps": 1.5})), Ok(even.clone()));
        let each = Track { times: Times::Each(vec![0.0, 2.0]), ..even };
        assert_eq!(Track::from_json(&json!({"width": 4, "height": 2, "times": [0, 2.0]})), Ok(each));

        assert_eq!(Times::of_list(&json!({}), "x", 3), Ok(Times::Even { frames: 3, fps: 2.0 }));
        assert_eq!(Times::of_list(&json!({"sampleFps": 0.5}), "x", 3), Ok(Times::Even { frames: 3, fps: 0.5 }));
        assert_eq!(Times::of_list(&json!({"timestamps": [1, 2]}), "x", 2), Ok(Times::Each(vec![1.0, 2.0])));
        assert!(Times::of_list(&json!({"timestamps": [1, 2]}), "x", 3).is_err());

        let json = json!({"indices": [0, 4], "times": [0.0, 2.0], "sampleFps": 0.5, "width": 28, "height": 56, "tokens": 2,
            "decisions": ["So."]});
        assert_eq!(VideoPlan::from_json(json.clone()).unwrap().to_json(), json);
        let mut short = json.clone();
        short["times"] = json!([0.0]);
        assert!(VideoPlan::from_json(short).is_err());
        assert!(VideoPlan::from_json(json!({})).is_err());
    }
}
