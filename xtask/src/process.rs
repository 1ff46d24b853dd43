//! Paths and child processes.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::Outcome;

thread_local! {
    /// Inside `captured`, what this thread has printed.
    static CAPTURED: RefCell<Option<Captured>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    /// Whether the terminal shows it as well.
    live: bool,
}

impl Captured {
    fn add(&mut self, bytes: &[u8]) {
        if self.live {
            print(bytes);
        }
        self.bytes.extend_from_slice(bytes);
    }
}

/// Runs `work` and gives, with its result, the text of everything that `run` and `say` print meanwhile on this thread. The terminal
/// shows that text only if it is `live`: jobs that run side by side are shown one after the other.
pub fn captured<T>(live: bool, work: impl FnOnce() -> T) -> (T, String) {
    CAPTURED.set(Some(Captured { live, ..Captured::default() }));
    let result = work();
    (result, String::from_utf8_lossy(&CAPTURED.take().unwrap_or_default().bytes).into_owned())
}

/// Writes to the terminal. A pipe that some other program has made non-blocking is waited for; one that nobody reads is no error.
fn print(mut bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Prints a line.
pub fn say(line: &str) {
    CAPTURED.with_borrow_mut(|captured| match captured {
        Some(captured) => captured.add(format!("{line}\n").as_bytes()),
        None => print(format!("{line}\n").as_bytes()),
    });
}

/// The repository's root. Cargo passes the folder of this package; the value from compile time is for a binary that was started
/// without cargo.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A command that is run in the repository's root.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that started this program.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command to its end, printing where this thread prints. The error names the command.
pub fn run(command: &mut Command) -> Outcome {
    let ended = if CAPTURED.with_borrow(Option::is_some) { run_captured(command) } else { command.status() };
    let status = ended.map_err(|e| format!("`{}` could not be started: {e}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", shown(command))) }
}

/// Runs to the end with both streams of output in one file, so that their lines stay in order. A pipe would stay open for as long as
/// anything holds it that the command has started and left behind.
fn run_captured(command: &mut Command) -> std::io::Result<ExitStatus> {
    let name = format!("fanlight-{}-{:?}.log", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name.replace(['(', ')'], "-"));
    let file = std::fs::File::create(&path)?;
    command.stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn()?;
    let mut output = std::fs::File::open(&path)?;
    let mut pass_on = || -> std::io::Result<()> {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes)?;
        CAPTURED.with_borrow_mut(|captured| captured.get_or_insert_default().add(&bytes));
        Ok(())
    };
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        pass_on()?;
        std::thread::sleep(Duration::from_millis(100));
    };
    pass_on()?;
    std::fs::remove_file(&path)?;
    Ok(status)
}

/// Runs a command to its end and returns its standard output. `None` if it could not start or failed.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as a person would type it, without the folder in which it runs.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The path of a program, if it is in PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = if cfg!(windows) {
        ["exe", "cmd"].map(|ext| format!("{program}.{ext}")).to_vec()
    } else {
        vec![program.to_owned()]
    };
    std::env::split_paths(&paths).flat_map(|dir| names.iter().map(move |n| dir.join(n))).find(|path| path.is_file())
}

/// npm. It is a script, and on Windows scripts need their full name.
pub fn npm() -> Command {
    command(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// Reads a file. The error names it.
pub fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Copies a file or a folder, but only the entries for which `keep` returns true.
pub fn copy(from: &Path, to: &Path, keep: &dyn Fn(&Path) -> bool) -> Outcome {
    let failed = |e: std::io::Error| format!("{} → {}: {e}", from.display(), to.display());
    if from.is_dir() {
        std::fs::create_dir_all(to).map_err(failed)?;
        for entry in std::fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            if let (true, Some(name)) = (keep(&entry), entry.file_name()) {
                copy(&entry, &to.join(name), keep)?;
            }
        }
        return Ok(());
    }
    std::fs::copy(from, to).map(drop).map_err(failed)
}
