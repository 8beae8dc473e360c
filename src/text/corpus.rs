//! A text file read into token ids, in bounded memory, and the faults that such a file can have.
//!
//! The file is read twice, a chunk at a time: once to check it and gather its characters, once to encode it. So only
//! the ids are ever held, two bytes a character. What the file said the first time is not trusted the second time.
//! Tokenizers that came with a model need no gathering: for them it is read once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::characters::CharTokenizer;
use super::generated;
use super::pieces::Pieces;
use super::tokenizer::{TokenId, Tokenizer, VOCABULARY_MAX, named};

/// The largest text file that is read, in bytes: 4 GiB.
pub const BYTES_MAX: u64 = 4 << 30;
/// The largest one for a tokenizer that came with a model, in bytes: 1 GiB, which BPE is minutes at.
pub(super) const PIECES_BYTES_MAX: u64 = 1 << 30;

const BUILT_IN_NAME: &str = "built-in dialogues";
const BUILT_IN_BYTES: usize = 1_200_000;
const CHUNK_BYTES: usize = 1 << 20;
const EXCERPT_CHARACTERS: usize = 300;

/// Why a text cannot be learned from, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("{}: cannot be read ({cause}): check the name, and that you may open it", .path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: is a folder: choose a text file in it", .path.display())]
    Folder { path: PathBuf },
    #[error("{}: holds no text: choose a file with something to learn from", .path.display())]
    Empty { path: PathBuf },
    /// `offset` of the first byte that is no UTF-8, counted from 0.
    #[error("{}: is not UTF-8 text (bad byte at offset {offset}): save it as UTF-8 and open it again", .path.display())]
    NotUtf8 { path: PathBuf, offset: u64 },
    /// `needed` tokens in the `part`, which a text of `total` characters has.
    #[error("{}: its {part} part has {tokens} {unit}, but the context needs {needed}: \
        take a text of at least {total} {unit} or a shorter context", .path.display())]
    TooShort { path: PathBuf, part: &'static str, unit: &'static str, tokens: usize, needed: usize, total: usize },
    /// `most` bytes is what this tokenizer takes.
    #[error("{}: {bytes} bytes are more than {most} or than the memory holds: take a part of it", .path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("{}: has {distinct} different characters, more than {VOCABULARY_MAX}: is it a text?", .path.display())]
    TooManyCharacters { path: PathBuf, distinct: usize },
    #[error("{}: changed while it was read: wait until nothing writes to it and open it again", .path.display())]
    Changed { path: PathBuf },
    #[error("{}: reading was cancelled: open it again to read it whole", .path.display())]
    Cancelled { path: PathBuf },
    /// `parts`: characters, or words where numbers should be.
    #[error("{}: the model does not know {parts}: take them out or train a new model on it", .path.display())]
    UnknownParts { path: PathBuf, parts: String },
    #[error("{}: a model of {rows} tokens cannot read a text, {VOCABULARY_MAX} is the most", .path.display())]
    VocabularyTooLarge { path: PathBuf, rows: usize },
}

/// How far the reading is, over all its passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// A text as token ids, cut in two: the first nine tenths to train on, the rest to validate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    pub train: Vec<u16>,
    pub validation: Vec<u16>,
    pub tokenizer: Tokenizer,
    /// SHA-256 of the bytes as they lie in the file, in hexadecimal.
    pub digest: String,
    /// Size of the file.
    pub bytes: u64,
    /// UTF-8 bytes of the validation part's text, for bits per byte.
    pub validation_bytes: u64,
}

/// What one pass over a text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSummary {
    /// Tokens of the whole text: line ends count as one character, a byte-order mark as none.
    pub characters: usize,
    /// Distinct characters.
    pub vocabulary: usize,
    /// Size of the file.
    pub bytes: u64,
    /// The first 300 characters.
    pub excerpt: String,
    pub tokenizer: CharTokenizer,
    /// As [`Dataset::digest`].
    pub digest: String,
}

