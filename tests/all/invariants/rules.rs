//! Words that belong to one place of the program, and the places that may have them.

use std::collections::BTreeSet;

use super::source::{Source, program};

/// Words that may stand in some files only.
struct Rule {
    /// The rule in a sentence.
    says: &'static str,
    /// Words behind each other, as [`Source::lines_with`] takes them.
    words: &'static [&'static str],
    /// The files (beginnings of paths below `src`) that the rule is for; none means all.
    holds_in: &'static [&'static str],
    /// Where the words belong.
    home: &'static [&'static str],
    /// Single files that have one of the words all the same, and why: a file by its room and its name, wherever in the room
    /// it lies. One that is no longer needed fails.
    known: &'static [(&'static str, &'static str, &'static str)],
    /// A source that breaks the rule with each of its words.
    offending: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        says: "1: only the window and the program's start name egui, eframe or rfd",
        words: &["egui…", "eframe", "rfd", "winit…"],
        holds_in: &[],
        home: &["ui/", "main.rs"],
        known: &[],
        offending: "use egui_plot::Plot; use {eframe::App, winit as w}; fn f() { rfd::FileDialog::new(); }",
    },
    Rule {
        says: "2: what the window, the store and the protocol know is plain data, never a tensor",
        words: &["burn…"],
        holds_in: &[],
        home: &["device.rs", "kernels/", "lab/", "model/", "runs/", "train/"],
        known: &[],
        offending: "use burn_wgpu::Wgpu;",
    },
    Rule {
        says: "2: the parts of the lab that others see name no tensor either",
        words: &["burn…"],
        holds_in: &["protocol/", "lab/handle.rs", "lab/file_worker.rs", "lab/worker/channel.rs"],
        home: &[],
        known: &[],
        offending: "fn f() -> burn::tensor::Tensor<2> {}",
    },
    Rule {
        says: "3: only device.rs chooses a backend",
        words: &[
            "burn_wgpu",
            "DeviceKind",
            "wgpu_options",
            "Device :: flex",
            "Device :: wgpu",
            "Device :: vulkan",
            "Device :: metal",
            "Device :: cuda",
            "Device :: default",
        ],
        holds_in: &[],
        home: &["device.rs"],
        known: &[],
        offending: "use burn_wgpu::X; fn f() { Device::flex(); Device::wgpu(DeviceKind::Cpu); Device::vulkan(); \
                    Device::metal(); Device::cuda(); Device::default(); Device::wgpu_options(); }",
    },
    Rule {
        says: "3: only the kernels work on the processor's backend",
        words: &["FlexTensor", "backend :: Flex", "backend :: flex", "gemm ::"],
        holds_in: &[],
        home: &["device.rs", "kernels/"],
        known: &[],
        offending: "use burn::backend::{Flex, flex::FlexTensor}; fn f() { gemm::gemm() }",
    },
    Rule {
        says: "4: the window never waits",
        words: &[
            ". recv (",
            ". recv_timeout (",
            ". recv_deadline (",
            ". next_within (",
            ". stop_and_wait (",
            ". send_timeout (",
            ". join ( )",
            ". wait (",
            ". lock (",
            "thread :: sleep",
            "block_on",
            "Command :: new",
        ],
        holds_in: &["ui/"],
        home: &[],
        known: &[
            ("ui/app", ". stop_and_wait (", "the end of the program, when there is no frame to come"),
            ("ui/bench", "Command :: new", "measures the start of the window from outside"),
            ("ui/bench", ". lock (", "a moment's note of when a frame is due"),
            ("ui/screenshots", "thread :: sleep", "takes pictures without a window"),
            ("ui/termination", "thread :: sleep", "on its own thread"),
        ],
        offending: "fn f() { a.recv(); a.recv_timeout(d); a.recv_deadline(d); a.next_within(d); a.stop_and_wait(); \
                    a.send_timeout(1, d); a.join(); a.wait(b); a.lock(); std::thread::sleep(d); block_on(f()); \
                    Command::new(p); }",
    },
    Rule {
        says: "4: no file is touched on the window's thread",
        words: &[
            "fs ::",
            "File ::",
            "OpenOptions",
            ". is_file ( )",
            ". is_dir ( )",
            ". exists ( )",
            ". try_exists ( )",
            ". metadata ( )",
            ". symlink_metadata ( )",
            ". canonicalize ( )",
            ". read_dir ( )",
        ],
        holds_in: &["ui/"],
        home: &[],
        known: &[
            ("ui/bench", "fs ::", "its own folder, before and after the measurement"),
            ("ui/dialogs", ". is_dir ( )", "on the dialog's own thread"),
            ("ui/screenshots", "fs ::", "its own folder, before and after the pictures"),
            ("ui/settings", "fs ::", "once, before there is a window"),
        ],
        offending: "use std::fs::{self, read}; fn f() { File::open(p); OpenOptions::new(); p.is_file(); p.is_dir(); \
                    p.exists(); p.try_exists(); p.metadata(); p.symlink_metadata(); p.canonicalize(); p.read_dir(); }",
    },
    Rule {
        says: "4: threads have names and channels have bounds",
        words: &["thread :: spawn", "Builder :: new ( ) . spawn", "scope . spawn", "unbounded", "mpsc :: channel"],
        holds_in: &[],
        home: &[],
        known: &[],
        offending: "use crossbeam_channel::unbounded; fn f() { std::thread::spawn(g); thread::Builder::new().spawn(g); \
                    std::thread::scope(|scope| { scope.spawn(g); }); std::sync::mpsc::channel(); }",
    },
    Rule {
        says: "5: only the store's own functions change what is known of a run",
        words: &["mut RunStore", "& mut self . store", "& mut app . store"],
        holds_in: &[],
        home: &["store/"],
        known: &[],
        offending: "fn f(store: &mut RunStore) { g(&mut self.store); g(&mut app.store); }",
    },
    Rule {
        says: "5: only the window's own files tell the store something",
        words: &[
            "store . apply (",
            "store . apply_look (",
            "store . note (",
            "store . clear (",
            "store . sample_started (",
        ],
        holds_in: &["ui/", "headless/", "findings/", "lab/"],
        home: &["ui/app/"],
        known: &[
            ("ui/bench", "store . apply (", "paints a run that nobody trains"),
            ("ui/bench", "store . apply_look (", "the same"),
            ("ui/bench", "store . sample_started (", "the same"),
        ],
        offending: "fn f() { store.apply(e); self.store.apply_look(l); store.note(n, t); store.clear(); \
                    store.sample_started(1); }",
    },
    Rule {
        says: "5: only the window's own files change the window's state",
        words: &["impl App {", "& mut App"],
        holds_in: &["ui/"],
        home: &["ui/app/"],
        known: &[],
        offending: "impl App { } fn f(app: &mut App) {}",
    },
    Rule {
        says: "7: files are read where their size is checked first",
        words: &["fs :: read", "fs :: read_to_string", "File :: open", "File :: options", "OpenOptions"],
        holds_in: &[],
        home: &["files.rs", "runs/mod.rs"],
        known: &[
            ("lab/bench", "fs :: read_to_string", "/proc"),
            ("memory/memory", "fs :: read_to_string", "/proc"),
            ("runs/part", "File :: options", "the lock that says whose a hidden folder is"),
            ("ui/bench", "fs :: read_to_string", "/proc"),
        ],
        offending: "use std::fs::{File, read, read_to_string}; fn f() { File::open(p); File::options(); OpenOptions::new(); }",
    },
    Rule {
        says: "7: files are replaced where the new one is whole before the old one goes",
        words: &["fs :: write", "fs :: rename", "fs :: copy", "File :: create", "File :: create_new"],
        holds_in: &[],
        home: &["runs/mod.rs", "runs/part.rs"],
        known: &[
            ("runs/folder", "fs :: rename", "a damaged checkpoint is put aside"),
            ("runs/folder", "File :: create_new", "a run's copy, into a new folder"),
            ("ui/settings", "fs :: rename", "settings that cannot be read are put aside"),
        ],
        offending: "use std::fs::*; fn f() { fs::write(p, b); fs::rename(p, q); fs::copy(p, q); File::create(p); \
                    File::create_new(p); }",
    },
    Rule {
        says: "what these rules look for is not renamed, taken by the handful or brought in by the back door",
        words: &[
            "extern crate",
            "# [ path",
            "include !",
            "fs as",
            "File as",
            "thread as",
            "fs :: *",
            "thread :: *",
            "RunStore as",
            "burn as",
            "egui as",
        ],
        holds_in: &[],
        home: &[],
        known: &[],
        offending: "extern crate self as me; #[path = 'x'] mod y; include!(z); use std::fs::{self as f, File as G, *}; \
                    use std::thread::*; use std::thread as t; use crate::store::RunStore as S; use burn as b; use eframe::egui as e;",
    },
    Rule {
        says: "nothing of a draft stays, and a panic says what was taken for granted",
        words: &["todo !", "unimplemented !", "dbg !", ". unwrap ( )"],
        holds_in: &[],
        home: &[],
        known: &[],
        offending: "fn f() { todo!(); unimplemented!(); dbg!(x); x.unwrap(); }",
    },
];

