//! The menu bar, and the windows behind Help.

use eframe::egui::{self, Button, Context, MenuBar, Ui};

use super::layout::Layout;
use crate::findings::Finding;
use crate::ui::actions::commands::{MenuCommand, Situation};
use crate::ui::actions::{Action, Pane, PickPurpose, Theme};
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::theme;

/// What the menus show besides commands.
pub struct MenuState<'a> {
    pub situation: &'a Situation,
    pub theme: Theme,
    pub layout: &'a Layout,
    pub recent_texts: &'a [std::path::PathBuf],
    pub recent_runs: &'a [std::path::PathBuf],
}

/// The menu bar; `at_right` fills its right end.
pub fn bar(ui: &mut Ui, state: &MenuState<'_>, at_right: impl FnOnce(&mut Ui, &mut Vec<Action>)) -> Vec<Action> {
    let mut actions = Vec::new();
    MenuBar::new().ui(ui, |ui| {
        let list = &mut actions;
        ui.menu_button("File", |ui| file_menu(ui, state, list));
        ui.menu_button("Run", |ui| {
            use MenuCommand as C;
            for command in [C::TrainOrPause, C::Step, C::Reset, C::Sample, C::EvaluateWhole] {
                item(ui, command, state.situation, list);
            }
            ui.separator();
            for command in [C::EarlierStep, C::LaterStep, C::PlayTimeline, C::Live, C::UndoSwitch] {
                item(ui, command, state.situation, list);
            }
            ui.separator();
            item(ui, MenuCommand::ParityRun, state.situation, list);
        });
        ui.menu_button("View", |ui| view_menu(ui, state, list));
        ui.menu_button("Help", |ui| {
            item(ui, MenuCommand::Shortcuts, state.situation, list);
            item(ui, MenuCommand::About, state.situation, list);
        });
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| at_right(ui, list));
    });
    actions
}

fn item(ui: &mut Ui, command: MenuCommand, situation: &Situation, actions: &mut Vec<Action>) {
    let key = command.keys().first().map(|key| ui.ctx().format_shortcut(key)).unwrap_or_default();
    let button = Button::new(command.text()).shortcut_text(key);
    match command.action(situation) {
        Ok(action) => {
            if ui.add(button).on_hover_text(command.tip()).clicked() {
                actions.push(action);
                ui.close();
            }
        }
        Err(why) => {
            ui.add_enabled(false, button).on_disabled_hover_text(format!("{} {why}", command.tip()));
        }
    }
}

fn file_menu(ui: &mut Ui, state: &MenuState<'_>, actions: &mut Vec<Action>) {
    use MenuCommand as C;
    ui.set_min_width(260.0);
    for command in [C::OpenText, C::OpenRun, C::OpenModel] {
        item(ui, command, state.situation, actions);
    }
    recent(ui, "Recent texts", state.recent_texts, actions, |path| Action::OpenPath(PickPurpose::OpenText, path));
    recent(ui, "Recent runs", state.recent_runs, actions, Action::OpenRun);
    for group in [
        &[C::OpenPreset, C::SavePreset][..],
        &[C::SaveCheckpoint, C::ExportModel, C::ExportWeights, C::ExportCheckpoint],
        &[C::OverlayRun, C::SaveCurves, C::SavePage],
    ] {
        ui.separator();
        for command in group {
            item(ui, *command, state.situation, actions);
        }
    }
    ui.menu_button("Save data", |ui| {
        for finding in Finding::ALL {
            item(ui, C::SaveFinding(finding), state.situation, actions);
        }
    });
    picture_menus(ui, state.layout, actions);
    ui.separator();
    item(ui, C::Quit, state.situation, actions);
}

fn recent(
    ui: &mut Ui,
    title: &str,
    paths: &[std::path::PathBuf],
    actions: &mut Vec<Action>,
    action: impl Fn(std::path::PathBuf) -> Action,
) {
    if paths.is_empty() {
        ui.add_enabled(false, Button::new(title)).on_disabled_hover_text("None yet.");
        return;
    }
    ui.menu_button(title, |ui| {
        for path in paths {
            if ui.button(file_name(path)).on_hover_text(path.display().to_string()).clicked() {
                actions.push(action(path.clone()));
                ui.close();
            }
        }
    });
}

