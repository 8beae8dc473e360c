//! A text file read into token ids, in bounded memory, and the faults that such a file can have.
//!
//! The file is read twice, a chunk at a time: once to check it and gather its characters, once to encode it. So only
//! the ids are ever held, two bytes a character. What the file said the first time is not trusted the second time.
//! Tokenizers that came with a model need no gathering: for them it is read once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::characters::CharTokenizer;
use super::fault::{Progress, TextError};
use super::generated;
use super::pieces::Pieces;
use super::token::{TokenId, VOCABULARY_MAX, named};
use super::tokenizer::Tokenizer;
use crate::files::{self, FileFault, Links};
use crate::recipe::TextSource;
use crate::text::token::PIECES_BYTES_MAX;

/// The largest text file that is read, in bytes: 4 GiB.
pub const BYTES_MAX: u64 = 4 << 30;

const BUILT_IN_BYTES: usize = 1_200_000;
const CHUNK_BYTES: usize = 1 << 20;
const EXCERPT_CHARACTERS: usize = 300;

/// What stands before a digest of a text as it is read; a digest without it is one of a whole file.
pub const TEXT_DIGEST: &str = "text-sha256:";

/// What becomes of line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineEnds {
    /// CRLF and CR become LF.
    #[default]
    All,
    /// CRLF becomes LF, and CR alone is a character: as runs were read whose digest is of the whole file.
    CrLf,
}

impl LineEnds {
    /// As the run of that text digest reads its text.
    #[must_use]
    pub fn of_run(digest: &str) -> Self {
        if digest.starts_with(TEXT_DIGEST) { Self::All } else { Self::CrLf }
    }
}

