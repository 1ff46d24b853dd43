//! Files of a room that import each other in a circle, by whatever way round. Such files can only be understood together.
//!
//! A file imports another one if it names something that the other defines. Names are followed to where they are defined, through
//! `use` lines, renames, globs and what a parent passes on with `pub use`. Declaring `mod child;` or passing a child's names on
//! is no import, and neither is what only tests name. Calls of methods and inferred types are not seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::files;

/// Rooms in which no file may import another one that, by whatever way round, imports the first.
const WITHOUT_CIRCLES: [&str; 4] = ["model", "weights", "text", "chat"];

/// A module, which is a file here: `src/lib.rs` is the one without a name, `src/gpu/device.rs` is `gpu`, `device`.
#[derive(Default)]
struct Module {
    /// Its file.
    path: String,
    /// Names of the files that it declares with `mod name;`.
    children: BTreeSet<String>,
    /// Names of the functions, types, constants and macros that it defines.
    items: BTreeSet<String>,
    /// What its `use` lines bring in.
    uses: Vec<Use>,
    /// Paths in its code outside of `use` lines, those of a single name included.
    mentions: BTreeSet<Vec<String>>,
}

/// One name of a `use` line.
struct Use {
    /// What stands behind `use`, opened if it was a group; of `path::*` only the path.
    path: Vec<String>,
    /// The name that the file gives it; `*` for all that there is.
    name: String,
    /// Whether it is a `pub use` of any kind, which passes a name on and alone imports nothing.
    passed_on: bool,
}

/// All modules of the crate by their names from the root.
type Modules = BTreeMap<Vec<String>, Module>;

/// Words, `::`, and every other sign that is not white space.
fn tokens(code: &str) -> Vec<&str> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code.trim_start();
    let mut all = Vec::new();
    while let Some(first) = rest.chars().next() {
        let len = if part(first) {
            rest.find(|c| !part(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        all.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    all
}

/// The tokens without the items behind `#[cfg(test)]`.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&TEST) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        // An item ends with a semicolon or with the brace that closes its body.
        let mut depth = 0;
        for token in &tokens[at..] {
            at += 1;
            depth += i32::from(["{", "(", "["].contains(token)) - i32::from(["}", ")", "]"].contains(token));
            if depth == 0 && ["}", ";"].contains(token) {
                break;
            }
        }
    }
    kept
}

/// Whether this is a name or a word of the language, and no sign or number.
fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The names of a `use` line, whose tokens after `use` begin at `at`; also where the next branch of its tree begins.
fn use_tree(tokens: &[&str], mut at: usize, before: &[String], passed_on: bool, found: &mut Vec<Use>) -> usize {
    let mut path = before.to_vec();
    while let Some(&token) = tokens.get(at) {
        at += 1;
        match token {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = use_tree(tokens, at, &path, passed_on, found);
                    at += usize::from(tokens.get(at) == Some(&","));
                }
                return at + 1;
            }
            "*" => {
                found.push(Use { path, name: "*".into(), passed_on });
                return at;
            }
            word => {
                // `use path::{self}` is the path itself.
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                if tokens.get(at) == Some(&"::") {
                    continue;
                }
                let renamed = tokens.get(at) == Some(&"as");
                let name = if renamed { tokens[at + 1].to_owned() } else { path.last().cloned().unwrap_or_default() };
                found.push(Use { path, name, passed_on });
                return at + 2 * usize::from(renamed);
            }
        }
    }
    at
}

