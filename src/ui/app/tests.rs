//! The real window without a window: driven by label and role, nothing is rendered.

mod opening;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use super::*;
use crate::lab::file_worker::{Done, TextSummary};
use crate::protocol::Cut;
use crate::recipe::TextSource;
use crate::ui::actions::{PickPurpose, Theme, ViewSettings, WordsMode};
use crate::ui::recipe::draft::Candidate;

pub(in crate::ui) type Window = Harness<'static, App>;

fn window(options: AppOptions) -> Window {
    let mut window = Harness::builder()
        .with_size([1280.0, 800.0])
        .with_max_steps(16)
        .build_eframe(move |creation| App::new(&creation.egui_ctx, options));
    until(&mut window, "the text is read", |app| app.draft.vocabulary().is_some());
    window
}

/// Frame after frame until `done`, as the desk and the worker answer from their own threads.
pub(in crate::ui) fn until(window: &mut Window, what: &str, mut done: impl FnMut(&App) -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        window.step();
        if done(window.state()) {
            // What was just learned is painted.
            return window.step();
        }
        assert!(Instant::now() < limit, "waited for: {what}\n{:?}", window.state().store.log);
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(in crate::ui) fn in_folder(folder: &Path) -> AppOptions {
    AppOptions {
        device: Some(DeviceChoice::Cpu),
        settings: Loaded::from_file(&folder.join("settings.ron")),
        runs_root: Some(folder.join("runs")),
        ..AppOptions::default()
    }
}

/// A run of a second: the built-in text, a tiny model.
fn tiny() -> Recipe {
    let mut recipe = preset::find("glass-box").expect("built in").recipe;
    (recipe.model.width, recipe.model.context) = (8, 8);
    (recipe.training.batch, recipe.training.steps, recipe.training.evaluation_batches) = (2, 100_000, 1);
    recipe.training.evaluation_interval = 50;
    recipe
}

pub(in crate::ui) fn log_holds(app: &App, words: &str) -> bool {
    app.store.log.iter().any(|line| line.text.contains(words))
}

/// Enters a number as a screen reader does.
fn set_number(window: &mut Window, label: &str, value: f64) {
    window.get_by_role_and_label(Role::SpinButton, label).set_value_accesskit(value);
    window.step();
    window.step();
}

#[test]
fn a_wrong_width_is_marked_and_keeps_train_off_until_it_is_right() {
    let mut window = window(AppOptions::default());
    assert!(!window.get_by_role_and_label(Role::Button, "Train").accesskit_node().is_disabled());
    set_number(&mut window, "Width", 130.0);
    let fault = "width 130 is not a multiple of 4 heads: try 128 or 132";
    assert_eq!(window.query_all_by_label(fault).count(), 2, "the fault stands at its field and on top");
    assert!(window.get_by_role_and_label(Role::Button, "Train").accesskit_node().is_disabled());
    window.key_press(Key::Space);
    window.step();
    assert!(window.state().run.is_none(), "a key starts no faulty recipe");
    set_number(&mut window, "Width", 128.0);
    assert_eq!(window.query_all_by_label(fault).count(), 0);
    assert!(!window.get_by_role_and_label(Role::Button, "Train").accesskit_node().is_disabled());
}

#[test]
fn a_typed_path_opens_a_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poem.txt");
    std::fs::write(&path, "abcde fghij\n".repeat(100)).expect("written");
    let mut window = window(in_folder(folder.path()));
    window.key_press_modifiers(Modifiers::COMMAND, Key::O);
    window.run_steps(2);
    let looked = |app: &App| app.picker.as_ref().is_some_and(|picker| picker.kind().is_some());
    let missing = folder.path().join("none.txt").display().to_string();
    window.state_mut().picker.as_mut().expect("the path window").retype(&missing);
    window.step();
    until(&mut window, "the desk looked", looked);
    assert!(window.get_by_role_and_label(Role::Button, "Open").accesskit_node().is_disabled());
    window.state_mut().picker.as_mut().expect("the path window").retype(&path.display().to_string());
    window.step();
    until(&mut window, "the desk looked", looked);
    window.get_by_role_and_label(Role::Button, "Open").click();
    until(&mut window, "the text is the draft's", |app| app.draft().data.text.to_string().ends_with("poem.txt"));
    assert!(window.query_by_label("1,200 characters, 12 distinct").is_some());
    assert_eq!(window.state().settings.recent_texts, [path]);
}

