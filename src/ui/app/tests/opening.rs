//! Runs that are opened, go on, end by a signal, or do not fit; and paths that are completed.

use super::*;
use crate::protocol::{Origin, Outcome};
use crate::recipe::SamplingRecipe;
use crate::runs::Kept;
use crate::ui::recipe::draft::file_name;

/// Trains the tiny recipe for so many steps, and ends the run. Its folder.
fn finished(window: &mut Window, steps: u64) -> PathBuf {
    let mut recipe = tiny();
    (recipe.training.steps, recipe.training.warmup_steps) = (steps, steps.min(5));
    window.state_mut().apply(Action::EditRecipe(Box::new(recipe)));
    until(window, "the text is read", |app| app.draft.hindrance().is_none());
    window.state_mut().apply(Action::Train);
    until(window, "all steps", |app| app.phase() == Phase::Completed);
    window.state().store.ready.as_ref().expect("ready").folder.clone()
}

fn reset(window: &mut Window) {
    window.state_mut().apply(Action::Reset);
    until(window, "the run is gone", |app| app.phase() == Phase::Idle);
}

fn open(window: &mut Window, run: &Path) {
    window.state_mut().apply(Action::OpenRun(run.to_path_buf()));
    let there = |app: &App| app.store.ready.as_ref().is_some_and(|ready| ready.folder == run);
    until(window, "the run is there", |app| there(app) && matches!(app.phase(), Phase::Paused | Phase::Completed));
}

#[test]
fn a_signal_saves_and_closes_without_a_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    // Whatever is being asked.
    window.key_press_modifiers(Modifiers::COMMAND, Key::Q);
    window.run_steps(2);
    assert!(window.state().question.is_some());
    window.state().termination.ask();
    until(&mut window, "closed", |app| app.closing == Closing::Now);
    assert!(window.state().run.is_none() && window.state().question.is_none());
    let run = window.state().settings.recent_runs[0].clone();
    let last = window.state().store.latest.map(|latest| latest.step);
    assert_eq!(Some(saved_step(&run)), last, "nothing is lost");

    let mut idle = super::window(AppOptions::default());
    idle.state().termination.ask();
    until(&mut idle, "closed", |app| app.closing == Closing::Now);
}

#[test]
fn a_window_that_is_taken_away_saves_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let window = training(folder.path());
    let run = window.state().settings.recent_runs[0].clone();
    let seen = window.state().store.latest.expect("it trains").step;
    drop(window);
    assert!(saved_step(&run) >= seen);
}

// Elsewhere a folder that is in use cannot be renamed.
#[cfg(unix)]
#[test]
fn a_run_that_was_saved_elsewhere_is_the_last_run_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    let run = window.state().settings.recent_runs[0].clone();
    std::fs::rename(&run, folder.path().join("renamed")).expect("renamed");
    until(&mut window, "the run misses its folder", |app| {
        app.store.folder_gone.is_some() && app.phase() == Phase::Paused
    });
    let elsewhere = folder.path().join("elsewhere");
    window.state_mut().apply(Action::OpenPath(PickPurpose::SaveElsewhere, elsewhere.clone()));
    until(&mut window, "saved elsewhere", |app| app.store.folder_gone.is_none());
    let recent = &window.state().settings.recent_runs;
    assert!(recent[0] == elsewhere && !recent.contains(&run), "{recent:?}");
}

fn saved_step(run: &Path) -> crate::protocol::Step {
    let file = crate::runs::RunFolder::read(run).expect("a run");
    let owner = crate::runs::Owner::new(&file.recipe.model, &file.tokenizer);
    let saved = crate::runs::Checkpoint::load(&Kept::Last.path(run), &owner, &crate::device::cpu());
    saved.expect("a checkpoint").state.step
}

