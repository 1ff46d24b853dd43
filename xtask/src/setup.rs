//! Installs what must be on the machine before anything can be built.
//!
//! It installs only where it need not ask a question: on Debian, as root or with a sudo that asks for no
//! password. Elsewhere it prints the commands for that system and stops. If nothing is missing, it changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::process::{ask, cargo, command, npm, read, root, run, which, write};

pub const WASM: &str = "wasm32-unknown-unknown";
/// The folders that have a package.json and a lockfile.
const NPM_FOLDERS: [&str; 3] = ["www", "tests/web", "tests/web/install/projects"];
const OLDEST_NODE: u32 = 20;
/// Debian's own Rust with the sources of std, for machines where rustup cannot download the target.
const DEBIAN_RUST: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-llvm", "rust-web-src", "lld-22"];

/// What the other commands need to know about this machine: its wasm toolchain and its browser.
pub struct Tools {
    pub wasm: WasmRust,
    pub chromium: PathBuf,
    pub firefox: PathBuf,
}

/// The toolchain that compiles to wasm32.
#[derive(Clone, Copy, PartialEq)]
pub enum WasmRust {
    /// The current toolchain, which has std for this target.
    Installed,
    /// Debian's packages, with which std is built from source. They have no clippy.
    Debian,
}

impl WasmRust {
    /// A cargo that can build for wasm32, and the arguments that it needs after the subcommand.
    pub fn cargo(self) -> (Command, &'static [&'static str]) {
        match self {
            WasmRust::Installed => (cargo(), &[]),
            WasmRust::Debian => {
                let mut debian = command("/usr/bin/cargo");
                debian.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc").env("RUSTC_BOOTSTRAP", "1");
                debian.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
                (debian, &["-Zbuild-std=std,panic_abort"])
            }
        }
    }
}

/// Something that may be missing, and what provides it on each system: package names or whole commands.
struct Need {
    what: &'static str,
    debian: &'static str,
    fedora: &'static str,
    arch: &'static str,
    mac: &'static str,
    windows: &'static str,
}

const COMPILER: Need = Need {
    what: "a C and C++ compiler (cc, c++)",
    debian: "g++ libc6-dev",
    fedora: "gcc-c++",
    arch: "gcc",
    mac: "xcode-select --install",
    windows: "winget install Microsoft.VisualStudio.2022.BuildTools",
};
const NODE: Need = Need {
    what: "Node.js 20 or newer, with npm",
    debian: "nodejs npm",
    fedora: "nodejs npm",
    arch: "nodejs npm",
    mac: "brew install node",
    windows: "winget install OpenJS.NodeJS.LTS",
};
const VULKAN: Need = Need {
    what: "a Vulkan driver",
    debian: "mesa-vulkan-drivers libvulkan1",
    fedora: "mesa-vulkan-drivers vulkan-loader",
    arch: "vulkan-swrast vulkan-icd-loader",
    mac: "",
    windows: "",
};
const FFMPEG: Need = Need {
    what: "ffmpeg and ffprobe, which read videos in the tests",
    debian: "ffmpeg",
    fedora: "ffmpeg-free",
    arch: "ffmpeg",
    mac: "brew install ffmpeg",
    windows: "winget install Gyan.FFmpeg",
};
const CHROMIUM: Need = Need {
    what: "Chromium or Chrome",
    debian: "chromium",
    fedora: "chromium",
    arch: "chromium",
    mac: "brew install --cask google-chrome",
    windows: "winget install Google.Chrome",
};
const FIREFOX: Need = Need {
    what: "Firefox",
    debian: "firefox-esr",
    fedora: "firefox",
    arch: "firefox",
    mac: "brew install --cask firefox",
    windows: "winget install Mozilla.Firefox",
};
const WASM_TARGET: Need = Need {
    what: "the wasm32-unknown-unknown target",
    debian: "rustc-web cargo-web rust-web-llvm rust-web-src lld-22",
    fedora: "rust-std-static-wasm32-unknown-unknown",
    arch: "rust-wasm",
    mac: "rustup target add wasm32-unknown-unknown",
    windows: "rustup target add wasm32-unknown-unknown",
};