/// What the file at `path` defines, declares and mentions, of its code without comments and literals.
fn module(path: &str, code: &str) -> Module {
    const ITEMS: [&str; 9] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"];
    let tokens = without_tests(&tokens(code));
    let mut module = Module { path: path.to_owned(), ..Module::default() };
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        let behind = |n: usize| at.checked_sub(n).map_or("", |at| tokens[at]);
        let ahead = |n: usize| tokens.get(at + n).copied().unwrap_or_default();
        depth += i32::from(token == "{") - i32::from(token == "}");
        // `impl Trait + use<'a>` captures lifetimes and imports nothing.
        if token == "use" && ahead(1) != "<" {
            // `pub use`, or `pub(crate) use`.
            let passed_on = ["pub", ")"].contains(&behind(1));
            at = use_tree(&tokens, at + 1, &[], passed_on, &mut module.uses);
            continue;
        }
        if depth == 0 && token == "mod" {
            assert_eq!(ahead(2), ";", "{path}: this test knows no module inside a file but of tests");
            module.children.insert(ahead(1).to_owned());
            at += 2;
            continue;
        }
        if depth == 0 && ITEMS.contains(&token) {
            let name = if token == "macro_rules" { ahead(2) } else { ahead(1) };
            module.items.extend(is_word(name).then(|| name.to_owned()));
        }
        // Not a field, a method or what follows a path that was already seen; a field's name is followed by a colon.
        if is_word(token) && !["::", "."].contains(&behind(1)) && ahead(1) != ":" {
            let mut mention = vec![token.to_owned()];
            while ahead(2 * mention.len() - 1) == "::" && is_word(ahead(2 * mention.len())) {
                mention.push(ahead(2 * mention.len()).to_owned());
            }
            module.mentions.insert(mention);
        }
        at += 1;
    }
    module
}

/// The crate's modules, from the root on, as they are declared; `files` are paths and code.
fn modules(files: &[(&str, &str)]) -> Modules {
    let mut all = Modules::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(names) = open.pop() {
        let place = if names.is_empty() { "lib".to_owned() } else { names.join("/") };
        let paths = [format!("src/{place}.rs"), format!("src/{place}/mod.rs")];
        let file = files.iter().find(|(path, _)| paths.iter().any(|p| p == path));
        let (path, code) = file.unwrap_or_else(|| panic!("no file for the module {place}"));
        let module = module(path, code);
        open.extend(module.children.iter().map(|child| [&names[..], std::slice::from_ref(child)].concat()));
        all.insert(names, module);
    }
    all
}

/// Where the first item on `path`, as it is written in the module `from`, is defined: its module, and its name. `None` for a
/// path into another crate, and for one that names a module alone.
fn definition(all: &Modules, from: &[String], path: &[String], steps: usize) -> Option<(Vec<String>, String)> {
    // Names that are passed on in a ring lead nowhere; none is passed on so often.
    let steps = steps.checked_sub(1)?;
    let mut names = from.to_vec();
    for (i, part) in path.iter().enumerate() {
        let (module, rest) = (all.get(&names)?, &path[i + 1..]);
        match part.as_str() {
            "crate" if i == 0 => names.clear(),
            "self" if i == 0 => {}
            "super" => drop(names.pop()?),
            // A function may have the name of a module; only of the module something else can follow.
            _ if module.items.contains(part) && (rest.is_empty() || !module.children.contains(part)) => {
                return Some((names, part.clone()));
            }
            _ if module.children.contains(part) => names.push(part.clone()),
            _ => {
                return module.uses.iter().find_map(|used| match used.name.as_str() {
                    "*" => definition(all, &names, &[&used.path[..], &path[i..]].concat(), steps),
                    name if name == part => definition(all, &names, &[&used.path[..], rest].concat(), steps),
                    _ => None,
                });
            }
        }
    }
    None
}

/// Which file imports which, with one name that it imports: it names something that the other defines.
fn imported(all: &Modules) -> BTreeMap<(&str, &str), String> {
    let mut edges = BTreeMap::new();
    for (names, module) in all {
        let used = module.uses.iter().filter(|used| !used.passed_on).map(|used| &used.path);
        for path in used.chain(&module.mentions) {
            if let Some((place, name)) = definition(all, names, path, 16)
                && place != *names
            {
                edges.entry((&*module.path, &*all[&place].path)).or_insert(name);
            }
        }
    }
    edges
}

