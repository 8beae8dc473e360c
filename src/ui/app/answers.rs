//! What the file desk's answers change.

use std::path::{Path, PathBuf};

use super::question::{Asked, Question};
use super::settings::remember;
use crate::lab::file_worker::{Done, Job, PathKind};
use crate::preset::Preset;
use crate::protocol::Place;
use crate::recipe::{TextSource, grouped};
use crate::store::Level;
use crate::ui::actions::commands::Phase;
use crate::ui::actions::{Action, AfterEnd, PickPurpose};
use crate::ui::app::App;
use crate::ui::recipe::draft::{Candidate, TextState, file_name, slug};
use crate::ui::widgets::overlay::Overlay;

impl App {
    /// Takes an answer of the file desk's.
    pub(in crate::ui) fn desk_done(&mut self, done: Done) {
        match done {
            Done::Scanning { source, done_bytes, total_bytes } => {
                if self.draft.candidate.as_ref().is_some_and(|candidate| candidate.source == source) {
                    self.draft.candidate = Some(Candidate { source, done_bytes, total_bytes });
                } else if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Reading { done_bytes, total_bytes };
                }
            }
            Done::Scanned { source, result: Ok(summary) } => {
                if let TextSource::File(path) = &source {
                    remember(&mut self.settings.recent_texts, path);
                    self.remember_folder(path);
                }
                if self.parity.awaited.take_if(|awaited| *awaited == source).is_some() {
                    self.parity_text_read(source, summary);
                } else if self.draft.candidate.take_if(|candidate| candidate.source == source).is_some() {
                    self.draft.take_text(source, summary);
                } else if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Known(Box::new(summary));
                }
            }
            Done::Scanned { source, result: Err(why) } => {
                self.store.note(Level::Error, &why);
                self.draft.candidate.take_if(|candidate| candidate.source == source);
                if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Failed(why);
                } else if !matches!(self.draft.text, TextState::Known(_)) && self.draft.candidate.is_none() {
                    // The newer scan had ended the one of the draft's own text.
                    self.read_text();
                }
            }
            Done::PresetOpened { path, result: Ok(preset) } => {
                self.remember_folder(&path);
                let preset = self.add_preset(*preset);
                self.store.note(Level::Info, format!("opened the preset {}", path.display()));
                self.apply(Action::UsePreset(Box::new(preset)));
            }
            Done::CurvesRead { path, result: Ok(curves) } => {
                let parent = self.store.ready.as_ref().and_then(|ready| ready.parent.as_ref());
                let was_awaited = self.parent_awaited.take_if(|awaited| *awaited == path).is_some();
                if was_awaited && parent.is_none_or(|(parent, _)| *parent != path) {
                    // Another run is open by now.
                    return;
                }
                let name = file_name(&path);
                self.overlays.retain(|overlay| overlay.path != path);
                self.overlays.push(Overlay::new(name, path, &curves.steps, &curves.validations));
            }
            Done::Imported { from, result: Ok(report) } => {
                self.remember_folder(&from);
                let weights = grouped(report.parameters);
                let what = format!("{} ({weights} weights)", report.family);
                self.store.note(Level::Info, format!("opened {}: {what}", from.display()));
                for note in report.notes {
                    self.store.note(Level::Info, note);
                }
                self.apply(Action::OpenRun(report.run));
            }
            Done::Imported { result: Err(why), .. } => self.store.note(Level::Error, why),
            Done::Forked { result: Ok(run), .. } => {
                self.store.note(Level::Info, format!("forked: {}", run.display()));
                self.apply(Action::OpenRun(run));
            }
            Done::Forked { run, result: Err(why) } => {
                self.store.note(Level::Error, format!("{} was not forked: {why}", run.display()));
            }
            Done::Written { what, path, result: Ok(()) } => {
                self.remember_folder(&path);
                self.store.note(Level::Info, format!("saved {what}: {}", path.display()));
            }
            Done::PresetOpened { result: Err(why), .. }
            | Done::CurvesRead { result: Err(why), .. }
            | Done::Written { result: Err(why), .. } => self.store.note(Level::Error, why),
            Done::Adapters(found) => {
                self.adapters = Some(found.unwrap_or_else(|why| {
                    self.store.note(Level::Warning, format!("no graphics adapters are known: {why}"));
                    Vec::new()
                }));
            }
            Done::Failed(why) => self.store.note(Level::Warning, why),
            Done::Looked { path, kind } => self.looked(path, kind),
            Done::Listed { search, listing } => {
                if let Some(picker) = &mut self.picker {
                    picker.listed(search, listing);
                }
            }
        }
    }

    /// Has a model of another program made into a run, to be trained on the draft's text.
    pub(in crate::ui) fn import(&mut self, from: PathBuf) {
        let name = slug(&file_name(&from));
        let place = match &self.runs_root {
            Some(root) => Place::At(root.join(format!("{name}-{}", self.runs_started))),
            None => Place::Named(name),
        };
        self.store.note(Level::Info, format!("reading the model in {}…", from.display()));
        self.ask(Job::ImportModel { from, place, base: Box::new(self.draft.recipe.clone()) });
    }

    /// Where a file was, the next one is looked for.
    pub(in crate::ui) fn remember_folder(&mut self, path: &Path) {
        if let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) {
            self.settings.folder = Some(folder.to_path_buf());
        }
    }

    /// A preset of the same name is replaced, but a built-in one keeps its name for itself.
    fn add_preset(&mut self, mut preset: Preset) -> Preset {
        if crate::preset::find(&preset.name).is_some_and(|own| own != preset) {
            preset.name = format!("{}-file", preset.name);
        }
        self.presets.retain(|known| known.name != preset.name);
        self.presets.push(preset.clone());
        preset
    }

    /// Opens a run now that it is known to be one: what is trained is not ended for nothing.
    pub(in crate::ui) fn open_run(&mut self, folder: PathBuf, kind: PathKind) {
        let name = folder.display();
        let why = match kind {
            PathKind::Missing => format!("{name}: there is no such folder"),
            PathKind::File => format!("{name} is a file, not a run's folder"),
            PathKind::Model => return self.import(folder),
            PathKind::Folder => format!("{name} is no run's folder: it holds no recipe.ron"),
            PathKind::Run if self.phase() == Phase::Training => {
                return self.question = Some(Question::new(Asked::End(AfterEnd::Open { folder, text: None })));
            }
            PathKind::Run => return self.end_run(AfterEnd::Open { folder, text: None }),
        };
        self.store.note(Level::Error, why);
    }

    fn looked(&mut self, path: PathBuf, kind: PathKind) {
        if self.opening.take_if(|opening| *opening == path).is_some() {
            return self.open_run(path, kind);
        }
        let before = self.dropped.len();
        self.dropped.retain(|dropped| *dropped != path);
        if self.dropped.len() < before {
            let preset = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ron"));
            let purpose = match kind {
                PathKind::Run => PickPurpose::OpenRun,
                PathKind::Model => PickPurpose::OpenModel,
                PathKind::File if preset => PickPurpose::OpenPreset,
                _ => PickPurpose::OpenText,
            };
            self.path_chosen(purpose, path);
        } else if let Some(picker) = &mut self.picker {
            picker.looked_at(path, kind);
        }
    }
}
