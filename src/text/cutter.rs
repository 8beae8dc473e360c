//! The pre-tokenizer of a byte-level BPE file: where a text is cut before its bytes are merged.
//!
//! A file's regular expressions are run here and not by the `tokenizers` library, which takes a fault of the engine for the
//! end of the text, and runs a pattern for as long as it likes. A pattern that is not known by name is tried on a small text
//! under a clock before it is taken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fancy_regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::pattern::Pattern;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{Offsets, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::generated;
use super::token::{TokenizerFault, quoted};

/// GPT-2's own, which the step `ByteLevel` cuts with.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Patterns of models that are in use: their time grows with the text's length and no faster.
const KNOWN: [&str; 13] = [
    GPT2,
    // tiktoken's way to write GPT-2's.
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    // GPT-4 (cl100k) as Llama 3 writes it, and as tiktoken does.
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    // Qwen 2 and 3.
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-4o (o200k).
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // nanochat.
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    // DeepSeek's three, one after the other, and single digits.
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
    r"\p{N}",
    // Every character by itself.
    r"[\s\S]",
];

/// The longest pattern, in bytes, and the most steps of a pre-tokenizer.
const PATTERN_BYTES_MAX: usize = 10_000;
const STEPS_MAX: usize = 64;
/// Ways that one match may try: what is known needs as many as a run of white space is long, another perhaps its square.
const BACKTRACKS_KNOWN: usize = 100_000_000;
const BACKTRACKS: usize = 10_000_000;
/// How long the cuts of one text may take. An ordinary pattern takes a second for some megabytes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The trial: bytes of ordinary text, bytes of one character again and again, and how long both may take. An ordinary pattern
/// takes some milliseconds; where the time grows with the square of the length the last takes many seconds.
const TRIALS: [(usize, usize, Duration); 3] = [
    (2_000, 200, Duration::from_secs(1)),
    (16_000, 800, Duration::from_secs(2)),
    (128_000, 2_000, Duration::from_secs(3)),
];
/// Characters that stand for their kinds in a trial.
const KINDS: &str = "aZ1 \n\t.'_é日😀\u{301}\u{a0}";
/// Characters of a pattern's own that are tried too.
const OWN_MAX: usize = 24;

/// The cuts of one text took too long.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer's pattern takes too long on it")]
pub(super) struct TooSlow;

/// The steps of a pre-tokenizer, one after the other.
#[derive(Debug)]
pub(super) struct Cutter(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// A space before each part that does not begin with one.
    Prefix,
    Split {
        regex: Regex,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    /// Digits, punctuation and bytes: no patterns of the file's.
    Library(Box<PreTokenizerWrapper>),
}

impl Cutter {
    /// From the steps of a file, which are of kinds that leave the text whole.
    ///
    /// # Errors
    /// If a step is malformed, or its pattern takes too long.
    pub fn new(steps: &[&Value]) -> Result<Self, TokenizerFault> {
        let malformed = |error: &dyn ToString| TokenizerFault::Malformed(error.to_string());
        if steps.len() > STEPS_MAX {
            return Err(malformed(&format!("its pre-tokenizer has {} steps", steps.len())));
        }
        let (mut taken, mut strange) = (Vec::new(), Vec::new());
        for &step in steps {
            let text = ["Regex", "String"].iter().find_map(|kind| step["pattern"][kind].as_str());
            if text.is_some_and(|text| text.len() > PATTERN_BYTES_MAX) {
                return Err(malformed(&format!("a pattern of more than {PATTERN_BYTES_MAX} bytes")));
            }
            match PreTokenizerWrapper::deserialize(step).map_err(|error| malformed(&error))? {
                PreTokenizerWrapper::Split(split) => {
                    let (pattern, known) = match &split.pattern {
                        SplitPattern::Regex(pattern) => (pattern.clone(), KNOWN.contains(&pattern.as_str())),
                        SplitPattern::String(text) => (fancy_regex::escape(text).into_owned(), true),
                    };
                    let regex = compile(&pattern, known).map_err(|error| malformed(&error))?;
                    if !known {
                        strange.push(regex.clone());
                    }
                    taken.push(Step::Split { regex, behavior: split.behavior, invert: split.invert });
                }
                PreTokenizerWrapper::ByteLevel(bytes) => {
                    if bytes.add_prefix_space {
                        taken.push(Step::Prefix);
                    }
                    if bytes.use_regex {
                        let regex = compile(GPT2, true).map_err(|error| malformed(&error))?;
                        let behavior = SplitDelimiterBehavior::Isolated;
                        taken.push(Step::Split { regex, behavior, invert: false });
                    }
                    let bytes = ByteLevel::new(false, bytes.trim_offsets, false);
                    taken.push(Step::Library(Box::new(bytes.into())));
                }
                other => taken.push(Step::Library(Box::new(other))),
            }
        }
        match strange.into_iter().find(|regex| !is_quick(regex)) {
            Some(slow) => Err(TokenizerFault::Pattern(quoted(slow.as_str()))),
            None => Ok(Self(taken)),
        }
    }

    /// Whether a text, and what follows a special token, gets a space before it.
    pub fn adds_space(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Prefix))
    }
}

