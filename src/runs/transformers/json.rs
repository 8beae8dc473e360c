//! JSON as Python's `json` module writes and reads it: with bare `NaN`, `Infinity` and `-Infinity`, and with numbers past
//! the largest one, which Python takes for infinite.

use serde_json::{Result, Value};

/// Reads JSON. What is no number stands in the value as a text, `"NaN"`, `"Infinity"` or `"-Infinity"`: whoever needs a
/// number there says that it is none, and where nobody asks it does no harm.
pub(super) fn parse(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).or_else(|error| match tamed(bytes) {
        Some(tamed) => serde_json::from_slice(&tamed),
        None => Err(error),
    })
}

/// The same with what is no number as texts; `None` if there is nothing of the kind.
fn tamed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut tamed, mut found, mut place) = (Vec::with_capacity(bytes.len()), false, 0);
    while place < bytes.len() {
        let length = match bytes[place] {
            b'"' => text_length(&bytes[place..]),
            _ => bytes[place..].iter().take_while(|&&byte| is_of_word(byte)).count().max(1),
        };
        let word = &bytes[place..place + length];
        match not_a_number(word) {
            Some(text) => {
                tamed.extend(format!("\"{text}\"").into_bytes());
                found = true;
            }
            None => tamed.extend(word),
        }
        place += length;
    }
    found.then_some(tamed)
}

/// Bytes of a text in quotes, or of the rest where it has no end.
fn text_length(bytes: &[u8]) -> usize {
    let mut escaped = true;
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if !escaped => return place + 1,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    bytes.len()
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')
}

fn not_a_number(word: &[u8]) -> Option<&'static str> {
    match word {
        b"NaN" => Some("NaN"),
        b"Infinity" => Some("Infinity"),
        b"-Infinity" => Some("-Infinity"),
        // Rust knows words for infinity too, which JSON does not.
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => match std::str::from_utf8(word).ok()?.parse::<f64>().ok()? {
            f64::INFINITY => Some("Infinity"),
            f64::NEG_INFINITY => Some("-Infinity"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_python_writes_is_read() {
        for (text, wanted) in [
            (
                "{\"a\": NaN, \"b\": [Infinity,-Infinity], \"c\": 1e-5}",
                json!({"a": "NaN", "b": ["Infinity", "-Infinity"], "c": 1e-5}),
            ),
            (
                "[1e999, -1e999, 1, \"NaN\", \"a \\\" NaN, \\\\\", NaN]",
                json!(["Infinity", "-Infinity", 1, "NaN", "a \" NaN, \\", "NaN"]),
            ),
            ("NaN", json!("NaN")),
            ("{\"NaN\": true}", json!({"NaN": true})),
        ] {
            assert_eq!(parse(text.as_bytes()).expect(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_stays_refused() {
        for text in ["", "{", "{\"a\": nan}", "{\"a\": NaNs}", "[inf]", "[+Infinity]", "[NaN NaN]", "\"NaN", "[1e]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