#[test]
fn an_opened_run_leaves_the_draft_and_offers_its_recipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = super::window(in_folder(folder.path()));
    let run = finished(&mut window, 10);
    reset(&mut window);
    let mut mine = preset::find("nanogpt-cpu").expect("built in").recipe;
    mine.model.layers = 5;
    window.state_mut().apply(Action::EditRecipe(Box::new(mine.clone())));
    window.run_steps(2);
    open(&mut window, &run);
    assert_eq!(*window.state().draft(), mine, "what one was writing stays");
    window.get_by_label("Opened run");
    window.get_by_label(&file_name(&run));
    assert_eq!(window.query_all_by_label("after Reset").count(), 0, "they are two recipes, not one that was changed");
    // The two have nothing to do with each other.
    set_number(&mut window, "Learning rate", 5e-3);
    let rate = window.state().run.as_ref().expect("there").recipe.training.learning_rate;
    assert_eq!(rate, tiny().training.learning_rate);
    let sampling = SamplingRecipe { tokens: 7, ..tiny().sampling };
    window.state_mut().apply(Action::EditSampling(Box::new(sampling)));
    assert_eq!(window.state().draft().sampling, mine.sampling);
    mine.training.learning_rate = 5e-3;

    eframe::App::on_exit(window.state_mut());
    drop(window);
    let mut again = super::window(in_folder(folder.path()));
    assert_eq!(*again.state().draft(), mine, "also after a restart");
    again.get_by_role_and_label(Role::Button, &format!("Open the last run: {}", file_name(&run))).click();
    until(&mut again, "the last run", |app| app.phase() == Phase::Completed);
    again.run_steps(2);
    assert_eq!(*again.state().draft(), mine);
    again.get_by_role_and_label(Role::Button, "Use this recipe").click();
    again.run_steps(2);
    let app = again.state();
    assert_eq!(
        (app.draft().model.width, app.draft().training.steps, app.draft.title.as_str()),
        (8, 10, &*file_name(&run))
    );
    assert_eq!(again.query_all_by_label("Opened run").count(), 0);
}

#[test]
fn a_run_of_the_draft_s_own_recipe_is_not_shown_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = super::window(in_folder(folder.path()));
    let run = finished(&mut window, 10);
    reset(&mut window);
    open(&mut window, &run);
    window.run_steps(2);
    assert_eq!(window.query_all_by_label("Opened run").count(), 0);
}

#[test]
fn a_finished_run_goes_on_with_more_steps() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = super::window(in_folder(folder.path()));
    let run = finished(&mut window, 20);
    window.run_steps(2);
    window.get_by_role_and_label(Role::Button, "Go on with more steps…").click();
    until(&mut window, "the question", |app| app.question.is_some());
    window.run_steps(2);
    set_number(&mut window, "Steps of the new run", 30.0);
    window.get_by_role_and_label(Role::Button, "Go on").click();
    until(&mut window, "the longer run", |app| app.store.ready.as_ref().is_some_and(|ready| ready.parent.is_some()));
    let ready = window.state().store.ready.clone().expect("ready");
    assert_eq!((ready.recipe.training.steps, ready.step.0), (30, 20));
    assert_eq!(ready.parent.map(|(parent, step)| (parent, step.0)), Some((run, 20)));
    until(&mut window, "it waits", |app| app.phase() == Phase::Paused);
    window.state_mut().apply(Action::Train);
    until(&mut window, "its end", |app| app.phase() == Phase::Completed);
    assert_eq!(window.state().store.latest.map(|latest| latest.step.0), Some(30));
}

#[test]
fn a_run_that_barely_fits_is_asked_about() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = super::window(in_folder(folder.path()));
    finished(&mut window, 10);
    reset(&mut window);
    let tight = |window: &mut Window| {
        let why = "training this recipe needs about 15.0 GB of memory, and 18.0 GB are free";
        window.state_mut().store.apply(Event::Finished(Outcome::Tight(why.into())));
        window.state_mut().run_has_ended();
        window.run_steps(2);
        window.get_by_label_contains("Training this recipe needs about 15.0 GB of memory, and 18.0 GB are free.");
    };
    tight(&mut window);
    // What is safe has the focus.
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert!(window.state().question.is_none() && window.state().run.is_none());
    // The place is taken by the run that ended; a new one is asked for.
    let recipe = Box::new(window.state().draft().clone());
    let origin = Origin::New { recipe, place: crate::protocol::Place::At(folder.path().join("runs/anyway")) };
    let started = window.state_mut().started.as_mut().expect("started before");
    (started.origin, started.paused, started.steps_once) = (origin, true, true);
    tight(&mut window);
    window.get_by_role_and_label(Role::Button, "Start anyway").click();
    until(&mut window, "one step", |app| app.store.latest.is_some_and(|latest| latest.step.0 == 1));
    assert!(window.state().started.as_ref().is_some_and(|start| start.despite_memory));
}

