//! What lies in a folder and begins as a name that is being typed.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use super::{PathKind, look};

/// Entries of a folder that are looked through; a larger one is listed by half.
const LOOKED_THROUGH_MAX: usize = 20_000;
/// Entries that are told: nobody reads more.
pub const LISTED_MAX: usize = 100;

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    pub folder: PathBuf,
    /// What the names begin with; large and small letters are the same. Hidden ones are meant only if it begins with a dot.
    pub begins: String,
    /// Leave files out.
    pub folders_only: bool,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: PathKind,
}

impl Entry {
    /// Whether there may be something in it.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        !matches!(self.kind, PathKind::File | PathKind::Missing)
    }
}

/// The entries that fit, folders first, each sort by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// What all that fit begin with, also those that are not told: at least what was typed.
    pub common: String,
    /// How many more there are.
    pub more: usize,
}

/// Lists a folder. One that cannot be read holds nothing.
pub(super) fn list(search: &Search) -> Listing {
    let folder = if search.folder.as_os_str().is_empty() { Path::new(".") } else { &search.folder };
    let Ok(found) = fs::read_dir(folder) else { return Listing::default() };
    let begins = search.begins.to_lowercase();
    let hidden = begins.starts_with('.');
    let mut fitting: Vec<(bool, String)> = Vec::new();
    for entry in found.take(LOOKED_THROUGH_MAX).flatten() {
        // What is no UTF-8 cannot be typed.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if (name.starts_with('.') && !hidden) || !name.to_lowercase().starts_with(&begins) {
            continue;
        }
        // A link is what it leads to.
        let is_folder = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
            Ok(kind) => kind.is_dir(),
            Err(_) => continue,
        };
        if is_folder || !search.folders_only {
            fitting.push((is_folder, name));
        }
    }
    let common = common_beginning(fitting.iter().map(|(_, name)| name.as_str()), &search.begins);
    fitting.sort_by_cached_key(|(is_folder, name)| (Reverse(*is_folder), name.to_lowercase(), name.clone()));
    let more = fitting.len().saturating_sub(LISTED_MAX);
    fitting.truncate(LISTED_MAX);
    let kind = |is_folder: bool, name: &str| if is_folder { look(&folder.join(name)) } else { PathKind::File };
    let entries = fitting.into_iter().map(|(is_folder, name)| Entry { kind: kind(is_folder, &name), name }).collect();
    Listing { entries, common, more }
}

/// What all names begin with; never less than what was typed.
fn common_beginning<'a>(mut names: impl Iterator<Item = &'a str>, typed: &str) -> String {
    let Some(first) = names.next() else { return typed.to_owned() };
    let common = names.fold(first, |common, name| {
        let same = common.chars().zip(name.chars()).take_while(|(one, other)| one == other);
        &common[..same.map(|(letter, _)| letter.len_utf8()).sum::<usize>()]
    });
    if common.chars().count() < typed.chars().count() { typed.to_owned() } else { common.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    fn search(folder: &Path, begins: &str, folders_only: bool) -> Listing {
        list(&Search { folder: folder.to_owned(), begins: begins.into(), folders_only })
    }

    #[test]
    fn folders_come_first_and_say_what_they_are() {
        let place = tempfile::tempdir().expect("a folder");
        for (folder, file) in [("poems", ""), ("Poet", "recipe.ron"), ("potter", "config.json"), (".poison", "")] {
            fs::create_dir(place.path().join(folder)).expect("made");
            if !file.is_empty() {
                fs::write(place.path().join(folder).join(file), "x").expect("written");
            }
        }
        for file in ["pointer.txt", "apple.txt", ".po"] {
            fs::write(place.path().join(file), "x").expect("written");
        }
        let all = search(place.path(), "po", false);
        assert_eq!(names(&all), ["poems", "Poet", "potter", "pointer.txt"]);
        let kinds: Vec<_> = all.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [PathKind::Folder, PathKind::Run, PathKind::Model, PathKind::File]);
        assert_eq!(all.common, "po", "not less than what was typed");
        let one = search(place.path(), "poi", false);
        assert_eq!((names(&one), one.common.as_str()), (vec!["pointer.txt"], "pointer.txt"));
        assert_eq!(names(&search(place.path(), "", true)), ["poems", "Poet", "potter"], "hidden ones are typed");
        assert_eq!(names(&search(place.path(), ".po", false)), [".poison", ".po"]);
        assert_eq!(search(&place.path().join("none"), "", false), Listing::default());
        assert_eq!(search(&place.path().join("apple.txt"), "", false), Listing::default(), "a file holds nothing");
    }

    #[test]
    fn a_large_folder_is_told_by_half() {
        let place = tempfile::tempdir().expect("a folder");
        for number in 0..LISTED_MAX + 20 {
            fs::write(place.path().join(format!("text-{number:03}")), "").expect("written");
        }
        let found = search(place.path(), "t", false);
        assert_eq!((found.entries.len(), found.more, found.common.as_str()), (LISTED_MAX, 20, "text-"));
        assert_eq!(found.entries[0].name, "text-000");
    }
}
