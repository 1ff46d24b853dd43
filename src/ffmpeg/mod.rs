//! Video files, read by the `ffmpeg` and `ffprobe` that the user has.
//!
//! No crate in pure Rust decodes H.264, HEVC, VP9 and AV1, and linking FFmpeg's libraries would take C compilers and one
//! certain version of them. Its two programs are everywhere, are as good, and are not needed by whoever has no video.
//!
//! `ffprobe` lists when each frame is shown; a [`VideoPlan`] says which are wanted; `ffmpeg` decodes and sends those alone,
//! at full size, one by one into a [`VideoBuilder`]. Where the container has an index and much lies between two wanted
//! frames, reading jumps to the key frame before the next one. Frames are named by their own times, so a jump can at worst miss one, never
//! take another; then everything is decoded from the beginning instead.
//!
//! Files are never named to a shell, not taken for options, and cannot name other files (no playlists, no protocols).

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

/// Containers that hold what they show: no playlists, no lists of files, no devices.
const CONTAINERS: &str = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,ivf,nut,mxf,rm,wtv,dv,mjpeg,h264,hevc,obu,\
     m4v,mpegvideo,yuv4mpegpipe";
/// Frames that are decoded and dropped in the time of starting over at another place.
const JUMP: usize = 60;
/// Frames that one run names at most: a command line has its limits, 32,767 characters on Windows.
const MOST_NAMED: usize = 512;
/// Longest list of frames that is read: some 10 million.
const MOST_LIST: usize = 256 << 20;

/// The programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Decodes.
    pub ffmpeg: PathBuf,
    /// Lists.
    pub ffprobe: PathBuf,
}

impl Default for Tools {
    /// Those of `PATH`.
    fn default() -> Self {
        Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// Reads of a file the frames that `plan` chooses when it knows the track.
///
/// # Errors
/// [`Error::Program`]: no ffmpeg. [`Error::Io`]: no such file. [`Error::Video`]: nothing that ffmpeg can read, or no video in
/// it. [`Error::Cancelled`] soon after `cancelled` says so. Whatever `plan` says.
pub fn read(
    path: &Path,
    tools: &Tools,
    plan: &mut dyn FnMut(&Track) -> Result<VideoPlan>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Video, VideoPlan)> {
    VideoFile::open(path, tools, cancelled)?.read(plan, cancelled)
}

/// A file, and what its frames are.
#[derive(Debug)]
pub struct VideoFile {
    path: PathBuf,
    tools: Tools,
    stream: Stream,
    list: List,
    track: Track,
}

/// How frames are known.
#[derive(Debug)]
enum List {
    /// By the times of their packets.
    Packets(Vec<Shown>),
    /// By their number in the order of decoding everything.
    Decoded,
}

impl VideoFile {
    /// Lists the frames of a file.
    ///
    /// # Errors
    /// As [`read`].
    pub fn open(path: &Path, tools: &Tools, cancelled: &dyn Fn() -> bool) -> Result<Self> {
        let io = |message: String| Error::Io { path: path.display().to_string(), message };
        let about = std::fs::metadata(path).map_err(|e| io(e.to_string()))?;
        if !about.is_file() {
            return Err(io("it is no file".into()));
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

    /// Size and times: of each frame the seconds since the first one.
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// Decodes the frames that `plan` chooses. It is asked again if the container lists frames that its decoder does not show:
    /// some files are broken, or begin in the middle.
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

    /// Lists the frames anew by decoding all of them.
    fn decode(&mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        let args = ["-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0"];
        let csv = list(&self.path, &self.tools, &args, cancelled)?;
        let frames = probe::decoded(&String::from_utf8_lossy(&csv));
        if frames.is_empty() {
            return Err(self.broken("at least one frame", "none that can be decoded"));
        }
        let pts: Option<Vec<i64>> = frames.iter().copied().collect();
        self.track.times = match pts.filter(|pts| pts.is_sorted()) {
            Some(pts) => probe::times(&pts, self.stream.tick, &self.stream.rates),
            // A bare stream has no times: ffmpeg itself goes by the rate that its header says, or by 25.
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
    /// As [`read`]; [`Error::Video`] also where fewer frames can be decoded than the container lists.
    pub fn frames(&self, plan: &VideoPlan, cancelled: &dyn Fn() -> bool) -> Result<Video> {
        let frames = self.track.times.len();
        if plan.indices.is_empty() || plan.indices.iter().any(|index| *index >= frames) || !plan.indices.is_sorted() {
            let expected = format!("frames of this video, which has {frames}, in order");
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

    /// Wanted frames, ascending, that one pass decodes, and the frame where it begins.
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
            // Once for each time that the plan has it.
            let plan = builder.plan();
            let again = plan.indices[builder.taken()..].iter().take_while(|index| **index == run.wanted[came]);
            let times: Vec<f64> = again.zip(&plan.times[builder.taken()..]).map(|(_, time)| *time).collect();
            times.into_iter().try_for_each(|time| builder.push(&frame, time))?;
            came += 1;
        }
        if came < run.wanted.len() {
            let (_, words) = program.end();
            let found = format!("{came} of the {} that were asked for{}", run.wanted.len(), said(&words));
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
                // Times as they are in the file, and everything from the key frame on.
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
        // The scale changes nothing but a stream that changes its size. Then one tick for each frame, at one tick a frame:
        // no version of ffmpeg drops or repeats any of these.
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

/// One pass of ffmpeg.
#[derive(Debug, PartialEq)]
struct Run {
    /// The frame from which on it decodes.
    start: usize,
    /// Those that it sends.
    wanted: Vec<usize>,
}

/// Whether a variable is one of some ascending values, as an expression of ffmpeg: halved at each step, since ffmpeg asks about
/// every frame, and allows a sum no more than a hundred terms.
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

/// The arguments that name a file, which may name no other.
fn input(path: &Path) -> Vec<OsString> {
    let mut file = OsString::from("file:");
    file.push(path);
    let mut args = ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i"].map(OsString::from).to_vec();
    args.push(file);
    args
}

/// What ffprobe says of the first video stream that is no cover picture.
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
            return Err(broken("fewer frames", ", whose list of them has more than 256 MiB".into()));
        }
    }
    match program.end() {
        (true, _) => Ok(answer),
        // Its last words are the reason, those before them what it met on the way.
        (false, words) => {
            Err(broken("a file that ffmpeg can read", said(words.trim_end().lines().last().unwrap_or(""))))
        }
    }
}

/// The first complaint, to be appended.
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
