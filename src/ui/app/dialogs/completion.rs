//! What is typed of a path is completed: Tab takes what all that fits begins with, and below the field stands what lies in
//! the folder.

use eframe::egui::{Button, Id, Key, Modifiers, Role, ScrollArea, Ui, WidgetInfo};

use super::meant;
use crate::lab::file_worker::{Entry, Listing, PathKind, Search};

/// Room for seven names; the list keeps it, so that the window does not jump.
const HEIGHT: f32 = 150.0;

/// The list below the field, and the entry that the arrows have gone to.
#[derive(Debug, Default)]
pub(super) struct Completion {
    /// The newest answer of the desk's, and to what.
    found: Option<(Search, Listing)>,
    /// Asked and not answered yet.
    asked: Option<Search>,
    chosen: Option<usize>,
}

/// Keys that the list has a use for, taken before the field sees them.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Keys {
    tab: bool,
    enter: bool,
    /// How often they were pressed.
    down: usize,
    up: usize,
}

/// Where what is being typed begins behind the last folder: its place in the text.
fn name_start(typed: &str) -> usize {
    let separator = |letter: char| letter == '/' || (cfg!(windows) && letter == '\\');
    typed.rfind(separator).map_or(0, |place| place + 1)
}

/// The folder that is typed in, and the beginning of a name in it.
fn search_for(typed: &str, folders_only: bool) -> Search {
    let typed = typed.trim_start();
    let (folder, begins) = typed.split_at(name_start(typed));
    let folder = meant(folder).unwrap_or_default();
    Search { folder, begins: begins.to_owned(), folders_only }
}

impl Completion {
    /// The question for the desk, if what is typed needs another one: one at a time.
    pub fn question(&mut self, typed: &str, folders_only: bool) -> Option<Search> {
        let search = search_for(typed, folders_only);
        let known = self.found.as_ref().is_some_and(|(found, _)| *found == search);
        if known || self.asked.is_some() {
            return None;
        }
        self.asked = Some(search.clone());
        Some(search)
    }

    /// The desk's answer.
    pub fn answered(&mut self, search: Search, listing: Listing) {
        self.asked = None;
        self.chosen = None;
        self.found = Some((search, listing));
    }

    /// What is known of what is typed now.
    fn listing(&self, typed: &str, folders_only: bool) -> Option<&Listing> {
        let (search, listing) = self.found.as_ref()?;
        (*search == search_for(typed, folders_only)).then_some(listing)
    }

    /// What is typed with what Tab adds to it, if it adds something.
    fn completed(&self, typed: &str, folders_only: bool) -> Option<String> {
        let listing = self.listing(typed, folders_only)?;
        let behind = match listing.entries.as_slice() {
            [only] if only.is_folder() && listing.more == 0 => "/",
            _ => "",
        };
        let completed = format!("{}{}{behind}", &typed[..name_start(typed)], listing.common);
        (completed != typed && !listing.entries.is_empty()).then_some(completed)
    }

    /// Takes the keys for the list while the field has focus. Tab is left alone where there is nothing to complete: then it
    /// goes on to the list.
    pub fn take_keys(&self, ui: &Ui, field: Id, typed: &str, folders_only: bool) -> Keys {
        let Some(listing) = self.listing(typed, folders_only) else { return Keys::default() };
        if listing.entries.is_empty() || !ui.memory(|memory| memory.has_focus(field)) {
            return Keys::default();
        }
        let completes = self.completed(typed, folders_only).is_some();
        ui.input_mut(|input| {
            let mut take = |key| input.count_and_consume_key(Modifiers::NONE, key);
            Keys {
                tab: completes && take(Key::Tab) > 0,
                enter: self.chosen.is_some() && take(Key::Enter) > 0,
                down: take(Key::ArrowDown),
                up: take(Key::ArrowUp),
            }
        })
    }

    /// Whether the field keeps the focus when Tab is pressed.
    pub fn holds_tab(&self, typed: &str, folders_only: bool) -> bool {
        self.completed(typed, folders_only).is_some()
    }

    /// What the keys change in what is typed.
    pub fn obey(&mut self, keys: Keys, typed: &str, folders_only: bool) -> Option<String> {
        let count = self.listing(typed, folders_only)?.entries.len();
        if count > 0 && keys.down + keys.up > 0 {
            // Down from the field is the first entry, up the last.
            let from = self.chosen.unwrap_or(if keys.down > 0 { count - 1 } else { 0 });
            self.chosen = Some((from + keys.down + count - keys.up % count) % count);
        }
        if keys.enter {
            let chosen = self.chosen.take()?;
            return self.listing(typed, folders_only)?.entries.get(chosen).map(|entry| taken(typed, entry));
        }
        if keys.tab { self.completed(typed, folders_only) } else { None }
    }

