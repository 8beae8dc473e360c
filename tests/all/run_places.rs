//! A run and the places that it names: its folder that moves, its text that moves, and what is put there by others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use headlight::protocol::Origin;
use headlight::protocol::{Command as Wish, Event, Outcome, RunState, Step};
use headlight::runs::{Kept, RunFolder, kept_steps, read_curves, read_roles};
use serde_json::Value;

use crate::command_line::{Place, checkpoint_tensors, events, losses, refused};
use crate::engine::Followed;
use crate::{headlight, headlight_ok, small_recipe, text};

/// Trains in a child process until the first checkpoint is there.
fn training(place: &Place, run: &str) -> (Child, impl Iterator<Item = Value>) {
    let preset = place.preset("steps: 40", "steps: 1000000");
    let mut child = Command::new(env!("CARGO_BIN_EXE_headlight"))
        .args(["train", "--recipe", &preset, "--device", "cpu", "--out", run, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.expect("a line")).expect("JSON"));
    // The second look comes after the first checkpoint.
    let looks = events.by_ref().filter(|event| event["event"] == "validation").take(3).count();
    assert_eq!(looks, 3);
    (child, events)
}

/// The program must say that its folder is gone, and end with a fault.
fn ends_as_gone(child: Child, events: impl Iterator<Item = Value>) -> String {
    let events: Vec<Value> = events.collect();
    let gone = events.iter().find(|event| event["event"] == "gone").expect("it is said");
    assert!(gone["text"].as_str().is_some_and(|text| text.contains("saves nothing")), "{gone}");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
#[cfg(unix)]
fn a_run_folder_that_moves_while_it_trains_ends_the_run_and_is_whole() {
    let place = Place::new();
    let (run, moved) = (place.argument("run"), place.argument("moved"));
    let (child, events) = training(&place, &run);
    fs::rename(&run, &moved).expect("moved");
    let message = ends_as_gone(child, events);
    assert!(message.contains("moved, deleted or replaced"), "{message}");
    assert!(!cfg!(target_os = "linux") || message.contains(&moved), "where it is now is said: {message}");
    assert!(!Path::new(&run).exists(), "no second folder is made");
    let saved = read_curves(Path::new(&moved)).expect("curves").steps.len();
    assert!(saved >= 10);
    let stop = (saved + 15).to_string();
    headlight_ok(&["resume", &moved, "--device", "cpu", "--stop-at", &stop, "--json"]);
}

#[test]
#[cfg(unix)]
fn a_run_folder_that_is_replaced_or_deleted_while_it_trains_is_not_written_to() {
    let place = Place::new();
    let run = place.argument("run");
    let (child, events) = training(&place, &run);
    fs::rename(&run, place.path("moved")).expect("moved");
    fs::create_dir_all(place.path("run/checkpoint")).expect("made");
    fs::write(place.path("run/recipe.ron"), "another's").expect("written");
    ends_as_gone(child, events);
    let names = |folder: PathBuf| fs::read_dir(folder).expect("a folder").count();
    assert_eq!((names(place.path("run")), names(place.path("run/checkpoint"))), (2, 0));

    let other = place.argument("other");
    let (child, events) = training(&place, &other);
    // The program writes into it meanwhile.
    while fs::remove_dir_all(&other).is_err() && Path::new(&other).exists() {}
    ends_as_gone(child, events);
    assert!(!Path::new(&other).exists(), "nothing is made anew");
}

#[test]
#[cfg(unix)]
fn a_run_folder_that_loses_what_it_is_opened_with_ends_the_run() {
    // What would be saved there later could not be opened again.
    for (name, put_a_link) in [("recipe.ron", false), ("recipe.ron", true), ("checkpoint", false), ("checkpoint", true)]
    {
        let place = Place::new();
        let run = place.argument("run");
        let (child, events) = training(&place, &run);
        let (part, aside) = (place.path("run").join(name), place.path("aside"));
        fs::rename(&part, &aside).expect("taken out");
        if put_a_link {
            std::os::unix::fs::symlink(&aside, &part).expect("linked");
        }
        let message = ends_as_gone(child, events);
        assert!(message.contains(&format!("its own {name} is not in it any more")), "{message}");
        assert_eq!(fs::symlink_metadata(&part).is_ok(), put_a_link, "{name} is not made anew");
    }
}

#[test]
#[cfg(unix)]
fn a_run_goes_on_in_the_place_that_is_chosen_when_its_folder_is_gone() {
    for follows in [true, false] {
        let mut run = Followed::start(small_recipe(), true);
        run.until_state(RunState::Paused);
        for _ in 0..3 {
            run.handle.send(Wish::Step);
            run.until(|event| matches!(event, Event::Progress(_)));
            run.until_state(RunState::Paused);
        }
        run.handle.send(Wish::Checkpoint);
        run.until(|event| matches!(event, Event::Saved { .. }));
        let (old, moved) = (run.folder.path().join("run"), run.folder.path().join("moved"));
        fs::rename(&old, &moved).expect("moved");
        run.handle.send(Wish::Step);
        run.until(|event| matches!(event, Event::FolderGone { message } if message.contains("step 3")));
        run.handle.send(Wish::Checkpoint);
        run.until(|event| matches!(event, Event::Warning(why) if why.contains("nothing is saved")));
        // What is there already is nobody's to take.
        fs::create_dir(run.folder.path().join("taken")).expect("made");
        fs::write(run.folder.path().join("taken/thesis.txt"), "do not touch").expect("written");
        run.handle.send(Wish::SaveElsewhere(run.folder.path().join("taken")));
        run.until(|event| matches!(event, Event::Warning(why) if why.contains("not empty")));

        let place = if follows { moved.clone() } else { run.folder.path().join("new") };
        run.handle.send(Wish::SaveElsewhere(place.clone()));
        run.until(|event| matches!(event, Event::FolderMoved { folder } if *folder == place));
        run.until(|event| matches!(event, Event::Saved { .. }));
        run.handle.send(Wish::Resume);
        run.until_state(RunState::Completed);
        run.handle.send(Wish::Stop);
        let end = run.until(|event| matches!(event, Event::Finished(_)));
        assert!(matches!(end, Event::Finished(Outcome::Stopped)), "{end:?}");
        assert!(!old.exists());
        let steps: Vec<u64> = read_curves(&place).expect("curves").steps.iter().map(|report| report.step.0).collect();
        assert_eq!(steps, (1..=40).collect::<Vec<_>>(), "no step is lost");
        assert!(Kept::Last.path(&place).is_file() && Kept::Best.path(&place).is_file());
        assert_eq!(kept_steps(&place).last().map(|(step, _)| *step), Some(Step(40)));
        assert!(read_roles(&place, Step(40)).len() > 5);
        RunFolder::open(&place).expect("a whole run");
    }
}

#[test]
#[cfg(unix)]
fn a_folder_that_comes_back_is_saved_to_again() {
    let mut run = Followed::start(small_recipe(), true);
    run.until_state(RunState::Paused);
    run.handle.send(Wish::Step);
    run.until(|event| matches!(event, Event::Progress(_)));
    let (old, moved) = (run.folder.path().join("run"), run.folder.path().join("moved"));
    fs::rename(&old, &moved).expect("moved");
    run.handle.send(Wish::Checkpoint);
    run.until(|event| matches!(event, Event::FolderGone { .. }));
    fs::rename(&moved, &old).expect("moved back");
    run.handle.send(Wish::Resume);
    run.until(|event| matches!(event, Event::FolderMoved { .. }));
    run.until_state(RunState::Completed);
    assert!(Kept::Last.path(&old).is_file());
}

#[test]
#[cfg(unix)]
fn links_and_pipes_in_a_run_folder_are_refused_and_nothing_waits() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let (preset, run, copy) = (place.preset("steps: 40", "steps: 20"), place.argument("run"), place.path("copy"));
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json", "--stop-at", "10"]);
    // Somebody else's folder, in which nothing may change.
    let outside = place.path("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("film.part"), "half a film").expect("written");
    fs::write(outside.join(".last.safetensors.1.part"), "not yours").expect("written");
    fs::write(outside.join("notes.jsonl"), "my notes\n").expect("written");
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    let files = ["recipe.ron", "metrics.jsonl", "roles.jsonl", "checkpoint/last.safetensors"];
    for name in files.into_iter().chain(["checkpoint", "snapshots"]) {
        type Put<'a> = (&'a str, &'a dyn Fn(&Path));
        let kinds: [Put<'_>; 5] = [
            ("link", &|path: &Path| symlink("/dev/zero", path).expect("linked")),
            ("link", &|path: &Path| symlink(outside.join("notes.jsonl"), path).expect("linked")),
            ("link", &|path: &Path| symlink(&outside, path).expect("linked")),
            ("pipe", &fifo),
            ("folder", &|path: &Path| fs::create_dir(path).expect("made")),
        ];
        for (what, put) in kinds {
            let inner = !files.contains(&name);
            if inner && what == "folder" {
                continue;
            }
            let _ = fs::remove_dir_all(&copy);
            crate::golden_runs::copy(Path::new(&run), &copy);
            let path = copy.join(name);
            if inner { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("removed");
            put(&path);
            let words: &[&str] = if inner { &[name] } else { &[name, what] };
            for job in [
                &["resume", "--device", "cpu"][..],
                &["evaluate"],
                &["export", "--format", "checkpoint", "--out", "/nowhere"],
            ] {
                refused(&[&[job[0], text(&copy)][..], &job[1..]].concat(), words);
            }
        }
    }
    for (name, contents) in
        [("film.part", "half a film"), (".last.safetensors.1.part", "not yours"), ("notes.jsonl", "my notes\n")]
    {
        assert_eq!(fs::read_to_string(outside.join(name)).expect("there"), contents);
    }
    // A kept step that is a link is no kept step, and what is no file of ours stays.
    let last = kept_steps(Path::new(&run)).last().expect("kept").0;
    let snapshot = headlight::runs::snapshot_path(Path::new(&run), last);
    fs::remove_file(&snapshot).expect("removed");
    symlink("/dev/zero", &snapshot).expect("linked");
    fs::write(place.path("run/download.part"), "half").expect("written");
    refused(&["attention", &run, "--prompt", "Mira", "--step", &last.0.to_string()], &["does not keep step"]);
    headlight_ok(&["resume", &run, "--device", "cpu", "--json"]);
    assert!(place.path("run/download.part").exists());
    // Where the user names a file, it may be a link, but nothing that has no end.
    fifo(&place.path("pipe"));
    symlink(&preset, place.path("preset-link.ron")).expect("linked");
    let out = place.argument("by-link");
    let by_link = place.argument("preset-link.ron");
    headlight_ok(&["train", "--recipe", &by_link, "--device", "cpu", "--steps", "1", "--out", &out, "--json"]);
    for path in ["/dev/zero", &place.argument("pipe")] {
        refused(&["train", "--recipe", path, "--out", &place.argument("no")], &[path]);
        refused(&["train", "--text", path, "--device", "cpu", "--out", &place.argument("no")], &[path]);
    }
}

#[test]
fn a_damaged_last_checkpoint_is_put_aside_and_one_that_may_be_good_is_not_replaced() {
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 30"), place.argument("run"));
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json", "--stop-at", "15"]);
    let (last, good) = (place.path("run/checkpoint/last.safetensors"), place.path("run/good"));
    fs::copy(&last, &good).expect("copied");
    let half = &fs::read(&last).expect("read")[..5000];
    for (name, stop) in [("last.damaged.safetensors", "16"), ("last.damaged-2.safetensors", "17")] {
        fs::write(&last, half).expect("written");
        headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", stop, "--json"]);
        assert!(fs::read(last.with_file_name(name)).expect("kept") == half, "{name}");
    }
    // Of a newer program.
    let bytes = fs::read(&good).expect("read");
    let at = bytes.windows(8).position(|window| window == b"format:2").expect("a format") + 7;
    let newer = [&bytes[..at], b"7", &bytes[at + 1..]].concat();
    fs::write(&last, &newer).expect("written");
    refused(&["resume", &run, "--device", "cpu"], &["last.safetensors", "format 7", "newer"]);
    assert!(fs::read(&last).expect("there") == newer);
    // Of which it is not known what it holds.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::copy(&good, &last).expect("copied");
        fs::set_permissions(&last, fs::Permissions::from_mode(0o000)).expect("set");
        // The system's administrator reads everything.
        if fs::read(&last).is_err() {
            refused(&["resume", &run, "--device", "cpu"], &["last.safetensors", "nothing is put in its place"]);
        }
        fs::set_permissions(&last, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(fs::read(&last).expect("there") == bytes);
    }
    // Where only the best is there, it is taken, with a word.
    fs::remove_file(&last).expect("removed");
    let found = headlight(&["evaluate", &run, "--json"]);
    assert!(found.status.success());
    assert!(String::from_utf8_lossy(&found.stderr).contains("has no last checkpoint: the best one is taken"));
    headlight_ok(&["export", &run, "--format", "checkpoint", "--out", &place.argument("taken")]);
    let found = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", "18", "--json"]));
    assert!(
        found.iter().any(|event| event["text"].as_str().is_some_and(|text| text.contains("best checkpoint instead")))
    );
    assert!(last.is_file());
}

#[test]
fn a_text_that_moved_is_named_and_held_to_its_digest() {
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 40"), place.argument("run"));
    let words: String = (0..80).map(|number| format!("to be or not to be, {number}\n")).collect();
    let file = place.file("words.txt", words.as_bytes());
    headlight_ok(&[
        "train",
        "--recipe",
        &preset,
        "--text",
        &file,
        "--device",
        "cpu",
        "--out",
        &run,
        "--stop-at",
        "2",
        "--json",
    ]);
    let recipe = || fs::read_to_string(place.path("run/recipe.ron")).expect("a recipe");
    assert!(recipe().contains("text_digest: \"text-sha256:"));
    let resume = |more: &[&str], stop: &str| {
        let all = [&["resume", &run, "--device", "cpu", "--stop-at", stop, "--json"][..], more].concat();
        losses(&events(&headlight_ok(&all))).len()
    };
    // As Git checks it out on Windows, and as an old Macintosh had it.
    for (stop, other) in
        [("3", words.replace('\n', "\r\n")), ("4", words.replace('\n', "\r")), ("5", format!("\u{feff}{words}"))]
    {
        place.file("words.txt", other.as_bytes());
        assert_eq!(resume(&[], stop), 1);
    }
    fs::rename(&file, place.path("moved.txt")).expect("moved");
    let before = recipe();
    refused(&["resume", &run, "--device", "cpu"], &["words.txt", "training cannot go on", "--text"]);
    let wrong = place.file("wrong.txt", words.replace("not", "now").as_bytes());
    refused(&["resume", &run, "--device", "cpu", "--text", &wrong], &["wrong.txt", "not the text"]);
    let other = place.file("other.txt", "Ωμέγα ".repeat(100).as_bytes());
    refused(&["resume", &run, "--device", "cpu", "--text", &other], &["other.txt", "not the text"]);
    refused(&["evaluate", &run], &["words.txt"]);
    assert_eq!(recipe(), before);
    let moved = place.argument("moved.txt");
    assert_eq!(resume(&["--text", &moved], "6"), 1);
    assert!(recipe().contains("moved.txt"), "the recipe says where it is now");
    assert_eq!(resume(&[], "7"), 1);
    headlight_ok(&["evaluate", &run]);

    let own = place.argument("own");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &own, "--stop-at", "1", "--json"]);
    refused(&["resume", &own, "--text", &moved, "--device", "cpu"], &["built-in dialogues"]);
}

