//! Choosing a path: a field to type it into, at once, with the recent ones beside it; the system's own dialog at a
//! button, on a thread of its own.
//!
//! The system's dialog may never answer (a portal that hangs) or answer as if it was cancelled (no portal and no
//! zenity). So it is never what the window waits for.

mod completion;

use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use eframe::egui::{self, Align2, Context, Id, Key, TextEdit, Ui, Window};

use self::completion::Completion;
use crate::findings::Format;
use crate::lab::file_worker::{Listing, PathKind, Search};
use crate::protocol::{ExportFormat, Wake};
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::widgets::theme;

/// The window that asks for a path.
#[derive(Debug)]
pub struct PathDialog {
    pub purpose: PickPurpose,
    typed: String,
    recent: Vec<PathBuf>,
    /// What the desk said of the path that was typed last.
    looked: Option<(PathBuf, PathKind)>,
    asked: Option<PathBuf>,
    completion: Completion,
    system: SystemDialog,
    fresh: bool,
}

#[derive(Debug)]
enum SystemDialog {
    Closed,
    Open(Receiver<Option<PathBuf>>),
    /// It ended without a path.
    NoPath,
}

/// How a purpose asks.
struct Words {
    title: &'static str,
    /// The button that goes on.
    go: &'static str,
    hint: &'static str,
    wants: Wants,
}

#[derive(Clone, Copy, PartialEq)]
enum Wants {
    OldFile,
    OldFolder,
    ModelFolder,
    NewFile,
    NewFolder,
    /// A new one, or the run's own.
    RunFolder,
}

impl Wants {
    /// Whether a file is never what is wanted.
    const fn is_folder(self) -> bool {
        matches!(self, Self::OldFolder | Self::ModelFolder | Self::NewFolder)
    }
}

/// What is thought of the typed path.
#[derive(Clone, Copy, PartialEq)]
enum Judgement {
    Fine,
    /// Something goes that was there.
    Caution,
    /// There is more to type.
    Unfinished,
    Fault,
}

impl Judgement {
    const fn allows(self) -> bool {
        matches!(self, Self::Fine | Self::Caution)
    }
}

fn words(purpose: &PickPurpose) -> Words {
    let (title, go, hint, wants) = match purpose {
        PickPurpose::OpenText => ("Open text", "Open", "A UTF-8 text file to learn from.", Wants::OldFile),
        PickPurpose::ParityText => (
            "Text of the parity run",
            "Start",
            "tinyshakespeare: nanoGPT keeps it as data/shakespeare_char/input.txt.",
            Wants::OldFile,
        ),
        PickPurpose::OpenPreset => ("Open preset", "Open", "A .ron file with a recipe.", Wants::OldFile),
        PickPurpose::OpenRun => {
            ("Open run", "Open", "A run's folder: the one that holds recipe.ron.", Wants::OldFolder)
        }
        PickPurpose::OpenModel => (
            "Open model",
            "Open",
            "A folder with config.json and model.safetensors. It becomes a run that can be trained on the recipe's text.",
            Wants::ModelFolder,
        ),
        PickPurpose::OverlayRun => ("Overlay a run", "Overlay", "An earlier run's folder.", Wants::OldFolder),
        PickPurpose::PinRun => {
            ("Compare with a run", "Compare", "The folder of a run with the same vocabulary.", Wants::OldFolder)
        }
        PickPurpose::MeanAttention => {
            ("Mean attention over a text", "Measure", "A UTF-8 text file of many windows.", Wants::OldFile)
        }
        PickPurpose::MovedText => {
            ("Where is it now?", "Open", "The text that this run learned from, under whatever name.", Wants::OldFile)
        }
        PickPurpose::SavePreset => ("Save preset", "Save", "A .ron file.", Wants::NewFile),
        PickPurpose::Export(ExportFormat::Checkpoint) => {
            ("Export checkpoint", "Export", "A folder for the checkpoint.", Wants::NewFolder)
        }
        PickPurpose::Export(ExportFormat::Transformers(_)) => {
            ("Export for transformers", "Export", "A folder for config.json and model.safetensors.", Wants::NewFolder)
        }
        PickPurpose::Export(ExportFormat::Safetensors) => {
            ("Export weights", "Export", "A folder for model.safetensors and config.json.", Wants::NewFolder)
        }
        PickPurpose::SaveElsewhere => (
            "Save this run to another place",
            "Save",
            "The run's own folder where that lies now, or a new one.",
            Wants::RunFolder,
        ),
        PickPurpose::SaveCurves => ("Save curves", "Save", "A .csv file.", Wants::NewFile),
        PickPurpose::SavePicture(_) => ("Save picture of a view", "Save", "A .png file.", Wants::NewFile),
        PickPurpose::SaveFinding(_) => {
            ("Save data", "Save", "A .csv or .json file: the ending says what is written.", Wants::NewFile)
        }
        PickPurpose::SavePage => {
            ("Save as a web page", "Save", "A .html file; it opens in any browser, also offline.", Wants::NewFile)
        }
    };
    Words { title, go, hint, wants }
}