#[test]
fn a_missing_text_is_said_by_name_and_the_old_one_is_kept() {
    let mut window = window(AppOptions::default());
    let missing = PathBuf::from("/nowhere/poem.txt");
    window.state_mut().apply(Action::OpenPath(PickPurpose::OpenText, missing));
    until(&mut window, "an error", |app| log_holds(app, "/nowhere/poem.txt"));
    assert!(window.query_all_by_label_contains("/nowhere/poem.txt").count() >= 1, "a notice is shown");
    assert!(window.state().draft.hindrance().is_none(), "the built-in text still stands");
}

#[test]
fn a_run_starts_by_space_pauses_steps_and_resets() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = window(in_folder(folder.path()));
    window.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    window.step();
    window.key_press(Key::Space);
    until(&mut window, "some steps and attention", |app| {
        app.store.latest.is_some_and(|latest| latest.step.0 > 3) && app.store.attention.is_some()
    });
    window.get_by_role_and_label(Role::Button, "Pause").click();
    until(&mut window, "paused", |app| app.phase() == Phase::Paused);
    let paused = window.state().store.latest.expect("trained").step.0;
    window.get_by_role_and_label(Role::Button, "Step").click();
    until(&mut window, "one step", |app| app.store.latest.is_some_and(|latest| latest.step.0 > paused));
    assert_eq!(window.state().store.latest.expect("trained").step.0, paused + 1);
    set_number(&mut window, "Layers", 2.0);
    assert_eq!(window.query_all_by_label("after Reset").count(), 1, "the running model keeps its layers");
    window.get_by_role_and_label(Role::Button, "Reset").click();
    until(&mut window, "the run is gone", |app| app.phase() == Phase::Idle);
    assert!(window.state().store.loss.is_empty());
    assert_eq!(window.state().draft().model.layers, 2);
    assert!(window.state().settings.recent_runs[0].join("recipe.ron").is_file(), "the folder stays");
}

#[test]
fn a_run_that_cannot_be_opened_is_said_and_the_window_lives() {
    let mut window = window(AppOptions::default());
    window.state_mut().apply(Action::OpenRun("/nowhere/run".into()));
    until(&mut window, "an error", |app| log_holds(app, "/nowhere/run"));
    until(&mut window, "idle", |app| app.phase() == Phase::Idle);
    assert!(!window.get_by_role_and_label(Role::Button, "Train").accesskit_node().is_disabled());
}

#[test]
fn closing_while_training_asks_once_and_keeps_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = window(in_folder(folder.path()));
    window.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    window.state_mut().apply(Action::Train);
    until(&mut window, "training", |app| app.store.latest.is_some_and(|latest| latest.step.0 > 3));
    window.key_press_modifiers(Modifiers::COMMAND, Key::Q);
    window.run_steps(2);
    window.key_press(Key::Escape);
    window.run_steps(2);
    assert_eq!((window.state().closing, window.state().phase()), (Closing::No, Phase::Training));
    assert!(window.state().question.is_none());
    window.key_press_modifiers(Modifiers::COMMAND, Key::Q);
    window.run_steps(2);
    // The first answer has focus.
    window.key_press(Key::Enter);
    until(&mut window, "it is being saved", |app| app.closing != Closing::No);
    assert!(window.state().run.is_none() || window.state_mut().close_requested(), "it closes no earlier than saved");
    until(&mut window, "closed", |app| app.closing == Closing::Now);
    let run = window.state().settings.recent_runs[0].clone();
    assert!(run.join("checkpoint/last.safetensors").is_file(), "what resume needs was saved in {}", run.display());
}

#[test]
fn an_idle_window_closes_at_once() {
    let mut window = window(AppOptions::default());
    window.key_press_modifiers(Modifiers::COMMAND, Key::Q);
    window.run_steps(2);
    assert_eq!(window.state().closing, Closing::Now);
}