impl Dataset {
    /// Reads a UTF-8 text file. A byte-order mark is dropped and CRLF becomes LF. Without a `tokenizer` the text gets
    /// one of its characters. `progress` is called after each chunk; `false` from it cancels.
    ///
    /// # Errors
    /// If the file is unreadable, not text, empty, too large, changes meanwhile, or has characters that the given
    /// tokenizer lacks; and when cancelled.
    pub fn from_file(
        path: &Path,
        tokenizer: Option<&Tokenizer>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self, TextError> {
        Source::file(path)?.dataset(tokenizer, progress)
    }

    /// As [`Self::from_file`], from memory; `name` stands for the path in errors.
    ///
    /// # Errors
    /// If the text is empty or has too many different characters.
    pub fn from_text(name: &str, text: &str) -> Result<Self, TextError> {
        Source::memory(name, text.as_bytes()).dataset(None, &mut |_| true)
    }

    /// The dialogues that the program makes itself, 1.2 MB, always the same. `tokenizer` as in [`Self::from_file`].
    ///
    /// # Errors
    /// If they have characters that the given tokenizer lacks.
    pub fn built_in(tokenizer: Option<&Tokenizer>) -> Result<Self, TextError> {
        let text = generated::dialogues(BUILT_IN_BYTES);
        Source::memory(BUILT_IN_NAME, text.as_bytes()).dataset(tokenizer, &mut |_| true)
    }

    /// Nothing to learn from: stands in where a text is gone, or batches come from elsewhere.
    #[must_use]
    pub fn empty(tokenizer: Tokenizer) -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            tokenizer,
            digest: String::new(),
            bytes: 0,
            validation_bytes: 0,
        }
    }

    /// Checks that both parts hold a window of `context` tokens and the one after it. `path` is for the message.
    ///
    /// # Errors
    /// [`TextError::TooShort`] for the first part that does not.
    pub fn require(&self, context: usize, path: &Path) -> Result<(), TextError> {
        let needed = context.saturating_add(1);
        let unit = if matches!(self.tokenizer, Tokenizer::Characters(_)) { "characters" } else { "tokens" };
        for (part, tokens) in [("training", self.train.len()), ("validation", self.validation.len())] {
            if tokens < needed {
                // The validation part is the smaller one: a tenth, rounded up.
                let total = context.saturating_mul(10).saturating_add(1).max(2);
                return Err(TextError::TooShort { path: path.to_owned(), part, unit, tokens, needed, total });
            }
        }
        Ok(())
    }
}

impl TextSummary {
    /// Looks through a text file once, without keeping its tokens. `progress` as in [`Dataset::from_file`].
    ///
    /// # Errors
    /// As [`Dataset::from_file`].
    pub fn scan(path: &Path, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Self, TextError> {
        Source::file(path)?.scan(progress)
    }

    /// The summary of [`Dataset::built_in`].
    ///
    /// # Panics
    /// If the generator is broken, which a test rules out.
    #[must_use]
    pub fn built_in() -> Self {
        let text = generated::dialogues(BUILT_IN_BYTES);
        Source::memory(BUILT_IN_NAME, text.as_bytes()).scan(&mut |_| true).expect("the built-in text is sound")
    }
}

/// Bytes that can be read from the start again.
struct Source<'a, F> {
    path: &'a Path,
    bytes: u64,
    /// How often it will be read, for the progress.
    passes: u64,
    bytes_max: u64,
    chunk_bytes: usize,
    open: F,
}

impl<'a> Source<'a, ()> {
    fn file(path: &'a Path) -> Result<Source<'a, impl Fn() -> io::Result<File>>, TextError> {
        let unreadable = |cause| TextError::Unreadable { path: path.to_owned(), cause };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(TextError::Folder { path: path.to_owned() });
        }
        if !metadata.is_file() {
            // A pipe can be read only once, and a device may never end.
            return Err(unreadable(io::Error::other("not a regular file")));
        }
        let bytes = metadata.len();
        if bytes > BYTES_MAX {
            return Err(TextError::TooLarge { path: path.to_owned(), bytes, most: BYTES_MAX });
        }
        Ok(Source::new(path, bytes, move || File::open(path)))
    }

    fn memory(name: &'a str, bytes: &'a [u8]) -> Source<'a, impl Fn() -> io::Result<&'a [u8]>> {
        Source::new(Path::new(name), bytes.len() as u64, move || Ok(bytes))
    }
}

impl<'a, R: Read, F: Fn() -> io::Result<R>> Source<'a, F> {
    fn new(path: &'a Path, bytes: u64, open: F) -> Self {
        Self { path, bytes, passes: 1, bytes_max: BYTES_MAX, chunk_bytes: CHUNK_BYTES, open }
    }