/// For every import between files of `room` that can be followed back to where it began, the shortest way there and back,
/// each circle once and the short ones first.
fn circles(imports: &BTreeMap<(&str, &str), String>, room: &str) -> Vec<String> {
    let (file, folder) = (format!("src/{room}.rs"), format!("src/{room}/"));
    let inside = |path: &str| path == file || path.starts_with(&folder);
    let edges: BTreeMap<(&str, &str), &String> =
        imports.iter().filter(|((from, to), _)| inside(from) && inside(to)).map(|(edge, name)| (*edge, name)).collect();
    let next = |from: &str| edges.keys().filter(move |edge| edge.0 == from).map(|edge| edge.1).collect::<Vec<_>>();
    let mut found = BTreeMap::new();
    for &(first, second) in edges.keys() {
        // Breadth first, so the way back is a shortest one.
        let mut ways = vec![vec![first, second]];
        let mut seen = BTreeSet::from([second]);
        let mut at = 0;
        while at < ways.len() {
            let way = ways[at].clone();
            at += 1;
            if way[way.len() - 1] == first {
                let members: BTreeSet<&str> = way.iter().copied().collect();
                found.entry((members.len(), members)).or_insert(way);
                break;
            }
            let further = next(way[way.len() - 1]).into_iter().filter(|file| seen.insert(file));
            ways.extend(further.map(|file| [&way[..], &[file]].concat()));
        }
    }
    let arrow = |pair: &[&str]| format!(" → {} (for {})", pair[1], edges[&(pair[0], pair[1])]);
    found.into_values().map(|way| way[0].to_owned() + &way.windows(2).map(arrow).collect::<String>()).collect()
}

#[test]
fn files_of_a_room_do_not_import_each_other_in_a_circle() {
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|file| (&*file.path, &*file.code)).collect();
    let all = modules(&files);
    let imports = imported(&all);
    let found: Vec<String> = WITHOUT_CIRCLES.iter().flat_map(|room| circles(&imports, room)).collect();
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

/// The scanner of circles: what counts as an import, and of which file.
#[test]
fn circles_are_seen() {
    let files = [
        ("src/lib.rs", "pub mod error; pub mod room; pub use error::Error;"),
        ("src/error.rs", "pub enum Error { A }"),
        (
            "src/room/mod.rs",
            "mod a; pub mod b; mod c; pub(crate) mod d; #[cfg(test)] mod tests { use super::a::A; }
            pub use a::{A, self as first}; pub use self::b::*; pub const TOP: usize = 1; pub use c::seldom;",
        ),
        // By the re-export of the parent, through a glob, by a renamed module and in a group of groups.
        (
            "src/room/a.rs",
            "use super::B; use crate::{Error, room::{c::{self as third, C}, d}}; pub struct A; type T = u8;",
        ),
        ("src/room/b.rs", "pub struct B; impl B { fn new(a: u8) -> u8 { a.seldom() } } use std::fmt::Display;"),
        (
            "src/room/c.rs",
            "pub fn seldom() {} pub struct C; impl C { fn top() { super::super::room::TOP; super::d::f(); } }",
        ),
        // A function with the name of a module, and code that is only there for tests.
        (
            "src/room/d.rs",
            "pub fn f() -> impl Fn() + use<> {} #[cfg(test)] mod tests { use super::super::b::B; } fn g() { super::first::A; }",
        ),
    ];
    let all = modules(&files);
    let edges: Vec<String> =
        imported(&all).into_iter().map(|((from, to), name)| format!("{from} {to} {name}")).collect();
    assert_eq!(
        edges,
        [
            "src/room/a.rs src/error.rs Error",
            "src/room/a.rs src/room/b.rs B",
            "src/room/a.rs src/room/c.rs C",
            "src/room/c.rs src/room/d.rs f",
            "src/room/c.rs src/room/mod.rs TOP",
            "src/room/d.rs src/room/a.rs A",
        ]
    );
    let circle = "src/room/a.rs → src/room/c.rs (for C) → src/room/d.rs (for f) → src/room/a.rs (for A)";
    assert_eq!(circles(&imported(&all), "room"), [circle]);
    assert!(circles(&imported(&all), "roo").is_empty());
}

/// A parent that uses what its children hold, while one of them uses what the parent holds.
#[test]
fn parent_and_child_can_make_a_circle() {
    let child = ("src/room/child.rs", "pub fn f() -> super::Held { super::Held }");
    for (parent, circle) in [
        ("mod child; pub struct Held;", false),
        ("mod child; pub struct Held; pub use child::f;", false),
        ("mod child; pub struct Held; pub use child::f; fn g() { f(); }", true),
        ("mod child; pub struct Held; use child::f as other;", true),
        ("mod child; pub struct Held; fn g() { child::f(); }", true),
    ] {
        let all = modules(&[("src/lib.rs", "mod room;"), ("src/room.rs", parent), child]);
        assert_eq!(!circles(&imported(&all), "room").is_empty(), circle, "{parent}");
    }
}