/// Where the sources break the rule, and which of its exceptions nobody needs.
fn offences(rule: &Rule, sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let begins = |source: &Source, places: &[&str]| places.iter().any(|place| source.file.starts_with(place));
    for source in sources {
        let holds = rule.holds_in.is_empty() || begins(source, rule.holds_in);
        if !holds || begins(source, rule.home) {
            continue;
        }
        let name = format!("{}/{}", source.room(), source.module.last().map_or("", String::as_str));
        for &word in rule.words {
            let lines = source.lines_with(word);
            let known = rule.known.iter().find(|(file, known, _)| *file == name && *known == word);
            if let Some(known) = known.filter(|_| !lines.is_empty()) {
                used.insert(known);
                continue;
            }
            wrong.extend(lines.iter().map(|line| format!("{}: {}:{line} has `{word}`", rule.says, source.file)));
        }
    }
    let stale = rule.known.iter().filter(|known| !used.contains(known));
    wrong.extend(
        stale.map(|(file, word, _)| format!("{}: {file} no longer has `{word}`: take it off the list", rule.says)),
    );
    wrong
}

#[test]
fn the_sources_keep_the_rules() {
    let sources = program();
    let wrong: Vec<_> = RULES.iter().flat_map(|rule| offences(rule, &sources)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A rule that never fires is none.
#[test]
fn each_rule_fires_on_a_source_that_breaks_it() {
    for rule in RULES {
        let file = format!("{}made_up.rs", rule.holds_in.first().unwrap_or(&""));
        let without_known = Rule { known: &[], ..*rule };
        let wrong = offences(&without_known, &[Source::parse(&file, rule.offending).0]);
        for word in rule.words {
            assert!(
                wrong.iter().any(|line| line.ends_with(&format!("`{word}`"))),
                "{}: {word} in {wrong:?}",
                rule.says
            );
        }
        let harmless =
            format!("// {0}\n/// {0}\nfn f() {{ say(r#\"{0}\"#) }} #[cfg(test)] mod tests {{ {0} }}", rule.offending);
        assert_eq!(offences(&without_known, &[Source::parse(&file, &harmless).0]), [] as [String; 0], "{}", rule.says);
        let stale = offences(rule, &[]);
        assert_eq!(stale.len(), rule.known.len(), "{stale:?}");
    }
}
