//! The house rules of `src/lib.rs`, held against the sources.
//!
//! Who may use whom is one table: the map of `src/lib.rs`, which is read here. The lists below name what does not hold yet;
//! they may only grow shorter, and an entry that is no longer needed fails as well.

mod graph;
mod rules;
mod source;
mod words;

use std::process::Command;

use graph::{file_circles, imports, offences, room_circles, rows, wrong_circles};
use source::{Source, program};

const NOTHING: [String; 0] = [];

#[test]
fn rooms_use_only_what_the_map_allows() {
    let sources = program();
    let mut rows = rows(include_str!("../../src/lib.rs"));
    // The start of the program is no room of the library.
    rows.insert(vec!["main".into()], ["device", "headless", "ui"].map(|room| vec![room.into()]).into());
    assert_eq!(offences(&sources, &imports(&sources), &rows), NOTHING);
}

#[test]
fn no_room_and_no_file_is_in_a_circle() {
    let imports = imports(&program());
    assert_eq!(wrong_circles(&room_circles(&imports), &[], &imports), NOTHING);
    assert_eq!(wrong_circles(&file_circles(&imports), &[], &imports), NOTHING);
}

/// Invariant 1, asked of cargo: nothing of a window is built into the program without its window.
#[test]
fn without_its_window_the_program_depends_on_none() {
    let of_windows = |features: &[&str]| {
        let tree = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(features)
            .output()
            .expect("cargo starts");
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).expect("names");
        let names = tree.lines().filter_map(|line| line.split_whitespace().next());
        let windows = ["egui", "eframe", "rfd", "winit", "accesskit"];
        let mut found: Vec<_> =
            names.filter(|name| windows.iter().any(|window| name.starts_with(window))).map(str::to_owned).collect();
        found.sort();
        found.dedup();
        found
    };
    assert_eq!(of_windows(&["--no-default-features"]), NOTHING);
    let with_window = of_windows(&[]);
    assert!(
        ["egui", "eframe", "rfd"].iter().all(|name| with_window.iter().any(|found| found == name)),
        "{with_window:?}"
    );
}

/// Invariant 5: the store is changed through these, and no others are added unseen.
#[test]
fn the_store_is_changed_by_its_own_few() {
    let sources = program();
    let store = sources.iter().find(|source| source.file == "store/mod.rs").expect("the store");
    assert_eq!(changers(store), ["apply", "apply_look", "note", "clear", "sample_started"]);
    let (offending, _) =
        Source::parse("store/mod.rs", "impl S { pub fn a(&self) {} pub(crate) fn b(&mut self) {} fn c(&mut self) {} }");
    assert_eq!(changers(&offending), ["b"]);
}

/// Functions of others' that change what they are called on.
fn changers(source: &Source) -> Vec<&str> {
    let text = |at: usize| source.words.get(at).map_or("", |word| word.text.as_str());
    let begin = (0..source.words.len())
        .filter(|&at: &usize| text(at) == "fn" && ["pub", ")"].contains(&text(at.wrapping_sub(1))));
    let changing = begin.filter(|at| (2..6).map(|ahead| text(at + ahead)).eq(["(", "&", "mut", "self"]));
    changing.map(|at| text(at + 1)).collect()
}