fn compile(pattern: &str, known: bool) -> Result<Regex, fancy_regex::Error> {
    RegexBuilder::new(pattern).backtrack_limit(if known { BACKTRACKS_KNOWN } else { BACKTRACKS }).build()
}

impl PreTokenizer for Cutter {
    fn pre_tokenize(&self, pretokenized: &mut PreTokenizedString) -> tokenizers::Result<()> {
        let until = Instant::now() + PATIENCE;
        for step in &self.0 {
            match step {
                Step::Prefix => pretokenized.split(|_, mut part| {
                    if !part.get().starts_with(' ') {
                        part.prepend(" ");
                    }
                    Ok(vec![part])
                })?,
                Step::Split { regex, behavior, invert } => {
                    let cuts = Cuts { regex, invert: *invert, until };
                    pretokenized.split(|_, part| part.split(cuts, *behavior))?;
                }
                Step::Library(step) => step.pre_tokenize(pretokenized)?,
            }
        }
        Ok(())
    }
}

/// The matches of a pattern as the library has them, and its faults as faults.
#[derive(Clone, Copy)]
struct Cuts<'a> {
    regex: &'a Regex,
    invert: bool,
    until: Instant,
}

impl Pattern for Cuts<'_> {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), self.invert)]);
        }
        let (mut previous, mut parts) = (0, Vec::new());
        for (count, found) in self.regex.find_iter(inside).enumerate() {
            let found = found?;
            // A look at the clock takes about as long as a match.
            if count % 16 == 0 && Instant::now() > self.until {
                return Err(TooSlow.into());
            }
            if previous != found.start() {
                parts.push(((previous, found.start()), self.invert));
            }
            parts.push(((found.start(), found.end()), !self.invert));
            previous = found.end();
        }
        if previous != inside.len() {
            parts.push(((previous, inside.len()), self.invert));
        }
        Ok(parts)
    }
}

/// Whether a pattern is through with small texts in good time. It runs on a thread of its own, which is left behind when it is
/// not: that ends with the trial's text at the latest.
fn is_quick(regex: &Regex) -> bool {
    let (done, news) = mpsc::sync_channel(TRIALS.len());
    let left_behind = Arc::new(AtomicBool::new(false));
    let (seen, regex) = (Arc::clone(&left_behind), regex.clone());
    let trial = move || {
        let own: Vec<char> = regex.as_str().chars().filter(|own| !KINDS.contains(*own)).take(OWN_MAX).collect();
        for (ordinary, repeated, _) in TRIALS {
            let runs = KINDS.chars().chain(own.iter().copied());
            let runs = runs.map(|kind| std::iter::repeat_n(kind, repeated).collect::<String>());
            // A run that does not match at its end, and one that goes on.
            let texts = runs.flat_map(|run| [format!("{run}!"), run]).chain([ordinary_text(ordinary)]);
            for text in texts {
                for found in regex.find_iter(&text) {
                    if seen.load(Ordering::Relaxed) || found.is_err() {
                        // Nobody listens, or will hear that the channel is closed.
                        return;
                    }
                }
            }
            let _ = done.send(());
        }
    };
    if thread::Builder::new().name("pattern trial".into()).spawn(trial).is_err() {
        return false;
    }
    let quick = TRIALS.iter().all(|(_, _, patience)| news.recv_timeout(*patience).is_ok());
    left_behind.store(true, Ordering::Relaxed);
    quick
}

