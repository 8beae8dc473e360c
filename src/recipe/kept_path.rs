//! Paths as text in files. Most are UTF-8 and stand there as they are. A path may hold other bytes: then its text begins
//! with a NUL, which no path can, and what is not plain stands there as `%` and two digits.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a path, whatever it holds.
///
/// # Errors
/// As the file's format says.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    to_text(path).serialize(serializer)
}

/// Reads it again.
///
/// # Errors
/// If the text is none that was written here.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_text(&text).ok_or_else(|| D::Error::custom("a path that cannot be read"))
}

/// The same for lists, and for what may be absent: `#[serde(with = "kept_path::each")]`.
pub mod each {
    use super::{Deserialize, Deserializer, Error, PathBuf, Serializer, from_text, to_text};

    /// Writes each path.
    ///
    /// # Errors
    /// As the file's format says.
    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| to_text(path)))
    }

    /// Reads them again.
    ///
    /// # Errors
    /// If a text is none that was written here.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let paths: Option<_> = texts.iter().map(|text| from_text(text)).collect();
        paths.ok_or_else(|| D::Error::custom("a path that cannot be read"))
    }
}

fn to_text(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path.as_os_str().as_encoded_bytes().iter().fold("\0".to_owned(), |text, &byte| match byte {
            b'%' | 128.. => format!("{text}%{byte:02X}"),
            plain => format!("{text}{}", char::from(plain)),
        }),
    }
}

fn from_text(text: &str) -> Option<PathBuf> {
    let Some(escaped) = text.strip_prefix('\0') else { return Some(text.into()) };
    let mut pieces = escaped.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend(piece.get(2..)?.as_bytes());
    }
    from_bytes(bytes).map(PathBuf::from)
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

/// Elsewhere the bytes of a path that is no Unicode are the system's own affair.
#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_whatever_it_holds() {
        for plain in ["", "/tmp/text.txt", "100 %/läßt.txt", "a%41"] {
            assert_eq!(to_text(Path::new(plain)), plain);
            assert_eq!(from_text(plain), Some(plain.into()));
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/100 % caf\xe9 \xc3\xa9.txt"));
            assert_eq!(to_text(path), "\0/tmp/100 %25 caf%E9 %C3%A9.txt");
            assert_eq!(from_text(&to_text(path)).as_deref(), Some(path));
        }
        for broken in ["\0%", "\0%4", "\0%zz", "\0%é"] {
            assert_eq!(from_text(broken), None, "{broken:?}");
        }
    }
}