#[test]
fn settings_come_back_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = window(in_folder(folder.path()));
    first.state_mut().apply(Action::SetTheme(Theme::Light));
    first.state_mut().apply(Action::ZoomIn);
    first.state_mut().apply(Action::TogglePane(Pane::Loss));
    first.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    eframe::App::on_exit(first.state_mut());
    drop(first);
    let second = window(in_folder(folder.path()));
    let app = second.state();
    assert_eq!((app.settings.theme, app.settings.zoom), (Theme::Light, 1.1));
    assert_eq!(app.settings.device, DeviceChoice::Auto, "the command line's choice is for once");
    assert!(!app.layout.is_shown(Pane::Loss));
    assert_eq!(*app.draft(), tiny());
    let complaints = app.store.log.iter().filter(|line| !line.text.contains("adapters")).count();
    assert_eq!(complaints, 0, "{:?}", app.store.log);
}

#[test]
fn plain_keys_are_left_to_a_field_that_is_typed_into() {
    let mut window = window(AppOptions::default());
    window.get_by_role_and_label(Role::SpinButton, "Layers").focus();
    window.run_steps(2);
    window.key_press(Key::Space);
    window.run_steps(2);
    assert!(window.state().run.is_none());
}

#[test]
fn the_theme_is_switched_at_once() {
    let mut window = window(AppOptions::default());
    for (theme, seen) in [(Theme::Light, egui::Theme::Light), (Theme::Dark, egui::Theme::Dark)] {
        window.state_mut().apply(Action::SetTheme(theme));
        window.step();
        assert_eq!(window.ctx.theme(), seen);
    }
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("the window reads paths".into())
    }
}

#[test]
fn dropped_files_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, preset) = (folder.path().join("poem.txt"), folder.path().join("mine.ron"));
    std::fs::write(&text, "abcde fghij\n".repeat(100)).expect("written");
    let mine = Preset { title: "Mine".into(), name: "mine".into(), recipe: tiny(), ..preset::built_in().remove(0) };
    std::fs::write(&preset, mine.to_ron()).expect("written");
    let mut window = window(in_folder(folder.path()));
    window.input_mut().dropped_files.push(Arc::new(Dropped(preset)));
    until(&mut window, "the preset is the draft", |app| *app.draft() == tiny());
    window.input_mut().dropped_files.push(Arc::new(Dropped(text)));
    until(&mut window, "the text is the draft's", |app| app.draft().data.text.to_string().ends_with("poem.txt"));
}

#[test]
fn a_recipe_that_is_saved_opens_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.ron");
    let mut window = window(in_folder(folder.path()));
    window.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    window.state_mut().apply(Action::OpenPath(PickPurpose::SavePreset, path.clone()));
    until(&mut window, "saved", |app| log_holds(app, "tiny.ron"));
    window.state_mut().apply(Action::UsePreset(Box::new(preset::find("nanogpt-cpu").expect("built in"))));
    window.state_mut().apply(Action::OpenPath(PickPurpose::OpenPreset, path));
    until(&mut window, "opened", |app| *app.draft() == tiny());
}

#[test]
fn curves_are_written_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("curves.csv");
    let mut window = window(in_folder(folder.path()));
    let mut recipe = tiny();
    recipe.training.steps = 20;
    recipe.training.warmup_steps = 5;
    window.state_mut().apply(Action::EditRecipe(Box::new(recipe)));
    window.state_mut().apply(Action::Train);
    until(&mut window, "all steps", |app| app.phase() == Phase::Completed);
    window.state_mut().apply(Action::OpenPath(PickPurpose::SaveCurves, path.clone()));
    until(&mut window, "saved", |app| log_holds(app, "curves.csv"));
    let text = std::fs::read_to_string(path).expect("written");
    assert!(text.lines().any(|line| line.starts_with("20,")), "{text}");
    assert!(
        window.get_by_role_and_label(Role::Button, "Train").accesskit_node().is_disabled(),
        "nothing left to train"
    );
}

