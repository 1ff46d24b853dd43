//! Reads video files with the `ffmpeg` and `ffprobe` that the user has installed.
//!
//! No crate in pure Rust decodes H.264, HEVC, VP9 and AV1. Linking FFmpeg's libraries would need a C compiler and certain
//! versions of the libraries. The two programs are widely available, and only people who use videos need them.
//!
//! `ffprobe` lists when each frame is shown. A [`VideoPlan`] says which frames are wanted. `ffmpeg` decodes only these and
//! sends them at full size, one by one, to a [`VideoBuilder`]. If the container has an index and there are many frames between
//! two wanted ones, reading jumps to the key frame before the next one. Frames are selected by their times, so a jump may miss
//! a frame but cannot take a wrong one. If it misses one, the whole file is decoded from the beginning.
//!
//! File names are never passed to a shell and never read as options. A file cannot make ffmpeg open other files: playlists
//! and network protocols are not allowed.

mod child;
mod probe;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::Picture;
use crate::video::{Times, Track, Video, VideoBuilder, VideoPlan};
use child::Running;
use probe::{Shown, Stream};

/// The allowed containers. They hold the video themselves: no playlists, no lists of files, no devices.
const CONTAINERS: &str = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,ivf,nut,mxf,rm,wtv,dv,mjpeg,h264,hevc,obu,\
     m4v,mpegvideo,yuv4mpegpipe";
/// How many frames can be decoded and dropped in the time that a jump to another place takes.
const JUMP: usize = 60;
/// The most frames that one run selects, since the length of a command line is limited (32,767 characters on Windows).
const MOST_NAMED: usize = 512;
/// The most bytes of a list of frames, which is enough for some 10 million frames.
const MOST_LIST: usize = 256 << 20;

/// The programs to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The program that decodes frames.
    pub ffmpeg: PathBuf,
    /// The program that lists frames.
    pub ffprobe: PathBuf,
}

impl Default for Tools {
    /// `ffmpeg` and `ffprobe`, as found in `PATH`.
    fn default() -> Self {
        Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// Reads frames from a file. `plan` is given the track and chooses the frames.
///
/// # Errors
/// [`Error::Program`]: ffmpeg is not installed. [`Error::Io`]: the file cannot be opened. [`Error::Video`]: ffmpeg cannot read
/// the file, or it has no video. [`Error::Cancelled`]: soon after `cancelled` returns true. Also the errors of `plan`.
pub fn read(
    path: &Path,
    tools: &Tools,
    plan: &mut dyn FnMut(&Track) -> Result<VideoPlan>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Video, VideoPlan)> {
    VideoFile::open(path, tools, cancelled)?.read(plan, cancelled)
}

/// A video file with the list of its frames.
#[derive(Debug)]
pub struct VideoFile {
    path: PathBuf,
    tools: Tools,
    stream: Stream,
    list: List,
    track: Track,
}

/// How frames are identified.
#[derive(Debug)]
enum List {
    /// By the times of their packets, which the container lists.
    Packets(Vec<Shown>),
    /// By their number, when the whole file is decoded.
    Decoded,
}

impl VideoFile {
    /// Opens a file and lists its frames.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: &Path, tools: &Tools, cancelled: &dyn Fn() -> bool) -> Result<Self> {
        let io = |message: String| Error::Io { path: path.display().to_string(), message };
        let about = std::fs::metadata(path).map_err(|e| io(e.to_string()))?;
        if !about.is_file() {
            return Err(io("it is not a file".into()));
        }
        let what = "format=format_name:stream=codec_name,width,height,time_base,avg_frame_rate,r_frame_rate\
                    :stream_side_data=rotation";
        let json = list(path, tools, &["-show_entries", what, "-of", "json"], cancelled)?;
        let stream = probe::stream(&json).map_err(|e| match e {
            Error::Video { expected, found } => {
                Error::Video { expected, found: format!("{}: {found}", path.display()) }
            }
            other => other,
        })?;
        let track = Track { width: stream.width, height: stream.height, times: Times::Each(vec![]) };
        let mut file = VideoFile { path: path.to_owned(), tools: tools.clone(), stream, list: List::Decoded, track };
        let packets = match file.stream.listed {
            true => {
                let csv = list(path, tools, &["-show_entries", "packet=pts,flags", "-of", "csv=p=0"], cancelled)?;
                probe::packets(&String::from_utf8_lossy(&csv)).filter(|frames| !frames.is_empty())
            }
            false => None,
        };
        match packets {
            Some(frames) => {
                let pts: Vec<i64> = frames.iter().map(|frame| frame.pts).collect();
                file.track.times = probe::times(&pts, file.stream.tick, &file.stream.rates);
                file.list = List::Packets(frames);
            }
            None => file.decode(cancelled)?,
        }
        Ok(file)
    }

    /// The size of the frames and their times, in seconds since the first frame.
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// Decodes the frames that `plan` chooses. `plan` is called a second time if the container lists frames that cannot be
    /// decoded, which happens with files that are broken or begin in the middle of a video.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(
        &mut self,
        plan: &mut dyn FnMut(&Track) -> Result<VideoPlan>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Video, VideoPlan)> {
        let chosen = plan(&self.track)?;
        match self.frames(&chosen, cancelled) {
            Err(Error::Video { .. }) if matches!(self.list, List::Packets(_)) => {
                self.decode(cancelled)?;
                let chosen = plan(&self.track)?;
                Ok((self.frames(&chosen, cancelled)?, chosen))
            }
            video => Ok((video?, chosen)),
        }
    }