#[derive(Clone, Copy, PartialEq)]
enum System {
    Debian,
    /// As Debian, but its packages of browsers are stubs for snap and it has no `rustc-web`.
    Ubuntu,
    Fedora,
    Arch,
    Mac,
    Windows,
    Other,
}

impl System {
    fn here() -> System {
        if cfg!(target_os = "macos") {
            return System::Mac;
        }
        if cfg!(windows) {
            return System::Windows;
        }
        System::of_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn of_release(release: &str) -> System {
        let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        let names = format!("{} {}", field("ID="), field("ID_LIKE=")).replace('"', "");
        let has = |name: &str| names.split_whitespace().any(|n| n == name);
        match () {
            () if has("ubuntu") => System::Ubuntu,
            () if has("debian") => System::Debian,
            () if has("fedora") => System::Fedora,
            () if has("arch") => System::Arch,
            () => System::Other,
        }
    }

    /// The commands that provide all of `needs`, as a person types them.
    fn commands(self, needs: &[&Need]) -> Vec<String> {
        let words = |of: fn(&Need) -> &'static str| {
            needs.iter().map(|need| of(need)).filter(|w| !w.is_empty()).collect::<Vec<_>>()
        };
        let one = |start: &str, packages: Vec<&str>| {
            if packages.is_empty() { vec![] } else { vec![format!("{start} {}", packages.join(" "))] }
        };
        match self {
            System::Debian => one("sudo apt-get install", words(|n| n.debian)),
            System::Ubuntu => {
                let mut lines = vec![];
                let mut apt = vec![];
                for need in needs {
                    match need.what {
                        what if what == CHROMIUM.what => lines.push("sudo snap install chromium".to_owned()),
                        what if what == FIREFOX.what => lines.push("sudo snap install firefox".to_owned()),
                        what if what == WASM_TARGET.what => lines.push(format!("rustup target add {WASM}")),
                        _ => apt.push(need.debian),
                    }
                }
                lines.extend(one("sudo apt-get install", apt));
                lines
            }
            System::Fedora => one("sudo dnf install", words(|n| n.fedora)),
            System::Arch => one("sudo pacman -S", words(|n| n.arch)),
            System::Mac => words(|n| n.mac).into_iter().map(str::to_owned).collect(),
            System::Windows => words(|n| n.windows).into_iter().map(str::to_owned).collect(),
            System::Other => needs.iter().map(|need| format!("(your system's package for {})", need.what)).collect(),
        }
    }
}

/// Installs what is missing. `setup`, `demo`, `build` and `test` all call this first.
pub fn setup() -> Outcome<Tools> {
    let system = System::here();
    let mut changed = false;

    if wasm_rust().is_none() && which("rustup").is_some() {
        say(&format!("rustup target add {WASM}"));
        // If this fails, Debian's packages may still provide the target.
        let added = ask(command("rustup").args(["target", "add", WASM]).stdout(Stdio::null())).is_some();
        changed |= added;
    }

    let needs = missing();
    if !needs.is_empty() {
        changed = true;
        let needs: Vec<&Need> = needs.iter().collect();
        let names = needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
        say(&format!("missing: {names}"));
        match apt_get() {
            Some(apt) if system == System::Debian => apt_install(apt, &needs)?,
            _ => return Err(by_hand(system, &needs)),
        }
        let still = missing();
        let still: Vec<&Need> = still.iter().collect();
        if !still.is_empty() {
            return Err(by_hand(system, &still));
        }
    }

    for folder in NPM_FOLDERS {
        changed |= npm_ci(&root().join(folder))?;
    }
    changed |= fetch_crates()?;

    let (Some(wasm), Some(chromium), Some(firefox)) = (wasm_rust(), chromium()?, firefox()?) else {
        return Err("the wasm32 target or a browser disappeared during the setup".into());
    };
    let rust = if wasm == WasmRust::Debian { "Debian's rustc-web" } else { "the installed toolchain" };
    let state = if changed { "done" } else { "nothing was missing" };
    say(&format!("{state} (wasm32 by {rust}, browsers {} and {})", chromium.display(), firefox.display()));
    Ok(Tools { wasm, chromium, firefox })
}

fn say(text: &str) {
    println!("setup: {text}");
}