#[test]
fn a_number_may_be_typed_as_it_is_shown_and_counts_when_it_is_whole() {
    let mut window = window(AppOptions::default());
    let typed = |window: &mut Window, label: &str, text: &str| {
        window.get_by_role_and_label(Role::SpinButton, label).focus();
        window.run_steps(2);
        window.event(egui::Event::Text(text.into()));
        window.run_steps(2);
    };
    typed(&mut window, "Steps", "3,500");
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert_eq!(window.state().draft().training.steps, 3500);
    let rate = window.state().draft().training.learning_rate;
    typed(&mut window, "Learning rate", "1");
    assert_eq!(window.state().draft().training.learning_rate, rate, "half typed");
    window.event(egui::Event::Text("e-4".into()));
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert_eq!(window.state().draft().training.learning_rate, 1e-4);
}

#[test]
fn a_dragged_width_keeps_to_the_heads_and_a_folded_fault_is_unfolded() {
    let mut window = window(AppOptions::default());
    let (heads, before) = (window.state().draft().model.heads, window.state().draft().model.width);
    let place = window.get_by_role_and_label(Role::SpinButton, "Width").rect().center();
    window.drag_at(place);
    for moved in 1..9 {
        window.hover_at(place + egui::vec2(7.0 * moved as f32, 0.0));
        window.step();
        assert_eq!(window.state().draft().model.width % heads, 0);
    }
    window.drop_at(place + egui::vec2(56.0, 0.0));
    window.run_steps(2);
    assert_ne!(window.state().draft().model.width, before);
    assert_eq!(window.query_all_by_label("β1").count(), 0, "folded");
    let mut recipe = window.state().draft().clone();
    recipe.training.beta_1 = 2.0;
    window.state_mut().apply(Action::EditRecipe(Box::new(recipe)));
    window.run_steps(60);
    assert_eq!(window.query_all_by_label("β1 2 is not at least 0 and below 1").count(), 2);
}

pub(in crate::ui) fn training(folder: &Path) -> Window {
    let mut window = window(in_folder(folder));
    window.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    window.state_mut().apply(Action::Train);
    until(&mut window, "training", |app| {
        app.store.latest.is_some_and(|latest| latest.step.0 > 3) && app.store.attention.is_some()
    });
    window
}

#[test]
fn space_pauses_after_a_head_was_clicked() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    window.get_by_label("Layer 1, head 2").click();
    window.run_steps(3);
    assert_eq!(window.state().settings.view.selected, HeadId { layer: 0, head: 1 });
    assert!(window.ctx.memory(|memory| memory.focused().is_some()), "for the arrows");
    window.key_press(Key::Space);
    until(&mut window, "paused", |app| app.phase() == Phase::Paused);
    assert!(window.query_by_role_and_label(Role::Button, "Go on").is_some());
    let mut larger = window.state().settings.view.clone();
    larger.selected = HeadId { layer: 40, head: 40 };
    window.state_mut().apply(Action::SetView(Box::new(larger)));
    window.run_steps(2);
    let shown = window.state().store.attention.as_ref().expect("recorded").clone();
    let title = format!("Layer {} · Head {}", shown.layers, shown.heads);
    assert!(window.query_all_by_label(&title).count() >= 1, "{title}");
}

#[test]
fn what_is_chosen_for_the_next_run_leaves_the_running_one_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("лес.txt");
    std::fs::write(&path, "В лесу родилась ёлочка, в лесу она росла.\n".repeat(50)).expect("written");
    let mut window = training(folder.path());
    let running = |window: &Window| window.state().run.as_ref().expect("there").recipe.clone();
    let before = running(&window);
    window.state_mut().apply(Action::OpenPath(PickPurpose::OpenText, path.clone()));
    until(&mut window, "the text is read", |app| app.draft().data.text == TextSource::File(path.clone()));
    assert!(window.state().draft().data.probe.starts_with("В лесу"));
    let preset = preset::find("nanogpt-cpu").expect("built in");
    window.state_mut().apply(Action::UsePreset(Box::new(preset.clone())));
    window.run_steps(2);
    assert_eq!(window.state().draft().training.learning_rate, preset.recipe.training.learning_rate);
    assert_eq!(window.state().draft().data.text, TextSource::File(path), "the user's own text stays");
    assert_eq!(running(&window), before);
    window.state_mut().apply(Action::SetProbe("Mira".into()));
    set_number(&mut window, "Learning rate", 5e-3);
    let now = running(&window);
    assert_eq!((now.data.probe.as_str(), now.training.learning_rate), ("Mira", 5e-3), "directly edited");
    assert!(window.state().draft().data.probe.starts_with("В лесу"), "another text has its own");
    set_number(&mut window, "Learning rate", 0.0);
    assert!(window.state().run.as_ref().is_some_and(|run| run.rate_unsent && !run.probe_unsent), "no rate: kept back");
}