impl PathDialog {
    /// Opens with `suggested` typed in: a folder to look in, or a whole name to save as.
    #[must_use]
    pub fn new(purpose: PickPurpose, suggested: &Path, recent: Vec<PathBuf>) -> Self {
        let typed = suggested.display().to_string();
        let (completion, system) = (Completion::default(), SystemDialog::Closed);
        Self { purpose, typed, recent, looked: None, asked: None, completion, system, fresh: true }
    }

    /// What is typed.
    #[cfg(test)]
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Types another path.
    #[cfg(test)]
    pub fn retype(&mut self, path: &str) {
        path.clone_into(&mut self.typed);
    }

    /// The desk's answer to [`Action::LookAt`].
    pub fn looked_at(&mut self, path: PathBuf, kind: PathKind) {
        self.looked = Some((path, kind));
    }

    /// The desk's answer to [`Action::ListFolder`].
    pub fn listed(&mut self, search: Search, listing: Listing) {
        self.completion.answered(search, listing);
    }

    /// Takes the system dialog's answer, if there is one.
    pub fn poll(&mut self) -> Option<Action> {
        let SystemDialog::Open(answer) = &self.system else { return None };
        match answer.try_recv() {
            Ok(Some(path)) => Some(Action::OpenPath(self.purpose.clone(), path)),
            Ok(None) | Err(TryRecvError::Disconnected) => {
                self.system = SystemDialog::NoPath;
                None
            }
            Err(TryRecvError::Empty) => None,
        }
    }

