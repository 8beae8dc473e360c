//! The built-in corpus: short dialogues with something to find for each kind of attention head. Names that answer each
//! other, colours and places repeated in the answer (copying), choices, sums, opposites, spelling, reported speech.
//!
//! The words and their order are fixed, as the room's front says.

use std::borrow::Cow;

use super::SplitMix64;

const NAMES: &str = "Mira, Oren, Tovi, Lena, Ravi, Suna, Edda, Kian";
// Words that start with a consonant and take a plain -s, so that `a {thing}` and `{thing}s` are right.
const THINGS: &str = "cup, ball, hat, book, key, lamp, coat, spoon, bell, boat, drum, kite, stone, ring, chair, \
    bottle, pencil, ribbon, basket, button, cart, jar, rope, sock";
const COLOURS: &str = "red, blue, green, white, black, brown, yellow, pink, grey, golden";
const PLACES: &str = "on the shelf, under the bed, in the garden, by the door, on the table, in the bag, \
    behind the curtain, near the window, under the tree, in the kitchen, on the roof, by the river, in the tower, \
    on the stairs, under the bridge, behind the house";
// Where people go.
const SPOTS: &str = "at home, in the garden, by the river, in the tower, in the kitchen, in the rain, near the sea";
const OPPOSITES: &str = "big small, old new, wet dry, clean dirty, light heavy, hot cold, soft hard, thick thin, \
    rough smooth, strong weak";
const FEELINGS: &str = "happy, sad, tired, hungry, busy, thirsty, sleepy, ready, well, bored, calm, glad";
const TREATS: &str = "rain, snow, tea, soup, bread, music, honey, cheese, wind, summer, winter, apples, plums, cake";
const DEEDS: &str = "sing, dance, sew, read, sleep, walk, draw, cook, run, play, paint, write";
const NUMBERS: &str = "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, \
    fifteen, sixteen, seventeen, eighteen, nineteen, twenty";

