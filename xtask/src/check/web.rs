//! The tests of `tests/web`: each file runs in Node, in front of the page as it is built and served for people, once for each
//! browser that it is meant for. All of them share one browser of each kind, one server and one packed package.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, OnceLock};

use super::parts::web_file;
use super::queue::Job;
use crate::Outcome;
use crate::process::{command, read, root, run};
use crate::serve::Server;
use crate::setup::Tools;
use crate::site;

/// Names of the jobs that make what the tests look at.
const PAGE: &str = "build the page and the package";
const KERNELS: &str = "build the kernel tests";
/// The tests that take longest begin first, so that none of them is left alone at the end.
const LONG: [&str; 8] = ["packaging", "examples", "formats", "kernels", "e2e", "lost", "transcript", "video"];
/// A line that begins so says that the file is not run in every browser.
const NO_BROWSER: &str = "// Needs no browser.";
const ONLY_CHROMIUM: &str = "// Only in Chromium: ";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Browser {
    Chromium,
    Firefox,
}

impl Browser {
    const ALL: [Browser; 2] = [Browser::Chromium, Browser::Firefox];

    pub fn named(name: &str) -> Outcome<Browser> {
        let found = Browser::ALL.into_iter().find(|browser| browser.name() == name);
        found.ok_or_else(|| {
            format!("there is no browser `{name}` here; they are {}", Browser::ALL.map(Browser::name).join(", "))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Browser::Chromium => "chromium",
            Browser::Firefox => "firefox",
        }
    }
}

/// The browsers that a test file runs in, by what stands in it. `None`: in Node alone.
fn browsers(text: &str) -> Vec<Option<Browser>> {
    let says = |words: &str| text.lines().any(|line| line.starts_with(words));
    if says(NO_BROWSER) {
        vec![None]
    } else if says(ONLY_CHROMIUM) {
        vec![Some(Browser::Chromium)]
    } else {
        Browser::ALL.map(Some).to_vec()
    }
}

/// The jobs that build, and those that test, for the parts that are wanted.
pub fn jobs(
    wanted: &BTreeSet<String>,
    only: Option<Browser>,
    filter: Option<&str>,
    tools: &Arc<Tools>,
) -> Outcome<(Vec<Job>, Vec<Job>)> {
    let mut runs = vec![];
    for part in wanted.iter().filter(|part| part.starts_with("web/")) {
        let text = read(&root().join(web_file(part)))?;
        let fits = |browser: &Option<Browser>| browser.is_none() || only.is_none() || *browser == only;
        runs.extend(browsers(&text).into_iter().filter(fits).map(|browser| (part, browser)));
    }
    if runs.is_empty() {
        return Ok((vec![], vec![]));
    }
    let rank = |part: &str| LONG.iter().position(|name| part.ends_with(&format!("/{name}"))).unwrap_or(LONG.len());
    runs.sort_by_key(|(part, _)| rank(part));
    let kernels = runs.iter().any(|(part, _)| part.ends_with("/kernels"));

    let stage = Arc::new(Stage::new(tools.clone())?);
    let (page, tools_of_kernels) = (stage.clone(), tools.clone());
    let mut builds = vec![Job::new(PAGE, &[], move || page.build())];
    if kernels {
        // After the other, whose compiled dependencies it takes.
        builds.push(Job::new(KERNELS, &[PAGE], move || site::build_kernel_tests(&tools_of_kernels).map(drop)));
    }
    let tests = runs.into_iter().map(|(part, browser)| {
        let needs: &[&str] = if part.ends_with("/kernels") { &[PAGE, KERNELS] } else { &[PAGE] };
        let name = browser.map_or_else(|| part.clone(), |browser| format!("{part} ({})", browser.name()));
        let (stage, part, filter) = (stage.clone(), part.clone(), filter.map(str::to_owned));
        // Firefox gives the focus to one page at a time: two files beside each other would take it from each other.
        let alone = (browser == Some(Browser::Firefox)).then_some("firefox");
        Job::new(name, needs, move || stage.test(&part, browser, filter.as_deref())).alone_with(alone)
    });
    let tests = tests.collect();
    Ok((builds, tests))
}

/// What all tests share.
struct Stage {
    tools: Arc<Tools>,
    server: Server,
    /// The packed package, installed once: the tests copy it into their projects.
    package: OnceLock<PathBuf>,
    browsers: OnceLock<Outcome<Running>>,
}

impl Stage {
    fn new(tools: Arc<Tools>) -> Outcome<Stage> {
        let mounts = [
            ("/", "www/dist"),
            ("/kernel-tests/", "target/wasm/kernels"),
            ("/screens/", "tests/screens"),
            ("/golden/", "tests/golden"),
            ("/blank/", "tests/web/support/blank"),
        ];
        let mounts = mounts.map(|(prefix, folder)| (prefix.to_owned(), root().join(folder))).to_vec();
        Ok(Stage { tools, server: Server::start(mounts, 8887)?, package: OnceLock::new(), browsers: OnceLock::new() })
    }