    pub fn ui(&mut self, ctx: &Context, wake: &Wake) -> Vec<Action> {
        let mut actions = Vec::new();
        let words = words(&self.purpose);
        let mut open = true;
        let window = Window::new(words.title).open(&mut open).collapsible(false).auto_sized();
        window.anchor(Align2::CENTER_TOP, [0.0, 120.0]).show(ctx, |ui| {
            ui.set_width(560.0);
            ui.weak(words.hint);
            self.field(ui, &words, &mut actions);
            let (remark, judgement) = self.remark(&words);
            let wrong = matches!(judgement, Judgement::Caution | Judgement::Fault);
            let color = if wrong { theme::warning(ui.visuals()) } else { theme::muted(ui.visuals()) };
            // Always one line, so that the window does not jump.
            ui.colored_label(color, if remark.is_empty() { " " } else { remark });
            if let Some(typed) = self.completion.ui(ui, &self.typed, words.wants.is_folder()) {
                self.type_in(ui.ctx(), typed);
            }
            self.recent_ui(ui, &mut actions);
            ui.add_space(4.0);
            ui.horizontal(|ui| {
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let path = self.path();
                    let text = egui::RichText::new(words.go).color(theme::on_accent(ui.visuals())).strong();
                    let button = egui::Button::new(text).fill(theme::accent(ui.visuals()));
                    if ui.add_enabled(path.is_some() && judgement.allows(), button).clicked()
                        && let Some(path) = path
                    {
                        actions.push(Action::OpenPath(self.purpose.clone(), path));
                    }
                    if ui.button("Cancel").clicked() {
                        actions.push(Action::ClosePicker);
                    }
                    let rest = egui::Layout::left_to_right(egui::Align::Center);
                    ui.with_layout(rest, |ui| self.browse(ui, &words, wake));
                });
            });
        });
        if !open || ctx.input(|input| input.key_pressed(Key::Escape)) {
            actions.push(Action::ClosePicker);
        }
        self.fresh = false;
        actions
    }

    /// Puts a text into the field, to go on typing behind it.
    fn type_in(&mut self, ctx: &Context, typed: String) {
        let end = egui::text::CCursor::new(typed.chars().count());
        self.typed = typed;
        let mut state = TextEdit::load_state(ctx, field_id()).unwrap_or_default();
        state.cursor.set_char_range(Some(egui::text::CCursorRange::one(end)));
        state.store(ctx, field_id());
        ctx.memory_mut(|memory| memory.request_focus(field_id()));
    }

    fn field(&mut self, ui: &mut Ui, words: &Words, actions: &mut Vec<Action>) {
        let label = ui.label("Path").on_hover_text("Tab completes; the arrows choose below.");
        let folders_only = words.wants.is_folder();
        let keys = self.completion.take_keys(ui, field_id(), &self.typed, folders_only);
        let holds_tab = self.completion.holds_tab(&self.typed, folders_only);
        let field = TextEdit::singleline(&mut self.typed).id(field_id()).lock_focus(holds_tab);
        let shown = field.desired_width(f32::INFINITY).font(egui::TextStyle::Monospace).show(ui);
        let response = shown.response.response.labelled_by(label.id);
        if self.fresh {
            self.type_in(ui.ctx(), self.typed.clone());
        }
        if let Some(typed) = self.completion.obey(keys, &self.typed, folders_only) {
            self.type_in(ui.ctx(), typed);
        }
        actions.extend(self.completion.question(&self.typed, folders_only).map(Action::ListFolder));
        if self.path() != self.asked {
            self.asked = self.path();
            actions.extend(self.asked.clone().map(Action::LookAt));
        }
        if response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
            match self.path() {
                Some(path) if self.remark(words).1.allows() => {
                    actions.push(Action::OpenPath(self.purpose.clone(), path));
                }
                // One goes on typing.
                _ => response.request_focus(),
            }
        }
    }

    /// What the typed path leads to, in one line.
    fn remark(&self, words: &Words) -> (&'static str, Judgement) {
        use Judgement::{Caution, Fault, Fine, Unfinished};
        let Some(kind) = self.kind() else { return ("", Fine) };
        let new_file = words.wants == Wants::NewFile && matches!(kind, PathKind::Missing | PathKind::File);
        if new_file && matches!(self.purpose, PickPurpose::SaveFinding(_)) {
            let format = self.path().map(|path| Format::of(&path));
            if matches!(format, Some(Err(_))) {
                return ("Name it .csv or .json: the ending says what is written.", Fault);
            }
        }
        match (words.wants, kind) {
            (Wants::OldFile, PathKind::Missing) => ("There is no such file.", Fault),
            (Wants::OldFolder | Wants::ModelFolder, PathKind::Missing) => ("There is no such folder.", Fault),
            (Wants::OldFile, PathKind::Folder | PathKind::Run | PathKind::Model) => {
                ("A folder: type the name of a file in it.", Unfinished)
            }
            (Wants::OldFile, PathKind::File) => ("A file.", Fine),
            (Wants::ModelFolder, PathKind::File) => ("A file: name the folder that it lies in.", Fault),
            (Wants::ModelFolder, PathKind::Model) => ("A model.", Fine),
            (Wants::ModelFolder, PathKind::Run) => ("A run: Open run opens it.", Fault),
            (Wants::ModelFolder, PathKind::Folder) => ("This folder holds no config.json.", Unfinished),
            (Wants::OldFolder, PathKind::File) => ("A file, not a run's folder.", Fault),
            (Wants::OldFolder, PathKind::Folder | PathKind::Model) => ("This folder holds no recipe.ron.", Unfinished),
            (Wants::OldFolder, PathKind::Run) => ("A run.", Fine),
            (Wants::RunFolder, PathKind::Run) => ("A run: it goes on there if it is this one.", Fine),
            (Wants::NewFile | Wants::NewFolder | Wants::RunFolder, PathKind::Missing) => ("It will be made.", Fine),
            (Wants::NewFile, PathKind::File) => ("This file is there already and will be replaced.", Caution),
            (Wants::NewFile, PathKind::Folder | PathKind::Run | PathKind::Model) => {
                ("A folder: add a file's name.", Unfinished)
            }
            (Wants::NewFolder | Wants::RunFolder, PathKind::File) => ("A file of this name is in the way.", Fault),
            (Wants::NewFolder | Wants::RunFolder, PathKind::Folder) => {
                ("This folder is there already: it has to be empty.", Fine)
            }
            (Wants::NewFolder | Wants::RunFolder, PathKind::Model) => {
                ("This folder holds a model: take a new name.", Fault)
            }
            (Wants::NewFolder, PathKind::Run) => ("This folder holds a run: take a new name.", Fault),
        }
    }

    fn recent_ui(&self, ui: &mut Ui, actions: &mut Vec<Action>) {
        if self.recent.is_empty() {
            return;
        }
        ui.label(theme::heading("Recent"));
        for path in &self.recent {
            let button = egui::Button::new(path.display().to_string()).frame(false).truncate();
            if ui.add(button).on_hover_text("Takes this path.").clicked() {
                actions.push(Action::OpenPath(self.purpose.clone(), path.clone()));
            }
        }
    }

    fn browse(&mut self, ui: &mut Ui, words: &Words, wake: &Wake) {
        // macOS allows the system's dialog on the main thread alone, where it would stop the window.
        if cfg!(target_os = "macos") {
            return;
        }
        let waiting = matches!(self.system, SystemDialog::Open(_));
        let button = egui::Button::new("Browse…");
        if ui.add_enabled(!waiting, button).on_hover_text("Asks with the system's own dialog.").clicked() {
            self.system = ask_system(words, &self.typed, wake);
        }
        match self.system {
            SystemDialog::Open(_) => ui.weak("The system's dialog is open."),
            SystemDialog::NoPath => ui.weak("No path came back: type one above."),
            SystemDialog::Closed => ui.weak(""),
        };
    }

    /// What the typed path leads to, once the desk has said.
    #[must_use]
    pub fn kind(&self) -> Option<PathKind> {
        let (path, kind) = self.looked.as_ref()?;
        (Some(path) == self.asked.as_ref()).then_some(*kind)
    }

    fn path(&self) -> Option<PathBuf> {
        meant(&self.typed)
    }
}