#[test]
fn a_run_of_before_goes_on_with_the_text_that_it_read() {
    // Its digest was of the whole file, and a carriage return alone was a character.
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 40"), place.argument("run"));
    let words = "to be\ror not to be\r\n".repeat(100);
    let file = place.file("words.txt", words.as_bytes());
    headlight_ok(&[
        "train",
        "--recipe",
        &preset,
        "--text",
        &file,
        "--device",
        "cpu",
        "--out",
        &run,
        "--stop-at",
        "1",
        "--json",
    ]);
    let now = fs::read_to_string(place.path("run/recipe.ron")).expect("a recipe");
    assert!(now.contains("tokenizer: Characters(\"\\n benort\")"), "CR alone is a line end: {now}");
    let older = place.path("older");
    fs::create_dir(&older).expect("made");
    let digest = headlight::text::Dataset::from_file(Path::new(&file), None, &mut |_| true).expect("read");
    let recipe = now.replace(&digest.digest, &digest.file_digest).replace("(\"\\n benort\")", "(\"\\n\\r benort\")");
    assert!(digest.file_digest.len() == 64 && recipe != now);
    fs::write(older.join("recipe.ron"), recipe).expect("written");
    let found = events(&headlight_ok(&["resume", text(&older), "--device", "cpu", "--stop-at", "2", "--json"]));
    assert_eq!(losses(&found).len(), 2);
    headlight_ok(&["evaluate", text(&older), "--json"]);
    headlight_ok(&["evaluate", text(&older), "--text", &file, "--json"]);
}