fn missing() -> Vec<Need> {
    let mut needs = vec![];
    if !cfg!(windows) && (which("cc").is_none() || which("c++").is_none()) {
        needs.push(COMPILER);
    }
    if !node_is_new_enough() {
        needs.push(NODE);
    }
    if cfg!(target_os = "linux") && !vulkan_works() {
        needs.push(VULKAN);
    }
    if which("ffmpeg").is_none() || which("ffprobe").is_none() {
        needs.push(FFMPEG);
    }
    if chromium().ok().flatten().is_none() {
        needs.push(CHROMIUM);
    }
    if firefox().ok().flatten().is_none() {
        needs.push(FIREFOX);
    }
    if wasm_rust().is_none() {
        needs.push(WASM_TARGET);
    }
    needs
}

fn by_hand(system: System, needs: &[&Need]) -> String {
    let names = needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let mut text =
        format!("some programs are missing, and this command cannot install them by itself: {names}\n\nPlease run\n");
    for line in system.commands(needs) {
        text.push_str(&format!("    {line}\n"));
    }
    if needs.iter().any(|need| need.what == NODE.what) && matches!(system, System::Debian | System::Ubuntu) {
        text.push_str("(if this gives a Node.js older than 20, install it from nodejs.org instead)\n");
    }
    if needs.iter().any(|need| need.what == CHROMIUM.what) {
        text.push_str("(or set FANLIGHT_CHROMIUM to another Chromium-based browser)\n");
    }
    if needs.iter().any(|need| need.what == FIREFOX.what) {
        text.push_str("(or set FANLIGHT_FIREFOX to where it lies)\n");
    }
    text + "and start this command again."
}

/// `rustup`'s target if it is there, else Debian's toolchain if it is complete.
fn wasm_rust() -> Option<WasmRust> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = ask(command(rustc).args(["--print", "target-libdir", "--target", WASM]));
    let has_core = |folder: &Path| {
        std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libcore-")))
        })
    };
    if libraries.is_some_and(|folder| has_core(Path::new(&folder))) {
        return Some(WasmRust::Installed);
    }
    let state = ask(command("dpkg-query").args(["-W", "-f", "${db:Status-Status}\n"]).args(DEBIAN_RUST))?;
    let complete = state.lines().filter(|line| *line == "installed").count() == DEBIAN_RUST.len();
    complete.then_some(WasmRust::Debian)
}

fn node_is_new_enough() -> bool {
    let version = ask(command("node").arg("--version")).unwrap_or_default();
    let major = version.strip_prefix('v').and_then(|v| v.split('.').next()).and_then(|v| v.parse::<u32>().ok());
    major.is_some_and(|major| major >= OLDEST_NODE) && ask(npm().arg("--version")).is_some()
}

/// Whether a Vulkan driver can be used. A hardware driver counts only if there is a GPU; the software driver (lavapipe) always
/// counts.
fn vulkan_works() -> bool {
    if std::env::var_os("VK_DRIVER_FILES").or_else(|| std::env::var_os("VK_ICD_FILENAMES")).is_some() {
        return true;
    }
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"].map(names).concat();
    let gpu = names("/dev/dri").iter().any(|n| n.starts_with("renderD"))
        || ["/dev/nvidia0", "/dev/dxg"].iter().any(|device| Path::new(device).exists());
    drivers.iter().any(|name| name.starts_with("lvp")) || (gpu && !drivers.is_empty())
}

/// The browser of the headless demo, and one of those that the tests run in.
fn chromium() -> Outcome<Option<PathBuf>> {
    browser(
        &["FANLIGHT_CHROMIUM", "CHROMIUM"],
        &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"],
        &[
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
            "C:/Program Files/Google/Chrome/Application/chrome.exe",
            "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
        ],
    )
}

/// The other browser that the tests run in: another implementation of WebGPU.
fn firefox() -> Outcome<Option<PathBuf>> {
    browser(
        &["FANLIGHT_FIREFOX"],
        &["firefox-esr", "firefox"],
        &["/Applications/Firefox.app/Contents/MacOS/firefox", "C:/Program Files/Mozilla Firefox/firefox.exe"],
    )
}

