//! Frames of real video files, each of which shows its own number. Needs `ffmpeg` and `ffprobe`; without them these tests fail.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use fanlight::ffmpeg::{Tools, VideoFile, read};
use fanlight::image::{Picture, PreprocessorConfig};
use fanlight::video::{Times, Track, Video, VideoOptions, VideoPlan, plan};
use fanlight::{Error, Result};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("fanlight-video-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "error", "-y"]);
    command
}

fn must_run(command: &mut Command, input: &[u8]) {
    let spawned = command.stdin(Stdio::piped()).spawn();
    let mut child =
        spawned.unwrap_or_else(|e| panic!("these tests need ffmpeg (`cargo xtask setup` installs it): {e}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Blocks across and down: 12 bits.
const BLOCKS: (usize, usize) = (4, 3);

/// A frame that shows `number`: a block for each bit, white for 1.
fn numbered(number: usize, width: usize, height: usize) -> impl Iterator<Item = u8> {
    (0..width * height).flat_map(move |i| {
        let (x, y) = (i % width * BLOCKS.0 / width, i / width * BLOCKS.1 / height);
        [if number >> (y * BLOCKS.0 + x) & 1 == 1 { 235 } else { 20 }; 3]
    })
}

/// The number that a frame shows.
fn number(frame: &Picture) -> usize {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let level = |x: usize, y: usize| {
        let (x, y) = ((2 * x + 1) * width / (2 * BLOCKS.0), (2 * y + 1) * height / (2 * BLOCKS.1));
        frame.rgb[(y * width + x) * 3]
    };
    let bit = |i: usize| match level(i % BLOCKS.0, i / BLOCKS.0) {
        0..90 => 0,
        166.. => 1 << i,
        grey => panic!("bit {i} is {grey}"),
    };
    (0..BLOCKS.0 * BLOCKS.1).map(bit).sum()
}

/// Encodes numbered frames.
fn encode(path: &Path, frames: usize, rate: &str, (width, height): (usize, usize), args: &[&str]) {
    let pixels: Vec<u8> = (0..frames).flat_map(|n| numbered(n, width, height)).collect();
    let size = format!("{width}x{height}");
    let mut command = ffmpeg();
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", rate, "-i", "pipe:0"]);
    must_run(command.args(args).arg(path), &pixels);
}

fn encoders() -> String {
    let run = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output();
    let run = run.unwrap_or_else(|e| panic!("these tests need ffmpeg (`cargo xtask setup` installs it): {e}"));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// H.264 with B-frames where there is an encoder, and MPEG-4 with them where not.
fn h264() -> Vec<&'static str> {
    let encoders = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output();
    let encoders =
        encoders.unwrap_or_else(|e| panic!("these tests need ffmpeg (`cargo xtask setup` installs it): {e}"));
    if String::from_utf8_lossy(&encoders.stdout).contains("libx264 ") {
        vec!["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    } else {
        vec!["-c:v", "mpeg4", "-q:v", "3", "-bf", "2"]
    }
}

const SIZE: (usize, usize) = (64, 48);
const NEVER: &dyn Fn() -> bool = &|| false;

fn take(path: &Path, options: &VideoOptions) -> Result<(Video, VideoPlan, Track)> {
    let config = PreprocessorConfig::default();
    let mut seen = None;
    let mut choose = |track: &Track| {
        seen = Some(track.clone());
        plan(track, options, &config, usize::MAX)
    };
    let (video, plan) = read(path, &Tools::default(), &mut choose, NEVER)?;
    Ok((video, plan, seen.unwrap()))
}

fn numbers(video: &Video) -> Vec<usize> {
    video.frames.iter().map(number).collect()
}

/// Takes some frames and every frame; each is the one that was asked for, at its time. Gives back the track.
fn check(path: &Path, frames: usize, fps: f64) -> Track {
    let mut found = None;
    for nframes in [4, 10.min(frames & !1), frames & !1] {
        let options = VideoOptions { nframes: Some(nframes), ..Default::default() };
        let (video, plan, track) = take(path, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(track.times, Times::Even { frames, fps }, "{}", path.display());
        assert_eq!(numbers(&video), plan.indices, "{}", path.display());
        assert_eq!(video.timestamps, plan.indices.iter().map(|i| *i as f64 / fps).collect::<Vec<_>>());
        assert_eq!(video.original, (track.width, track.height));
        found = Some(track);
    }
    found.unwrap()
}

#[test]
fn constant_rates() {
    let folder = Folder::new();
    for (name, rate, fps) in [
        ("30.mp4", "30", 30.0),
        ("ntsc.mp4", "30000/1001", 30000.0 / 1001.0),
        ("film.mkv", "15000/1001", 15000.0 / 1001.0),
        ("half.mp4", "25/2", 12.5),
        ("slow.mp4", "1/3", 1.0 / 3.0),
        ("60.mov", "60", 60.0),
    ] {
        let path = folder.path(name);
        encode(&path, 75, rate, SIZE, &h264());
        let track = check(&path, 75, fps);
        assert_eq!((track.width, track.height), (64, 48));
    }
}

#[test]
fn containers_and_codecs() {
    let folder = Folder::new();
    let h264 = h264();
    let with = |more: &[&'static str]| [&h264[..], more].concat();
    let mut kinds = vec![
        ("vp9.webm", vec!["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-b:v", "1M"]),
        // Its packets that are not shown are no frames.
        ("vp8.webm", vec!["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "1M"]),
        ("mpeg4.avi", vec!["-c:v", "mpeg4", "-q:v", "3", "-bf", "2"]),
        ("mpeg2.mpg", vec!["-c:v", "mpeg2video", "-q:v", "3", "-bf", "2"]),
        ("transport.ts", with(&[])),
        ("bare.h264", with(&["-f", "h264"])),
        ("fragments.mp4", with(&["-movflags", "frag_keyframe+empty_moov", "-g", "10"])),
        ("front.mp4", with(&["-movflags", "+faststart"])),
        ("lossless.mkv", vec!["-c:v", "ffv1"]),
        ("moving.gif", vec![]),
    ];
    // Not every ffmpeg may encode these; all decode them.
    let (hevc, av1) = (["-c:v", "libx265", "-x265-params", "log-level=none"], ["-c:v", "libaom-av1", "-cpu-used", "8"]);
    for (name, args) in [("hevc.mp4", hevc), ("av1.webm", av1)] {
        if encoders().contains(args[1]) {
            kinds.push((name, args.to_vec()));
        }
    }
    for (name, args) in kinds {
        let path = folder.path(name);
        encode(&path, 50, "25", SIZE, &args);
        check(&path, 50, 25.0);
    }
}

#[test]
fn odd_sizes_and_colours() {
    let folder = Folder::new();
    let vp9 = ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-b:v", "1M"];
    for (name, size, args) in [
        ("odd.webm", (67, 49), &vp9[..]),
        ("tall.mkv", (37, 101), &["-c:v", "ffv1"]),
        ("ten.mkv", (66, 50), &["-c:v", "ffv1", "-pix_fmt", "yuv422p10le"]),
        ("grey.mkv", (66, 50), &["-c:v", "ffv1", "-pix_fmt", "gray"]),
        // Pixels that are not square stay as they are, as with every reader in Python.
        ("wide.mkv", (64, 48), &["-c:v", "ffv1", "-aspect", "16:9"]),
    ] {
        let path = folder.path(name);
        encode(&path, 12, "10", size, args);
        let track = check(&path, 12, 10.0);
        assert_eq!((track.width as usize, track.height as usize), size);
    }
    // Saturated colours come out as they went in, but for the codec's rounding.
    let path = folder.path("colours.mkv");
    let pixels: Vec<u8> = [[250u8, 10, 10], [10, 250, 10], [10, 10, 250], [130, 130, 130]]
        .iter()
        .flat_map(|c| c.repeat(64 * 48))
        .collect();
    let mut command = ffmpeg();
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "4", "-i", "pipe:0", "-c:v", "ffv1"]);
    must_run(command.args(["-pix_fmt", "yuv444p"]).arg(&path), &pixels);
    let (video, ..) = take(&path, &VideoOptions { nframes: Some(4), ..Default::default() }).unwrap();
    for (frame, expected) in video.frames.iter().zip(pixels.chunks(64 * 48 * 3)) {
        for (got, expected) in frame.rgb[..3].iter().zip(&expected[..3]) {
            assert!(got.abs_diff(*expected) <= 4, "{:?} of {:?}", &frame.rgb[..3], expected);
        }
    }
}

/// Writes a rotation into the header of an MP4 file's track, as telephones do.
fn rotate(path: &Path, matrix: [i32; 4]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 44;
    for (place, value) in [(0, matrix[0]), (1, matrix[1]), (3, matrix[2]), (4, matrix[3])] {
        bytes[at + place * 4..][..4].copy_from_slice(&(value << 16).to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rotated_videos_are_upright() {
    let folder = Folder::new();
    for (matrix, size) in [([0, 1, -1, 0], (48, 64)), ([-1, 0, 0, -1], (64, 48)), ([0, -1, 1, 0], (48, 64))] {
        let path = folder.path("turned.mp4");
        encode(&path, 20, "10", SIZE, &h264());
        rotate(&path, matrix);
        let options = VideoOptions { nframes: Some(6), ..Default::default() };
        let (video, plan, track) = take(&path, &options).unwrap();
        assert_eq!((track.width, track.height), size);
        let back: Vec<usize> = video.frames.iter().map(|frame| number(&turned_back(frame, matrix))).collect();
        assert_eq!(back, plan.indices, "{matrix:?}");
    }
}

/// Undoes a display matrix of right angles.
fn turned_back(frame: &Picture, [a, b, c, d]: [i32; 4]) -> Picture {
    let (w, h) = (frame.width as i32, frame.height as i32);
    // Stored (x, y) is shown at (a·x + c·y, b·x + d·y), moved into the first quadrant.
    let (width, height) = if a == 0 { (h, w) } else { (w, h) };
    let place = |n: i32, side: i32| if n < 0 { n + side } else { n };
    let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| {
        let negative = |n: i32, m: i32| if n + m < 0 { -1 } else { 0 };
        let shown = (a * x + c * y + negative(a, c), b * x + d * y + negative(b, d));
        let at = (place(shown.1, h) * w + place(shown.0, w)) as usize * 3;
        [frame.rgb[at], frame.rgb[at + 1], frame.rgb[at + 2]]
    });
    Picture::new(width as u32, height as u32, rgb.collect()).unwrap()
}

#[test]
fn uneven_times_are_exact() {
    let folder = Folder::new();
    // After every tenth frame half a second of nothing.
    let at = |n: usize| (n + n / 10 * 15) as f64 / 30.0;
    let vfr = ["-vf", "setpts='(N+floor(N/10)*15)/30/TB'", "-vsync", "vfr"];
    for name in ["uneven.mp4", "uneven.mkv"] {
        let path = folder.path(name);
        encode(&path, 60, "30", SIZE, &[&h264()[..], &vfr].concat());
        let (video, plan, track) = take(&path, &VideoOptions { nframes: Some(12), ..Default::default() }).unwrap();
        let Times::Each(times) = &track.times else { panic!("{:?}", track.times) };
        assert_eq!(times.len(), 60);
        for (n, time) in times.iter().enumerate() {
            assert!((time - at(n)).abs() < 0.0011, "{name}: frame {n} at {time}");
        }
        assert_eq!(numbers(&video), plan.indices);
        assert_eq!(video.timestamps, plan.indices.iter().map(|i| times[*i]).collect::<Vec<_>>());
        // Every moment has the frame that is next to it.
        for (k, index) in plan.indices.iter().enumerate() {
            let moment = at(59) * k as f64 / 11.0;
            let nearest = (0..60).map(|n| (at(n) - moment).abs()).fold(f64::INFINITY, f64::min);
            assert!((at(*index) - moment).abs() < nearest + 0.002, "{name}: {moment} is frame {index}");
        }
    }
}

#[test]
fn a_late_start_is_time_zero() {
    let folder = Folder::new();
    for name in ["late.mkv", "late.mp4", "late.ts"] {
        let path = folder.path(name);
        encode(&path, 40, "20", SIZE, &[&h264()[..], &["-output_ts_offset", "7.3"]].concat());
        check(&path, 40, 20.0);
    }
}

/// Cut without encoding, a file begins at a key frame, and its edit list hides what comes before the cut.
#[test]
fn what_an_edit_list_hides_is_not_shown() {
    let folder = Folder::new();
    let (whole, cut) = (folder.path("whole.mp4"), folder.path("cut.mp4"));
    encode(&whole, 90, "30", SIZE, &[&h264()[..], &["-g", "30", "-keyint_min", "30"]].concat());
    let mut command = ffmpeg();
    must_run(command.args(["-ss", "1.5", "-i"]).arg(&whole).args(["-c", "copy"]).arg(&cut), b"");
    let (video, plan, track) = take(&cut, &VideoOptions { fps: Some(10.0), ..Default::default() }).unwrap();
    let first = numbers(&video)[0];
    assert!((44..=46).contains(&first), "{first}");
    assert_eq!(numbers(&video), plan.indices.iter().map(|i| i + first).collect::<Vec<_>>());
    assert_eq!(track.times.len(), 90 - first);
    let late = |(time, index): (&f64, &usize)| (time - *index as f64 / 30.0).abs();
    assert!(video.timestamps.iter().zip(&plan.indices).map(late).all(|off| off < 0.001), "{:?}", video.timestamps);
}

#[test]
fn a_long_video_is_read_by_jumps() {
    let folder = Folder::new();
    let gop = ["-g", "90", "-keyint_min", "20"];
    for name in ["long.mp4", "long.mkv", "long.ts"] {
        let path = folder.path(name);
        encode(&path, 1500, "30", SIZE, &[&h264()[..], &gop].concat());
        let file = VideoFile::open(&path, &Tools::default(), NEVER).unwrap();
        assert_eq!(file.track().times, Times::Even { frames: 1500, fps: 30.0 });
        for options in [
            VideoOptions { nframes: Some(8), ..Default::default() },
            VideoOptions { nframes: Some(200), ..Default::default() },
            VideoOptions { video_start: Some(23.3), video_end: Some(24.0), ..Default::default() },
            VideoOptions { video_start: Some(49.0), nframes: Some(2), ..Default::default() },
        ] {
            // Not by `read`, which would decode everything if jumping failed.
            let plan = plan(file.track(), &options, &PreprocessorConfig::default(), usize::MAX).unwrap();
            let video = file.frames(&plan, NEVER).unwrap_or_else(|e| panic!("{name} {options:?}: {e}"));
            assert_eq!(numbers(&video), plan.indices, "{name} {options:?}");
        }
    }
}

#[test]
fn a_frame_that_stands_still_is_taken_again() {
    let folder = Folder::new();
    let path = folder.path("still.mkv");
    let vfr = ["-vf", "setpts='(N+gt(N,4)*60)/10/TB'", "-vsync", "vfr", "-c:v", "ffv1"];
    encode(&path, 8, "10", SIZE, &vfr);
    let (video, plan, _) = take(&path, &VideoOptions { nframes: Some(6), ..Default::default() }).unwrap();
    assert!(plan.indices.windows(2).any(|pair| pair[0] == pair[1]), "{:?}", plan.indices);
    assert_eq!(numbers(&video), plan.indices);
}

#[test]
fn broken_files_give_what_they_have() {
    let folder = Folder::new();
    // Begins in the middle of a group of pictures: its first packets show nothing.
    let path = folder.path("whole.ts");
    encode(&path, 120, "30", SIZE, &[&h264()[..], &["-g", "30", "-keyint_min", "30"]].concat());
    let bytes = std::fs::read(&path).unwrap();
    let headless = folder.path("headless.ts");
    std::fs::write(&headless, &bytes[bytes.len() / 3 / 188 * 188..]).unwrap();
    // Ends in the middle of a frame.
    let path = folder.path("whole.mp4");
    encode(&path, 120, "30", SIZE, &[&h264()[..], &["-g", "30", "-movflags", "+faststart"]].concat());
    let bytes = std::fs::read(&path).unwrap();
    let tailless = folder.path("tailless.mp4");
    std::fs::write(&tailless, &bytes[..bytes.len() * 2 / 3]).unwrap();
    for path in [headless, tailless] {
        let (video, ..) = take(&path, &VideoOptions { fps: Some(10.0), ..Default::default() }).unwrap();
        let numbers = numbers(&video);
        assert!(numbers.len() >= 10 && numbers.len() < 40, "{numbers:?}");
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
        for (n, time) in numbers.iter().zip(&video.timestamps) {
            let frames = (n - numbers[0]) as f64;
            assert!((time * 30.0 - frames).abs() < 0.01, "frame {n} at {time}, the first is {}", numbers[0]);
        }
    }
}

#[test]
fn names_are_only_names() {
    let folder = Folder::new();
    let plain = folder.path("plain.mp4");
    encode(&plain, 6, "6", SIZE, &h264());
    let odd = if cfg!(windows) {
        &["-i x.mp4", "100%d.mp4"][..]
    } else {
        &["-i x.mp4", "100%d.mp4", "a:b'c\"d?.mp4", "pipe:0"]
    };
    for name in odd {
        std::fs::copy(&plain, folder.path(name)).unwrap();
        check(&folder.path(name), 6, 6.0);
    }
}

fn refused(path: &Path) -> Error {
    VideoFile::open(path, &Tools::default(), NEVER).map(|file| file.track().clone()).unwrap_err()
}

#[test]
fn what_is_no_video_is_refused() {
    let folder = Folder::new();
    let path = folder.path("text.mp4");
    for bytes in [&b"no video at all, but words"[..], b"", &[0; 4096]] {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert_eq!(error.code(), "bad_video", "{error}");
        assert!(error.to_string().contains("text.mp4"), "{error}");
    }
    // Sound alone, and sound with a cover.
    let sound = folder.path("sound.wav");
    must_run(ffmpeg().args(["-f", "lavfi", "-i", "sine=duration=0.2"]).arg(&sound), b"");
    assert_eq!(refused(&sound).code(), "bad_video");
    let sound = folder.path("sound.mkv");
    must_run(ffmpeg().args(["-f", "lavfi", "-i", "sine=duration=0.2"]).arg(&sound), b"");
    let error = refused(&sound);
    assert!(error.to_string().contains("a video stream"), "{error}");
    // A playlist that names a file which could be read.
    encode(&folder.path("plain.ts"), 6, "6", SIZE, &h264());
    let list = folder.path("list.mp4");
    std::fs::write(&list, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplain.ts\n#EXT-X-ENDLIST\n").unwrap();
    assert_eq!(refused(&list).code(), "bad_video");
    std::fs::write(&list, "ffconcat version 1.0\nfile plain.ts\n").unwrap();
    assert_eq!(refused(&list).code(), "bad_video");
    // Nothing there, and a folder.
    assert_eq!(refused(&folder.path("missing.mp4")).code(), "io");
    assert_eq!(refused(&folder.0).code(), "io");
}

#[test]
fn a_plan_of_another_video_is_refused() {
    let folder = Folder::new();
    let path = folder.path("short.mp4");
    encode(&path, 6, "6", SIZE, &h264());
    let file = VideoFile::open(&path, &Tools::default(), NEVER).unwrap();
    let options = VideoOptions { nframes: Some(4), ..Default::default() };
    let plan = plan(file.track(), &options, &PreprocessorConfig::default(), usize::MAX).unwrap();
    for indices in [vec![], vec![0, 1, 2, 6], vec![3, 2, 1, 0]] {
        let wrong = VideoPlan { indices, ..plan.clone() };
        assert_eq!(file.frames(&wrong, NEVER).unwrap_err().code(), "bad_request");
    }
    assert_eq!(numbers(&file.frames(&plan, NEVER).unwrap()), plan.indices);
}

#[test]
fn a_missing_program_is_named() {
    let folder = Folder::new();
    let path = folder.path("short.mp4");
    encode(&path, 6, "6", SIZE, &h264());
    let nowhere = folder.path("no-such-program");
    for tools in
        [Tools { ffprobe: nowhere.clone(), ..Tools::default() }, Tools { ffmpeg: nowhere.clone(), ..Tools::default() }]
    {
        let mut choose =
            |track: &Track| plan(track, &VideoOptions::default(), &PreprocessorConfig::default(), usize::MAX);
        let error = read(&path, &tools, &mut choose, NEVER).unwrap_err();
        assert_eq!(error.code(), "no_program");
        assert!(error.to_string().contains("no-such-program") && error.hint().contains("ffmpeg"), "{error}");
    }
}

#[test]
fn cancelling_stops_at_once() {
    let folder = Folder::new();
    let path = folder.path("short.mp4");
    encode(&path, 60, "30", SIZE, &h264());
    let asked = AtomicUsize::new(0);
    let after = |n: usize| {
        asked.store(0, Ordering::Relaxed);
        let asked = &asked;
        move || asked.fetch_add(1, Ordering::Relaxed) >= n
    };
    let mut choose = |track: &Track| plan(track, &VideoOptions::default(), &PreprocessorConfig::default(), usize::MAX);
    for n in [0, 1, 5] {
        assert_eq!(read(&path, &Tools::default(), &mut choose, &after(n)).unwrap_err(), Error::Cancelled);
    }
    // A program that says nothing for ten minutes is asked nothing further, and is gone.
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::PermissionsExt;
        let (program, pid) = (folder.path("slow"), folder.path("pid"));
        std::fs::write(&program, format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n", pid.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools { ffprobe: program, ..Tools::default() };
        let started = || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
        assert_eq!(read(&path, &tools, &mut choose, &started).unwrap_err(), Error::Cancelled);
        let pid = std::fs::read_to_string(&pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} still runs");
    }
}

/// From files to an answer: the frames that were planned, at their times.
#[test]
fn the_command_line_takes_videos() {
    let folder = Folder::new();
    let clip = folder.path("clip.mp4");
    encode(&clip, 30, "10", SIZE, &h264());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/base");
    let ask_of = |model: &Path, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanlight"));
        command.args(["ask", "--json", "--max-tokens", "2", "--model"]).arg(model).args(args);
        let run = command.output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        (answer, String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let ask = |args: &[&str]| ask_of(&model, args);
    let clip = clip.to_str().unwrap();
    let small = ["--min-pixels", "3136", "--max-pixels", "6272"];
    let range = ["--video-start", "1", "--video-end", "2", "--fps", "4"];
    let (answer, _) = ask(&[&["--video", clip, "What?"][..], &small, &range].concat());
    let video = &answer["videos"][0];
    // Frames 10 to 20, which has 11 frames, at most 4 of them a second: 4.4, of which an even number is taken.
    assert_eq!(video["timestamps"], serde_json::json!([1.0, 1.3, 1.7, 2.0]), "{answer}");
    assert_eq!((&video["original"], &video["resized"]), (&[64, 48].into(), &[56, 56].into()));
    assert_eq!((&video["tokens"], &answer["usage"]["video_tokens"]), (&8.into(), &8.into()));

    // A context of 300 tokens makes the frames smaller and fewer, and says so.
    let (answer, told) = ask(&["--video", clip, "--fps", "10", "--context", "300", "What?"]);
    assert!(answer["usage"]["video_tokens"].as_u64().is_some_and(|n| (120..=263).contains(&n)), "{answer}");
    assert!(told.contains("frames instead of 30") && told.contains("pixels: 30 frames"), "{told}");
    let (answer, _) = ask(&["--video", clip, "--context", "100", "What?"]);
    assert_eq!(answer["error"]["code"], "context_full", "{answer}");

    // In messages: a file and a list of pictures beside them.
    for n in 0..3 {
        let pixels: Vec<u8> = numbered(n, 64, 48).collect();
        let mut command = ffmpeg();
        command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-i", "pipe:0"]);
        must_run(command.arg(folder.path(&format!("{n}.png"))), &pixels);
    }
    let messages = folder.path("messages.json");
    let json = r#"[{"role": "user", "content": [
        {"type": "video", "video": "clip.mp4", "nframes": 2, "min_pixels": 784, "maxPixels": 3136},
        {"type": "video", "video": ["0.png", "1.png", "2.png"], "sample_fps": 0.5, "resized_height": 56, "resized_width": 84},
        {"type": "text", "text": "What?"}]}]"#;
    std::fs::write(&messages, json).unwrap();
    let (answer, _) = ask(&["--messages", messages.to_str().unwrap()]);
    assert_eq!(answer["videos"][0]["timestamps"], serde_json::json!([0.0, 2.9]), "{answer}");
    assert_eq!(answer["videos"][1]["timestamps"], serde_json::json!([0.0, 2.0, 4.0]), "{answer}");
    assert_eq!(answer["videos"][1]["tokens"], 12, "{answer}");

    // What cannot be read is known before the model is.
    let (answer, _) = ask_of(Path::new("nowhere"), &["--video", messages.to_str().unwrap(), "What?"]);
    assert_eq!(answer["error"]["code"], "bad_video", "{answer}");
}