/// Every file of a folder, as text.
fn all_of(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        all += &if path.is_dir() {
            all_of(&path)
        } else {
            String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned()
        };
    }
    all
}

#[test]
fn what_is_given_away_names_no_place_of_this_machine() {
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 40"), place.argument("run"));
    let file = place.file("secret-words.txt", "to be or not to be\n".repeat(100).as_bytes());
    headlight_ok(&[
        "train",
        "--recipe",
        &preset,
        "--text",
        &file,
        "--device",
        "cpu",
        "--out",
        &run,
        "--stop-at",
        "10",
        "--json",
    ]);
    let home = text(place.path("").as_path()).trim_end_matches('/').to_owned();
    let (fork, far) = (place.argument("fork"), place.argument("elsewhere/far"));
    headlight_ok(&["fork", &run, "--step", "0", "--out", &fork]);
    headlight_ok(&["fork", &run, "--step", "0", "--out", &far]);
    // Where it lies beside, it is found again; elsewhere it is a name.
    let parent = |run: &str| RunFolder::read(Path::new(run)).expect("a run").parent.expect("a parent").run;
    assert_eq!((parent(&fork), parent(&far)), (PathBuf::from(&run), PathBuf::from("run")));
    let recipe = fs::read_to_string(place.path("fork/recipe.ron")).expect("a recipe");
    assert_eq!(recipe.matches(&home).count(), 1, "its text alone, to be trained on: {recipe}");

    for (number, from) in [&run, &fork, &far].into_iter().enumerate() {
        for format in ["checkpoint", "safetensors"] {
            let out = place.argument(&format!("given-{number}-{format}"));
            headlight_ok(&["export", from, "--format", format, "--out", &out]);
            assert!(!all_of(Path::new(&out)).contains(&home), "{format} of {from}");
        }
    }
    let page = place.argument("page.html");
    headlight_ok(&["page", &run, "--prompt", "to be", "--out", &page]);
    assert!(!fs::read_to_string(&page).expect("a page").contains(&home));

    // Opened elsewhere it asks for the text, and takes the same one.
    let given = place.argument("given-0-checkpoint");
    let recipe = fs::read_to_string(place.path("given-0-checkpoint/recipe.ron")).expect("a recipe");
    assert!(recipe.contains("text: File(\"secret-words.txt\")") && recipe.contains("text-sha256:"), "{recipe}");
    headlight_ok(&["sample", &given, "--prompt", "to", "--tokens", "3"]);
    refused(&["resume", &given, "--device", "cpu"], &["secret-words.txt", "--text"]);
    headlight_ok(&["resume", &given, "--text", &file, "--device", "cpu", "--stop-at", "11", "--json"]);
    headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", "11", "--json"]);
    assert!(checkpoint_tensors(&given) == checkpoint_tensors(&run));
    // With the text in the folder it needs no word.
    let other = place.argument("given-1-checkpoint");
    fs::copy(&file, place.path("given-1-checkpoint/secret-words.txt")).expect("copied");
    headlight_ok(&["resume", &other, "--device", "cpu", "--stop-at", "11", "--json"]);
}

