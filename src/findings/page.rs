//! One step as an HTML page: a single file that loads nothing, its data embedded, drawn by the script of
//! `assets/page.html`.

use serde::Serialize;

use crate::protocol::{AttentionSnapshot, EffectsReport, HeadId, Off, Role, RoleReport, RoleScores, Step, View};
use crate::recipe::grouped;

const TEMPLATE: &str = include_str!("../../assets/page.html");

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The run's name.
    pub run: &'a str,
    pub attention: &'a AttentionSnapshot,
    /// What it was seen through: what is switched off is said.
    pub view: &'a View,
    /// Of the same model, maybe of another step, which is said then.
    pub roles: Option<&'a RoleReport>,
    pub effects: Option<&'a EffectsReport>,
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    step: Step,
    layers: usize,
    heads: usize,
    tokens: &'a [String],
    /// In words, a sentence each.
    notes: Vec<String>,
    roles: Option<Roles>,
    effects: Option<&'a EffectsReport>,
    /// For each head the keys up to each query, query after query: weights × 65,535, rounded, two bytes each, the lower
    /// first, in base64.
    weights: Vec<String>,
}

#[derive(Serialize)]
struct Roles {
    step: Step,
    names: [&'static str; 5],
    heads: Vec<Head>,
}

#[derive(Serialize)]
struct Head {
    role: Option<&'static str>,
    score: f32,
    test: [f32; 5],
    probe: [f32; 5],
    entropy: f32,
}

impl Page<'_> {
    /// The file's text.
    ///
    /// # Errors
    /// If a number on it is none: a page says what is, calmly, to people who cannot ask back.
    pub fn html(&self) -> Result<String, String> {
        let Self { attention, .. } = self;
        if let Some(words) = attention.non_finite_words() {
            return Err(format!("no page is made of a model whose attention is no number. {words}"));
        }
        let sound = self.roles.is_none_or(RoleReport::is_finite) && self.effects.is_none_or(EffectsReport::is_finite);
        if !sound {
            return Err("no page is made: a role's score or an effect is not a number".to_owned());
        }
        let count = attention.layers * attention.heads;
        let roles = self.roles.filter(|report| report.heads == attention.heads && report.reports.len() == count);
        let effects = self.effects.filter(|report| {
            report.heads_per_layer == attention.heads
                && (report.heads.len(), report.mlps.len()) == (count, attention.layers)
        });
        let heads = (0..count).map(|index| HeadId { layer: index / attention.heads, head: index % attention.heads });
        let data = Data {
            step: attention.step,
            layers: attention.layers,
            heads: attention.heads,
            tokens: &attention.tokens,
            notes: self.notes(),
            roles: roles.map(Roles::of),
            effects,
            weights: heads.map(|head| packed(attention.head(head), attention.tokens.len())).collect(),
        };
        let data = serde_json::to_string(&data).expect("plain data becomes JSON");
        // Nothing in a token may end the script.
        let data = data.replace('<', "\\u003c");
        let title = escaped(&format!("{} · step {}", self.run, grouped(attention.step.0)));
        Ok(filled(TEMPLATE, &[("title", &title), ("data", &data), ("version", env!("CARGO_PKG_VERSION"))]))
    }

    fn notes(&self) -> Vec<String> {
        let View { switches, cuts, renormalise, .. } = self.view;
        let how = |off: Off| if off == Off::Zero { "writes nothing" } else { "writes its mean" };
        let head = |(id, &off): (&HeadId, &Off)| format!("layer {} head {} ({})", id.layer + 1, id.head + 1, how(off));
        let mlp = |(layer, &off): (&usize, &Off)| format!("MLP of layer {} ({})", layer + 1, how(off));
        let off: Vec<String> = switches.heads.iter().map(head).chain(switches.mlps.iter().map(mlp)).collect();
        let mut notes = Vec::new();
        if !self.attention.note.is_empty() {
            notes.push(self.attention.note.clone());
        }
        if !off.is_empty() {
            notes.push(format!("Switched off: {}.", off.join(", ")));
        }
        if !cuts.is_empty() {
            let rest = if *renormalise { "the rest of their rows scaled up to 1" } else { "the rest as it was" };
            notes.push(format!("Weights made zero: {}; {rest}.", grouped(cuts.len() as u64)));
        }
        notes
    }
}

impl Roles {
    fn of(report: &RoleReport) -> Self {
        let scores = |scores: &RoleScores| Role::ALL.map(|role| scores.of(role));
        let heads = report.reports.iter().map(|head| {
            let role = head.test.role();
            Head {
                role: role.map(Role::text),
                score: role.map_or(0.0, |role| head.test.of(role)),
                test: scores(&head.test),
                probe: scores(&head.probe),
                entropy: head.entropy,
            }
        });
        Self { step: report.step, names: Role::ALL.map(Role::text), heads: heads.collect() }
    }
}

/// The weights of one head up to each query.
fn packed(weights: &[f32], tokens: usize) -> String {
    let mut bytes = Vec::with_capacity(tokens * (tokens + 1));
    for (query, row) in weights.chunks(tokens.max(1)).enumerate() {
        for weight in &row[..=query] {
            bytes.extend(((weight.clamp(0.0, 1.0) * 65_535.0).round() as u16).to_le_bytes());
        }
    }
    base64(&bytes)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|place| u32::from(group.get(place).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]);
            text.push(if place > group.len() { '=' } else { digit });
        }
    }
    text
}

/// Text between tags or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// The template with a value for each `{{name}}`. Values are not looked through for names.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut pieces = template.split("{{");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        text.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standards_examples() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_value_that_looks_like_a_place_is_left_alone() {
        assert_eq!(filled("<{{a}}|{{b}}>", &[("a", "{{b}}"), ("b", "2")]), "<{{b}}|2>");
    }

    #[test]
    fn the_template_names_what_is_filled_in_and_loads_nothing() {
        for name in ["title", "data", "version"] {
            assert!(TEMPLATE.contains(&format!("{{{{{name}}}}}")), "{name}");
        }
        assert!(!TEMPLATE.contains("://") && !TEMPLATE.contains("src=") && !TEMPLATE.contains("url("));
    }
}
