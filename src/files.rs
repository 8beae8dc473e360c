//! Opening what anybody may have put there: only regular files are read, none longer than asked for, and nothing waits.
//!
//! A pipe would wait for its other end, a device may never end, and a link in a run folder leads out of it. So what a path
//! leads to is asked before it is opened and again of what was opened, and opening itself never waits.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

mod stand_in;

use stand_in::LFS_BYTES_MAX;
pub use stand_in::{dangling_fault, lfs_fault};

/// Whether a link may stand for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The file is the user's, who may have it lie elsewhere.
    Followed,
    /// The file is the program's own.
    Refused,
}

/// Why a file is not read, in words that follow its name.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is a folder, not a regular file")]
    Folder,
    #[error("it is a link, and a run folder holds none: put the file itself there")]
    Link,
    /// A pointer of Git LFS's, or a link that leads nowhere.
    #[error("{0}")]
    StandIn(String),
    #[error("it is {0}, not a regular file")]
    Special(&'static str),
    #[error("{bytes} bytes are too many for such a file (at most {most})")]
    TooLarge { bytes: u64, most: u64 },
}

impl From<FileFault> for io::Error {
    fn from(fault: FileFault) -> Self {
        match fault {
            FileFault::Io(cause) => cause,
            other => Self::other(other.to_string()),
        }
    }
}

/// Opens a regular file to read it.
///
/// # Errors
/// If there is none, or something else is there; never waits.
pub fn open(path: &Path, links: Links) -> Result<File, FileFault> {
    open_with(path, links, OpenOptions::new().read(true)).map_err(|fault| match fault {
        FileFault::Io(cause) if cause.kind() == ErrorKind::NotFound => {
            dangling_fault(path).map_or(FileFault::Io(cause), FileFault::StandIn)
        }
        other => other,
    })
}

/// As [`open`], for a file that is read piece by piece: one that only stands for another is found out by its first bytes.
///
/// # Errors
/// As [`open`], or if it is a pointer of Git LFS's.
pub fn open_itself(path: &Path, links: Links) -> Result<File, FileFault> {
    let file = open(path, links)?;
    if file.metadata()?.len() < LFS_BYTES_MAX {
        read(path, links, LFS_BYTES_MAX)?;
    }
    Ok(file)
}

/// Opens a regular file of the program's own to read it and to write at its end; makes it where there is none.
///
/// # Errors
/// As [`open`].
pub fn open_to_append(path: &Path) -> Result<File, FileFault> {
    open_with(path, Links::Refused, OpenOptions::new().read(true).append(true).create(true))
}

/// Reads a regular file whose size is checked before memory is taken for it.
///
/// # Errors
/// As [`open`], or if it is longer than `most` bytes or than the memory holds.
pub fn read(path: &Path, links: Links, most: u64) -> Result<Vec<u8>, FileFault> {
    let file = open(path, links)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(FileFault::TooLarge { bytes: length, most });
    }
    let mut bytes = Vec::new();
    // A byte more, or the end of the file would not be met without taking twice the memory.
    let room = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
    bytes.try_reserve_exact(room).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    // It may grow meanwhile.
    let read = file.take(most + 1).read_to_end(&mut bytes)? as u64;
    if read > most {
        return Err(FileFault::TooLarge { bytes: read, most });
    }
    match lfs_fault(path, &bytes) {
        Some(fault) => Err(FileFault::StandIn(fault)),
        None => Ok(bytes),
    }
}

fn open_with(path: &Path, links: Links, options: &mut OpenOptions) -> Result<File, FileFault> {
    let asked = match links {
        Links::Followed => fs::metadata(path),
        Links::Refused => fs::symlink_metadata(path),
    };
    match asked {
        Ok(metadata) => require_regular(&metadata)?,
        // It may be one that is to be made.
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(cause.into()),
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let own = if links == Links::Refused { libc::O_NOFOLLOW } else { 0 };
        options.custom_flags(libc::O_NONBLOCK | own);
    }
    let file = options.open(path)?;
    // Another may have been put there since it was asked.
    require_regular(&file.metadata()?)?;
    Ok(file)
}

/// Whether this is a regular file.
///
/// # Errors
/// Says what it is instead.
pub fn require_regular(metadata: &Metadata) -> Result<(), FileFault> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(FileFault::Folder);
    }
    if kind.is_symlink() {
        return Err(FileFault::Link);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Err(FileFault::Special("a pipe"));
        }
        if kind.is_socket() {
            return Err(FileFault::Special("a socket"));
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Err(FileFault::Special("a device"));
        }
    }
    Err(FileFault::Special("something special"))
}

/// What tells a file from every other one on this machine: its device and its number there. Where a system has none of
/// that, all files are the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(Option<(u64, u64)>);

impl Identity {
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Self(Some((metadata.dev(), metadata.ino())))
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Self(None)
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("good"), "words").expect("written");
        symlink(path("good"), path("link")).expect("linked");
        symlink("/dev/zero", path("endless")).expect("linked");
        symlink(path("nowhere"), path("dangling")).expect("linked");
        assert!(Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo").success());
        let _socket = UnixListener::bind(path("socket")).expect("bound");
        let refusal = |name: &str, links| read(&path(name), links, 100).expect_err(name).to_string();
        for links in [Links::Followed, Links::Refused] {
            assert_eq!(read(&path("good"), links, 5).expect("read"), b"words");
            assert!(matches!(read(&path("good"), links, 4), Err(FileFault::TooLarge { bytes: 5, most: 4 })));
            assert!(refusal("pipe", links).contains("a pipe"));
            assert!(refusal("socket", links).contains("a socket"));
            assert!(refusal("", links).contains("a folder"));
            assert!(read(Path::new("/dev/zero"), links, 100).expect_err("a device").to_string().contains("a device"));
        }
        assert!(refusal("endless", Links::Followed).contains("a device"));
        assert_eq!(read(&path("link"), Links::Followed, 5).expect("read"), b"words");
        for name in ["link", "endless", "dangling"] {
            assert!(refusal(name, Links::Refused).contains("a link"), "{name}");
            assert!(matches!(open_to_append(&path(name)), Err(FileFault::Link)), "{name}");
        }
        assert!(!path("nowhere").exists(), "nothing is made behind a link");
        assert!(matches!(open_to_append(&path("pipe")), Err(FileFault::Special(_))));
        assert!(open_to_append(&path("new")).is_ok() && path("new").is_file());
    }
}