#[test]
fn only_a_run_ends_a_run_and_only_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    window.state_mut().apply(Action::OpenRun(folder.path().to_path_buf()));
    until(&mut window, "an error", |app| log_holds(app, "holds no recipe.ron"));
    assert_eq!(window.state().phase(), Phase::Training);
    let own = window.state().settings.recent_runs[0].clone();
    window.state_mut().apply(Action::OpenRun(own.clone()));
    until(&mut window, "the question", |app| app.question.is_some());
    window.get_by_label("Go on training").click();
    window.run_steps(2);
    assert_eq!(window.state().phase(), Phase::Training);
    window.state_mut().apply(Action::OpenRun(own));
    until(&mut window, "the question", |app| app.question.is_some());
    window.get_by_label("Save and open").click();
    until(&mut window, "opened", |app| app.run.as_ref().is_some_and(|run| run.opened) && app.phase() == Phase::Paused);
}

#[test]
fn a_run_whose_text_is_gone_says_why_it_cannot_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("poem.txt");
    std::fs::write(&path, "abcde fghij\n".repeat(100)).expect("written");
    let mut window = window(in_folder(folder.path()));
    let mut recipe = tiny();
    recipe.data.text = TextSource::File(path.clone());
    window.state_mut().apply(Action::EditRecipe(Box::new(recipe)));
    until(&mut window, "the text is read", |app| app.draft.hindrance().is_none());
    window.state_mut().apply(Action::StepOnce);
    until(&mut window, "a step", |app| app.store.latest.is_some() && app.phase() == Phase::Paused);
    window.state_mut().apply(Action::Reset);
    until(&mut window, "the run is gone", |app| app.phase() == Phase::Idle);
    std::fs::remove_file(&path).expect("removed");
    let run = window.state().settings.recent_runs[0].clone();
    window.state_mut().apply(Action::OpenRun(run));
    until(&mut window, "opened", |app| app.phase() == Phase::Paused);
    let why = window.state().store.ready.as_ref().and_then(|ready| ready.blocked.clone()).expect("blocked");
    assert!(window.query_all_by_label(&why).count() >= 1, "{why}");
    assert!(window.get_by_role_and_label(Role::Button, "Go on").accesskit_node().is_disabled());
    assert!(window.get_by_role_and_label(Role::Button, "Step").accesskit_node().is_disabled());
}

#[test]
fn an_answer_for_another_text_leaves_the_awaited_one() {
    let mut window = window(AppOptions::default());
    let app = window.state_mut();
    let awaited = Candidate { source: TextSource::File("/b.txt".into()), done_bytes: 0, total_bytes: 0 };
    app.draft.candidate = Some(awaited.clone());
    for result in [Ok(TextSummary::built_in()), Err("gone".to_owned())] {
        app.desk_done(Done::Scanned { source: TextSource::File("/a.txt".into()), result });
        assert_eq!(app.draft.candidate.as_ref(), Some(&awaited));
    }
}

/// A text with tinyshakespeare's counts.
fn like_tinyshakespeare(path: &Path) {
    let alphabet: Vec<char> = ('0'..='9').chain('a'..='z').chain('A'..='Z').chain("\n .".chars()).collect();
    assert_eq!(alphabet.len(), 65);
    let text: String = alphabet.iter().cycle().take(1_115_394).collect();
    std::fs::write(path, text).expect("written");
}

