//! Who names whom, among files and among rooms, and the circles in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::source::{Module, Source};

/// One import: from a file to a file, and the line that it stands in.
#[derive(Debug, Clone)]
pub struct Import {
    pub from: Module,
    pub to: Module,
    pub place: String,
}

/// What each file names of the others. A path counts for the longest part of it that is a file; an empty one is the crate's
/// root, where nothing is to be had.
pub fn imports(sources: &[Source]) -> Vec<Import> {
    let files: BTreeSet<&Module> = sources.iter().map(|source| &source.module).collect();
    let mut found = Vec::new();
    for source in sources {
        for named in &source.named {
            let lengths = (0..=named.path.len()).rev();
            let to = lengths.map(|length| named.path[..length].to_vec()).find(|path| files.contains(path));
            let to = to.unwrap_or_default();
            if to != source.module {
                let place = format!("{}:{}", source.file, named.line);
                found.push(Import { from: source.module.clone(), to, place });
            }
        }
    }
    found
}

/// The circles of files. A folder's front and what it hands on of its own files are one: an import from a front to a file
/// below it is none.
pub fn file_circles(imports: &[Import]) -> Vec<BTreeSet<Module>> {
    let between = imports.iter().filter(|import| !import.to.is_empty() && !import.to.starts_with(&import.from));
    circles(between.map(|import| (import.from.clone(), import.to.clone())))
}

/// The circles of rooms: of the crate's own folders and single files.
pub fn room_circles(imports: &[Import]) -> Vec<BTreeSet<Module>> {
    let room = |module: &Module| module[..1].to_vec();
    let between = imports.iter().filter(|import| !import.to.is_empty() && !import.from.is_empty());
    circles(between.map(|import| (room(&import.from), room(&import.to))))
}