    /// Lists the frames again, by decoding all of them.
    fn decode(&mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let args = ["-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0"];
        let csv = list(&self.path, &self.tools, &args, cancelled)?;
        let frames = probe::decoded(&String::from_utf8_lossy(&csv));
        if frames.is_empty() {
            return Err(self.broken("at least one frame", "none that could be decoded"));
        }
        let pts: Option<Vec<i64>> = frames.iter().copied().collect();
        self.track.times = match pts.filter(|pts| pts.is_sorted()) {
            Some(pts) => probe::times(&pts, self.stream.tick, &self.stream.rates),
            // A raw stream has no times. ffmpeg assumes the frame rate in its header, or 25.
            None => {
                let (frames_of, seconds) = self.stream.rates.first().copied().unwrap_or((25, 1));
                Times::Even { frames: frames.len(), fps: frames_of as f64 / seconds as f64 }
            }
        };
        self.list = List::Decoded;
        Ok(())
    }

    /// Decodes the frames of a plan for this file's track.
    ///
    /// # Errors
    /// As [`read`]. Also [`Error::Video`] if fewer frames can be decoded than the container lists.
    pub fn frames(&self, plan: &VideoPlan, cancelled: &dyn Fn() -> bool) -> Result<Video> {
        let frames = self.track.times.len();
        if plan.indices.is_empty() || plan.indices.iter().any(|index| *index >= frames) || !plan.indices.is_sorted() {
            let expected = format!("ascending frame numbers below {frames}, the number of frames in this video");
            return Err(Error::invalid("plan", expected, format!("{:?}", plan.indices)));
        }
        let mut wanted = plan.indices.clone();
        wanted.dedup();
        let mut builder = VideoBuilder::new(plan.clone());
        for run in self.runs(&wanted) {
            self.run(&run, &mut builder, cancelled)?;
        }
        builder.finish()
    }

    /// Groups the wanted frames, which are ascending, into runs of ffmpeg.
    fn runs(&self, wanted: &[usize]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for &index in wanted {
            let key = match &self.list {
                List::Packets(frames) if self.stream.indexed => frames[..=index].iter().rposition(|frame| frame.key),
                _ => None,
            };
            let key = key.unwrap_or(0);
            let full = |run: &Run| {
                let last = run.wanted.last().copied().unwrap_or(0);
                key > last.saturating_add(JUMP) || run.wanted.len() >= MOST_NAMED
            };
            match runs.last_mut() {
                Some(run) if !full(run) => run.wanted.push(index),
                None if key <= JUMP => runs.push(Run { start: 0, wanted: vec![index] }),
                _ => runs.push(Run { start: key, wanted: vec![index] }),
            }
        }
        runs
    }

