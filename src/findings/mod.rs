//! What was found in a model, as files for other programs: JSON and CSV, and one HTML page that opens without a network.
//!
//! Plain data in, text out. Activations have the names that TransformerLens gives them; layers, heads and positions are
//! counted from 0, as there. Numbers are written so that they read back to the same `f32`.
//!
//! ```
//! use headlight::findings::{csv, json};
//! use headlight::protocol::{HeadReport, RoleReport, RoleScores, Step, View};
//!
//! let test = RoleScores { previous: 0.75, ..RoleScores::default() };
//! let report = RoleReport { step: Step(500), heads: 1, reports: vec![HeadReport { test, ..HeadReport::default() }] };
//!
//! let text = csv::roles(&[report.clone()]);
//! assert!(text.starts_with("step,layer,head,test_previous,"));
//! assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("500,0,0,0.75,")));
//!
//! let value: serde_json::Value = serde_json::from_str(&json::roles(&report, &View::default()))?;
//! assert_eq!(value["test"]["previous"][0][0], 0.75);
//! # Ok::<(), serde_json::Error>(())
//! ```

pub mod csv;
pub mod json;
pub mod nanogpt;
mod page;

use std::path::Path;

pub use page::Page;

/// A measurement that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    Attention,
    Roles,
    Lens,
    Attribution,
    Effects,
}

impl Finding {
    pub const ALL: [Self; 5] = [Self::Attention, Self::Roles, Self::Lens, Self::Attribution, Self::Effects];

    /// For file names and notices.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Roles => "roles",
            Self::Lens => "lens",
            Self::Attribution => "attribution",
            Self::Effects => "effects",
        }
    }
}

/// How a finding is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Json,
}

impl Format {
    /// The format that a file's ending names.
    ///
    /// # Errors
    /// If it names none, in a sentence that says which there are.
    pub fn of(path: &Path) -> Result<Self, String> {
        let ending = path.extension().unwrap_or_default();
        if ending.eq_ignore_ascii_case("csv") {
            Ok(Self::Csv)
        } else if ending.eq_ignore_ascii_case("json") {
            Ok(Self::Json)
        } else {
            Err(format!("{}: name it .csv or .json, the ending says what is written", path.display()))
        }
    }
}

/// `blocks.1.attn.pattern`: attention after softmax.
fn pattern_name(layer: usize) -> String {
    format!("blocks.{layer}.attn.pattern")
}

/// `blocks.1.attn.hook_result`: what each head writes to the residual stream.
fn head_name(layer: usize) -> String {
    format!("blocks.{layer}.attn.hook_result")
}

/// `blocks.1.hook_mlp_out`: what the MLP writes to the residual stream.
fn mlp_name(layer: usize) -> String {
    format!("blocks.{layer}.hook_mlp_out")
}

/// The residual stream that a row of the lens reads: first the embedding, then one after each layer.
#[must_use]
pub fn lens_name(row: usize) -> String {
    match row.checked_sub(1) {
        None => "blocks.0.hook_resid_pre".into(),
        Some(layer) => format!("blocks.{layer}.hook_resid_post"),
    }
}

/// What a token of the vocabulary looks like, or nothing.
fn label(labels: &[String], id: u32) -> &str {
    labels.get(id as usize).map_or("", String::as_str)
}

#[cfg(test)]
mod tests;
