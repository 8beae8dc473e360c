//! Files that stand for others which are not there: Git LFS's pointers, and links that lead nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::recipe::bytes_text;

/// A pointer is shorter than this (the specification of Git LFS says so).
pub const LFS_BYTES_MAX: u64 = 1024;
/// Links that are followed from one to the next.
const LINKS_MAX: usize = 40;

/// What is wrong with a file that holds these bytes, if they are a pointer of Git LFS's: the file itself was never fetched.
#[must_use]
pub fn lfs_fault(path: &Path, bytes: &[u8]) -> Option<String> {
    if bytes.len() as u64 >= LFS_BYTES_MAX {
        return None;
    }
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let version = lines.next()?.strip_prefix("version ")?;
    // The second is what it was called at first.
    let known = ["https://git-lfs.github.com/spec/", "https://hawser.github.com/spec/"];
    let (mut digest, mut size) = (false, None);
    for line in lines {
        match line.split_once(' ')? {
            ("oid", value) => digest = value.starts_with("sha256:"),
            ("size", value) => size = value.trim().parse().ok(),
            (extension, _) if extension.starts_with("ext-") => {}
            _ => return None,
        }
    }
    let size = bytes_text(size.filter(|_| digest && known.iter().any(|known| version.starts_with(known)))?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(format!("it is a Git LFS pointer, not the file itself ({size}): run `git lfs pull` in {}", folder.display()))
}

/// What is wrong with a path at which nothing is, if there is a link that leads nowhere.
#[must_use]
pub fn dangling_fault(path: &Path) -> Option<String> {
    let mut target = fs::read_link(path).ok()?;
    let mut at = resolved(path, &target);
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&at) else { break };
        (at, target) = (resolved(&at, &next), next);
    }
    let gone = at.symlink_metadata().is_err();
    let advice = "fetch it again, or copy the folder together with what its links lead to (cp -rL)";
    gone.then(|| format!("it is a link to {}, which is not there: {advice}", target.display()))
}

fn resolved(link: &Path, target: &Path) -> PathBuf {
    link.parent().map_or_else(|| target.to_owned(), |folder| folder.join(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_of_git_lfs_is_known_from_a_text_about_it() {
        let oid = "0".repeat(64);
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 548105171\n");
        let fault = |path: &str, text: &str| lfs_fault(Path::new(path), text.as_bytes());
        let found = fault("models/gpt2/model.safetensors", &pointer).expect("a pointer");
        assert!(found.contains("(548.1 MB)") && found.ends_with("run `git lfs pull` in models/gpt2"), "{found}");
        assert!(fault("tokenizer.json", &pointer).expect("a pointer").ends_with("in ."));
        let others = [
            pointer.replace("git-lfs", "hawser"),
            pointer.replace('\n', "\r\n"),
            pointer.replace("oid", "ext-0-case sha256:1\noid"),
        ];
        for other in others {
            assert!(fault("x", &other).is_some(), "{other}");
        }
        let texts = [
            String::new(),
            pointer.replace("size 5", "size of 5"),
            pointer.replace("oid", "old"),
            pointer.replace("version", "A version"),
            format!("{pointer}is what a pointer looks like"),
            format!("{pointer}{}", "x".repeat(1024)),
        ];
        for text in texts {
            assert_eq!(fault("x", &text), None, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_target() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        symlink("../blobs/abc", path("one")).expect("linked");
        symlink("one", path("two")).expect("linked");
        fs::write(path("file"), "there").expect("written");
        symlink("file", path("sound")).expect("linked");
        for name in ["one", "two"] {
            let fault = dangling_fault(&path(name)).expect("it leads nowhere");
            assert!(fault.contains("a link to ../blobs/abc, which is not there"), "{fault}");
        }
        for name in ["file", "sound", "none"] {
            assert_eq!(dangling_fault(&path(name)), None, "{name}");
        }
    }
}