    fn run(&self, run: &Run, builder: &mut VideoBuilder, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let (width, height) = (self.track.width, self.track.height);
        let bytes = width as usize * height as usize * 3;
        let mut program = Running::start(&self.tools.ffmpeg, &self.arguments(run), bytes)?;
        let mut came = 0;
        while let Some(rgb) = program.next(cancelled)? {
            if rgb.len() < bytes || came == run.wanted.len() {
                break;
            }
            let frame = Picture::new(width, height, rgb)?;
            // Add the frame once for each time that it occurs in the plan.
            let plan = builder.plan();
            let again = plan.indices[builder.taken()..].iter().take_while(|index| **index == run.wanted[came]);
            let times: Vec<f64> = again.zip(&plan.times[builder.taken()..]).map(|(_, time)| *time).collect();
            times.into_iter().try_for_each(|time| builder.push(&frame, time))?;
            came += 1;
        }
        if came < run.wanted.len() {
            let (_, words) = program.end();
            let found = format!("{came} of the {} requested frames{}", run.wanted.len(), said(&words));
            return Err(self.broken("all frames that its container lists", &found));
        }
        Ok(())
    }

    fn arguments(&self, run: &Run) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-nostdin", "-hide_banner", "-v", "error"].map(OsString::from).to_vec();
        let mut add = |some: &[&str]| args.extend(some.iter().map(OsString::from));
        let select = match &self.list {
            List::Packets(frames) => {
                let (above, below) = self.stream.tick;
                let at = frames[run.start].pts as f64 * above as f64 / below as f64;
                // Keep the times of the file, and decode everything from the key frame on.
                add(&["-copyts"]);
                if run.start > 0 && at > 0.0 {
                    let at = format!("{:.6}", (at * 1e6).floor() / 1e6);
                    add(&["-seek_timestamp", "1", "-noaccurate_seek", "-ss", &at]);
                }
                among("pts", &run.wanted.iter().map(|index| frames[*index].pts).collect::<Vec<_>>())
            }
            List::Decoded => among("n", &run.wanted),
        };
        let (width, height) = (self.track.width, self.track.height);
        // `scale` only matters if the stream changes its size. After `settb` and `setpts`, the frames follow each other at
        // one tick each, so that no version of ffmpeg drops or repeats any of them.
        let filters = format!(
            "select='{select}',scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24,settb=1/25,setpts=N"
        );
        let count = run.wanted.len().to_string();
        args.extend(input(&self.path));
        let mut add = |some: &[&str]| args.extend(some.iter().map(OsString::from));
        add(&[
            "-map",
            "0:V:0",
            "-vf",
            &filters,
            "-frames:v",
            &count,
            "-r",
            "25",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
        ]);
        add(&["pipe:1"]);
        args
    }

    fn broken(&self, expected: &str, found: &str) -> Error {
        Error::Video { expected: expected.into(), found: format!("{} with {found}", self.path.display()) }
    }
}

/// One run of ffmpeg.
#[derive(Debug, PartialEq)]
struct Run {
    /// The frame at which decoding begins.
    start: usize,
    /// The frames that it sends.
    wanted: Vec<usize>,
}

/// An expression of ffmpeg that is true if a variable has one of the given ascending values. It is a binary search, since ffmpeg
/// evaluates it for every frame and allows at most a hundred terms in a sum.
fn among(variable: &str, values: &[impl Display]) -> String {
    match values {
        [] => "0".into(),
        [one] => format!("eq({variable},{one})"),
        _ => {
            let (low, high) = values.split_at(values.len() / 2);
            format!("if(lt({variable},{}),{},{})", high[0], among(variable, low), among(variable, high))
        }
    }
}

/// The arguments that open an input file and keep it from opening other files.
fn input(path: &Path) -> Vec<OsString> {
    let mut file = OsString::from("file:");
    file.push(path);
    let mut args = ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i"].map(OsString::from).to_vec();
    args.push(file);
    args
}