#[test]
fn control_characters_never_reach_a_terminal() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 4");
    let nasty = "\u{1b}[31m\u{7}\u{9b}2J\u{202e}";
    let run = place.argument(&format!("run{nasty}"));
    let file =
        place.file(&format!("words{nasty}.txt"), format!("to be {nasty} or not\tto be\n").repeat(100).as_bytes());
    let train = ["train", "--recipe", &preset, "--text", &file, "--device", "cpu", "--out", &run];
    let clean = |output: &std::process::Output| {
        for bytes in [&output.stdout, &output.stderr] {
            let text = str::from_utf8(bytes).expect("UTF-8");
            let obeyed =
                |character: char| (character.is_control() && !"\t\n".contains(character)) || character == '\u{202e}';
            assert!(!text.chars().any(obeyed), "{text:?}");
        }
        String::from_utf8(output.stdout.clone()).expect("UTF-8")
    };
    let said = headlight(&train);
    assert!(said.status.success());
    // The closing sample is part of it.
    assert!(clean(&said).contains("run\\u001b[31m"));
    let sample = ["sample", &run, "--prompt", "be \u{1b}[31m\tor\n", "--tokens", "200", "--temperature", "2"];
    let written = clean(&headlight(&sample));
    assert!(written.starts_with("be \\u001b[31m\tor\n"), "tabs and line ends stay: {written:?}");
    let raw = headlight_ok(&[&sample[..], &["--raw"]].concat());
    assert!(raw.starts_with("be \u{1b}[31m\tor\n"));
    for arguments in [
        &["logits", &run, "--prompt", "be \u{1b}[31m"][..],
        &["attention", &run, "--prompt", "be \u{1b}[31m"],
        &["lens", &run, "--prompt", "be \u{1b}[31m"],
        &["resume", &run],
        &["resume", &format!("{run}/no")],
        &["evaluate", &run, "--text", &format!("{run}/no\u{1b}[31m.txt")],
        &["train", "--preset", nasty, "--out", &run],
        &["train", nasty],
        &["train", "--steps", nasty],
        &["prune", &run, "--heads", nasty, "--out", &run],
        &["fork", &run, "--step", "9", "--out", &run],
    ] {
        clean(&headlight(arguments));
    }
    // JSON says the same by its own escapes.
    let again = place.argument(&format!("again{nasty}"));
    let train = ["train", "--recipe", &preset, "--text", &file, "--device", "cpu", "--out", &again, "--json"];
    let events = events(&clean(&headlight(&train)));
    let ready = events.iter().find(|event| event["event"] == "ready").expect("ready");
    assert_eq!(ready["folder"].as_str(), Some(again.as_str()));
}