#[test]
fn a_parity_run_refuses_another_text_and_starts_with_the_right_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (poem, text) = (folder.path().join("poem.txt"), folder.path().join("input.txt"));
    std::fs::write(&poem, "abcde fghij\n".repeat(100)).expect("written");
    like_tinyshakespeare(&text);
    let mut window = window(in_folder(folder.path()));
    let before = window.state().draft().clone();
    window.state_mut().apply(Action::ParityRun);
    window.run_steps(2);
    assert_eq!(window.state().picker.as_ref().map(|picker| &picker.purpose), Some(&PickPurpose::ParityText));
    window.state_mut().apply(Action::OpenPath(PickPurpose::ParityText, poem));
    until(&mut window, "the refusal", |app| app.parity.refused.is_some());
    window.get_by_label_contains("poem.txt: it has 1,200 characters, 12 of them distinct.");
    assert!(*window.state().draft() == before && window.state().run.is_none(), "nothing was started or changed");

    window.state_mut().apply(Action::OpenPath(PickPurpose::ParityText, text.clone()));
    until(&mut window, "a run", |app| app.store.latest.is_some());
    let recipe = window.state().draft().clone();
    let reference = preset::find("nanogpt-cpu").expect("built in").recipe;
    assert_eq!((&recipe.model, &recipe.training), (&reference.model, &reference.training));
    assert_eq!(recipe.data.text, TextSource::File(text));
    window.get_by_label("nanoGPT");
    window.state_mut().apply(Action::ParityRun);
    window.run_steps(2);
    window.get_by_label("Not finished");
    set_number(&mut window, "Learning rate", 5e-4);
    until(&mut window, "the verdict", |app| app.parity.shown);
    window.get_by_label("Not nanoGPT's recipe any more");
    window.state_mut().apply(Action::CloseParity);
    window.run_steps(2);
    assert_eq!(window.query_all_by_label("Not nanoGPT's recipe any more").count(), 0);
    window.state_mut().apply(Action::Reset);
    until(&mut window, "the run is gone", |app| app.phase() == Phase::Idle);
    window.state_mut().apply(Action::ParityRun);
    until(&mut window, "at once with the text that is known", |app| app.run.is_some());
}

#[test]
fn keys_walk_over_the_kept_steps_and_take_back_switches() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    until(&mut window, "kept steps", |app| app.store.kept.len() > 3);
    window.get_by_role_and_label(Role::Button, "Pause").click();
    until(&mut window, "paused", |app| app.phase() == Phase::Paused);
    let kept = window.state().store.kept.clone();
    for (key, expected) in [(Key::Comma, 1), (Key::Comma, 2), (Key::Period, 1)] {
        window.key_press(key);
        window.run_steps(2);
        assert_eq!(window.state().view.step, kept.get(kept.len() - expected).copied(), "after {key:?}");
    }
    let viewed = window.state().view.step;
    until(&mut window, "the kept step is shown", |app| {
        app.store.look.as_ref().is_some_and(|look| look.view.step == viewed && Some(look.attention.step) == viewed)
    });
    let off = window.state().view.switches.clone();
    let mut view = window.state().view.clone();
    view.switches.mlps.insert(0, crate::protocol::Off::Zero);
    window.state_mut().apply(Action::Look(Box::new(view)));
    until(&mut window, "its cost", |app| app.store.switched.is_some());
    window.state_mut().apply(Action::MeasureEffects(crate::protocol::Off::Zero));
    let mut view = window.state().view.clone();
    view.switches.heads.insert(HeadId::default(), crate::protocol::Off::Mean);
    window.state_mut().apply(Action::Look(Box::new(view)));
    until(&mut window, "its cost, after the effects", |app| {
        app.store.switched.as_ref().is_some_and(|report| report.switches == app.view.switches)
    });
    window.state_mut().apply(Action::UndoSwitches);
    window.get_by_label("Probe").focus();
    window.run_steps(2);
    window.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    window.run_steps(2);
    assert_ne!(window.state().view.switches, off, "the field has its own undo");
    window.key_press(Key::Escape);
    window.run_steps(2);
    window.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    window.run_steps(2);
    assert_eq!(window.state().view.switches, off);
    let cut = Cut { head: HeadId::default(), query: 1, key: 0 };
    let view = View { cuts: BTreeSet::from([cut]), ..window.state().view.clone() };
    window.state_mut().apply(Action::Look(Box::new(view)));
    window.run_steps(2);
    window.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    window.run_steps(2);
    assert!(window.state().view.cuts.is_empty() && window.state().view.switches == off);
    // With another probe the cuts are gone, and nothing is left of them to take back.
    let steps = window.state().changed_before.len();
    let view = View { cuts: BTreeSet::from([cut]), ..window.state().view.clone() };
    window.state_mut().apply(Action::Look(Box::new(view)));
    window.state_mut().apply(Action::SetProbe("What".into()));
    assert_eq!(window.state().changed_before.len(), steps);
    window.key_press(Key::L);
    window.run_steps(2);
    assert_eq!(window.state().view.step, None);
}

