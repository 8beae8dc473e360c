//! Taking away what is seen: pictures of panes, measurements as CSV and JSON, a step as a web page.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::{Button, Ui};

use super::layout::{Layout, Pane};
use crate::findings::{Finding, Format, Page, csv, json};
use crate::lab::desk::{Contents, Job};
use crate::protocol::{EffectsReport, RoleReport, View};
use crate::store::{Level, RunStore};
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::app::App;
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::picture::{self, Picture};

/// How the menu speaks of a finding.
pub struct Words {
    pub text: &'static str,
    pub tip: &'static str,
    /// Why there is none.
    pub absent: &'static str,
}

#[must_use]
pub const fn words(finding: Finding) -> Words {
    let (text, tip, absent) = match finding {
        Finding::Attention => (
            "Attention (CSV or JSON)…",
            "Writes every head's weights on the probe, under TransformerLens's names.",
            "No attention has been recorded yet.",
        ),
        Finding::Roles => (
            "Roles (CSV or JSON)…",
            "Writes each head's role scores: at every step where they were measured, or of the viewed model if parts are off.",
            "No roles have been measured yet.",
        ),
        Finding::Lens => (
            "Logit lens (CSV or JSON)…",
            "Writes the likeliest tokens after each layer.",
            "What is not in sight is not computed: show the Logit lens pane first.",
        ),
        Finding::Attribution => (
            "Parts of a logit (CSV or JSON)…",
            "Writes what each part of the model adds to the logit that was asked about.",
            "No logit has been asked about yet, or its pane is not in sight.",
        ),
        Finding::Effects => (
            "Effects (CSV or JSON)…",
            "Writes how much worse the model predicts without each head and MLP.",
            "No effects have been measured yet.",
        ),
    };
    Words { text, tip, absent }
}

/// What there is to take away.
#[must_use]
pub fn found(store: &RunStore) -> Vec<Finding> {
    let there = |finding: &Finding| match finding {
        Finding::Attention => store.look.is_some(),
        Finding::Roles => !store.roles.is_empty() || store.look.as_ref().is_some_and(|look| look.roles.is_some()),
        Finding::Lens => store.look.as_ref().is_some_and(|look| look.lens.is_some()),
        Finding::Attribution => store.look.as_ref().is_some_and(|look| look.attribution.is_some()),
        Finding::Effects => store.effects.is_some(),
    };
    Finding::ALL.into_iter().filter(there).collect()
}

/// A finding as a file, to be made on the desk's thread; `None` where there is none.
fn contents(store: &RunStore, finding: Finding, format: Format) -> Option<Contents> {
    let look = store.look.clone();
    let labels = store.ready.as_ref().map(|ready| Arc::clone(&ready.labels)).unwrap_or_default();
    let text: Box<dyn FnOnce() -> String + Send> = match finding {
        Finding::Attention => {
            let look = look?;
            Box::new(move || match format {
                Format::Json => json::attention(&look.attention, &look.view),
                Format::Csv => csv::with_changes(csv::attention(&look.attention), &look.view),
            })
        }
        Finding::Roles => {
            // With parts switched off a model is not one of the run's own.
            let other = look.filter(|look| !look.view.switches.is_empty() || store.roles.is_empty());
            let (view, reports) = match other.as_ref().and_then(|look| Some((look.view.clone(), look.roles.clone()?))) {
                Some((view, viewed)) => (view, vec![viewed]),
                None => (View::default(), store.roles.clone()),
            };
            Box::new(move || match (format, &reports[..]) {
                (Format::Csv, reports) => csv::with_changes(csv::roles(reports), &view),
                (Format::Json, [one]) => json::roles(one, &view),
                (Format::Json, many) => json::role_history(many),
            })
        }
        Finding::Lens => {
            let look = look?;
            let lens = look.lens.clone()?;
            Box::new(move || match format {
                Format::Json => json::lens(&lens, &look.attention, &labels, &look.view),
                Format::Csv => csv::with_changes(csv::lens(&lens, &look.attention, &labels), &look.view),
            })
        }
        Finding::Attribution => {
            let look = look?;
            let parts = look.attribution.clone()?;
            Box::new(move || match format {
                Format::Json => json::attribution(&parts, &look.attention, &labels, &look.view),
                Format::Csv => csv::with_changes(csv::attribution(&parts, &look.attention, &labels), &look.view),
            })
        }
        Finding::Effects => {
            let report = store.effects.clone()?;
            Box::new(move || match format {
                Format::Json => json::effects(&report),
                Format::Csv => csv::effects(&report),
            })
        }
    };
    Some(Box::new(|| Ok(text().into_bytes())))
}

