use std::cell::Cell;
use std::fs;

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
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
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
            digest: format!("text-sha256:{:x}", Sha256::digest(&text)),
            file_digest: format!("{:x}", Sha256::digest(&bytes)),
            bytes: bytes.len() as u64,
            validation_bytes: (text.len() - start) as u64,
        });
    }

    /// What a run of before had read, whose digest is of the whole file.
    #[test]
    fn an_older_run_keeps_a_carriage_return_alone(bytes in pieces(9), chunk_bytes in 1_usize..9) {
        let text = str::from_utf8(&bytes).unwrap();
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n");
        let mut source = Source::memory("a text", &bytes);
        (source.chunk_bytes, source.line_ends) = (chunk_bytes, LineEnds::CrLf);
        if let Ok(read) = source.dataset(None, &mut |_| true) {
            let ids: Vec<TokenId> = read.train.iter().chain(&read.validation).map(|&id| TokenId(id.into())).collect();
            prop_assert_eq!(read.tokenizer.decode(&ids), text);
            let digest = format!("{:x}", Sha256::digest(&bytes));
            prop_assert!(read.is_text(&digest));
        }
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
fn line_ends_and_a_mark_make_no_other_text() {
    let plain = "one\ntwo\n\nthree\n";
    let forms = [
        plain.to_owned(),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        "one\r\ntwo\r\rthree\n".to_owned(),
        format!("\u{FEFF}{plain}"),
        format!("\u{FEFF}{}", plain.replace('\n', "\r\n")),
    ];
    let read: Vec<Dataset> = forms.iter().map(|form| Dataset::from_text("a text", form).unwrap()).collect();
    for (form, other) in forms.iter().zip(&read) {
        assert_eq!((&other.train, &other.validation), (&read[0].train, &read[0].validation), "{form:?}");
        assert!(other.is_text(&read[0].digest), "{form:?}");
        // Of the whole file: itself, and what Git made of it.
        assert!(other.is_text(&other.file_digest) && other.is_text(&read[0].file_digest));
    }
    assert!(!read[0].is_text(&read[1].file_digest), "nothing tells that it once had CRLF");
    let other = Dataset::from_text("a text", "one\ntwo\nthree\n").unwrap();
    assert!(!other.is_text(&read[0].digest) && !other.is_text(&read[0].file_digest) && !other.is_text(""));
    assert_eq!(LineEnds::of_run(&read[0].digest), LineEnds::All);
    assert_eq!(LineEnds::of_run(&read[0].file_digest), LineEnds::CrLf);
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
    #[cfg(unix)]
    {
        // Neither a pipe nor a device is waited for.
        assert!(std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
        check("pipe", None, "it is a pipe");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zeros")).unwrap();
        check("zeros", None, "it is a device");
    }
    check("empty.txt", Some(b""), "holds no text");
    check("mark.txt", Some("\u{FEFF}".as_bytes()), "holds no text");
    check("latin1.txt", Some(b"caf\xe9 au lait"), "offset 3");
    // One of them is a carriage return, which is read as a line end.
    let many = ('\0'..=char::MAX).take(VOCABULARY_MAX + 2).collect::<String>();
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