/// A text as token ids, cut in two: the first nine tenths to train on, the rest to validate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    pub train: Vec<u16>,
    pub validation: Vec<u16>,
    pub tokenizer: Tokenizer,
    /// What tells the text from others, however its file has line ends: [`TEXT_DIGEST`] and the SHA-256 of the text as it
    /// is read, in hexadecimal.
    pub digest: String,
    /// SHA-256 of the bytes as they lie in the file, in hexadecimal: what older runs know their text by.
    pub file_digest: String,
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
    /// Reads a UTF-8 text file. A byte-order mark is dropped, CRLF and CR become LF. Without a `tokenizer` the text gets
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

    /// A text from wherever it comes. `tokenizer` and `progress` as in [`Self::from_file`].
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn read(
        source: &TextSource,
        tokenizer: Option<&Tokenizer>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self, TextError> {
        Self::read_as(source, LineEnds::All, tokenizer, progress)
    }

    /// As [`Self::read`], with line ends as a run reads them.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn read_as(
        source: &TextSource,
        line_ends: LineEnds,
        tokenizer: Option<&Tokenizer>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self, TextError> {
        match own_text(source) {
            Ok(text) => {
                let name = source.to_string();
                Source { line_ends, ..Source::memory(&name, text.as_bytes()) }.dataset(tokenizer, progress)
            }
            Err(path) => Source { line_ends, ..Source::file(path)? }.dataset(tokenizer, progress),
        }
    }

    /// Reads the text that a run learned from, known by its digest.
    ///
    /// # Errors
    /// As [`Self::from_file`], and [`TextError::Another`] if it is another text.
    pub fn read_of_run(
        source: &TextSource,
        digest: &str,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self, TextError> {
        let another = || TextError::Another { path: source.to_string().into() };
        match Self::read_as(source, LineEnds::of_run(digest), Some(tokenizer), progress) {
            Ok(read) if read.is_text(digest) => Ok(read),
            Ok(_) => Err(another()),
            // Another text is likely to have other characters.
            Err(TextError::UnknownParts { .. }) => Err(another()),
            Err(error) => Err(error),
        }
    }

    /// Whether this is the text of that digest: of the text as it is read, or of a whole file. A text of the latter kind is
    /// also known where only its line ends or its byte-order mark came later, as Git's do.
    #[must_use]
    pub fn is_text(&self, digest: &str) -> bool {
        digest == self.digest || digest == self.file_digest || self.digest.strip_prefix(TEXT_DIGEST) == Some(digest)
    }

    /// The dialogues that the program makes itself, 1.2 MB, always the same. `tokenizer` as in [`Self::from_file`].
    ///
    /// # Errors
    /// If they have characters that the given tokenizer lacks.
    pub fn built_in(tokenizer: Option<&Tokenizer>) -> Result<Self, TextError> {
        Self::read(&TextSource::BuiltIn, tokenizer, &mut |_| true)
    }

    /// Nothing to learn from: stands in where a text is gone, or batches come from elsewhere.
    #[must_use]
    pub fn empty(tokenizer: Tokenizer) -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            tokenizer,
            digest: String::new(),
            file_digest: String::new(),
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

    /// Looks through a text from wherever it comes. `progress` as in [`Dataset::from_file`].
    ///
    /// # Errors
    /// As [`Dataset::from_file`].
    pub fn read(source: &TextSource, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Self, TextError> {
        match own_text(source) {
            Ok(text) => Source::memory(&source.to_string(), text.as_bytes()).scan(progress),
            Err(path) => Self::scan(path, progress),
        }
    }

    /// The summary of [`Dataset::built_in`].
    ///
    /// # Panics
    /// If the generator is broken, which a test rules out.
    #[must_use]
    pub fn built_in() -> Self {
        Self::read(&TextSource::BuiltIn, &mut |_| true).expect("the built-in text is sound")
    }
}

/// A text that the program makes itself, or else the path of a file.
fn own_text(source: &TextSource) -> Result<String, &Path> {
    match source {
        TextSource::BuiltIn => Ok(generated::dialogues(BUILT_IN_BYTES)),
        TextSource::Generated(lesson) => Ok(generated::lesson(*lesson)),
        TextSource::File(path) => Err(path),
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
    line_ends: LineEnds,
    open: F,
}

/// What a pass over a text has found of its bytes.
struct Digests {
    text: String,
    file: String,
    bytes: u64,
}

impl<'a> Source<'a, ()> {
    fn file(path: &'a Path) -> Result<Source<'a, impl Fn() -> io::Result<File>>, TextError> {
        let fault = |fault| match fault {
            FileFault::Folder => TextError::Folder { path: path.to_owned() },
            FileFault::StandIn(fault) => TextError::StandIn { path: path.to_owned(), fault },
            // A pipe can be read only once, and a device may never end.
            other => TextError::Unreadable { path: path.to_owned(), cause: other.into() },
        };
        let file = files::open_itself(path, Links::Followed).map_err(fault)?;
        let bytes = file.metadata().map_err(|cause| fault(cause.into()))?.len();
        if bytes > BYTES_MAX {
            return Err(TextError::TooLarge { path: path.to_owned(), bytes, most: BYTES_MAX });
        }
        Ok(Source::new(path, bytes, move || files::open(path, Links::Followed).map_err(io::Error::from)))
    }

    fn memory(name: &'a str, bytes: &'a [u8]) -> Source<'a, impl Fn() -> io::Result<&'a [u8]>> {
        Source::new(Path::new(name), bytes.len() as u64, move || Ok(bytes))
    }
}

impl<'a, R: Read, F: Fn() -> io::Result<R>> Source<'a, F> {
    fn new(path: &'a Path, bytes: u64, open: F) -> Self {
        let line_ends = LineEnds::All;
        Self { path, bytes, passes: 1, bytes_max: BYTES_MAX, chunk_bytes: CHUNK_BYTES, line_ends, open }
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
        let Digests { text: digest, file: file_digest, bytes } =
            self.read(0, progress, |character| pieces.push(character))?;
        let mut train = pieces.finish()?;
        if train.is_empty() {
            return Err(TextError::Empty { path: path() });
        }
        let validation = train.split_off((train.len() as u64 * 9 / 10) as usize);
        let lengths: Vec<usize> = (0..rows as u32).map(|id| tokenizer.byte_length(TokenId(id))).collect();
        let validation_bytes: u64 = validation.iter().map(|&id| lengths[usize::from(id)] as u64).sum();
        // What is put after the text is none of it.
        let after = tokenizer.around()[1].iter().rev().take(validation.len());
        let validation_bytes = validation_bytes - after.map(|&id| tokenizer.byte_length(id) as u64).sum::<u64>();
        Ok(Dataset { train, validation, tokenizer: tokenizer.clone(), digest, file_digest, bytes, validation_bytes })
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
        let Digests { text: digest, file: file_digest, bytes } = self
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
        Ok(Dataset { train, validation, tokenizer: tokenizer.into(), digest, file_digest, bytes, validation_bytes })
    }

    fn scan(&self, progress: &mut dyn FnMut(Progress) -> bool) -> Result<TextSummary, TextError> {
        let (mut characters, mut excerpt) = (0, String::new());
        // By code point, as long as the highest one met.
        let mut seen: Vec<bool> = Vec::new();
        let Digests { text: digest, bytes, .. } = self.read(0, progress, |character| {
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

    /// Hands over the characters one by one, without byte-order mark and with LF for every line end; returns the digests
    /// and the number of bytes read.
    fn read(
        &self,
        pass: u64,
        progress: &mut dyn FnMut(Progress) -> bool,
        mut each: impl FnMut(char) -> Result<(), TextError>,
    ) -> Result<Digests, TextError> {
        let path = || self.path.to_owned();
        let unreadable = |cause| TextError::Unreadable { path: path(), cause };
        let mut reader = (self.open)().map_err(unreadable)?;
        let (mut file_hash, mut text_hash, mut bytes) = (Sha256::new(), Sha256::new(), 0);
        let mut line_ends = Ends { rule: self.line_ends, after_cr: false };
        // Starts with the bytes of a character that the last chunk's end cut in two.
        let (mut buffer, mut plain) = (Vec::new(), String::new());
        loop {
            let carried = buffer.len();
            let start = bytes - carried as u64;
            let read = reader.by_ref().take(self.chunk_bytes as u64).read_to_end(&mut buffer).map_err(unreadable)?;
            file_hash.update(&buffer[carried..]);
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
            let (whole, text) = (text.len(), marked.unwrap_or(text));
            let text = if line_ends.after_cr || text.contains('\r') {
                plain.clear();
                text.chars().for_each(|character| line_ends.push(character, &mut plain));
                if read == 0 {
                    line_ends.finish(&mut plain);
                }
                &plain
            } else {
                text
            };
            text_hash.update(text);
            text.chars().try_for_each(&mut each)?;
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
        let text = format!("{TEXT_DIGEST}{:x}", text_hash.finalize());
        Ok(Digests { text, file: format!("{:x}", file_hash.finalize()), bytes })
    }
}

/// Line ends that become LF, also where a chunk ends between CR and LF.
struct Ends {
    rule: LineEnds,
    after_cr: bool,
}

impl Ends {
    fn push(&mut self, character: char, plain: &mut String) {
        let after_cr = std::mem::replace(&mut self.after_cr, character == '\r');
        match (self.rule, character) {
            (LineEnds::All, '\r') => plain.push('\n'),
            (LineEnds::All, '\n') if after_cr => {}
            (LineEnds::CrLf, '\r') if !after_cr => {}
            (LineEnds::CrLf, '\r') => plain.push('\r'),
            (LineEnds::CrLf, other) if after_cr && other != '\n' => plain.extend(['\r', other]),
            (_, other) => plain.push(other),
        }
    }

    fn finish(&mut self, plain: &mut String) {
        if std::mem::take(&mut self.after_cr) && self.rule == LineEnds::CrLf {
            plain.push('\r');
        }
    }
}

#[cfg(test)]
mod tests;