#[test]
fn an_open_run_folder_is_not_made_anew() {
    // Even a part of it: who deletes one had a reason, or the disk is gone.
    let mut run = Followed::start(small_recipe(), true);
    run.until_state(RunState::Paused);
    run.handle.send(Wish::Step);
    run.until(|event| matches!(event, Event::Progress(_)));
    let folder = run.folder.path().join("run");
    fs::remove_dir_all(folder.join("checkpoint")).expect("removed");
    run.handle.send(Wish::Checkpoint);
    run.until(|event| matches!(event, Event::FolderGone { message } if message.contains("its own checkpoint is not")));
    assert!(!folder.join("checkpoint").exists());
    run.handle.send(Wish::Stop);
    let end = run.until(|event| matches!(event, Event::Finished(_)));
    assert!(matches!(&end, Event::Finished(Outcome::Failed(why)) if why.contains("no checkpoint")), "{end:?}");
    // Opened again it is mended: nothing else holds it then.
    let Followed { folder: kept, .. } = run;
    let mut run = Followed::open(Origin::Open { folder: folder.clone(), text: None }, true, kept);
    run.until_state(RunState::Paused);
    assert!(folder.join("checkpoint").is_dir());
}

#[test]
fn a_log_without_end_is_no_copy() {
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 5"), place.argument("run"));
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"]);
    // It takes no room on most disks, until it is copied.
    let log = fs::File::options().write(true).open(place.path("run/metrics.jsonl")).expect("there");
    if log.set_len(40 << 30).is_ok() {
        let words = ["metrics.jsonl", "too many"];
        refused(&["export", &run, "--format", "checkpoint", "--out", &place.argument("given")], &words);
        assert!(!place.path("given").exists());
    }
}

