//! A source file as words, without its tests, and the modules that it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::words::{Word, words_of};

/// A module by its path from the crate's root; empty for the root itself.
pub type Module = Vec<String>;

/// A path that a source names, from the crate's root on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub path: Module,
    pub line: usize,
}

/// A file of the program, its tests left out.
#[derive(Debug)]
pub struct Source {
    /// Below `src`, with `/`: `ui/app.rs`.
    pub file: String,
    pub module: Module,
    pub words: Vec<Word>,
    pub named: Vec<Named>,
    /// What `use` brings in, each leaf spelled out: `std :: fs :: read`.
    pub used: Vec<Vec<Word>>,
}

impl Source {
    /// Reads a source text, and which of the modules that it declares are tests.
    pub fn parse(file: &str, text: &str) -> (Self, Vec<String>) {
        let mut tests = Vec::new();
        let words = without_tests(&words_of(text), &mut tests);
        let module = module_of(file);
        let mut found = Self { file: file.into(), module, words, named: Vec::new(), used: Vec::new() };
        found.read_paths();
        (found, tests)
    }

    /// The room's name: the file's first folder, or the file itself.
    pub fn room(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Lines in which the words of `pattern` stand behind each other (`fs :: read`; `egui…` for every word that begins so).
    pub fn lines_with(&self, pattern: &str) -> Vec<usize> {
        let wanted: Vec<_> = pattern.split_whitespace().collect();
        let fits = |window: &[Word]| window.iter().zip(&wanted).all(|(word, wanted)| word.is(wanted));
        let places = |words: &[Word]| -> Vec<usize> {
            words.windows(wanted.len()).filter(|window| fits(window)).map(|window| window[0].line).collect()
        };
        let mut lines = places(&self.words);
        lines.extend(self.used.iter().flat_map(|leaf| places(leaf)));
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    fn read_paths(&mut self) {
        // The modules that are open at a place, beginning with the file's own, and where each ends.
        let mut open = vec![(self.module.clone(), usize::MAX)];
        let words = &self.words;
        let mut at = 0;
        while at < words.len() {
            while open.last().is_some_and(|(_, end)| *end <= at) {
                open.pop();
            }
            let module = open.last().map(|(module, _)| module.clone()).unwrap_or_default();
            let before = |back: usize| at.checked_sub(back).map_or("", |place| words[place].text.as_str());
            match words[at].text.as_str() {
                "mod" if is(words, at + 2, "{") => {
                    let inside = [module, vec![words[at + 1].text.clone()]].concat();
                    open.push((inside, end_of_group(words, at + 2)));
                    at += 3;
                }
                // `impl Trait + use<'a>` brings nothing in.
                "use" if !is(words, at + 1, "<") => {
                    let line = words[at].line;
                    let mut leaves = Vec::new();
                    at = read_tree(words, at + 1, &[], &mut leaves);
                    for leaf in leaves {
                        self.used.push(spelled(&leaf, line));
                        self.named.extend(from_root(&leaf, &module, &self.file).map(|path| Named { path, line }));
                    }
                }
                "crate" | "super" | "self" | "headlight"
                    if is(words, at + 1, "::") && before(1) != "::" && !(before(1) == "in" && before(3) == "pub") =>
                {
                    let line = words[at].line;
                    let mut path = vec![words[at].text.clone()];
                    while is(words, at + 1, "::") && words.get(at + 2).is_some_and(Word::is_name) {
                        path.push(words[at + 2].text.clone());
                        at += 2;
                    }
                    // A macro of the crate is no place in it.
                    if !is(words, at + 1, "!") || path.len() > 2 {
                        self.named.extend(from_root(&path, &module, &self.file).map(|path| Named { path, line }));
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }
}

fn is(words: &[Word], at: usize, wanted: &str) -> bool {
    words.get(at).is_some_and(|word| word.text == wanted)
}

/// The place behind the group that opens at `at`.
fn end_of_group(words: &[Word], at: usize) -> usize {
    let mut depth = 0usize;
    for (place, word) in words.iter().enumerate().skip(at) {
        match word.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    words.len()
}

/// The words outside items that are built for tests only; `tests` gets the names of such modules in files of their own.
fn without_tests(words: &[Word], tests: &mut Vec<String>) -> Vec<Word> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let inner = is(words, at, "#") && is(words, at + 1, "!") && is(words, at + 2, "[");
        let outer = is(words, at, "#") && is(words, at + 1, "[");
        if !inner && !outer {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        let (opened, end) = (at + 1 + usize::from(inner), end_of_group(words, at + 1 + usize::from(inner)));
        let condition = &words[opened + 1..end - 1];
        if !(is(condition, 0, "cfg") && is(condition, 1, "(") && needs_test(&condition[2..condition.len() - 1])) {
            kept.extend_from_slice(&words[at..end]);
            at = end;
        } else if inner {
            return Vec::new();
        } else {
            let item_end = end_of_item(words, end);
            let item = &words[end..item_end];
            let name = item.iter().position(|word| word.text == "mod").filter(|_| is(item, item.len() - 1, ";"));
            tests.extend(name.map(|place| item[place + 1].text.clone()));
            at = item_end;
        }
    }
    kept
}

/// Whether a condition of `cfg` holds only where tests are built.
fn needs_test(condition: &[Word]) -> bool {
    let arguments = || {
        let inside = &condition[2..condition.len() - 1];
        let mut parts = vec![Vec::new()];
        let mut depth = 0;
        for word in inside {
            depth += i32::from(word.text == "(") - i32::from(word.text == ")");
            if word.text == "," && depth == 0 {
                parts.push(Vec::new());
            } else {
                parts.last_mut().expect("there is one").push(word.clone());
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    };
    match condition.first().map(|word| word.text.as_str()) {
        Some("test") => true,
        Some("all") => arguments().iter().any(|part| needs_test(part)),
        Some("any") => arguments().iter().all(|part| needs_test(part)),
        _ => false,
    }
}

/// The place behind the item, field or statement that begins at `at`, its attributes included.
fn end_of_item(words: &[Word], mut at: usize) -> usize {
    while is(words, at, "#") {
        at = end_of_group(words, at + 1);
    }
    const ITEMS: [&str; 17] = [
        "pub",
        "use",
        "mod",
        "fn",
        "struct",
        "enum",
        "impl",
        "const",
        "static",
        "type",
        "trait",
        "unsafe",
        "extern",
        "async",
        "macro_rules",
        "let",
        "{",
    ];
    let item = words.get(at).is_some_and(|word| ITEMS.contains(&word.text.as_str()));
    let visibility = usize::from(is(words, at, "pub"));
    let behind = if is(words, at + visibility, "(") { end_of_group(words, at + visibility) } else { at + visibility };
    let uses = is(words, behind, "use");
    while at < words.len() {
        match words[at].text.as_str() {
            ";" => return at + 1,
            "," if !item => return at + 1,
            "}" | ")" | "]" => return at,
            "{" if !uses => return end_of_group(words, at),
            "{" | "(" | "[" => at = end_of_group(words, at),
            _ => at += 1,
        }
    }
    at
}

/// Reads the tree of a `use` from `at`; returns the place behind its end.
fn read_tree(words: &[Word], mut at: usize, before: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    // `::burn` is a crate's name and no path of ours.
    if is(words, at, "::") {
        path.push(String::new());
        at += 1;
    }
    while at < words.len() {
        match words[at].text.as_str() {
            "{" => {
                let end = end_of_group(words, at);
                at += 1;
                while at < end - 1 {
                    at = read_tree(words, at, &path, leaves);
                    at += usize::from(is(words, at, ","));
                }
                return end + usize::from(is(words, end, ";"));
            }
            "as" => {
                leaves.push([path, vec!["as".into(), words[at + 1].text.clone()]].concat());
                return at + 2 + usize::from(is(words, at + 2, ";"));
            }
            ";" => {
                leaves.push(path);
                return at + 1;
            }
            "," | "}" => {
                leaves.push(path);
                return at;
            }
            "::" => at += 1,
            name => {
                path.push(name.into());
                at += 1;
            }
        }
    }
    at
}

/// A leaf as words that stand behind each other.
fn spelled(leaf: &[String], line: usize) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for name in leaf.iter().filter(|name| *name != "self") {
        if words.last().is_some_and(|last| last.text != "as") && name != "as" {
            words.push(Word { text: "::".into(), line });
        }
        words.push(Word { text: name.clone(), line });
    }
    words
}

/// A path as it is written in `module`, from the crate's root on; nothing for paths into other crates.
fn from_root(path: &[String], module: &Module, file: &str) -> Option<Module> {
    let path: Vec<_> = path.iter().take_while(|name| *name != "as").filter(|name| *name != "*").cloned().collect();
    let ups = path.iter().take_while(|name| *name == "super" || *name == "self").count();
    match path.first()?.as_str() {
        // The program names its library by its name.
        "crate" => Some(path[1..].to_vec()),
        "headlight" if file == "main.rs" => Some(path[1..].to_vec()),
        "super" | "self" => {
            let supers = path[..ups].iter().filter(|name| *name == "super").count();
            let base = module.len().checked_sub(supers).unwrap_or_else(|| panic!("{file}: `super` above the crate"));
            let rest = path[ups..].iter().filter(|name| *name != "self");
            Some(module[..base].iter().chain(rest).cloned().collect())
        }
        _ => None,
    }
    .map(|path: Module| path.into_iter().filter(|name| name != "self").collect())
}

fn module_of(file: &str) -> Module {
    let mut parts: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || file == "lib.rs") {
        parts.pop();
    }
    parts
}

/// Every file below `src` that is not a test.
pub fn program() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    read_folder(&root, &root, &mut texts);
    sources(&texts)
}

/// The sources of these files (below `src`) that are not tests.
pub fn sources(texts: &BTreeMap<String, String>) -> Vec<Source> {
    let mut tests = Vec::new();
    let mut found = Vec::new();
    for (file, text) in texts {
        let (source, names) = Source::parse(file, text);
        tests.extend(names.into_iter().map(|name| [source.module.clone(), vec![name]].concat()));
        found.push(source);
    }
    found.retain(|source| !tests.iter().any(|test| source.module.starts_with(test)));
    found
}

fn read_folder(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(root, &path, texts);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let below = path.strip_prefix(root).expect("below src");
            let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
            texts.insert(parts.join("/"), fs::read_to_string(&path).expect("a source file"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(file: &str, text: &str) -> Source {
        Source::parse(file, text).0
    }

    fn named(file: &str, text: &str) -> Vec<String> {
        parsed(file, text).named.iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn no_way_of_writing_an_import_slips_through() {
        let cases: [(&str, &[&str]); 14] = [
            ("use crate::{device, runs};", &["device", "runs"]),
            ("use crate::{lab::{self, handle::*}, text as words};", &["lab", "lab::handle", "text"]),
            ("use super::super::kernels::spread;", &["kernels::spread"]),
            ("use super::{super::runs, look};", &["runs", "lab::look"]),
            ("pub(crate) use self::inner::Thing;", &["lab::worker::inner::Thing"]),
            ("fn f() { let x = crate::model::Gpt::<3>::new(super::start()); }", &["model::Gpt", "lab::start"]),
            ("fn f() { assert!(super::super::runs::there(crate::text::LIMIT)); }", &["runs::there", "text::LIMIT"]),
            ("mod inner { use super::super::handle; }", &["lab::handle"]),
            ("mod inner { fn f() {} } use super::handle;", &["lab::handle"]),
            ("macro_rules! m { () => { $crate::kernels::fma() } }", &["kernels::fma"]),
            ("use crate::*;", &[""]),
            ("use\n  crate\n  ::\n  runs\n  ;", &["runs"]),
            ("use ::crate_of_others::runs; use burn::tensor; fn f() -> impl Fn() + use<'a> { crate::say!() }", &[]),
            (
                "pub(in crate::lab) fn f() { \"crate::ui\"; /* crate::ui */ } // crate::ui\n/// crate::ui\nfn g() {}",
                &[],
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(named("lab/worker.rs", text), wanted, "{text}");
        }
        assert_eq!(named("main.rs", "use headlight::{ui, headless};"), ["ui", "headless"]);
        assert_eq!(named("ui/mod.rs", "use self::app::App; use super::lab;"), ["ui::app::App", "lab"]);
    }

    #[test]
    fn tests_are_left_out_and_nothing_else() {
        let text = "
            #[cfg(test)] use crate::a::{b, c};
            #[cfg(all(test, unix))] mod tests { use crate::a; }
            #[cfg(test)] #[allow(dead_code)] pub(crate) fn only() -> [u8; 2] { crate::a::f() }
            struct S { #[cfg(test)] hook: crate::a::Hook, kept: crate::b::Kept }
            #[cfg(any(test, loom))] use crate::c;
            #[cfg(not(test))] use crate::d;
            #[cfg(feature = \"test\")] use crate::e;
            #[test] fn stays() { crate::f::g() }
            #[cfg(test)] mod samples;
            use crate::h;
        ";
        let (source, tests) = Source::parse("lab/mod.rs", text);
        let found: Vec<_> = source.named.iter().map(|named| named.path.join("::")).collect();
        assert_eq!(found, ["b::Kept", "c", "d", "e", "f::g", "h"]);
        assert_eq!(tests, ["samples"]);
        assert!(named("lab/mod.rs", "#![cfg(test)] use crate::a;").is_empty());
        let files = ["lab/mod.rs", "lab/samples.rs", "lab/samples/deep.rs", "lab/other.rs"];
        let texts =
            files.iter().map(|file| ((*file).into(), if *file == files[0] { text.into() } else { String::new() }));
        let kept = sources(&texts.collect());
        assert_eq!(kept.iter().map(|source| source.file.as_str()).collect::<Vec<_>>(), ["lab/mod.rs", "lab/other.rs"]);
    }

    #[test]
    fn patterns_are_found_in_code_and_in_spelled_out_imports() {
        let source =
            parsed("a.rs", "use std::{fs::{self, read}, thread as t};\nfn f() {\n fs :: read(x);\n egui_plot::p() }");
        assert_eq!(source.lines_with("fs :: read"), [1, 3]);
        assert_eq!(source.lines_with("thread as"), [1]);
        assert_eq!(source.lines_with("egui…"), [4]);
        assert_eq!(source.lines_with("egui"), [] as [usize; 0]);
        assert!(parsed("a.rs", "const X: &str = \"fs :: read\"; // fs::read").lines_with("fs :: read").is_empty());
    }
}