#[test]
fn a_fork_opens_by_itself_with_its_parents_curve() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    until(&mut window, "kept steps", |app| app.store.kept.len() > 5);
    window.get_by_role_and_label(Role::Button, "Pause").click();
    until(&mut window, "paused", |app| app.phase() == Phase::Paused);
    let parent = window.state().store.ready.as_ref().expect("ready").folder.clone();
    let step = window.state().store.kept[4];
    window.state_mut().apply(Action::Fork { step, changed: false });
    until(&mut window, "the fork", |app| app.store.ready.as_ref().is_some_and(|ready| ready.parent.is_some()));
    until(&mut window, "its parent's curve", |app| !app.overlays.is_empty());
    assert_eq!(window.state().store.loss.last_step(), Some(step.0));
    let (parent, step) = (crate::ui::recipe::draft::file_name(&parent), crate::recipe::grouped(step.0));
    let name = format!("{parent}, forked from it at step {step}");
    assert_eq!(window.query_all_by_label(&name).count(), 1, "{name}");
    window.state_mut().store.note(Level::Info, "a notice");
    window.run_steps(2);
    let timeline = window.get_by_label("Play").rect().top();
    let notices: Vec<_> = window.query_all_by_label("Close notice").map(|notice| notice.rect().bottom()).collect();
    assert!(!notices.is_empty() && notices.iter().all(|bottom| *bottom < timeline), "{notices:?} lie on {timeline}");
    window.state_mut().apply(Action::Reset);
    until(&mut window, "the end of the fork", |app| app.phase() == Phase::Idle);
    assert!(window.state().overlays.is_empty(), "the curve stays without its fork");
}

#[test]
fn another_probe_restores_the_cuts_of_the_older_one() {
    let mut window = window(AppOptions::default());
    let cut = Cut { head: HeadId::default(), query: 1, key: 0 };
    let view = View { cuts: [cut].into(), renormalise: true, ..View::default() };
    window.state_mut().apply(Action::Look(Box::new(view)));
    window.state_mut().apply(Action::SetProbe("another".into()));
    assert_eq!(window.state().view, View { renormalise: true, ..View::default() });
}

#[test]
fn what_no_pane_in_sight_shows_is_not_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = window(in_folder(folder.path()));
    window.state_mut().apply(Action::EditRecipe(Box::new(tiny())));
    until(&mut window, "the text is read", |app| app.draft.hindrance().is_none());
    window.state_mut().apply(Action::StepOnce);
    until(&mut window, "attention", |app| app.store.attention.is_some());
    window.run_steps(2);
    assert_eq!(window.state().view.wants, Wants::default(), "the heatmap is in front");
    window.state_mut().apply(Action::TogglePane(Pane::Lens));
    until(&mut window, "the lens", |app| {
        app.store.look.as_ref().is_some_and(|look| look.lens.is_some() && look.attribution.is_some())
    });
    window.state_mut().apply(Action::SetProbe("where".into()));
    until(&mut window, "the lens of the new probe", |app| {
        app.store.look.as_ref().is_some_and(|look| {
            look.lens.as_ref().is_some_and(|lens| lens.positions == 5)
                && look.attribution.as_ref().is_some_and(|attribution| attribution.position == 4)
        })
    });
    let view = ViewSettings { words: WordsMode::Stages, ..window.state().settings.view.clone() };
    window.state_mut().apply(Action::SetView(Box::new(view)));
    window.state_mut().apply(Action::TogglePane(Pane::Tokens));
    until(&mut window, "the scores", |app| {
        app.store.look.as_ref().is_some_and(|look| look.scores.is_some() && look.lens.is_none())
    });
}

#[test]
fn what_is_told_to_screen_readers_holds_no_nul() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = window(in_folder(folder.path()));
    window.state_mut().store.note(Level::Warning, "drawn: a\0b");
    window.step();
    window.get_by_label("drawn: a?b");
}