#[test]
fn a_place_where_a_run_was_only_begun_is_free_and_one_that_fails_is_left_empty() {
    let place = Place::new();
    let (preset, begun) = (place.preset("steps: 40", "steps: 5"), place.path("begun"));
    // As a kill leaves it before the recipe is there.
    for folder in ["checkpoint", "snapshots"] {
        fs::create_dir_all(begun.join(folder)).expect("made");
    }
    fs::write(begun.join("metrics.jsonl"), "").expect("written");
    fs::write(begun.join(".recipe.ron.1.part"), "(for").expect("written");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", text(&begun), "--json"]);
    // With anything in it the folder is somebody's.
    for (name, contents) in [("checkpoint/notes", "mine"), ("metrics.jsonl", "{}\n"), ("words", "")] {
        let taken = place.path("taken");
        fs::create_dir_all(taken.join("checkpoint")).expect("made");
        fs::write(taken.join(name), contents).expect("written");
        let train = ["train", "--recipe", &preset, "--device", "cpu", "--out", text(&taken)];
        refused(&train, &["not empty"]);
        assert_eq!(fs::read_to_string(taken.join(name)).expect("there"), contents);
        fs::remove_dir_all(&taken).expect("removed");
    }
}

#[test]
fn a_run_that_lost_its_checkpoints_is_not_begun_anew_over_what_is_left() {
    let place = Place::new();
    let (preset, run, fork) = (place.preset("steps: 40", "steps: 40"), place.argument("run"), place.argument("fork"));
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"]);
    let kept = kept_steps(Path::new(&run));
    let step = kept[kept.len() / 2].0.0.to_string();
    headlight_ok(&["fork", &run, "--step", &step, "--out", &fork]);
    let pruned = place.argument("pruned");
    headlight_ok(&["prune", &run, "--heads", "1.1", "--out", &pruned]);
    for folder in [&run, &fork, &pruned] {
        for file in fs::read_dir(Path::new(folder).join("checkpoint")).expect("a folder").flatten() {
            fs::remove_file(file.path()).expect("removed");
        }
    }
    refused(&["resume", &run, "--device", "cpu"], &["last.safetensors is not there", "was at step 40", "fork"]);
    for begun in [&fork, &pruned] {
        refused(&["resume", begun, "--device", "cpu"], &["last.safetensors is not there", "weights of another"]);
    }
    assert_eq!(kept_steps(Path::new(&run)), kept, "nothing is forgotten");
    // Killed before the first checkpoint it begins anew: that gives the same.
    let log = place.path("run/metrics.jsonl");
    let text = fs::read_to_string(&log).expect("a log");
    let looked = |line: &&str| line.contains("validation") && !line.contains("\"step\":0,");
    let early: Vec<&str> = text.lines().take_while(|line| !looked(line)).collect();
    fs::write(&log, early.join("\n")).expect("written");
    headlight_ok(&["resume", &run, "--device", "cpu", "--json"]);
}
