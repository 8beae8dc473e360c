//! Making a folder or a file whole, or not at all: it is made in a hidden folder beside its place and renamed there.
//!
//! ```text
//! runs/
//!   .first-light.4711-0.part/
//!     headlight.lock    says what this is; the program that is at work here holds it locked
//!     whole             what is being made
//! ```
//!
//! A program that is killed leaves such a folder behind. The system gives its lock back, so that whoever comes next knows
//! that nobody is at work there: process numbers are given out again, a lock is not.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::RunError;
use super::hold::PART;

const LOCK: &str = "headlight.lock";
const WHOLE: &str = "whole";
const MARK: &str = "Headlight is making something here. What it was stopped in is cleared away by the next start.\n";
/// Longer names are cut: the system has a limit, and ours come on top.
const NAME_CHARACTERS: usize = 60;
/// Files that make a folder a run or a model: they come last where a folder is filled and not renamed.
const LAST: [&str; 2] = ["config.json", "recipe.ron"];

/// Something that is being made. Dropped before it is [put](Self::put), it is gone, and so are folders made for it.
#[derive(Debug)]
pub(crate) struct Part {
    /// As the user named it.
    place: PathBuf,
    /// The same with links followed, where it is there already.
    target: PathBuf,
    /// The hidden folder.
    folder: PathBuf,
    /// The hidden folder is in the place itself, which stays and is filled.
    inside: bool,
    /// Held until the end.
    lock: Option<File>,
    above: MadeFolders,
}

impl Part {
    /// For a folder, which is not there yet or is empty. Folders above it are made.
    pub fn of_folder(place: &Path) -> Result<Self, RunError> {
        let above = parent(place).map_or_else(|| Ok(MadeFolders::default()), MadeFolders::make)?;
        Self::new(place, above)
    }

    /// For a file; the one that is there is replaced. The folder that it lies in has to be there.
    pub fn of_file(place: &Path) -> Result<Self, RunError> {
        match fs::metadata(place) {
            Ok(metadata) if metadata.is_dir() => Err(RunError::damaged(place, "it is a folder: name a file")),
            // To replace a device or a pipe would be a mischief.
            Ok(metadata) if !metadata.is_file() => {
                Err(RunError::damaged(place, "it is no regular file: name another to be written"))
            }
            _ => Self::new(place, MadeFolders::default()),
        }
    }

    fn new(place: &Path, above: MadeFolders) -> Result<Self, RunError> {
        let there = place.is_dir();
        let resolved = if there { fs::canonicalize(place).ok() } else { None };
        let target = resolved.unwrap_or_else(|| place.to_owned());
        let made = match there && is_fixed(&target) {
            true => make_in(&target, &target).map(|made| (made, true)),
            false => match make_in(parent(&target).unwrap_or(Path::new(".")), &target) {
                // A folder may be ours to fill although the one above it is not.
                Err(cause) if there && is_forbidden(&cause) => make_in(&target, &target).map(|made| (made, true)),
                made => made.map(|made| (made, false)),
            },
        };
        let ((folder, lock), inside) = made.map_err(RunError::io(place))?;
        Ok(Self { place: place.to_owned(), target, folder, inside, lock: Some(lock), above })
    }

    /// Where it is made: nothing is there yet.
    pub fn path(&self) -> PathBuf {
        self.folder.join(WHOLE)
    }

    /// An error in terms of the place, which is what the user knows.
    pub fn blamed(&self, mut error: RunError) -> RunError {
        if let RunError::Io { path, .. } | RunError::Damaged { path, .. } | RunError::Refused { path, .. } = &mut error
            && let Ok(rest) = path.strip_prefix(self.path())
        {
            *path = if rest.as_os_str().is_empty() { self.place.clone() } else { self.place.join(rest) };
        }
        error
    }