fn field_id() -> Id {
    Id::unique("typed path")
}

/// The path that is meant by what was typed: a whole path begins anew behind the folder that stood there already
/// (`/home/me//etc/x` is `/etc/x`), and so does one in the home folder (`/etc/~/x`).
fn meant(typed: &str) -> Option<PathBuf> {
    let typed = typed.trim();
    if typed.is_empty() {
        return None;
    }
    if cfg!(unix) {
        if typed == "~" || typed.ends_with("/~") {
            return etcetera::home_dir().ok();
        }
        let (whole, home) = (typed.rfind("//").map_or(0, |place| place + 1), typed.rfind("~/"));
        let home = home.filter(|place| *place == 0 || typed[..*place].ends_with('/'));
        return match home {
            Some(place) if place >= whole => Some(etcetera::home_dir().ok()?.join(&typed[place + 2..])),
            _ => Some(PathBuf::from(&typed[whole..])),
        };
    }
    Some(PathBuf::from(typed))
}

fn ask_system(words: &Words, typed: &str, wake: &Wake) -> SystemDialog {
    let (tell, told) = bounded(1);
    let (title, wants, wake) = (words.title, words.wants, wake.clone());
    let typed = meant(typed).unwrap_or_default();
    let started = std::thread::Builder::new().name("headlight-file-dialog".into()).spawn(move || {
        let mut dialog = rfd::FileDialog::new().set_title(title);
        if let Some(folder) = typed.parent().filter(|folder| folder.is_dir()) {
            dialog = dialog.set_directory(folder);
        }
        if let Some(name) =
            typed.file_name().filter(|_| matches!(wants, Wants::NewFile | Wants::NewFolder | Wants::RunFolder))
        {
            dialog = dialog.set_file_name(name.to_string_lossy());
        }
        let path = match wants {
            Wants::OldFile => dialog.pick_file(),
            Wants::OldFolder | Wants::ModelFolder => dialog.pick_folder(),
            Wants::NewFile | Wants::NewFolder | Wants::RunFolder => dialog.save_file(),
        };
        // The window may have been closed meanwhile.
        let _ = tell.send(path);
        wake();
    });
    if started.is_ok() { SystemDialog::Open(told) } else { SystemDialog::NoPath }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_whole_path_may_be_typed_behind_the_folder_that_is_there() {
        let home = etcetera::home_dir().expect("a home");
        for (typed, path) in [
            ("/work/poem.txt", PathBuf::from("/work/poem.txt")),
            (" poem.txt ", "poem.txt".into()),
            ("/work//tmp/poem.txt", "/tmp/poem.txt".into()),
            ("~/poem.txt", home.join("poem.txt")),
            ("/work/~/poem.txt", home.join("poem.txt")),
            ("/work/a~/poem.txt", "/work/a~/poem.txt".into()),
            ("~", home.clone()),
            ("/work/~", home.clone()),
        ] {
            assert_eq!(meant(typed), Some(path), "{typed}");
        }
        assert_eq!(meant("  "), None);
    }
}
