//! Lessons: lines with a part that follows from what stands before it, so that one can measure whether a model has
//! learned the rule. ASCII. The last tenth, which validates, holds only problems that the rest does not have.

use std::collections::HashSet;
use std::ops::Range;

use super::SplitMix64;
use crate::recipe::Lesson;

/// Of each lesson's text: what is trained on, and what validates.
const PART_BYTES: [usize; 2] = [900_000, 100_000];
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
/// Letters of a line: it fits a context of 64 with the line end before it.
const LETTERS_MAX: usize = 60;
const PAIRS: [[char; 2]; 3] = [['(', ')'], ['[', ']'], ['{', '}']];
/// Numbers that are added are below this.
const SUMMANDS: u32 = 100;

/// A line of a lesson, and what can be known in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line with its end; a character is a byte.
    pub text: String,
    /// Places in `text` that follow from those before them. Each range is one answer, right only as a whole.
    pub answers: Vec<Range<usize>>,
}

/// The text of a lesson: 900,000 bytes to train on and 100,000 of other problems to validate. Always the same.
#[must_use]
pub fn lesson(lesson: Lesson) -> String {
    match lesson {
        Lesson::Induction => lines(&mut SplitMix64(0x636f_7079), repeated),
        Lesson::Addition => addition(&mut SplitMix64(0x6164_6421)),
        Lesson::Brackets => lines(&mut SplitMix64(0x7061_6972), brackets),
    }
}

/// The problems in a lesson's text, which begins with a whole line. Empty lines and a last one without its end are left
/// out.
#[must_use]
pub fn problems(lesson: Lesson, text: &str) -> Vec<Problem> {
    let whole = text.split_inclusive('\n').filter(|line| line.len() > 1 && line.ends_with('\n'));
    whole.map(|line| Problem { text: line.to_owned(), answers: answers(lesson, line) }).collect()
}

fn answers(lesson: Lesson, line: &str) -> Vec<Range<usize>> {
    let after = |sign: char| line.find(sign).map(|place| place + 1..line.len()).into_iter().collect();
    match lesson {
        // What follows a letter that was there before is what followed it then; where the line ends is chance.
        Lesson::Induction => {
            let letters = line.trim_end().as_bytes();
            let known = (1..letters.len()).filter(|&place| letters[..place - 1].contains(&letters[place - 1]));
            known.map(|place| place..place + 1).collect()
        }
        Lesson::Addition => after('='),
        Lesson::Brackets => after(':'),
    }
}

/// Lines as `line` draws them, none of the second part in the first.
fn lines(random: &mut SplitMix64, line: fn(&mut SplitMix64) -> String) -> String {
    let mut seen = HashSet::new();
    let mut text = String::with_capacity(PART_BYTES.iter().sum());
    let mut end = 0;
    for bytes in PART_BYTES {
        end += bytes;
        let before = seen.clone();
        loop {
            let line = line(random);
            if before.contains(&line) {
                continue;
            }
            if text.len() + line.len() > end {
                break;
            }
            text.push_str(&line);
            seen.insert(line);
        }
        // Empty lines up to the very place where a text is cut in two.
        text.extend(std::iter::repeat_n('\n', end - text.len()));
    }
    text
}

/// `gktbvhwagktbvhwagkt`: 5 to 20 different letters, over and over, at least twice. How many differs from line to line, so
/// that no count of places helps, only the letters themselves.
fn repeated(random: &mut SplitMix64) -> String {
    let period = 5 + random.below(16);
    let length = 2 * period + random.below(LETTERS_MAX + 1 - 2 * period);
    let mut letters = *LETTERS;
    random.shuffle(&mut letters, period);
    let line = letters[..period].iter().cycle().take(length).map(|&letter| char::from(letter));
    line.chain(['\n']).collect()
}

/// `([]{[()(:)]})`: balanced brackets with a colon before those that close the last open ones.
fn brackets(random: &mut SplitMix64) -> String {
    let pairs = 4 + random.below(9);
    let (mut line, mut open, mut opened) = (String::new(), Vec::new(), 0);
    while opened < pairs {
        // Three of five open, so that a few are left to close.
        if open.is_empty() || random.below(5) < 3 {
            let [opening, closing] = PAIRS[random.below(PAIRS.len())];
            line.push(opening);
            open.push(closing);
            opened += 1;
        } else {
            line.extend(open.pop());
        }
    }
    line.push(':');
    line.extend(open.into_iter().rev());
    line.push('\n');
    line
}

