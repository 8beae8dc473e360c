//! What stood around the weights in the folder that a model came from: which tokens begin, end and fill a text, and the files
//! that say so. A run keeps it as `around.json`, and an export writes it again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{RunError, read_own, write_atomic};
use crate::text::TokenId;

/// Its file in a run folder; runs without one have nothing to keep.
pub(super) const AROUND_FILE: &str = "around.json";
/// The largest one that is read, in bytes: two of the largest vocabulary files, and some more.
const AROUND_BYTES_MAX: u64 = 96 << 20;
/// End tokens that are kept.
const ENDS_MAX: usize = 64;

/// The files that are kept as they were, but for `tokenizer.json`, which every run has.
pub(super) const FILES: [&str; 7] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

/// What a model's folder held beside weights, shape and tokenizer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<TokenId>,
    /// With any of these a text is at its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<TokenId>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

impl Around {
    /// Reads that of a run folder whose model has so many rows. What is strange in it is left out.
    ///
    /// # Errors
    /// If there is a file and it cannot be read.
    pub(super) fn read(folder: &Path, rows: usize) -> Result<Self, RunError> {
        let path = folder.join(AROUND_FILE);
        if path.symlink_metadata().is_err() {
            return Ok(Self::default());
        }
        let bytes = read_own(&path, AROUND_BYTES_MAX)?;
        let around: Self = serde_json::from_slice(&bytes).map_err(|error| {
            RunError::damaged(
                &path,
                format!("not what is kept there ({error}): take it from a copy of the run, or away"),
            )
        })?;
        Ok(around.sound(rows))
    }

    /// Writes it into the folder of a new run, if there is anything to keep.
    pub(super) fn write(&self, folder: &Path) -> Result<(), RunError> {
        if *self == Self::default() {
            return Ok(());
        }
        let path = folder.join(AROUND_FILE);
        let text = serde_json::to_string(self).map_err(|error| RunError::damaged(&path, error))?;
        write_atomic(&path, format!("{text}\n").as_bytes())
    }

    /// Without tokens that have no row, and files of other names.
    pub(super) fn sound(mut self, rows: usize) -> Self {
        let known = |id: &TokenId| (id.0 as usize) < rows;
        self.begin = self.begin.filter(known);
        self.padding = self.padding.filter(known);
        let ends = std::mem::take(&mut self.ends);
        for id in ends.into_iter().filter(known).take(ENDS_MAX) {
            if !self.ends.contains(&id) {
                self.ends.push(id);
            }
        }
        self.files.retain(|name, _| FILES.contains(&name.as_str()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_nothing_strange_does() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Around::read(folder.path(), 9).unwrap(), Around::default());
        Around::default().write(folder.path()).unwrap();
        assert!(!folder.path().join(AROUND_FILE).exists());
        let ids = |ids: &[u32]| ids.iter().map(|&id| TokenId(id)).collect();
        let files = [("merges.txt".to_owned(), "a b\n".to_owned()), ("../escape".to_owned(), String::new())].into();
        let around = Around { begin: Some(TokenId(3)), ends: ids(&[4, 4, 9, 5]), padding: Some(TokenId(9)), files };
        around.write(folder.path()).unwrap();
        let found = Around::read(folder.path(), 9).unwrap();
        let wanted = Around { ends: ids(&[4, 5]), padding: None, ..around.clone() };
        let wanted = Around { files: [("merges.txt".to_owned(), "a b\n".to_owned())].into(), ..wanted };
        assert_eq!(found, wanted);
        std::fs::write(folder.path().join(AROUND_FILE), "[").unwrap();
        let refused = Around::read(folder.path(), 9).unwrap_err().to_string();
        assert!(refused.contains("around.json") && refused.contains("not what is kept there"), "{refused}");
    }
}
