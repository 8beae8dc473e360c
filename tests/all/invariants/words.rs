//! A Rust text as words and signs: comments are gone, what stands in a string is no word, and a macro's arguments are read like
//! other code.

/// One word or sign of a source: `use`, `crate`, `::`, `{`.
#[derive(Debug, Clone)]
pub struct Word {
    pub text: String,
    pub line: usize,
}

impl Word {
    pub fn is(&self, wanted: &str) -> bool {
        match wanted.strip_suffix('…') {
            Some(beginning) => self.text.starts_with(beginning),
            None => self.text == wanted,
        }
    }

    pub fn is_name(&self) -> bool {
        self.text.starts_with(|character: char| character.is_alphabetic() || character == '_')
    }
}

/// The words and signs of a Rust text.
pub fn words_of(text: &str) -> Vec<Word> {
    let characters: Vec<char> = text.chars().collect();
    let at = |place: usize| characters.get(place).copied().unwrap_or('\0');
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let (mut words, mut place, mut line) = (Vec::new(), 0, 1);
    while place < characters.len() {
        let start = place;
        let text = match (at(place), at(place + 1)) {
            ('/', '/') => {
                place += (place..).take_while(|&end| end < characters.len() && at(end) != '\n').count();
                None
            }
            ('/', '*') => {
                place = end_of_comment(&characters, place);
                None
            }
            (space, _) if space.is_whitespace() => {
                place += 1;
                None
            }
            ('"', _) => {
                place = end_of_string(&characters, place);
                Some(QUOTED.into())
            }
            // A lifetime has no second quote; a character has, and may be any after a backslash.
            ('\'', next) if is_word(next) && at(place + 2) != '\'' => {
                place += 1;
                Some("'".into())
            }
            ('\'', next) => {
                place += 2 + usize::from(next == '\\');
                place += (place..).take_while(|&end| end < characters.len() && at(end) != '\'').count() + 1;
                Some(QUOTED.into())
            }
            (first, _) if is_word(first) => {
                place += (place..).take_while(|&end| is_word(at(end))).count();
                let word: String = characters[start..place].iter().collect();
                let hashes = (place..).take_while(|&end| at(end) == '#').count();
                if word.ends_with('r') && word.len() <= 2 && at(place + hashes) == '"' {
                    place = end_of_raw_string(&characters, place, hashes);
                    Some(QUOTED.into())
                } else if ["b", "c"].contains(&word.as_str()) && ['"', '\''].contains(&at(place)) {
                    None
                } else if word == "r" && hashes == 1 {
                    place += 1;
                    None
                } else {
                    Some(word)
                }
            }
            (':', ':') => {
                place += 2;
                Some("::".into())
            }
            (sign, _) => {
                place += 1;
                Some(sign.to_string())
            }
        };
        words.extend(text.map(|text| Word { text, line }));
        line += characters[start..place.min(characters.len())].iter().filter(|&&character| character == '\n').count();
    }
    words
}

/// What stands for a string or a character: what is in it is no word.
const QUOTED: &str = "\"\"";

/// Comments may lie in each other.
fn end_of_comment(characters: &[char], start: usize) -> usize {
    let (mut depth, mut place) = (0, start);
    while place < characters.len() {
        match characters[place..] {
            ['/', '*', ..] => (depth, place) = (depth + 1, place + 2),
            ['*', '/', ..] => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place
}

fn end_of_string(characters: &[char], start: usize) -> usize {
    let mut place = start + 1;
    while place < characters.len() {
        match characters[place] {
            '\\' => place += 2,
            '"' => return place + 1,
            _ => place += 1,
        }
    }
    place
}

/// `hashes` stand at `place`, then the quote.
fn end_of_raw_string(characters: &[char], place: usize, hashes: usize) -> usize {
    let ends = |end: &usize| {
        characters[*end] == '"' && characters[end + 1..].iter().take_while(|sign| **sign == '#').count() >= hashes
    };
    (place + hashes + 1..characters.len()).find(ends).map_or(characters.len(), |end| end + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_no_word() {
        let text = r###"
            fn a<'long>(x: &'long str) -> char { ['a', '\'', '\\', '"', '\u{41}', b'"', 'é'][0] } // "no
            /* no /* no */ no */ let r#type = (b"no \" no", r#"no " no"#, br##"no "# no"##, "no // no", r"no \", c"no");
            let n = 1.5e-3..2_u8 + 0x1F; yes::x /"yes
no"/ last
        "###;
        let words = words_of(text);
        let names: Vec<_> = words.iter().filter(|word| word.is_name()).map(|word| word.text.as_str()).collect();
        let wanted = "fn a long x long str char let type let n yes x last";
        assert_eq!(names.join(" "), wanted);
        assert_eq!(words.last().map(|word| (word.text.as_str(), word.line)), Some(("last", 5)));
        assert_eq!(words.iter().filter(|word| word.text == QUOTED).count(), 7 + 6 + 1);
    }
}