#[test]
fn a_text_that_moved_is_asked_for_and_held_to_what_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, moved) = (folder.path().join("poem.txt"), folder.path().join("poem-2.txt"));
    std::fs::write(&path, "abcde fghij\n".repeat(100)).expect("written");
    let mut window = super::window(in_folder(folder.path()));
    let mut recipe = tiny();
    recipe.data.text = TextSource::File(path.clone());
    window.state_mut().apply(Action::EditRecipe(Box::new(recipe)));
    until(&mut window, "the text is read", |app| app.draft.hindrance().is_none());
    window.state_mut().apply(Action::StepOnce);
    until(&mut window, "a step", |app| app.store.latest.is_some() && app.phase() == Phase::Paused);
    let run = window.state().settings.recent_runs[0].clone();
    reset(&mut window);
    std::fs::rename(&path, &moved).expect("moved");
    open(&mut window, &run);
    window.run_steps(2);
    window.get_by_role_and_label(Role::Button, "Where is it now?").click();
    window.run_steps(2);
    assert_eq!(window.state().picker.as_ref().map(|picker| &picker.purpose), Some(&PickPurpose::MovedText));
    let other = folder.path().join("other.txt");
    std::fs::write(&other, "abcde fghij\n".repeat(90)).expect("written");
    window.state_mut().apply(Action::OpenPath(PickPurpose::MovedText, other));
    let why = |app: &App| app.store.ready.as_ref().and_then(|ready| ready.blocked.clone()).unwrap_or_default();
    until(&mut window, "another text is refused", |app| why(app).contains("other.txt is not the text"));
    until(&mut window, "opened", |app| app.phase() == Phase::Paused);
    window.state_mut().apply(Action::OpenPath(PickPurpose::MovedText, moved));
    until(&mut window, "it is found", |app| {
        app.store.ready.is_some() && app.phase() == Phase::Paused && why(app).is_empty()
    });
    window.run_steps(2);
    window.get_by_role_and_label(Role::Button, "Go on").click();
    until(&mut window, "it goes on", |app| app.store.latest.is_some_and(|latest| latest.step.0 > 3));
}

#[test]
fn a_typed_path_is_completed_by_tab_arrows_and_clicks() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("poets")).expect("made");
    std::fs::write(folder.path().join("poets/mine.txt"), "abcde fghij\n".repeat(100)).expect("written");
    std::fs::write(folder.path().join("poems.txt"), "x").expect("written");
    std::fs::write(folder.path().join(".poison"), "x").expect("written");
    let mut window = super::window(in_folder(folder.path()));
    window.key_press_modifiers(Modifiers::COMMAND, Key::O);
    window.run_steps(2);
    let base = folder.path().display().to_string();
    let typed = |window: &Window| window.state().picker.as_ref().expect("the path window").typed().to_owned();
    let wait_for = |window: &mut Window, label: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        while window.query_by_label(label).is_none() {
            assert!(Instant::now() < end, "{label} is not listed");
            window.step();
        }
    };
    let picker = window.state_mut().picker.as_mut().expect("the path window");
    picker.retype(&format!("{base}/p"));
    wait_for(&mut window, "poets, folder");
    wait_for(&mut window, "poems.txt, file");
    assert!(window.query_by_label(".poison, file").is_none(), "hidden");
    window.key_press(Key::Tab);
    window.run_steps(2);
    assert_eq!(typed(&window), format!("{base}/poe"));
    wait_for(&mut window, "poets, folder");
    window.key_press(Key::ArrowDown);
    window.run_steps(2);
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert_eq!(typed(&window), format!("{base}/poets/"));
    wait_for(&mut window, "mine.txt, file");
    window.get_by_label("mine.txt, file").click();
    window.run_steps(2);
    assert_eq!(typed(&window), format!("{base}/poets/mine.txt"));
    until(&mut window, "the desk looked", |app| app.picker.as_ref().is_some_and(|picker| picker.kind().is_some()));
    window.key_press(Key::Enter);
    until(&mut window, "the text is the draft's", |app| app.draft().data.text.to_string().ends_with("mine.txt"));
}
