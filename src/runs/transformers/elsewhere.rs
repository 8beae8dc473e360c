//! A folder that is no model's but near one: Hugging Face's cache, or the folder above.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::read_bounded;

/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 1000;
/// The name of a revision is short.
const REVISION_BYTES_MAX: u64 = 200;
/// Folders that are named.
const NAMED_MAX: usize = 3;

/// What is wrong with a folder without a `config.json`, and which one to open instead.
pub(super) fn fault(folder: &Path) -> String {
    let mut found = models(folder);
    found.sort();
    let cache = if is_of_cache(folder) || found.iter().any(|model| model.parent().is_some_and(is_of_cache)) {
        " (Hugging Face's cache keeps a model further down)"
    } else {
        ""
    };
    match found.as_slice() {
        [] => "it holds no config.json: name a folder with config.json and model.safetensors".into(),
        [model] => format!("it holds no config.json{cache}: open {}", model.display()),
        many => {
            let more = many.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" or one of {more} more") } else { String::new() };
            let names: Vec<_> = many.iter().take(NAMED_MAX).map(|model| model.display().to_string()).collect();
            format!("it holds no config.json{cache}: open {}{more}", names.join(" or "))
        }
    }
}

/// Part of the cache of `huggingface_hub`: `models--org--name/snapshots/revision/`.
fn is_of_cache(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    name == "snapshots" || is_repository(folder)
}

fn is_repository(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
        || ["blobs", "refs", "snapshots"].iter().all(|part| folder.join(part).is_dir())
}

/// The folders of models in a folder, and in what the cache puts between.
fn models(folder: &Path) -> Vec<PathBuf> {
    let children = || folders(folder).into_iter();
    if is_repository(folder) {
        // The revision that is asked for by name, where one is.
        let main = read_bounded(&folder.join("refs/main"), REVISION_BYTES_MAX).ok();
        let main = main.and_then(|main| String::from_utf8(main).ok()).map(|main| main.trim().to_owned());
        let main = main.filter(|main| !main.is_empty() && main.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let main = main.map(|main| folder.join("snapshots").join(main)).filter(|main| is_model(main));
        return main.map_or_else(|| models(&folder.join("snapshots")), |main| vec![main]);
    }
    let own: Vec<_> = children().filter(|child| is_model(child)).collect();
    if own.is_empty() {
        children().filter(|child| is_repository(child)).flat_map(|child| models(&child)).collect()
    } else {
        own
    }
}

fn is_model(folder: &Path) -> bool {
    folder.join("config.json").symlink_metadata().is_ok()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_one_or_two_folders_further_down_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let model = |name: &str| {
            let folder = home.path().join(name);
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join("config.json"), "{}").expect("written");
            folder
        };
        let said = |name: &str| fault(&home.path().join(name));
        fs::create_dir(home.path().join("empty")).expect("made");
        assert!(said("empty").contains("name a folder with config.json"), "{}", said("empty"));
        let one = model("one/gpt2");
        assert_eq!(said("one"), format!("it holds no config.json: open {}", one.display()));
        model("many/a");
        for name in ["b", "c", "d", "e"] {
            model(&format!("many/{name}"));
        }
        assert!(said("many").ends_with("or one of 2 more") && said("many").contains("many/a or "), "{}", said("many"));

        let (old, new) = ("hub/models--org--name/snapshots/aaa", "hub/models--org--name/snapshots/bbb");
        let [_, new] = [old, new].map(model);
        for part in ["blobs", "refs"] {
            fs::create_dir_all(home.path().join("hub/models--org--name").join(part)).expect("made");
        }
        let snapshots = said("hub/models--org--name/snapshots");
        assert!(snapshots.contains("/aaa or ") && snapshots.contains("cache"), "{snapshots}");
        fs::write(home.path().join("hub/models--org--name/refs/main"), "bbb\n").expect("written");
        for place in ["hub/models--org--name", "hub"] {
            let said = said(place);
            assert!(said.ends_with(&format!("open {}", new.display())) && said.contains("cache"), "{place}: {said}");
        }
    }
}