    /// Renames what was made to its place.
    pub fn put(mut self) -> Result<(), RunError> {
        let whole = self.path();
        let done = if self.inside { fill(&whole, &self.target) } else { rename(&whole, &self.target) };
        done.map_err(|cause| match cause.kind() {
            ErrorKind::DirectoryNotEmpty => RunError::Occupied { path: self.place.clone() },
            // Also a link that leads nowhere, which counts as nothing until a folder is put there.
            ErrorKind::NotADirectory => RunError::damaged(
                &self.place,
                "a file or a link that leads nowhere stands there: take it away, or name another place",
            ),
            _ => RunError::Io { path: self.place.clone(), cause },
        })?;
        self.above.keep();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = remove(&self.path());
        self.lock = None;
        let _ = fs::remove_file(self.folder.join(LOCK));
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Makes a folder whole at its place, which is not there yet or is empty.
///
/// # Errors
/// As `make` says, or if the place cannot be written; nothing is left then.
pub(crate) fn whole_folder<T>(place: &Path, make: impl FnOnce(&Path) -> Result<T, RunError>) -> Result<T, RunError> {
    let part = Part::of_folder(place)?;
    let made = make(&part.path()).map_err(|error| part.blamed(error))?;
    part.put()?;
    Ok(made)
}

/// Writes a file for the user so that a reader sees the old one or the new one, and nothing is left beside it for long:
/// what a kill leaves is cleared away by the next that writes there.
///
/// # Errors
/// If it cannot be written; the old one is untouched then.
pub fn write_file(place: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let part = Part::of_file(place)?;
    let write = || {
        let mut file = File::create(part.path())?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(RunError::io(place))?;
    part.put()
}

/// Clears away what killed programs of ours were making in a folder. Whatever else is there stays, whatever its name.
pub fn clear_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Not what a link of such a name leads to.
        if is_ours_by_name(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = clear(&entry.path());
        }
    }
}

/// Folders that were made for something that may yet fail: they are gone again unless they are kept.
#[derive(Debug, Default)]
pub(super) struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    /// Makes a folder and those above it that are missing.
    pub fn make(folder: &Path) -> Result<Self, RunError> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
        let missing: Vec<_> = folder.ancestors().take_while(missing).collect();
        let mut made = Self::default();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => made.0.push(folder.to_owned()),
                // Another program may have made it meanwhile.
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
                    return Err(RunError::damaged(folder, "it is no folder to make another in: name another place"));
                }
                Err(cause) => return Err(RunError::Io { path: folder.to_owned(), cause }),
            }
        }
        Ok(made)
    }

    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // One that is not empty any more stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// A new hidden folder with our lock in it, after clearing away what was abandoned beside it.
fn make_in(folder: &Path, target: &Path) -> io::Result<(PathBuf, File)> {
    clear_abandoned(folder);
    let name: String = target.file_name().unwrap_or(OsStr::new("run")).to_string_lossy().into_owned();
    let name: String = name.chars().take(NAME_CHARACTERS).collect();
    for number in 0..1000 {
        let made = folder.join(format!(".{name}.{}-{number}{PART}", std::process::id()));
        match fs::create_dir(&made) {
            Ok(()) => {}
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => continue,
            Err(cause) => return Err(cause),
        }
        match claim(&made) {
            Ok(Some(lock)) => return Ok((made, lock)),
            // Another program took it for abandoned before the lock was ours.
            Ok(None) => {}
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => {
                let _ = fs::remove_file(made.join(LOCK));
                let _ = fs::remove_dir(&made);
                return Err(cause);
            }
        }
    }
    Err(io::Error::other("no hidden folder could be made there"))
}

/// Makes and locks the file that says whose a hidden folder is; `None` if another program is clearing it away.
fn claim(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let mut lock = File::options().read(true).write(true).create_new(true).open(&path)?;
    if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return Ok(None);
    }
    // Some network file systems know no locks: what is abandoned there is never cleared away, as nobody can tell.
    lock.write_all(MARK.as_bytes())?;
    Ok(path.exists().then_some(lock))
}

/// Whether a hidden folder can be one of ours: `.NAME.PROCESS-NUMBER.part`.
fn is_ours_by_name(name: &OsStr) -> bool {
    let number = |text: &str| (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = name.to_string_lossy();
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(PART));
    let numbers = inner.and_then(|inner| inner.rsplit_once('.')).filter(|(name, _)| !name.is_empty());
    numbers.and_then(|(_, numbers)| numbers.split_once('-')).is_some_and(|(one, two)| number(one) && number(two))
}

/// Clears a hidden folder away if it is one of ours and nobody is at work in it.
fn clear(part: &Path) -> io::Result<()> {
    let names: Vec<OsString> =
        fs::read_dir(part)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
    if names.is_empty() {
        // Killed between two breaths.
        return fs::remove_dir(part);
    }
    let not_ours = || io::Error::other("not ours");
    let path = part.join(LOCK);
    let metadata = path.symlink_metadata()?;
    let strange = names.iter().any(|name| name != LOCK && name != WHOLE);
    if strange || !metadata.is_file() || metadata.len() > MARK.len() as u64 {
        return Err(not_ours());
    }
    let lock = File::options().read(true).write(true).open(&path)?;
    lock.try_lock().map_err(|_| not_ours())?;
    let mut mark = Vec::new();
    (&lock).take(MARK.len() as u64).read_to_end(&mut mark)?;
    // The mark is whole before anything else is made.
    if mark != MARK.as_bytes() && (names.len() > 1 || !MARK.as_bytes().starts_with(&mark)) {
        return Err(not_ours());
    }
    remove(&part.join(WHOLE))?;
    drop(lock);
    fs::remove_file(path)?;
    fs::remove_dir(part)
}