/// In most, what must be copied lies less than 64 characters back: a small model's window.
const DIALOGUES: [&str; 51] = [
    "{a}: where is the {colour} {thing}?\n{b}: the {colour} {thing} is {place}.",
    "{a}: where is the {colour} {thing}?\n{b}: the {colour} {thing} is {place}.\n{a}: thank you, {b}.",
    "{a}: where is the {thing}?\n{b}: the {thing} is {place}.\n{a}: is it {colour}?\n{b}: yes, it is {colour}.",
    "{a}: have you seen the {colour} {thing}?\n{b}: yes, the {colour} {thing} is {place}.",
    "{a}: have you seen the {colour} {thing}?\n{b}: no, but the {other colour} {thing} is {place}.",
    "{a}: is the {colour} {thing} {place}?\n{b}: yes, the {colour} {thing} is {place}.",
    "{a}: is the {thing} {place}?\n{b}: no, the {thing} is {other place}.",
    "{a}: the {thing} is {place}.\n{b}: where is the {thing}?\n{a}: it is {place}, {b}.",
    "{a}: what colour is the {thing}?\n{b}: the {thing} is {colour}.",
    "{a}: is the {thing} {colour} or {other colour}?\n{b}: the {thing} is {colour}.",
    "{a}: is the {thing} {colour} or {other colour}?\n{b}: the {thing} is {other colour}.",
    "{a}: I see a {colour} {thing}.\n{b}: what colour is the {thing}?\n{a}: the {thing} is {colour}.",
    "{a}: the {colour} {thing} or the {other colour} {other thing}?\n{b}: the {colour} {thing}, please.",
    "{a}: the {colour} {thing} or the {other colour} {other thing}?\n{b}: the {other colour} {other thing}, please.",
    "{a}: please give me the {colour} {thing}.\n{b}: here is the {colour} {thing}, {a}.",
    "{a}: please give me the {thing}.\n{b}: here is the {thing}, {a}.\n{a}: thank you, {b}.",
    "{a}: please put the {thing} {place}.\n{b}: the {thing} is {place} now.",
    "{c}: I have the {thing}.\n{a}: who has the {thing}?\n{b}: {c} has the {thing}.",
    "{c}: I have the {colour} {thing}.\n{a}: who has the {colour} {thing}?\n{b}: {c} has it, {a}.",
    "{a}: is this your {colour} {thing}?\n{b}: no, this {colour} {thing} belongs to {c}.",
    "{a}: what do {n} and {m} make?\n{b}: {n} and {m} make {sum}.",
    "{a}: do {n} and {m} make {sum}?\n{b}: yes, {n} and {m} make {sum}.",
    "{a}: I have {n} {thing}s and {c} has {m}.\n{b}: {n} and {m} make {sum}.",
    "{a}: I had {sum} {thing}s and lost {m}.\n{b}: then you have {n} {thing}s left.",
    "{a}: what comes after {n}?\n{b}: {next} comes after {n}.",
    "{a}: what comes before {next}?\n{b}: {n} comes before {next}.",
    "{a}: please count from {n} to {last}.\n{b}: {count}.",
    "{a}: how many {thing}s are {place}?\n{b}: {n} {thing}s are {place}.",
    "{a}: what is the opposite of {quality}?\n{b}: the opposite of {quality} is {opposite}.",
    "{a}: is the {thing} {quality}?\n{b}: no, the {thing} is {opposite}.",
    "{a}: is the {thing} {quality}?\n{b}: yes, the {thing} is {quality}.",
    "{a}: the {colour} {thing} is not {quality}.\n{b}: then the {colour} {thing} is {opposite}.",
    "{a}: hello {b}.\n{b}: hello {a}.",
    "{a}: hello {b}, how are you?\n{b}: hello {a}, I am {feeling}.",
    "{a}: good morning {b} and {c}.\n{b}: good morning {a}.\n{c}: good morning {a}.",
    "{a}: hello {b}, are you {feeling}?\n{b}: hello {a}, yes, I am {feeling}.",
    "{a}: are you {feeling}, {b}?\n{b}: no, {a}, I am {other feeling}.",
    "{a}: good night {b}, sleep well.\n{b}: good night {a}, sleep well.",
    "{c}: {remark}.\n{a}: what did {c} say?\n{b}: {c} said {remark}.",
    "{c}: {remark}.\n{a}: what did {c} say?\n{b}: {c} said {remark}.\n{a}: thank you, {b}.",
    "{a}: {remark}.\n{b}: what did {a} say?\n{c}: {a} said {remark}.\n{b}: is that so?\n{a}: yes, {remark}.",
    "{a}: do you like {treat}?\n{b}: yes, I like {treat}.",
    "{a}: do you like {treat}?\n{b}: no, I like {other treat}.",
    "{a}: do you like {treat} or {other treat}?\n{b}: I like {treat}.",
    "{a}: do you like {treat} or {other treat}?\n{b}: I like {other treat}.",
    "{a}: what does {c} like?\n{b}: {c} likes {treat}.\n{a}: I like {treat} too.",
    "{a}: can you {deed}, {b}?\n{b}: yes, {a}, I can {deed}.",
    "{a}: can you {deed}, {b}?\n{b}: no, but {c} can {deed}.\n{c}: yes, I can {deed}.",
    "{a}: where do you {deed}, {b}?\n{b}: I {deed} {spot}.",
    "{a}: how do you spell {thing}?\n{b}: {letters}.",
    "{a}: I am {feeling}.\n{b}: who is {feeling}?\n{c}: {a} is {feeling}.",
];

const REMARKS: [&str; 6] = [
    "the {thing} is {colour}",
    "the {thing} is {quality}",
    "the {thing} is {place}",
    "{d} is {feeling}",
    "{d} can {deed}",
    "{n} {thing}s are {place}",
];