/// `37+48=085`: every sum of two numbers below 100 in one part or the other, in either order in the same one.
fn addition(random: &mut SplitMix64) -> String {
    let mut pairs: Vec<[u32; 2]> = (0..SUMMANDS).flat_map(|a| (a..SUMMANDS).map(move |b| [a, b])).collect();
    let count = pairs.len();
    random.shuffle(&mut pairs, count);
    let (unseen, train) = pairs.split_at(count / 10);
    let mut text = String::with_capacity(PART_BYTES.iter().sum());
    let mut end = 0;
    for (bytes, pairs) in PART_BYTES.into_iter().zip([train, unseen]) {
        end += bytes;
        let mut sums: Vec<[u32; 2]> = pairs.iter().flat_map(|&[a, b]| [[a, b], [b, a]]).collect();
        sums.sort_unstable();
        sums.dedup();
        // All of them in a new order, again and again.
        let mut place = sums.len();
        while text.len() < end {
            if place == sums.len() {
                random.shuffle(&mut sums, place);
                place = 0;
            }
            let [a, b] = sums[place];
            text.push_str(&format!("{a:02}+{b:02}={:03}\n", a + b));
            place += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TextSource;
    use crate::text::Dataset;

    /// The two parts of a lesson as a model gets them.
    fn parts(lesson: Lesson) -> [Vec<Problem>; 2] {
        let data = Dataset::read(&TextSource::Generated(lesson), None, &mut |_| true).expect("sound");
        [data.train, data.validation].map(|ids| {
            let ids: Vec<_> = ids.into_iter().map(|id| crate::text::TokenId(id.into())).collect();
            problems(lesson, &data.tokenizer.decode(&ids))
        })
    }

    fn digest_of(lesson: Lesson) -> String {
        Dataset::read(&TextSource::Generated(lesson), None, &mut |_| true).expect("sound").file_digest
    }

    fn answer(problem: &Problem) -> &str {
        &problem.text[problem.answers[0].clone()]
    }

    #[test]
    fn the_lessons_never_change() {
        // As for the dialogues: a run finds its text by this digest.
        let digests = Lesson::ALL.map(digest_of);
        assert_eq!(
            digests,
            [
                "40e374ecea2900ff918921ce8f750902dc0be754d885984ea412766c1fb6bbca",
                "86de0e2643ce3d2d2ad015652d80730507134e45d0f905054766c48df1cdadb2",
                "b730453c646dcffcadd05f873714fed60717479f66cc22b06c203155b079a023"
            ]
        );
    }

    #[test]
    fn what_validates_was_never_trained_on() {
        for lesson in Lesson::ALL {
            let [train, unseen] = parts(lesson);
            // What repeats is known by the letters up to the first that comes again, a sum by its numbers in either order.
            let key = |problem: &Problem| match lesson {
                Lesson::Induction => problem.text[..problem.answers[0].start - 1].to_owned(),
                Lesson::Addition => {
                    let mut numbers = [&problem.text[..2], &problem.text[3..5]];
                    numbers.sort_unstable();
                    numbers.concat()
                }
                Lesson::Brackets => problem.text.clone(),
            };
            let trained: HashSet<String> = train.iter().map(key).collect();
            assert!(unseen.len() > 2000 && unseen.iter().all(|problem| !trained.contains(&key(problem))), "{lesson:?}");
        }
    }

    #[test]
    fn every_sum_is_right_and_all_pairs_are_there() {
        let [train, unseen] = parts(Lesson::Addition);
        let mut pairs = HashSet::new();
        for problem in train.iter().chain(&unseen) {
            let number = |range: Range<usize>| problem.text[range].parse::<u32>().expect("digits");
            let (a, b) = (number(0..2), number(3..5));
            assert_eq!(answer(problem), format!("{:03}\n", a + b));
            pairs.insert((a, b));
        }
        assert_eq!(pairs.len(), 10_000);
        let distinct: HashSet<&str> = unseen.iter().take(200).map(|problem| problem.text.as_str()).collect();
        assert_eq!(distinct.len(), 200);
    }

    #[test]
    fn every_bracket_is_closed_by_its_own_kind() {
        for problem in parts(Lesson::Brackets).iter().flatten() {
            let mut open = Vec::new();
            for character in problem.text.trim_end().chars().filter(|&character| character != ':') {
                match PAIRS.iter().find(|pair| pair[0] == character) {
                    Some(pair) => open.push(pair[1]),
                    None => assert_eq!(open.pop(), Some(character), "{}", problem.text),
                }
            }
            assert!(open.is_empty(), "{}", problem.text);
            let answer = answer(problem).trim_end();
            assert!(
                !answer.is_empty() && answer.chars().all(|character| PAIRS.iter().any(|pair| pair[1] == character))
            );
        }
    }

    #[test]
    fn a_letter_seen_before_tells_the_next() {
        let marked = problems(Lesson::Induction, "abcabca\n\nxyxy");
        let answers = (4..7).map(|place| place..place + 1).collect();
        assert_eq!(marked, [Problem { text: "abcabca\n".into(), answers }], "no empty line, none without its end");
        for problem in parts(Lesson::Induction).iter().flatten() {
            assert!(problem.answers.len() >= 4, "{}", problem.text);
            for Range { start, .. } in problem.answers.iter().cloned() {
                let before = problem.text.find(&problem.text[start - 1..start]).expect("seen before");
                assert!(before + 1 < start && problem.text[before + 1..].starts_with(&problem.text[start..=start]));
            }
        }
    }
}
