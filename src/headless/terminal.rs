//! What reaches a terminal: words, and nothing that a terminal would obey.
//!
//! Texts, names of files and what files hold come from anybody. A control character among them could recolour the screen,
//! retitle the window, or write what looks like another answer; an override of the writing direction hides what is there.

use std::borrow::Cow;

/// The text with control characters and overrides of the writing direction written as `\u001b`, which JSON reads back as
/// what it stands for. Tabs and line ends stay.
pub fn printed(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return text.into();
    }
    let mut printed = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_obeyed(character) {
            printed.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            printed.push(character);
        }
    }
    printed.into()
}

/// C0 but for tab and line end, DEL, C1; embeddings, overrides and isolates of the writing direction; and the line ends of
/// other conventions, which some terminals take for one.
fn is_obeyed(character: char) -> bool {
    match character {
        '\t' | '\n' => false,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        for (text, shown) in [
            ("to be,\n\tor not; Größe ☃ 😀 שלום\u{200F}", "to be,\n\tor not; Größe ☃ 😀 שלום\u{200F}"),
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", "\\u001b[31mred\\u001b]0;title\\u0007"),
            ("one\rtwo\r\n\0\u{8}\u{7f}", "one\\u000dtwo\\u000d\n\\u0000\\u0008\\u007f"),
            ("\u{9b}31m\u{85}", "\\u009b31m\\u0085"),
            ("a\u{202E}cba\u{2066}\u{2028}", "a\\u202ecba\\u2066\\u2028"),
        ] {
            assert_eq!(printed(text), shown);
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "text": "\u{1b}[0m\r\n\t\u{7f}\u{9b}\u{202E}\u{2028}é" });
        let line = value.to_string();
        let shown = printed(&line);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
}