/// A browser that a variable names, that is on PATH, or that lies where its installer puts it. A path that was given but does not
/// exist is an error, not a miss.
fn browser(variables: &[&str], names: &[&str], installed: &[&str]) -> Outcome<Option<PathBuf>> {
    for variable in variables {
        if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
            let found = if path.is_file() { Some(path.clone()) } else { which(&path.to_string_lossy()) };
            return found.map(Some).ok_or_else(|| format!("{variable} names {}, which is not a file", path.display()));
        }
    }
    let by_path = installed.iter().map(PathBuf::from).find(|path| path.is_file());
    Ok(names.iter().find_map(|name| which(name)).or(by_path))
}

/// apt-get, if it can be run without asking for a password.
fn apt_get() -> Option<Command> {
    let apt = which("apt-get")?;
    if ask(command("id").arg("-u")).as_deref() == Some("0") {
        return Some(command(apt));
    }
    ask(command("sudo").args(["-n", "true"]))?;
    let mut sudo = command("sudo");
    sudo.args(["-n", "--preserve-env=DEBIAN_FRONTEND"]).arg(apt);
    Some(sudo)
}

fn apt_install(apt: Command, needs: &[&Need]) -> Outcome {
    let packages: Vec<&str> = needs.iter().flat_map(|need| need.debian.split(' ')).collect();
    let run_apt = |args: &[&str]| {
        let mut apt_get = command(apt.get_program());
        apt_get.args(apt.get_args()).args(["-o", "DPkg::Lock::Timeout=300", "-qq"]).args(args);
        run(apt_get.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
    };
    say(&format!("apt-get install {}", packages.join(" ")));
    // A failed update may concern only one of many mirrors, so go on. If it matters, the installation fails.
    run_apt(&["update"]).ok();
    run_apt(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat())
}

/// Installs the npm packages of a folder, unless they are already those of its lockfile. Returns whether it did.
fn npm_ci(folder: &Path) -> Outcome<bool> {
    let lock = read(&folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.fanlight-lock");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(false);
    }
    say(&format!("npm ci in {}", folder.strip_prefix(root()).unwrap_or(folder).display()));
    run(npm().args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder))?;
    write(&stamp, &lock)?;
    Ok(true)
}

/// Downloads all crates of the lockfiles once, so that later commands also work offline.
fn fetch_crates() -> Outcome<bool> {
    let lock = read(&root().join("Cargo.lock"))? + &read(&root().join("fuzz/Cargo.lock"))?;
    let stamp = root().join("target/xtask/fetched.lock");
    if std::fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == lock) {
        return Ok(false);
    }
    run(cargo().args(["fetch", "--locked", "--quiet"]))?;
    run(cargo().args(["fetch", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]))?;
    std::fs::create_dir_all(root().join("target/xtask")).map_err(|e| format!("target/xtask: {e}"))?;
    write(&stamp, &lock)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_by_their_release_file() {
        let of = System::of_release;
        assert!(of("PRETTY_NAME=\"Debian\"\nID=debian\n") == System::Debian);
        assert!(of("ID=ubuntu\nID_LIKE=debian\n") == System::Ubuntu);
        assert!(of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n") == System::Ubuntu);
        assert!(of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n") == System::Fedora);
        assert!(of("ID=arch\n") == System::Arch);
        assert!(of("ID=nixos\n") == System::Other);
    }

    #[test]
    fn every_system_gets_commands_a_person_can_paste() {
        let needs = [&COMPILER, &NODE, &VULKAN, &FFMPEG, &CHROMIUM, &FIREFOX, &WASM_TARGET];
        assert_eq!(
            System::Debian.commands(&needs),
            [
                "sudo apt-get install g++ libc6-dev nodejs npm mesa-vulkan-drivers libvulkan1 ffmpeg chromium firefox-esr \
              rustc-web cargo-web rust-web-llvm rust-web-src lld-22"
            ]
        );
        assert_eq!(
            System::Ubuntu.commands(&needs),
            [
                "sudo snap install chromium",
                "sudo snap install firefox",
                "rustup target add wasm32-unknown-unknown",
                "sudo apt-get install g++ libc6-dev nodejs npm mesa-vulkan-drivers libvulkan1 ffmpeg"
            ]
        );
        assert_eq!(System::Mac.commands(&[&VULKAN, &CHROMIUM]), ["brew install --cask google-chrome"]);
        assert!(System::Debian.commands(&[]).is_empty());
        let text = by_hand(System::Fedora, &needs);
        assert!(text.contains("    sudo dnf install gcc-c++ nodejs npm"), "{text}");
    }
}