fn view_menu(ui: &mut Ui, state: &MenuState<'_>, actions: &mut Vec<Action>) {
    ui.set_min_width(200.0);
    for (theme, text) in
        [(Theme::System, "Theme as the system has it"), (Theme::Light, "Light theme"), (Theme::Dark, "Dark theme")]
    {
        if ui.radio(state.theme == theme, text).clicked() {
            actions.push(Action::SetTheme(theme));
            ui.close();
        }
    }
    ui.separator();
    for pane in Pane::ALL {
        let mut shown = state.layout.is_shown(pane);
        if ui
            .checkbox(&mut shown, pane.title())
            .on_hover_text("Shows this pane, brings it to the front, or hides it.")
            .changed()
        {
            actions.push(Action::TogglePane(pane));
        }
    }
    item(ui, MenuCommand::ResetLayout, state.situation, actions);
    ui.separator();
    for command in [MenuCommand::ZoomIn, MenuCommand::ZoomOut, MenuCommand::ZoomReset] {
        item(ui, command, state.situation, actions);
    }
}

/// What keys and pointer do in one place only.
const OTHER_KEYS: [(&str, &str, &str); 9] = [
    (
        "Arrows",
        "Another head, cell or step",
        "In the grid of all heads and the large one, once clicked; else along the timeline.",
    ),
    ("Ctrl+Click", "Switch off or on", "A head or MLP of the grid; Delete does it for the chosen head."),
    ("Ctrl+Click, X", "Cut or restore a weight", "In the large head; Alt does as well, and so does a menu."),
    ("Home, End", "First or last kept step", "Of the timeline, where no field has them."),
    ("Wheel", "Go closer", "Into the steps of a plot or the cells of a head, around the pointer."),
    ("Drag", "Move", "A plot or a closer head. The right button zooms into a box of a plot."),
    ("Double click", "Fit", "Shows the whole plot or head again."),
    ("Enter", "Go on", "In a dialog: takes the path, or presses the marked button."),
    ("Escape", "Cancel", "In a dialog: closes it. In the sample: lets go of a kept token."),
];

/// The list of keys, in a window of its own.
pub fn shortcuts_window(ctx: &Context) -> Vec<Action> {
    let mut open = true;
    let window = egui::Window::new("Shortcuts").open(&mut open).collapsible(false).auto_sized();
    window.anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0]).show(ctx, |ui| {
        ui.set_width(850.0);
        // In a low window the rest of the list scrolls, so that its title and its end stay in sight.
        let list = egui::ScrollArea::vertical().max_height(ctx.content_rect().height() - 110.0);
        let grid = egui::Grid::new("shortcuts").num_columns(3).spacing([18.0, 5.0]);
        list.show(ui, |ui| {
            grid.show(ui, |ui| {
                for command in MenuCommand::ALL.into_iter().filter(|command| !command.keys().is_empty()) {
                    let key = command.keys().first().map(|key| ctx.format_shortcut(key)).unwrap_or_default();
                    ui.label(theme::number(key));
                    ui.label(theme::heading(command.text()));
                    ui.weak(command.tip());
                    ui.end_row();
                }
                for (key, text, tip) in OTHER_KEYS {
                    ui.label(theme::number(key));
                    ui.label(theme::heading(text));
                    ui.weak(tip);
                    ui.end_row();
                }
            })
        });
        ui.add_space(4.0);
        ui.weak("Keys without Ctrl do nothing while a field is being typed into.");
    });
    if open { Vec::new() } else { vec![Action::ToggleShortcuts] }
}

/// What this program is.
pub fn about_window(ctx: &Context) -> Vec<Action> {
    let mut open = true;
    let window = egui::Window::new("About Headlight").open(&mut open).collapsible(false).auto_sized();
    window.anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0]).show(ctx, |ui| {
        ui.set_width(420.0);
        ui.label(theme::heading(concat!("Headlight ", env!("CARGO_PKG_VERSION"))));
        ui.label(env!("CARGO_PKG_DESCRIPTION"));
        ui.weak(concat!("Licence: ", env!("CARGO_PKG_LICENSE")));
    });
    if open { Vec::new() } else { vec![Action::ToggleAbout] }
}

/// The two menus that take a picture of a pane.
pub fn picture_menus(ui: &mut Ui, layout: &Layout, actions: &mut Vec<Action>) {
    let mut menu = |title: &str, action: fn(Pane) -> Action| {
        ui.menu_button(title, |ui| {
            for pane in Pane::ALL {
                let button = ui.add_enabled(layout.rect(pane).is_some(), Button::new(pane.title()));
                if button.on_disabled_hover_text("It is not in sight: show it first.").clicked() {
                    actions.push(action(pane));
                    ui.close();
                }
            }
        });
    };
    menu("Save picture of a view (PNG)", |pane| Action::Pick(PickPurpose::SavePicture(pane)));
    menu("Copy picture of a view", Action::CopyPicture);
}