    fn dataset(
        mut self,
        tokenizer: Option<&Tokenizer>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Dataset, TextError> {
        let characters = match tokenizer {
            None => None,
            Some(Tokenizer::Characters(characters)) => Some(characters),
            Some(other) => {
                self.bytes_max = PIECES_BYTES_MAX;
                return self.load_pieces(other, progress);
            }
        };
        self.passes = 2;
        self.load(characters, progress)
    }

    /// One pass: the digest is of the very bytes that were encoded, so a text that changes meanwhile does no harm.
    fn load_pieces(
        &self,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Dataset, TextError> {
        let path = || self.path.to_owned();
        let (rows, most) = (tokenizer.vocabulary(), self.bytes_max);
        if rows > VOCABULARY_MAX {
            return Err(TextError::VocabularyTooLarge { path: path(), rows });
        }
        if self.bytes > most {
            return Err(TextError::TooLarge { path: path(), bytes: self.bytes, most });
        }
        let mut pieces = Pieces::new(tokenizer, self.path, self.bytes)?;
        let (digest, bytes) = self.read(0, progress, |character| pieces.push(character))?;
        let mut train = pieces.finish()?;
        if train.is_empty() {
            return Err(TextError::Empty { path: path() });
        }
        let validation = train.split_off((train.len() as u64 * 9 / 10) as usize);
        let lengths: Vec<usize> = (0..rows as u32).map(|id| tokenizer.byte_length(TokenId(id))).collect();
        let validation_bytes = validation.iter().map(|&id| lengths[usize::from(id)] as u64).sum();
        Ok(Dataset { train, validation, tokenizer: tokenizer.clone(), digest, bytes, validation_bytes })
    }

    fn load(
        &self,
        tokenizer: Option<&CharTokenizer>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Dataset, TextError> {
        let summary = self.scan(progress)?;
        let tokenizer = match tokenizer {
            None => summary.tokenizer,
            Some(tokenizer) => {
                self.check(tokenizer, &summary.tokenizer)?;
                tokenizer.clone()
            }
        };
        // As ids by code point: a look-up for each of perhaps billions of characters should be one load.
        let last = tokenizer.characters().last().map_or(0, |&character| character as usize);
        let mut ids: Vec<Option<u16>> = vec![None; last + 1];
        for (id, &character) in (0..=u16::MAX).zip(tokenizer.characters()) {
            ids[character as usize] = Some(id);
        }
        let train_tokens = (summary.characters as u64 * 9 / 10) as usize;
        let (mut train, mut validation, mut validation_bytes) = (Vec::new(), Vec::new(), 0);
        let reserved = train.try_reserve_exact(train_tokens);
        reserved.and_then(|()| validation.try_reserve_exact(summary.characters - train_tokens)).map_err(|_| {
            TextError::TooLarge { path: self.path.to_owned(), bytes: summary.bytes, most: self.bytes_max }
        })?;
        let changed = || TextError::Changed { path: self.path.to_owned() };
        let (digest, bytes) = self
            .read(1, progress, |character| {
                let id = ids.get(character as usize).copied().flatten().ok_or_else(changed)?;
                if train.len() < train_tokens {
                    train.push(id);
                } else if train.len() + validation.len() < summary.characters {
                    validation.push(id);
                    validation_bytes += character.len_utf8() as u64;
                } else {
                    return Err(changed());
                }
                Ok(())
            })
            // It was UTF-8 and small enough a moment ago.
            .map_err(|error| match error {
                TextError::NotUtf8 { .. } | TextError::TooLarge { .. } => changed(),
                error => error,
            })?;
        if digest != summary.digest {
            return Err(changed());
        }
        Ok(Dataset { train, validation, tokenizer: tokenizer.into(), digest, bytes, validation_bytes })
    }

    fn scan(&self, progress: &mut dyn FnMut(Progress) -> bool) -> Result<TextSummary, TextError> {
        let (mut characters, mut excerpt) = (0, String::new());
        // By code point, as long as the highest one met.
        let mut seen: Vec<bool> = Vec::new();
        let (digest, bytes) = self.read(0, progress, |character| {
            let place = character as usize;
            if place >= seen.len() {
                seen.resize(place + 1, false);
            }
            seen[place] = true;
            if characters < EXCERPT_CHARACTERS {
                excerpt.push(character);
            }
            characters += 1;
            Ok(())
        })?;
        if characters == 0 {
            return Err(TextError::Empty { path: self.path.to_owned() });
        }
        let tokenizer = CharTokenizer::from_chars(
            (0..).zip(seen).filter_map(|(place, seen)| char::from_u32(place).filter(|_| seen)),
        );
        self.check(&tokenizer, &tokenizer)?;
        Ok(TextSummary { characters, vocabulary: tokenizer.vocabulary(), bytes, excerpt, tokenizer, digest })
    }

    /// Whether the tokenizer's ids fit and it knows every character of the text.
    fn check(&self, tokenizer: &CharTokenizer, text: &CharTokenizer) -> Result<(), TextError> {
        let path = self.path.to_owned();
        if tokenizer.vocabulary() > VOCABULARY_MAX {
            return Err(TextError::TooManyCharacters { path, distinct: tokenizer.vocabulary() });
        }
        let known = tokenizer.characters();
        let unknown = text.characters().iter().filter(|character| known.binary_search(character).is_err());
        let unknown: Vec<String> = unknown.map(char::to_string).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(TextError::UnknownParts { path, parts: named(&unknown) })
    }

    /// Hands over the characters one by one, without byte-order mark and with LF for CRLF; returns the digest and the
    /// number of bytes read.
    fn read(
        &self,
        pass: u64,
        progress: &mut dyn FnMut(Progress) -> bool,
        mut each: impl FnMut(char) -> Result<(), TextError>,
    ) -> Result<(String, u64), TextError> {
        let path = || self.path.to_owned();
        let unreadable = |cause| TextError::Unreadable { path: path(), cause };
        let mut reader = (self.open)().map_err(unreadable)?;
        let (mut hash, mut bytes, mut carriage_return) = (Sha256::new(), 0, false);
        // Starts with the bytes of a character that the last chunk's end cut in two.
        let mut buffer = Vec::new();
        loop {
            let carried = buffer.len();
            let start = bytes - carried as u64;
            let read = reader.by_ref().take(self.chunk_bytes as u64).read_to_end(&mut buffer).map_err(unreadable)?;
            hash.update(&buffer[carried..]);
            bytes += read as u64;
            if bytes > self.bytes_max {
                return Err(TextError::TooLarge { path: path(), bytes, most: self.bytes_max });
            }
            let text = match str::from_utf8(&buffer) {
                Ok(text) => text,
                Err(error) if error.error_len().is_none() && read > 0 => {
                    str::from_utf8(&buffer[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(error) => {
                    return Err(TextError::NotUtf8 { path: path(), offset: start + error.valid_up_to() as u64 });
                }
            };
            let marked = if start == 0 { text.strip_prefix('\u{FEFF}') } else { None };
            for character in marked.unwrap_or(text).chars() {
                if carriage_return && character != '\n' {
                    each('\r')?;
                }
                carriage_return = character == '\r';
                if !carriage_return {
                    each(character)?;
                }
            }
            let whole = text.len();
            buffer.drain(..whole);
            if read == 0 {
                break;
            }
            let total_bytes = self.passes * self.bytes;
            let done_bytes = (pass * self.bytes + bytes).min(total_bytes);
            if !progress(Progress { done_bytes, total_bytes }) {
                return Err(TextError::Cancelled { path: path() });
            }
        }
        if carriage_return {
            each('\r')?;
        }
        Ok((format!("{:x}", hash.finalize()), bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::text::samples;

    fn load(bytes: &[u8], chunk_bytes: usize, tokenizer: Option<&Tokenizer>) -> Result<Dataset, TextError> {
        let mut source = Source::memory("a text", bytes);
        source.chunk_bytes = chunk_bytes;
        source.dataset(tokenizer, &mut |_| true)
    }

    /// Pieces that a reader in chunks could get wrong, and a few bytes that are no UTF-8.
    fn pieces(kinds: usize) -> impl Strategy<Value = Vec<u8>> {
        let all: [&[u8]; 12] = [
            b"a",
            b"b",
            b"\n",
            b"\r",
            b"\r\n",
            "\u{FEFF}".as_bytes(),
            "é".as_bytes(),
            "☃".as_bytes(),
            "😀".as_bytes(),
            b"\xe2\x98",
            b"\xff",
            b"\xf0\x9f\x98",
        ];
        prop::collection::vec(0..kinds, 1..40)
            .prop_map(move |picks| picks.iter().flat_map(|&pick| all[pick]).copied().collect())
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(bytes in pieces(9), chunk_bytes in 1_usize..9) {
            let text = str::from_utf8(&bytes).unwrap();
            let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n");
            let read = load(&bytes, chunk_bytes, None);
            if text.is_empty() {
                let empty = matches!(read, Err(TextError::Empty { .. }));
                prop_assert!(empty);
                return Ok(());
            }
            let tokenizer = Tokenizer::from(CharTokenizer::from_chars(text.chars()));
            let ids: Vec<u16> = tokenizer.encode(&text).ids.iter().map(|id| id.0 as u16).collect();
            let (train, validation) = ids.split_at(ids.len() * 9 / 10);
            let start = text.char_indices().nth(train.len()).map_or(text.len(), |(start, _)| start);
            prop_assert_eq!(read.unwrap(), Dataset {
                train: train.to_vec(),
                validation: validation.to_vec(),
                tokenizer,
                digest: format!("{:x}", Sha256::digest(&bytes)),
                bytes: bytes.len() as u64,
                validation_bytes: (text.len() - start) as u64,
            });
        }

        #[test]
        fn another_tokenizer_reads_the_same_text(bytes in pieces(9), chunk_bytes in 1_usize..9) {
            let tokenizer = samples::tokenizer();
            let Ok(characters) = load(&bytes, chunk_bytes, None) else {
                let empty = matches!(load(&bytes, chunk_bytes, Some(&tokenizer)), Err(TextError::Empty { .. }));
                prop_assert!(empty);
                return Ok(());
            };
            let read = load(&bytes, chunk_bytes, Some(&tokenizer)).unwrap();
            let ids = |dataset: &Dataset| -> Vec<TokenId> {
                dataset.train.iter().chain(&dataset.validation).map(|&id| TokenId(id.into())).collect()
            };
            let text = characters.tokenizer.decode(&ids(&characters));
            prop_assert_eq!(ids(&read), tokenizer.encode(&text).ids);
            prop_assert_eq!(read.train.len(), ids(&read).len() * 9 / 10);
            prop_assert_eq!((read.digest, read.bytes), (characters.digest, characters.bytes));
            let start: usize = read.train.iter().map(|&id| tokenizer.byte_length(TokenId(id.into()))).sum();
            prop_assert_eq!(read.validation_bytes, (text.len() - start) as u64);
            prop_assert_eq!(read.tokenizer, tokenizer);
        }

        #[test]
        fn the_first_bad_byte_is_found(bytes in pieces(12), chunk_bytes in 1_usize..9) {
            match (str::from_utf8(&bytes), load(&bytes, chunk_bytes, None)) {
                (Err(error), Err(TextError::NotUtf8 { offset, .. })) => {
                    prop_assert_eq!(offset, error.valid_up_to() as u64);
                }
                (expected, read) => {
                    let blamed = matches!(read, Err(TextError::NotUtf8 { .. }));
                    prop_assert!(expected.is_ok() && !blamed);
                }
            }
        }
    }

    #[test]
    fn nine_tenths_train() {
        let data = Dataset::from_text("as long as tinyshakespeare", &"a".repeat(1_115_394)).unwrap();
        assert_eq!((data.train.len(), data.validation.len()), (1_003_854, 111_540));
    }

    #[test]
    fn a_context_must_fit_both_parts() {
        let data = |characters| Dataset::from_text("short.txt", &"ab\n".repeat(300)[..characters]).unwrap();
        assert!(data(641).require(64, Path::new("short.txt")).is_ok());
        let error = data(640).require(64, Path::new("short.txt")).unwrap_err().to_string();
        assert_eq!(
            error,
            "short.txt: its validation part has 64 characters, but the context needs 65: take a text of at least 641 \
             characters or a shorter context"
        );
        assert!(data(1).require(usize::MAX, Path::new("short.txt")).unwrap_err().to_string().contains("training part"));
    }

    #[test]
    fn faults_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: Option<&[u8]>, fault: &str| {
            let path = folder.path().join(name);
            if let Some(content) = content {
                fs::write(&path, content).unwrap();
            }
            let error = Dataset::from_file(&path, None, &mut |_| true).unwrap_err().to_string();
            let summary = TextSummary::scan(&path, &mut |_| true).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()) && error.contains(fault), "{error}");
            assert_eq!(error, summary);
        };
        check("missing.txt", None, "cannot be read");
        check("", None, "is a folder");
        check("empty.txt", Some(b""), "holds no text");
        check("mark.txt", Some("\u{FEFF}".as_bytes()), "holds no text");
        check("latin1.txt", Some(b"caf\xe9 au lait"), "offset 3");
        let many = ('\0'..=char::MAX).take(VOCABULARY_MAX + 1).collect::<String>();
        check("many.txt", Some(many.as_bytes()), "65537 different characters");
        File::create(folder.path().join("huge.txt")).unwrap().set_len(BYTES_MAX + 1).unwrap();
        check("huge.txt", None, "4294967297 bytes");
    }

    #[test]
    fn a_file_is_read_with_progress_and_a_given_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        fs::write(&path, "\u{FEFF}one\r\ntwo").unwrap();
        let mut seen = Vec::new();
        let tokenizer = Tokenizer::from(CharTokenizer::from_chars("\nenotwxyz".chars()));
        let data = Dataset::from_file(&path, Some(&tokenizer), &mut |progress| {
            seen.push((progress.done_bytes, progress.total_bytes));
            true
        });
        assert_eq!(seen, [(11, 22), (22, 22)]);
        assert_eq!(data.unwrap().train, [3, 2, 1, 0, 4, 5]);

        let summary = TextSummary::scan(&path, &mut |_| true).unwrap();
        assert_eq!((summary.characters, summary.vocabulary, summary.bytes), (7, 6, 11));
        assert_eq!(summary.excerpt, "one\ntwo");

        let few = CharTokenizer::from_chars("one".chars()).into();
        let error = Dataset::from_file(&path, Some(&few), &mut |_| true).unwrap_err().to_string();
        assert!(error.contains("does not know '⏎', 't', 'w':"), "{error}");
        let cancelled = Dataset::from_file(&path, None, &mut |progress| progress.done_bytes < 22);
        assert!(matches!(cancelled, Err(TextError::Cancelled { .. })));
    }

    #[test]
    fn token_numbers_are_read_and_bounds_are_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.txt");
        fs::write(&path, "0 1 2 3 4\r\n5 6 7 8 10\n").unwrap();
        let read = |tokenizer: &Tokenizer, limit: u64| {
            Dataset::from_file(&path, Some(tokenizer), &mut |progress| progress.done_bytes < limit)
        };
        let data = read(&Tokenizer::Numbers(11), u64::MAX).unwrap();
        assert_eq!((data.train, data.validation), (vec![0, 1, 2, 3, 4, 5, 6, 7, 8], vec![10]));
        assert_eq!(data.validation_bytes, 3);
        let error = |result: Result<Dataset, TextError>| result.unwrap_err().to_string();
        assert!(error(read(&Tokenizer::Numbers(10), u64::MAX)).contains("does not know '10':"));
        assert!(error(read(&Tokenizer::Numbers(65_537), u64::MAX)).contains("a model of 65537 tokens cannot"));
        assert!(error(read(&samples::tokenizer(), 1)).contains("cancelled"));
        let short = read(&samples::tokenizer(), u64::MAX).unwrap().require(64, &path).unwrap_err().to_string();
        assert!(short.contains("tokens, but the context needs 65: take a text of at least 641 tokens"), "{short}");
        File::create(&path).unwrap().set_len(PIECES_BYTES_MAX + 1).unwrap();
        let large = error(read(&samples::tokenizer(), u64::MAX));
        assert!(large.contains("numbers.txt: 1073741825 bytes are more than 1073741824 or"), "{large}");
    }

    #[test]
    fn the_built_in_text_takes_another_tokenizer() {
        let (characters, bpe) = (Dataset::built_in(None).unwrap(), samples::tokenizer());
        let read = Dataset::built_in(Some(&bpe)).unwrap();
        assert_eq!((read.digest, read.bytes), (characters.digest, characters.bytes));
        assert!(read.train.len() < characters.train.len());
        assert!(matches!(Dataset::built_in(Some(&Tokenizer::Numbers(9))), Err(TextError::UnknownParts { .. })));
    }

    #[test]
    fn a_file_that_changes_is_refused() {
        for second in ["abc", "abd", "abcc", "ab", "a\u{e9}c"] {
            let opened = Cell::new(0);
            let open = || Ok(if opened.replace(1) == 0 { &b"abc"[..] } else { second.as_bytes() });
            let source = Source { chunk_bytes: 2, ..Source::new(Path::new("a text"), 3, open) };
            let read = source.dataset(None, &mut |_| true);
            assert_eq!(matches!(read, Err(TextError::Changed { .. })), second != "abc", "{second}: {read:?}");
            assert_eq!(read.is_ok(), second == "abc");
        }
    }
}
