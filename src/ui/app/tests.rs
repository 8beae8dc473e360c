//! The real window without a window: driven by label and role, nothing is rendered.

use std::path::Path;
use std::time::{Duration, Instant};

use eframe::egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use super::*;
use crate::ui::actions::{PickPurpose, Theme};

type Window = Harness<'static, App>;

fn window(options: AppOptions) -> Window {
    let mut window = Harness::builder()
        .with_size([1280.0, 800.0])
        .with_max_steps(16)
        .build_eframe(move |creation| App::new(&creation.egui_ctx, options));
    until(&mut window, "the text is read", |app| app.draft.vocabulary().is_some());
    window
}

/// Frame after frame until `done`, as the desk and the worker answer from their own threads.
fn until(window: &mut Window, what: &str, mut done: impl FnMut(&App) -> bool) {
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

fn in_folder(folder: &Path) -> AppOptions {
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

fn log_holds(app: &App, words: &str) -> bool {
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
    assert!(window.query_all_by_label(fault).count() >= 1, "the fault stands at its field");
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
    window.state_mut().picker.as_mut().expect("the path window").retype(&path.display().to_string());
    until(&mut window, "the desk looked", |app| app.picker.as_ref().is_some_and(|picker| picker.kind().is_some()));
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
    window.get_by_label("Go on training").click();
    window.run_steps(2);
    assert_eq!((window.state().closing, window.state().phase()), (Closing::No, Phase::Training));
    window.key_press_modifiers(Modifiers::COMMAND, Key::Q);
    window.run_steps(2);
    window.get_by_label("Save and quit").click();
    until(&mut window, "closed", |app| app.closing == Closing::Now);
    let run = window.state().settings.recent_runs[0].clone();
    assert!(run.join("checkpoint").exists(), "what resume needs was saved in {}", run.display());
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
    assert!(!app.layout.is_shown(Pane::Loss));
    assert_eq!(*app.draft(), tiny());
    assert_eq!(app.store.log.len(), 0, "nothing to complain about: {:?}", app.store.log);
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
    window.state_mut().apply(Action::UsePreset(Box::new(preset::built_in().remove(2))));
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
