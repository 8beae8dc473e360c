use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;

use eframe::egui::accesskit::Role;
use eframe::egui::{ColorImage, OutputCommand};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use serde_json::Value;

use super::*;
use crate::recipe::grouped;
use crate::store::RunStore;
use crate::ui::actions::commands::Phase;
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::app::layout::Layout;
use crate::ui::app::menu_bar::picture_menus;
use crate::ui::app::tests::{Window, in_folder, log_holds, training, until};
use crate::ui::inspect::findings::found;

fn paused(window: &mut Window) {
    window.state_mut().apply(Action::Pause);
    until(window, "paused", |app| app.phase() == Phase::Paused);
}

fn save(window: &mut Window, purpose: PickPurpose, path: &std::path::Path) {
    window.state_mut().apply(Action::OpenPath(purpose, path.to_path_buf()));
    until(window, "the file is written", |_| path.exists());
}

#[test]
fn what_was_measured_is_saved_as_the_ending_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    paused(&mut window);
    let (json, csv) = (folder.path().join("attention.json"), folder.path().join("attention.csv"));
    let attention = PickPurpose::SaveFinding(Finding::Attention);
    save(&mut window, attention.clone(), &json);
    save(&mut window, attention.clone(), &csv);
    let shown = window.state().store.attention.clone().expect("recorded");
    let file: Value = serde_json::from_str(&fs::read_to_string(&json).expect("a file")).expect("JSON");
    assert_eq!((file["step"].as_u64(), &file["tokens"]), (Some(shown.step.0), &shown.tokens.clone().into()));
    let lines = fs::read_to_string(&csv).expect("a file").lines().count();
    let tokens = shown.tokens.len();
    assert_eq!(lines, 1 + shown.layers * shown.heads * tokens * (tokens + 1) / 2);

    let page = folder.path().join("page.html");
    save(&mut window, PickPurpose::SavePage, &page);
    let run = file_name(&window.state().store.ready.as_ref().expect("ready").folder);
    let html = fs::read_to_string(&page).expect("a page");
    assert!(html.contains(&format!("<title>{run} · step {}</title>", grouped(shown.step.0))), "{run}");

    let wrong = folder.path().join("attention.txt");
    window.state_mut().apply(Action::OpenPath(attention, wrong.clone()));
    assert!(log_holds(window.state(), "attention.txt: name it .csv or .json") && !wrong.exists());
    let lens = PickPurpose::SaveFinding(Finding::Lens);
    window.state_mut().apply(Action::OpenPath(lens, folder.path().join("lens.csv")));
    assert!(log_holds(window.state(), "show the Logit lens pane first"), "its pane is not in sight");
    window.state_mut().apply(Action::TogglePane(Pane::Lens));
    until(&mut window, "the lens", |app| found(&app.store).contains(&Finding::Lens));
    let lens = folder.path().join("lens.json");
    save(&mut window, PickPurpose::SaveFinding(Finding::Lens), &lens);
    let file: Value = serde_json::from_str(&fs::read_to_string(&lens).expect("a file")).expect("JSON");
    assert_eq!(file["blocks.0.hook_resid_pre"].as_array().map(Vec::len), Some(tokens));
}

#[test]
fn the_dialog_takes_no_other_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    window.state_mut().apply(Action::Pick(PickPurpose::SaveFinding(Finding::Attention)));
    window.run_steps(2);
    for (name, allowed) in [("a.txt", false), ("a", false), ("a.csv", true), ("a.json", true)] {
        let path = folder.path().join(name).display().to_string();
        window.state_mut().picker.as_mut().expect("the path window").retype(&path);
        window.step();
        until(&mut window, "the desk looked", |app| app.picker.as_ref().is_some_and(|picker| picker.kind().is_some()));
        let button = window.get_by_role_and_label(Role::Button, "Save");
        assert_eq!(!button.accesskit_node().is_disabled(), allowed, "{name}");
    }
}

#[test]
fn with_parts_switched_off_only_that_models_roles_are_saved() {
    use crate::protocol::{HeadId, Look, Off, RoleReport, Step};
    use crate::store::tests::{look, snapshot, store_at_start};
    let report = |step| RoleReport { step: Step(step), heads: 1, reports: vec![Default::default()] };
    let mut store = store_at_start();
    store.roles = vec![report(0), report(100)];
    let roles = |store: &RunStore| -> Value {
        let work = contents(store, Finding::Roles, Format::Json).expect("there are roles");
        serde_json::from_slice(&work().expect("written")).expect("JSON")
    };
    assert_eq!(roles(&store)["reports"].as_array().map(Vec::len), Some(2));
    let mut switched = Look { roles: Some(report(100)), ..(*look(snapshot(100, &["a"], 1, 1))).clone() };
    switched.view.switches.heads.insert(HeadId::default(), Off::Zero);
    store.apply_look(Arc::new(switched));
    let file = roles(&store);
    assert_eq!((file["step"].as_u64(), file["switched_off"].as_array().map(Vec::len)), (Some(100), Some(1)));
}

