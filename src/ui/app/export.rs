//! Taking away what is seen: pictures of panes, measurements as CSV and JSON, a step as a web page.

use std::path::PathBuf;

use crate::findings::{Finding, Format, Page};
use crate::lab::file_worker::{Contents, Job};
use crate::protocol::{EffectsReport, RoleReport};
use crate::store::Level;
use crate::ui::actions::Pane;
use crate::ui::actions::commands::words;
use crate::ui::app::App;
use crate::ui::inspect::findings::contents;
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::picture::{self, Picture};

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

#[cfg(test)]
mod tests;