/// The output of ffprobe for the first video stream that is not a cover picture.
fn list(path: &Path, tools: &Tools, what: &[&str], cancelled: &dyn Fn() -> bool) -> Result<Vec<u8>> {
    let mut args: Vec<OsString> = ["-v", "error", "-select_streams", "V:0"].map(OsString::from).to_vec();
    args.extend(what.iter().map(OsString::from));
    args.extend(input(path));
    let mut program = Running::start(&tools.ffprobe, &args, 1 << 16)?;
    let mut answer = Vec::new();
    let broken = |expected: &str, found: String| {
        let found = format!("{}{found}", path.display());
        Error::Video { expected: expected.into(), found }
    };
    while let Some(chunk) = program.next(cancelled)? {
        answer.extend(chunk);
        if answer.len() > MOST_LIST {
            return Err(broken("fewer frames", ", whose list of frames has more than 256 MiB".into()));
        }
    }
    match program.end() {
        (true, _) => Ok(answer),
        // The last message is the reason. The messages before it are details.
        (false, words) => {
            Err(broken("a file that ffmpeg can read", said(words.trim_end().lines().last().unwrap_or(""))))
        }
    }
}

/// The first error message, in a form to append to a sentence.
fn said(words: &str) -> String {
    let first = words.lines().map(str::trim).find(|line| !line.is_empty());
    first.map_or(String::new(), |line| format!(" ({})", line.chars().take(200).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: usize, gop: usize, indexed: bool) -> VideoFile {
        let shown = |i: usize| Shown { pts: 512 * i as i64, key: i.is_multiple_of(gop) };
        let stream = Stream { width: 64, height: 48, tick: (1, 15360), rates: vec![(30, 1)], listed: true, indexed };
        let times = Times::Even { frames, fps: 30.0 };
        VideoFile {
            path: "-a.mp4".into(),
            tools: Tools::default(),
            stream,
            list: List::Packets((0..frames).map(shown).collect()),
            track: Track { width: 64, height: 48, times },
        }
    }

    fn run(start: usize, wanted: &[usize]) -> Run {
        Run { start, wanted: wanted.to_vec() }
    }

    #[test]
    fn a_run_jumps_where_that_saves_decoding() {
        let hour = file(108_000, 250, true);
        let runs = hour.runs(&[0, 100, 400, 5020, 5040, 107_999]);
        // From 100 to the key frame 250 is a jump of 150; from 400 to 5000 as well.
        assert_eq!(runs, [run(0, &[0, 100]), run(250, &[400]), run(5000, &[5020, 5040]), run(107_750, &[107_999])]);
        // One every two seconds: each jump would save less than it takes.
        let dense: Vec<usize> = (0..400).map(|i| i * 60).collect();
        assert_eq!(hour.runs(&dense), [run(0, &dense)]);
        // Nothing to jump to.
        assert_eq!(file(1000, 1000, true).runs(&[0, 999]), [run(0, &[0, 999])]);
        assert_eq!(file(1000, 10, false).runs(&[900, 999]), [run(0, &[900, 999])]);
        // A command line has an end.
        let all: Vec<usize> = (0..1000).collect();
        let runs = file(1000, 250, true).runs(&all);
        assert_eq!(runs, [run(0, &all[..512]), run(500, &all[512..])]);
    }

    #[test]
    fn arguments_are_short_and_name_one_file() {
        let hour = file(40_000_000, 250, true);
        let wanted: Vec<usize> = (0..512).map(|i| 30_000_000 + i * 3).collect();
        let [run] = &hour.runs(&wanted)[..] else { panic!() };
        let args = hour.arguments(run);
        let length: usize = args.iter().map(|arg| arg.len() + 1).sum();
        assert!(length < 32_000, "{length}");
        let has = |pair: [&str; 2]| args.windows(2).any(|two| two[0] == pair[0] && two[1] == pair[1]);
        assert!(has(["-ss", "1000000.000000"]) && has(["-i", "file:-a.mp4"]) && has(["-frames:v", "512"]), "{args:?}");
        assert_eq!(among("n", &[1, 5, 9]), "if(lt(n,5),eq(n,1),if(lt(n,9),eq(n,5),eq(n,9)))");
        assert_eq!(among("n", &[0; 0]), "0");
    }
}