/// Sets of two and more from each of which every other one can be reached.
fn circles(arrows: impl Iterator<Item = (Module, Module)>) -> Vec<BTreeSet<Module>> {
    let mut next: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(to.clone()).or_default();
        next.entry(from).or_default().insert(to);
    }
    let reached_from = |start: &Module| {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            open.extend(next[module].iter().filter(|module| reached.insert((*module).clone())));
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        next.keys().map(|module| (module, reached_from(module))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (module, there) in &reached {
        let circle: BTreeSet<Module> = there.iter().filter(|other| reached[other].contains(*module)).cloned().collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

/// What is wrong with the circles, `known` being those that are still to be ended: a new one, a known one that took in
/// another file, or one that is gone and still listed.
pub fn wrong_circles(found: &[BTreeSet<Module>], known: &[&[&str]], imports: &[Import]) -> Vec<String> {
    let known: Vec<BTreeSet<Module>> = known
        .iter()
        .map(|circle| circle.iter().map(|file| file.split('/').map(str::to_owned).collect()).collect())
        .collect();
    let mut wrong = Vec::new();
    for circle in found {
        if !known.iter().any(|known| circle.is_subset(known)) {
            let mut text = format!("a circle of {}:", names(circle));
            let within = imports.iter().filter(|import| {
                circle.contains(&import.from) && circle.contains(&import.to) && !import.to.starts_with(&import.from)
            });
            let lines: BTreeSet<String> =
                within.map(|import| format!("{} names {}", import.place, import.to.join("/"))).collect();
            for line in lines {
                let _ = write!(text, "\n    {line}");
            }
            wrong.push(text);
        }
    }
    for circle in &known {
        if !found.iter().any(|found| found.is_subset(circle)) {
            wrong.push(format!("the circle of {} is gone: take it off the list", names(circle)));
        }
    }
    wrong
}

fn names(circle: &BTreeSet<Module>) -> String {
    circle.iter().map(|module| module.join("/")).collect::<Vec<_>>().join(", ")
}

/// The map's rows: each room, or a part of one that may use less than the rest, and what it may use.
pub type Rows = BTreeMap<Module, Vec<Module>>;

/// Reads the table of rooms in the crate's documentation: `| [room] | what for | room, part::of_one |`, each name in backticks.
pub fn rows(documentation: &str) -> Rows {
    let path =
        |name: &str| -> Module { name.trim_matches(['[', ']', '`', ' ']).split("::").map(str::to_owned).collect() };
    let table = documentation.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let rows = table.filter_map(|line| {
        let cells: Vec<_> = line.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        let [room, _, uses] = cells[..] else { return None };
        let uses = if uses == "nothing of ours" { Vec::new() } else { uses.split(',').map(path).collect() };
        Some((path(room), uses))
    });
    rows.collect()
}

/// The row that a file falls under: its own, or that of a folder it is in.
fn row_of<'a>(module: &'a Module, rows: &Rows) -> Option<&'a [String]> {
    (1..=module.len()).rev().map(|end| &module[..end]).find(|part| rows.contains_key(*part))
}

/// What the rows forbid: imports that no row allows, rooms without a row, and rows of what is not there.
pub fn offences(sources: &[Source], imports: &[Import], rows: &Rows) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        if !rows.contains_key(&source.module[..1]) {
            wrong.insert(format!("{} has no row in the map of src/lib.rs", source.room()));
        }
    }
    let there = |part: &Module| sources.iter().any(|source| source.module.starts_with(part));
    for part in rows.iter().flat_map(|(room, uses)| std::iter::once(room).chain(uses)) {
        if !there(part) {
            wrong.insert(format!("the map of src/lib.rs names {}, which is not there", part.join("/")));
        }
    }
    for import in imports.iter().filter(|import| !import.from.is_empty()) {
        if import.to.is_empty() {
            wrong.insert(format!("{} names the crate as a whole: name the room", import.place));
            continue;
        }
        let Some(row) = row_of(&import.from, rows) else { continue };
        let allowed = import.to.starts_with(row) || rows[row].iter().any(|part| import.to.starts_with(part));
        if !allowed {
            wrong.insert(format!(
                "{} names {}: not in the row of {}",
                import.place,
                import.to.join("/"),
                row.join("/")
            ));
        }
    }
    wrong.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::sources;
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Vec<Source> {
        sources(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    }

    const MAP: &str = "
//! | room | what it is for | may use |
//! |---|---|---|
//! | [`recipe`] | asks | nothing of ours |
//! | [`lab`] | works | `recipe`, `text` |
//! | [`lab::protocol`] | tells | `recipe` |
//! | [`text`] | reads | `recipe`, `lab::protocol` |
";

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let all = [
            ("lib.rs", ""),
            ("recipe.rs", ""),
            ("lab/mod.rs", "pub mod protocol;"),
            ("lab/protocol.rs", ""),
            ("lab/worker.rs", ""),
            ("text.rs", ""),
        ];
        let others = all.iter().filter(|(file, _)| !files.iter().any(|(mine, _)| mine == file));
        let sources = crate_of(&others.chain(files).copied().collect::<Vec<_>>());
        offences(&sources, &imports(&sources), &rows(MAP))
    }

    #[test]
    fn the_rows_forbid_what_they_do_not_name() {
        assert_eq!(wrong(&[]), [] as [String; 0]);
        assert_eq!(wrong(&[("lab/worker.rs", "use crate::{recipe::Recipe, text, lab::protocol};")]), [] as [String; 0]);
        assert_eq!(wrong(&[("text.rs", "use crate::lab::protocol::Step;")]), [] as [String; 0]);
        let cases = [
            ("recipe.rs", "use crate::{text};", "recipe.rs:1 names text: not in the row of recipe"),
            ("text.rs", "use super::lab::{worker};", "text.rs:1 names lab/worker: not in the row of text"),
            ("text.rs", "use super::lab::run;", "text.rs:1 names lab: not in the row of text"),
            (
                "lab/protocol.rs",
                "use super::worker;",
                "lab/protocol.rs:1 names lab/worker: not in the row of lab/protocol",
            ),
            (
                "lab/protocol.rs",
                "fn f() { crate::text::f() }",
                "lab/protocol.rs:1 names text: not in the row of lab/protocol",
            ),
            ("recipe.rs", "use crate as all;", "recipe.rs:1 names the crate as a whole: name the room"),
            ("recipe.rs", "use super::*;", "recipe.rs:1 names the crate as a whole: name the room"),
            ("serve.rs", "", "serve has no row in the map of src/lib.rs"),
        ];
        for (file, text, why) in cases {
            assert_eq!(wrong(&[(file, text)]), [why], "{text}");
        }
        let sources = crate_of(&[("recipe.rs", "")]);
        let gone = offences(&sources, &[], &rows("//! | [`recipe`] | asks | `text` |"));
        assert_eq!(gone, ["the map of src/lib.rs names text, which is not there"]);
    }

    #[test]
    fn circles_are_found_and_the_list_of_known_ones_must_shrink() {
        let files = [
            ("a/mod.rs", "mod one; mod two; pub use self::one::One; use crate::c;"),
            ("a/one.rs", "use super::two::Two;"),
            ("a/two.rs", "fn f() { crate::a::one::One::new() }"),
            ("b.rs", "use crate::a::{One};"),
            ("c.rs", "use super::b;"),
            ("d.rs", "use crate::c; #[cfg(test)] mod tests { use crate::e; }"),
            ("e.rs", "use crate::d;"),
        ];
        let sources = crate_of(&files);
        let imports = imports(&sources);
        let (files, rooms) = (file_circles(&imports), room_circles(&imports));
        let text = |circles: &[BTreeSet<Module>]| circles.iter().map(names).collect::<Vec<_>>();
        assert_eq!(text(&files), ["a, b, c", "a/one, a/two"]);
        assert_eq!(text(&rooms), ["a, b, c"]);
        assert_eq!(
            wrong_circles(&files, &[&["a", "b", "c"], &["a/one", "a/three", "a/two"]], &imports),
            [] as [String; 0]
        );
        let unknown = wrong_circles(&files, &[&["a", "b", "c"], &["a/one", "a/three"]], &imports);
        assert_eq!(unknown.len(), 2, "{unknown:?}");
        assert_eq!(unknown[0], "a circle of a/one, a/two:\n    a/one.rs:1 names a/two\n    a/two.rs:1 names a/one");
        assert_eq!(unknown[1], "the circle of a/one, a/three is gone: take it off the list");
    }
}