/// At least `bytes` bytes of dialogues, whole ones, each followed by an empty line. ASCII. Always the same: a longer
/// text begins with the shorter one.
///
/// # Panics
/// If a template names a word that no scene has, which a test rules out.
#[must_use]
pub fn dialogues(bytes: usize) -> String {
    let mut text = String::new();
    let mut random = SplitMix64(0x4865_6164_6c69_6768);
    while text.len() < bytes {
        let dialogue = DIALOGUES[random.below(DIALOGUES.len())];
        let remark = REMARKS[random.below(REMARKS.len())];
        let scene = scene(&mut random);
        for (place, part) in dialogue.replace("{remark}", remark).split(['{', '}']).enumerate() {
            // Every second part lay between braces.
            if place % 2 == 0 {
                text.push_str(part);
            } else {
                text.push_str(&scene.iter().find(|(key, _)| *key == part).expect("a word for every placeholder").1);
            }
        }
        text.push_str("\n\n");
    }
    text
}

/// A word for every placeholder.
fn scene(random: &mut SplitMix64) -> Vec<(&'static str, Cow<'static, str>)> {
    let mut scene = Vec::with_capacity(32);
    for (keys, words) in [
        (&["a", "b", "c", "d"][..], NAMES),
        (&["thing", "other thing"], THINGS),
        (&["colour", "other colour"], COLOURS),
        (&["place", "other place"], PLACES),
        (&["spot"], SPOTS),
        (&["feeling", "other feeling"], FEELINGS),
        (&["treat", "other treat"], TREATS),
        (&["deed"], DEEDS),
        (&["pair"], OPPOSITES),
    ] {
        // Different words for the different keys: the first steps of a Fisher-Yates shuffle.
        let mut rest: Vec<&str> = words.split(", ").collect();
        for &key in keys {
            let word = rest.swap_remove(random.below(rest.len()));
            match (key, word.split_once(' ')) {
                ("pair", Some((quality, opposite))) => {
                    scene.extend([("quality", quality.into()), ("opposite", opposite.into())]);
                }
                _ => scene.push((key, word.into())),
            }
            if key == "thing" {
                let letters: Vec<String> = word.chars().map(String::from).collect();
                scene.push(("letters", letters.join(", ").into()));
            }
        }
    }
    let numbers: Vec<&str> = NUMBERS.split(", ").collect();
    // Counted from 0. From two on, so that `{n} {thing}s` is right; both up to ten, so that the sum has a name.
    let (n, m) = (1 + random.below(9), random.below(10));
    let last = n + 2 + random.below(2);
    for (key, number) in [("n", n), ("m", m), ("sum", n + m + 1), ("next", n + 1), ("last", last)] {
        scene.push((key, numbers[number].into()));
    }
    scene.push(("count", numbers[n..=last].join(", ").into()));
    scene
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::text::Dataset;

    #[test]
    fn the_built_in_corpus_never_changes() {
        // A run that is resumed looks for this digest: a new one means that older runs no longer find their text.
        let data = Dataset::built_in(None).unwrap();
        assert_eq!(data.file_digest, "cdbe44f7b1a779d0c52452f0423db249f496b75ddde818e5ef7d415a5e115003");
        assert!(data.bytes >= 1_000_000 && data.bytes == (data.train.len() + data.validation.len()) as u64);
        assert!(data.tokenizer.vocabulary() <= 50, "{}", data.tokenizer.vocabulary());
        assert!(data.tokenizer.identity().is_ascii());
        assert!(dialogues(2000).starts_with(&dialogues(1000)));
    }

    #[test]
    fn dialogues_are_varied_and_answered_by_another() {
        let text = dialogues(1_200_000);
        let all: Vec<&str> = text.trim_end().split("\n\n").collect();
        let distinct: HashSet<&str> = all.iter().copied().collect();
        assert!(distinct.len() * 5 > all.len() * 4, "only {} of {} differ", distinct.len(), all.len());
        for dialogue in all {
            let lines = dialogue.lines().map(|line| line.split_once(": ").expect("a speaker"));
            let speakers: Vec<&str> = lines.map(|(speaker, _)| speaker).collect();
            assert!(speakers.iter().all(|&speaker| NAMES.split(", ").any(|name| name == speaker)), "{dialogue}");
            assert!(speakers.len() > 1 && speakers.windows(2).all(|pair| pair[0] != pair[1]), "{dialogue}");
        }
    }
}