/// Takes away a file, a link or a folder with all that is in it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn rename(whole: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(whole, target) {
        // Not every system puts a folder in an empty one's place.
        Err(_) if whole.is_dir() && fs::remove_dir(target).is_ok() => fs::rename(whole, target),
        renamed => renamed,
    }
}

/// Fills an empty folder that has to stay.
fn fill(whole: &Path, target: &Path) -> io::Result<()> {
    let names = fs::read_dir(whole)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| LAST.iter().any(|last| *last == *name));
    for (place, name) in names.iter().enumerate() {
        let free = target.join(name).symlink_metadata().is_err();
        let free = if free { Ok(()) } else { Err(io::Error::from(ErrorKind::DirectoryNotEmpty)) };
        if let Err(error) = free.and_then(|()| fs::rename(whole.join(name), target.join(name))) {
            for back in &names[..place] {
                let _ = fs::rename(target.join(back), whole.join(back));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Whether a folder cannot be replaced by another: the program stands in it, or a file system begins there.
fn is_fixed(folder: &Path) -> bool {
    let stands = std::env::current_dir().and_then(fs::canonicalize).is_ok_and(|current| current.starts_with(folder));
    stands || begins_file_system(folder)
}

#[cfg(unix)]
fn begins_file_system(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    folder.parent().is_none_or(|parent| device(parent) != device(folder))
}

#[cfg(not(unix))]
fn begins_file_system(_: &Path) -> bool {
    false
}

fn is_forbidden(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A part as a killed program leaves it: the lock is not held any more.
    fn abandoned(folder: &Path, name: &str) -> PathBuf {
        let part = folder.join(name);
        fs::create_dir_all(part.join(WHOLE).join("checkpoint")).expect("made");
        fs::write(part.join(WHOLE).join("checkpoint/last.safetensors"), "half").expect("written");
        fs::write(part.join(LOCK), MARK).expect("written");
        part
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let home = tempfile::tempdir().expect("a folder");
        let place = home.path().join("a/b/run");
        let refused: Result<(), _> = whole_folder(&place, |path| {
            fs::create_dir(path).expect("made");
            fs::write(path.join("half"), "half").expect("written");
            Err(RunError::damaged(&path.join("half"), "no"))
        });
        let message = refused.expect_err("refused").to_string();
        assert!(message.contains(&format!("{}: no", place.join("half").display())), "{message}");
        assert_eq!(names(home.path()), [] as [&str; 0], "nor the folders above it");
        for _ in 0..2 {
            // Also in place of an empty one.
            let made = whole_folder(&place, |path| {
                assert!(!place.join("recipe.ron").exists());
                fs::create_dir(path).expect("made");
                fs::write(path.join("recipe.ron"), "whole").expect("written");
                Ok(7)
            });
            assert_eq!(made.expect("made"), 7);
            assert_eq!(
                (names(&place), names(&home.path().join("a/b"))),
                (vec!["recipe.ron".into()], vec!["run".into()])
            );
            fs::remove_file(place.join("recipe.ron")).expect("removed");
        }
        fs::write(place.join("mine"), "mine").expect("written");
        let occupied = whole_folder(&place, |path| fs::create_dir(path).map_err(RunError::io(path)));
        assert!(matches!(occupied, Err(RunError::Occupied { .. })), "{occupied:?}");
        assert_eq!(names(&place), ["mine"]);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("file");
        fs::write(&file, "precious").expect("written");
        let make = |part: &Path| fs::create_dir(part).map_err(RunError::io(part));
        let below = whole_folder(&file.join("run"), make).expect_err("a file").to_string();
        assert!(below.contains("file: it is no folder") && below.contains("another place"), "{below}");
        #[cfg(unix)]
        {
            let link = home.path().join("link");
            std::os::unix::fs::symlink("nowhere", &link).expect("linked");
            let dangling = whole_folder(&link, make).expect_err("a link").to_string();
            assert!(dangling.contains("link: a file or a link that leads nowhere"), "{dangling}");
            fs::remove_file(link).expect("it stayed");
        }
        assert_eq!(fs::read_dir(home.path()).expect("read").count(), 1, "nothing is left");
    }

    #[test]
    fn a_folder_that_has_to_stay_is_filled() {
        let home = tempfile::tempdir().expect("a folder");
        let (whole, target) = (home.path().join("whole"), home.path().join("target"));
        for folder in [&whole, &target] {
            fs::create_dir(folder).expect("made");
        }
        for name in ["config.json", "model.safetensors", "recipe.ron"] {
            fs::write(whole.join(name), name).expect("written");
        }
        fs::write(target.join("recipe.ron"), "another's").expect("written");
        assert!(fill(&whole, &target).is_err());
        assert_eq!((names(&whole).len(), names(&target).len()), (3, 1), "all or nothing");
        fs::remove_file(target.join("recipe.ron")).expect("removed");
        fill(&whole, &target).expect("filled");
        assert_eq!(names(&target), ["config.json", "model.safetensors", "recipe.ron"]);
        assert!(is_fixed(&fs::canonicalize(".").expect("a folder")) && !is_fixed(&target));
    }

    #[test]
    fn a_file_is_the_old_one_or_the_new_one() {
        let home = tempfile::tempdir().expect("a folder");
        let place = home.path().join("page.html");
        for text in ["old", "new"] {
            write_file(&place, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&place).expect("read"), text);
        }
        assert_eq!(names(home.path()), ["page.html"]);
        assert!(write_file(&home.path().join("none/page.html"), b"").is_err());
        assert!(write_file(home.path(), b"").expect_err("a folder").to_string().contains("is a folder"));
        assert_eq!(names(home.path()), ["page.html"]);
    }

    #[test]
    fn what_a_killed_program_left_is_cleared_away_and_nothing_else() {
        let home = tempfile::tempdir().expect("a folder");
        let gone = [
            abandoned(home.path(), ".run.1-0.part"),
            abandoned(home.path(), ".a name.with.dots.4711-999.part"),
            home.path().join(".empty.3-0.part"),
            home.path().join(".begun.3-0.part"),
        ];
        fs::create_dir(&gone[2]).expect("made");
        fs::create_dir(&gone[3]).expect("made");
        fs::write(gone[3].join(LOCK), &MARK[..9]).expect("written");
        let kept = [
            abandoned(home.path(), "run.1-0.part"),
            abandoned(home.path(), ".run.one-0.part"),
            abandoned(home.path(), ".run.1.part"),
            abandoned(home.path(), ".run.1-0.partly"),
            abandoned(home.path(), ".held.5-0.part"),
            abandoned(home.path(), ".strange.5-0.part"),
            abandoned(home.path(), ".unmarked.5-0.part"),
            abandoned(home.path(), ".marked otherwise.5-0.part"),
        ];
        let held = File::open(kept[4].join(LOCK)).expect("opened");
        held.try_lock().expect("locked");
        fs::write(kept[5].join("mine"), "mine").expect("written");
        fs::remove_file(kept[6].join(LOCK)).expect("removed");
        fs::write(kept[7].join(LOCK), "a stranger's").expect("written");
        fs::write(home.path().join(".file.5-0.part"), "a file").expect("written");
        let mut left = vec![".file.5-0.part".to_owned()];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&kept[0], home.path().join(".link.6-0.part")).expect("linked");
            left.push(".link.6-0.part".into());
        }
        // The next such job beside the same place.
        write_file(&home.path().join("page.html"), b"").expect("written");
        left.push("page.html".into());
        left.extend(kept.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()));
        left.sort();
        assert_eq!(names(home.path()), left);
        for kept in &kept {
            assert!(kept.join("whole/checkpoint/last.safetensors").is_file(), "{}", kept.display());
        }
        drop(held);
        clear_abandoned(home.path());
        assert!(!kept[4].exists(), "nobody holds it any more");
    }

    #[test]
    fn one_that_is_at_work_is_left_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let place = home.path().join("run");
        let (one, two) = (Part::of_folder(&place).expect("begun"), Part::of_folder(&place).expect("begun"));
        for part in [&one, &two] {
            fs::create_dir(part.path()).expect("made");
        }
        clear_abandoned(home.path());
        assert_eq!(names(home.path()).len(), 2);
        assert_ne!(one.path(), two.path());
        one.put().expect("put");
        drop(two);
        assert_eq!(names(home.path()), ["run"]);
    }
}