#[test]
fn menus_and_tabs_offer_pictures_of_what_is_in_sight() {
    let (asked, layout) = (Rc::new(RefCell::new(Vec::new())), RefCell::new(Layout::default()));
    let actions = Rc::clone(&asked);
    let mut harness = Harness::builder().with_size([1200.0, 700.0]).build_ui(move |ui| {
        let actions = &mut *actions.borrow_mut();
        let mut layout = layout.borrow_mut();
        ui.horizontal(|ui| picture_menus(ui, &layout, actions));
        actions.extend(layout.ui(ui, "One head", &mut |_, _| ()));
    });
    harness.run();
    harness.get_by_label("Copy picture of a view").click();
    harness.run();
    // The menu comes before the tabs of the same names.
    let entry = |pane: Pane| harness.get_all_by_role_and_label(Role::Button, pane.title()).next().expect("an entry");
    assert!(entry(Pane::Lens).accesskit_node().is_disabled());
    entry(Pane::Heads).click();
    harness.run();
    assert!(matches!(asked.borrow()[..], [Action::CopyPicture(Pane::Heads)]), "{asked:?}");
    harness.get_by_label("One head").click_secondary();
    harness.run();
    harness.get_by_label("Save picture (PNG)…").click();
    harness.run();
    let asked = asked.borrow();
    assert!(matches!(asked.last(), Some(Action::Pick(PickPurpose::SavePicture(Pane::Head)))), "{asked:?}");
}

/// The picture that the last frame put on the clipboard.
fn copied(window: &Window) -> Option<ColorImage> {
    window.output().platform_output.commands.iter().find_map(|command| match command {
        OutputCommand::CopyImage(image) => Some(image.clone()),
        _ => None,
    })
}

#[test]
fn a_pane_is_copied_and_saved_in_its_own_size() {
    if crate::device::list_here().is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI must have a graphics adapter (llvmpipe will do)");
        let note = "*** NOT TESTED: there is no graphics adapter here to take a pane's picture with ***\n";
        return std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes()).expect("said");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let options = in_folder(folder.path());
    let builder = Harness::builder().with_size([1000.0, 640.0]).with_max_steps(16).wgpu();
    let mut window: Window = builder.build_eframe(move |creation| App::new(&creation.egui_ctx, options));
    window.run_steps(4);
    let rect = window.state().layout.rect(Pane::Recipe).expect("in sight");
    let size = [rect.left() as usize, rect.right() as usize, rect.top() as usize, rect.bottom() as usize];
    let size = [size[1] - size[0], size[3] - size[2]];
    let near = |found: [usize; 2]| found.iter().zip(size).all(|(&found, wanted)| found.abs_diff(wanted) <= 1);

    window.state_mut().apply(Action::CopyPicture(Pane::Recipe));
    let image = (0..10).find_map(|_| {
        window.step();
        copied(&window)
    });
    let image = image.expect("a picture");
    assert!(near(image.size), "{:?}, not {size:?}", image.size);
    assert!(image.pixels.iter().any(|pixel| *pixel != image.pixels[0]), "something is drawn");

    let path = folder.path().join("recipe.png");
    save(&mut window, PickPurpose::SavePicture(Pane::Recipe), &path);
    let file = std::io::BufReader::new(fs::File::open(&path).expect("a file"));
    let reader = png::Decoder::new(file).read_info().expect("a PNG");
    assert!(near([reader.info().width as usize, reader.info().height as usize]), "{size:?}");

    window.state_mut().apply(Action::CopyPicture(Pane::Lens));
    assert!(log_holds(window.state(), "Logit lens is not in sight"));
}

#[test]
#[cfg(unix)]
fn a_run_whose_folder_is_gone_is_saved_where_the_user_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut window = training(folder.path());
    paused(&mut window);
    let old = window.state().store.ready.as_ref().expect("ready").folder.clone();
    fs::rename(&old, folder.path().join("moved")).expect("moved");
    window.state_mut().apply(Action::StepOnce);
    until(&mut window, "it is known", |app| app.store.folder_gone.is_some() && app.phase() == Phase::Paused);
    window.run_steps(2);
    window.get_by_label("Save this run to another place…").click();
    window.run_steps(2);
    assert!(window.state().picker.as_ref().is_some_and(|picker| picker.purpose == PickPurpose::SaveElsewhere));
    let new = folder.path().join("new");
    window.state_mut().apply(Action::OpenPath(PickPurpose::SaveElsewhere, new.clone()));
    until(&mut window, "it is saved there", |app| app.store.folder_gone.is_none());
    assert_eq!(window.state().store.ready.as_ref().map(|ready| ready.folder.clone()), Some(new.clone()));
    until(&mut window, "its checkpoint", |_| new.join("checkpoint/last.safetensors").is_file());
    assert!(new.join("recipe.ron").is_file() && !old.exists());
}