    fn build(&self) -> Outcome {
        site::build(&self.tools)?;
        self.package.set(site::install(&site::pack()?)?).map_err(|_| "the package is made once".to_owned())
    }

    fn test(&self, part: &str, browser: Option<Browser>, filter: Option<&str>) -> Outcome {
        let mut node = command("node");
        // A test that hangs says which it is, long after the slowest machine would have ended it.
        node.args(["--test", "--test-reporter=spec", "--test-timeout=1200000"]);
        node.args(filter.map(|text| format!("--test-name-pattern={text}"))).arg(web_file(part));
        node.env("FANLIGHT_CHROMIUM", &self.tools.chromium).env("FANLIGHT_FIREFOX", &self.tools.firefox);
        node.env("FANLIGHT_URL", self.server.url()).envs(self.package.get().map(|path| ("FANLIGHT_INSTALLED", path)));
        if let Some(browser) = browser {
            let running = self.browsers.get_or_init(|| Running::start(&self.tools)).as_ref().map_err(Clone::clone)?;
            node.env("FANLIGHT_BROWSER", browser.name())
                .envs(running.variables.iter().map(|(name, value)| (name, value)));
        }
        run(&mut node)
    }
}

/// The browsers that the tests share, held by a Node process that ends them when its standard input closes.
struct Running {
    node: Child,
    /// Where they are reached, for the tests: names and values.
    variables: Vec<(String, String)>,
}

impl Running {
    fn start(tools: &Tools) -> Outcome<Running> {
        let mut node = command("node");
        node.arg("tests/web/support/browsers.mjs").stdin(Stdio::piped()).stdout(Stdio::piped());
        // Not into our own output: Node makes a pipe that it inherits non-blocking, and then our own printing into it fails.
        let log = root().join("target/xtask/browsers.log");
        node.stderr(std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?);
        node.env("FANLIGHT_CHROMIUM", &tools.chromium).env("FANLIGHT_FIREFOX", &tools.firefox);
        let mut node = node.spawn().map_err(|e| format!("node could not be started: {e}"))?;
        let lines = node.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok);
        let pair = |line: String| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        // An empty line says that all of them are there.
        let variables: Vec<_> = lines.take_while(|line| !line.is_empty()).filter_map(pair).collect();
        if variables.is_empty() {
            return Err(format!("the browsers could not be started; what they said is in {}", log.display()));
        }
        Ok(Running { node, variables })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.node.stdin.take());
        self.node.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::all;
    use super::*;

    #[test]
    fn a_file_says_where_it_runs() {
        assert_eq!(browsers("// The page.\n"), [Some(Browser::Chromium), Some(Browser::Firefox)]);
        assert_eq!(browsers("// Code of the README.\n// Needs no browser.\n"), [None]);
        assert_eq!(browsers("// Only in Chromium: it crashes the GPU process.\n"), [Some(Browser::Chromium)]);
        assert_eq!(Browser::named("firefox"), Ok(Browser::Firefox));
        assert!(Browser::named("safari").is_err());
    }

    #[test]
    fn the_long_tests_are_there() {
        let all = all().unwrap();
        for name in LONG {
            assert!(all.iter().any(|part| part.starts_with("web/") && part.ends_with(&format!("/{name}"))), "{name}");
        }
    }
}