    /// The list; what is typed with the entry that was clicked.
    pub fn ui(&mut self, ui: &mut Ui, typed: &str, folders_only: bool) -> Option<String> {
        let (chosen, listing) = (self.chosen, self.listing(typed, folders_only));
        let list = ScrollArea::vertical().id_salt("entries").max_height(HEIGHT).min_scrolled_height(HEIGHT);
        let shown = list.auto_shrink([false, false]).show(ui, |ui| {
            let mut clicked = None;
            let listing = listing?;
            for (place, entry) in listing.entries.iter().enumerate() {
                let is_chosen = chosen == Some(place);
                let kind = kind_text(entry.kind);
                let button = Button::selectable(is_chosen, entry.name.as_str()).truncate().right_text(kind);
                let response = ui.add(button.min_size([ui.available_width(), 0.0].into()));
                if is_chosen {
                    response.scroll_to_me(None);
                }
                response.widget_info(|| {
                    WidgetInfo::selected(Role::Button, true, is_chosen, format!("{}, {kind}", entry.name))
                });
                if response.clicked() {
                    clicked = Some(taken(typed, entry));
                }
            }
            if listing.more > 0 {
                ui.weak(format!("and {} more: type on", listing.more));
            }
            clicked
        });
        shown.inner
    }
}

/// What is typed, with the whole name of an entry.
fn taken(typed: &str, entry: &Entry) -> String {
    let behind = if entry.kind == PathKind::Folder { "/" } else { "" };
    format!("{}{}{behind}", &typed[..name_start(typed)], entry.name)
}

const fn kind_text(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Missing => "gone",
        PathKind::File => "file",
        PathKind::Folder => "folder",
        PathKind::Run => "run",
        PathKind::Model => "model",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn answered(typed: &str, names: &[(&str, PathKind)], common: &str) -> Completion {
        let mut completion = Completion::default();
        let search = completion.question(typed, false).expect("it is asked");
        assert_eq!(completion.question(typed, false), None, "once");
        let entry = |&(name, kind): &(&str, PathKind)| Entry { name: name.into(), kind };
        let entries = names.iter().map(entry).collect();
        completion.answered(search, Listing { entries, common: common.into(), more: 0 });
        completion
    }

    #[test]
    fn tab_takes_what_is_common_and_a_folder_is_gone_into() {
        let two = [("poems.txt", PathKind::File), ("poets", PathKind::Folder)];
        assert_eq!(answered("/x/p", &two, "poe").completed("/x/p", false).as_deref(), Some("/x/poe"));
        assert_eq!(answered("/x/poe", &two, "poe").completed("/x/poe", false), None, "nothing to add");
        assert_eq!(answered("~/P", &two[1..], "poets").completed("~/P", false).as_deref(), Some("~/poets/"));
        assert_eq!(answered("po", &two[..1], "poems.txt").completed("po", false).as_deref(), Some("poems.txt"));
        assert_eq!(answered("/x/none", &[], "none").completed("/x/none", false), None);
        assert_eq!(answered("/x/p", &two, "poe").completed("/x/other", false), None, "an answer to another question");
    }

    #[test]
    fn arrows_go_round_and_enter_takes_the_chosen_one() {
        let mut list = answered("/x/p", &[("poets", PathKind::Folder), ("poems.txt", PathKind::File)], "poe");
        let (down, up) = (Keys { down: 1, ..Keys::default() }, Keys { up: 1, ..Keys::default() });
        let enter = Keys { enter: true, ..Keys::default() };
        assert_eq!(list.obey(enter, "/x/p", false), None, "nothing is chosen yet");
        assert_eq!((list.obey(up, "/x/p", false), list.chosen), (None, Some(1)));
        assert_eq!((list.obey(down, "/x/p", false), list.chosen), (None, Some(0)));
        assert_eq!(list.obey(enter, "/x/p", false).as_deref(), Some("/x/poets/"));
        assert_eq!(list.chosen, None);
    }

    #[test]
    fn the_folder_that_is_meant_is_searched() {
        let home = etcetera::home_dir().expect("a home");
        for (typed, folder, begins) in [
            ("/work/po", PathBuf::from("/work/"), "po"),
            ("/work/", "/work/".into(), ""),
            ("po", PathBuf::new(), "po"),
            ("/a//tmp/x", "/tmp/".into(), "x"),
            ("~/", home.join(""), ""),
        ] {
            let search = search_for(typed, true);
            assert_eq!((search.folder, search.begins.as_str()), (folder, begins), "{typed}");
        }
    }
}
