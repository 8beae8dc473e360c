//! Presets: recipes with a title and a line on what to look for, as RON files with a format version.
//!
//! The built-in ones are the files of `presets/`, embedded. Reading a preset never trusts it: the version is looked at
//! before anything else, unknown keys are named, and [`Recipe::validate`] judges the numbers afterwards.
//!
//! ```
//! use headlight::preset::{self, Preset};
//!
//! let mut mine = preset::find("glass-box").expect("built in");
//! mine.name = "three-layers".into();
//! mine.recipe.model.layers = 3;
//! let text = mine.to_ron();
//! assert_eq!(Preset::parse(&text)?, mine);
//!
//! let error = Preset::parse("(format: 99)").unwrap_err();
//! assert!(error.to_string().contains("newer Headlight"));
//! # Ok::<(), preset::PresetError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::recipe::Recipe;

/// The format version that this program writes and reads.
pub const FORMAT: u32 = 1;

/// A recipe with a name and a commentary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    pub format: u32,
    /// Short, for lists and `--preset`: lower case and hyphens.
    pub name: String,
    pub title: String,
    /// What to look for while it trains.
    pub commentary: String,
    pub recipe: Recipe,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Why a preset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    #[error(
        "preset format {found} is not known to this program (it reads format {FORMAT}): was it made by a newer Headlight?"
    )]
    Version { found: u32 },
    #[error("not a preset: {0}")]
    Syntax(String),
}

const BUILT_IN: [&str; 12] = [
    include_str!("../presets/first-light.ron"),
    include_str!("../presets/glass-box.ron"),
    include_str!("../presets/induction.ron"),
    include_str!("../presets/addition.ron"),
    include_str!("../presets/brackets.ron"),
    include_str!("../presets/nanogpt-cpu.ron"),
    include_str!("../presets/nanogpt-gpu.ron"),
    include_str!("../presets/lecture-209k.ron"),
    include_str!("../presets/guppy-9m.ron"),
    include_str!("../presets/llama-260k.ron"),
    include_str!("../presets/smollm-micro.ron"),
    include_str!("../presets/phi-micro.ron"),
];

/// The presets that come with the program; the first is the default.
///
/// # Panics
/// If an embedded file is broken, which a test rules out.
#[must_use]
pub fn built_in() -> Vec<Preset> {
    BUILT_IN.iter().map(|text| Preset::parse(text).expect("embedded presets parse")).collect()
}

/// The default preset.
#[must_use]
pub fn first() -> Preset {
    built_in().swap_remove(0)
}

/// The built-in preset of that name.
#[must_use]
pub fn find(name: &str) -> Option<Preset> {
    built_in().into_iter().find(|preset| preset.name == name)
}

impl Preset {
    /// Reads a preset file's text.
    ///
    /// # Errors
    /// Says the version when it is not ours, else the line and what is wrong there, unknown keys by name.
    pub fn parse(text: &str) -> Result<Self, PresetError> {
        let syntax = |error: ron::error::SpannedError| PresetError::Syntax(error.to_string());
        // The version first: a newer format may hold keys that we would otherwise blame.
        if let Ok(Version { format: found }) = ron::from_str::<Version>(text)
            && found != FORMAT
        {
            return Err(PresetError::Version { found });
        }
        ron::from_str(text).map_err(syntax)
    }

    /// The text of a preset file.
    ///
    /// # Panics
    /// Never: a preset holds nothing that RON cannot say.
    #[must_use]
    pub fn to_ron(&self) -> String {
        ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::default()).expect("a preset is plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_presets_are_valid_and_survive_writing() {
        let presets = built_in();
        assert_eq!(presets[0].name, "first-light");
        for preset in presets {
            assert_eq!(preset.recipe.validate(Some(65)), [], "{}", preset.name);
            assert_eq!(Preset::parse(&preset.to_ron()).expect("own text"), preset);
            assert!(!preset.commentary.is_empty());
        }
    }

    #[test]
    fn unknown_versions_and_keys_are_named() {
        let good = built_in()[0].to_ron();
        let newer = good.replacen("format: 1", "format: 7, glow: true", 1);
        assert!(matches!(Preset::parse(&newer), Err(PresetError::Version { found: 7 })));
        let odd = good.replacen("layers:", "sparkle: 3, layers:", 1);
        let message = Preset::parse(&odd).expect_err("unknown key").to_string();
        assert!(message.contains("sparkle"), "{message}");
    }
}