impl App {
    /// `step-250-attention`, to be suggested as a name.
    pub(in crate::ui) fn finding_name(&self, finding: Finding) -> String {
        let step = match finding {
            Finding::Roles => None,
            Finding::Effects => self.store.effects.as_ref().map(|report| report.step),
            _ => self.store.attention.as_ref().map(|attention| attention.step),
        };
        let step = step.map_or_else(String::new, |step| format!("step-{}-", step.0));
        format!("{step}{}", finding.name())
    }

    pub(in crate::ui) fn save_finding(&mut self, finding: Finding, path: PathBuf) {
        let absent = || words(finding).absent.to_owned();
        let sound = match self.non_finite_in(finding) {
            Some(why) if matches!(finding, Finding::Roles | Finding::Effects) => Err(why),
            Some(why) => {
                let written = "such numbers are null in JSON and NaN in CSV";
                self.store.note(Level::Warning, format!("{why}; {written}"));
                Ok(())
            }
            None => Ok(()),
        };
        let made = sound.and_then(|()| Format::of(&path));
        match made.and_then(|format| contents(&self.store, finding, format).ok_or_else(absent)) {
            Ok(contents) => self.ask(Job::WriteFile { path, contents, what: finding.name().into() }),
            Err(why) => self.store.note(Level::Error, why),
        }
    }

    /// What of a finding is no number, in words.
    fn non_finite_in(&self, finding: Finding) -> Option<String> {
        let store = &self.store;
        let look = store.look.as_ref();
        match finding {
            Finding::Roles => {
                let viewed = look.and_then(|look| look.roles.as_ref());
                let sound = store.roles.iter().chain(viewed).all(RoleReport::is_finite);
                (!sound).then(|| "no roles were written: a score is not a number".to_owned())
            }
            Finding::Effects => {
                let sound = store.effects.as_ref().is_none_or(EffectsReport::is_finite);
                (!sound).then(|| "no effects were written: one is not a number".to_owned())
            }
            Finding::Attention | Finding::Lens | Finding::Attribution => {
                look?.non_finite.map(|found| found.on_screen())
            }
        }
    }

    pub(in crate::ui) fn save_page(&mut self, path: PathBuf) {
        let Some(look) = self.store.look.clone() else {
            return self.store.note(Level::Error, words(Finding::Attention).absent);
        };
        if let Some(found) = look.non_finite {
            return self.store.note(Level::Error, format!("no page was made: {}", found.on_screen()));
        }
        let run = self.store.ready.as_ref().map(|ready| file_name(&ready.folder)).unwrap_or_default();
        let roles = look.roles.clone().or_else(|| self.store.roles.last().cloned());
        let effects = self.store.effects.clone();
        let contents: Contents = Box::new(move || {
            let (attention, view) = (&look.attention, &look.view);
            let page = Page { run: &run, attention, view, roles: roles.as_ref(), effects: effects.as_ref() };
            page.html().map(String::into_bytes)
        });
        self.ask(Job::WriteFile { path, contents, what: "web page".into() });
    }

    /// Asks for a picture of a pane, for a file or the clipboard.
    pub(in crate::ui) fn take_picture(&mut self, pane: Pane, path: Option<PathBuf>) {
        match self.layout.rect(pane) {
            Some(rect) => picture::request(&self.ctx, pane, rect, path, self.pictures.0.clone()),
            None => {
                let why = format!("{} is not in sight: show it, then take its picture", pane.title());
                self.store.note(Level::Warning, why);
            }
        }
    }

    pub(in crate::ui) fn picture_taken(&mut self, picture: Picture) {
        if let Some(path) = picture.path.clone() {
            let contents: Contents = Box::new(move || picture.png());
            return self.ask(Job::WriteFile { path, contents, what: "picture".into() });
        }
        match picture.cut() {
            Ok(image) => {
                self.ctx.copy_image(image);
                self.store.note(Level::Info, format!("copied a picture: {}", picture.pane.title()));
            }
            Err(why) => self.store.note(Level::Error, why),
        }
    }
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

/// What the right button offers at a pane's tab.
#[must_use]
pub fn tab_menu(ui: &mut Ui, pane: Pane) -> Vec<Action> {
    let mut actions = Vec::new();
    if ui.button("Save picture (PNG)…").clicked() {
        actions.push(Action::Pick(PickPurpose::SavePicture(pane)));
    }
    if ui.button("Copy picture").clicked() {
        actions.push(Action::CopyPicture(pane));
    }
    if !actions.is_empty() {
        ui.close();
    }
    actions
}

#[cfg(test)]
mod tests;