/// A bit of everything, and the dialogues that the program makes itself.
fn ordinary_text(bytes: usize) -> String {
    let mut text = String::from(
        "Don't WE'LL x2 1234567 3.14 — naïve cafe\u{301} 日本語のテキスト 😀👩‍🚀\r\n\r\n\tif (a[i] != b) {\n        return -1;  // …\n    }\n\n\n",
    );
    text.push_str(&generated::dialogues(bytes));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split(pattern: &str) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    fn cuts(step: &Value, text: &str) -> Vec<String> {
        let mut found = PreTokenizedString::from(text);
        Cutter::new(&[step]).unwrap().pre_tokenize(&mut found).unwrap();
        let parts = found.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        parts.into_iter().map(|(part, ..)| part.to_owned()).collect()
    }

    #[test]
    fn a_pattern_that_may_run_for_ever_is_refused() {
        // Each place reads the rest of the text; each run of letters is tried in every way.
        for pattern in [r"(?=[\s\S]*\x00)x", r"(?:(?=a)a+)+b", r"(?:(?=\p{L})\p{L}+)+\d"] {
            let since = Instant::now();
            let refused = Cutter::new(&[&split(pattern)]).unwrap_err().to_string();
            assert!(refused.contains("takes too long"), "{pattern}: {refused}");
            assert!(since.elapsed() < Duration::from_secs(15), "{pattern}: {:?}", since.elapsed());
        }
    }

    #[test]
    fn patterns_in_use_are_taken_and_others_that_are_quick() {
        for pattern in KNOWN {
            assert!(is_quick(&compile(pattern, true).unwrap()), "{pattern}");
        }
        for pattern in [r" ?\w+| ?[^\s\w]+|\s+", r"\s+(?=\S)|\S+", r"(?<=\n)[^\n]*\n?", "[A-Z]?[a-z]+|."] {
            assert!(Cutter::new(&[&split(pattern)]).is_ok(), "{pattern}");
        }
        assert_eq!(cuts(&split(r"\p{N}{1,3}"), "ab12345c"), ["ab", "123", "45", "c"]);
    }

    /// The library stops at a fault of its engine, as if the text ended there.
    #[test]
    fn a_fault_of_the_engine_is_told() {
        let regex = RegexBuilder::new(r"(?:(?=a)a|(?=a)aa)+b").backtrack_limit(1000).build().unwrap();
        let until = Instant::now() + PATIENCE;
        let text = "a".repeat(5000);
        assert!(Cuts { regex: &regex, invert: false, until }.find_matches(&text).is_err());
        let regex = compile("a", true).unwrap();
        let slow = Cuts { regex: &regex, invert: false, until: Instant::now() }.find_matches(&text).unwrap_err();
        assert!(slow.is::<TooSlow>());
    }

    #[test]
    fn a_long_run_of_white_space_is_one_cut() {
        let run = format!("a{}b", " ".repeat(300_000));
        for pattern in [KNOWN[0], KNOWN[2], KNOWN[3]] {
            let found = cuts(&split(pattern), &run);
            assert_eq!(found.len(), 3, "{pattern}");
            assert_eq!(found.concat(), run);
        }
    }
}
