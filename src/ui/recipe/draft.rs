//! The recipe that the next run is made from, and what is known of its text.

use std::path::Path;

use crate::lab::file_worker::TextSummary;
use crate::preset::{self, Preset};
use crate::recipe::{Fault, Field, Recipe, TextSource, grouped};

/// As many as are read with ease along the axes.
const PROBE_CHARACTERS: usize = 28;
const PROMPT_CHARACTERS: usize = 12;

/// What is known of the draft's text.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum TextState {
    #[default]
    Unknown,
    Reading {
        done_bytes: u64,
        total_bytes: u64,
    },
    Known(Box<TextSummary>),
    Failed(String),
}

/// A text that takes the place of the draft's if it can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub source: TextSource,
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// The draft.
#[derive(Debug, Clone)]
pub struct Draft {
    pub recipe: Recipe,
    /// Name and title of the preset that the draft began as.
    pub name: String,
    pub title: String,
    pub text: TextState,
    /// A text that is being read in its place.
    pub candidate: Option<Candidate>,
}

impl Draft {
    /// A draft that is a preset's recipe.
    #[must_use]
    pub fn from_preset(preset: Preset) -> Self {
        Self {
            recipe: preset.recipe,
            name: preset.name,
            title: preset.title,
            text: TextState::Unknown,
            candidate: None,
        }
    }

    /// The remembered draft, else the first preset. One that came from a file or a run keeps its title.
    #[must_use]
    pub fn remembered(recipe: Option<Recipe>, name: &str, title: &str) -> Self {
        let Some(recipe) = recipe else { return Self::from_preset(preset::first()) };
        let title = preset::find(name).map_or_else(|| title.to_owned(), |preset| preset.title);
        let title = if title.is_empty() { "Own recipe".into() } else { title };
        Self { recipe, name: name.to_owned(), title, text: TextState::Unknown, candidate: None }
    }

    /// Becomes a preset's recipe; a file that the user opened stays. True when the text is to be read.
    pub fn use_preset(&mut self, preset: Preset) -> bool {
        let Preset { name, title, mut recipe, .. } = preset;
        if let (TextSource::BuiltIn, TextSource::File(_)) = (&recipe.data.text, &self.recipe.data.text) {
            recipe.data.text.clone_from(&self.recipe.data.text);
        }
        let other_text = recipe.data.text != self.recipe.data.text;
        (self.recipe, self.name, self.title) = (recipe, name, title);
        if let (false, TextState::Known(summary)) = (other_text, &self.text) {
            let summary = summary.clone();
            self.fit_to(&summary);
        }
        other_text
    }

    /// Whether it is no longer the preset that it began as. Without a text of its own a preset leaves text, probe and
    /// prompt to the user.
    #[must_use]
    pub fn differs_from(&self, preset: &Preset) -> bool {
        let mut recipe = preset.recipe.clone();
        if recipe.data.text == TextSource::BuiltIn {
            recipe.data.clone_from(&self.recipe.data);
            recipe.sampling.prompt.clone_from(&self.recipe.sampling.prompt);
        }
        recipe != self.recipe
    }

    /// Whether a run of it would be one of this recipe: what is looked at and sampled makes no difference.
    #[must_use]
    pub fn makes(&self, recipe: &Recipe) -> bool {
        let Recipe { model, data, training, .. } = &self.recipe;
        (model, &data.text, training) == (&recipe.model, &recipe.data.text, &recipe.training)
    }

    /// Takes another text.
    pub fn take_text(&mut self, source: TextSource, summary: TextSummary) {
        self.fit_to(&summary);
        self.recipe.data.text = source;
        self.text = TextState::Known(Box::new(summary));
    }

    /// A probe or prompt with characters that the text lacks gives way to the text's own beginning.
    fn fit_to(&mut self, summary: &TextSummary) {
        let fits = |text: &str| summary.tokenizer.encode(text).unknown.is_empty();
        let begin: String = summary.excerpt.trim_start().chars().take(PROBE_CHARACTERS).collect();
        if !fits(&self.recipe.data.probe) && !begin.is_empty() {
            self.recipe.data.probe.clone_from(&begin);
        }
        if !fits(&self.recipe.sampling.prompt) {
            let word = begin.split_inclusive(char::is_whitespace).next().unwrap_or_default();
            self.recipe.sampling.prompt = word.chars().take(PROMPT_CHARACTERS).collect();
        }
    }

    /// Distinct tokens of the text, once they are known.
    #[must_use]
    pub fn vocabulary(&self) -> Option<usize> {
        match &self.text {
            TextState::Known(summary) => Some(summary.vocabulary),
            _ => None,
        }
    }

    /// Distinct tokens of the model that is counted and drawn: of the run's own as long as the draft is still its model on
    /// its text, else of what Train would make. An imported model has other tokens than the text has characters.
    #[must_use]
    pub fn vocabulary_beside(&self, run: Option<(&Recipe, usize)>) -> Option<usize> {
        match run {
            Some((run, vocabulary)) if run.model == self.recipe.model && run.data.text == self.recipe.data.text => {
                Some(vocabulary)
            }
            _ => self.vocabulary(),
        }
    }

    /// Every mistake: the recipe's own, and those between recipe and text.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.recipe.validate(self.vocabulary());
        let message = match &self.text {
            TextState::Failed(why) => Some(why.clone()),
            TextState::Known(summary) => self.too_short(summary),
            TextState::Unknown | TextState::Reading { .. } => None,
        };
        faults.extend(message.map(|message| Fault { field: Field::Text, message }));
        faults
    }

    /// The validation part, a tenth of the text, must hold one window and the token after it.
    fn too_short(&self, summary: &TextSummary) -> Option<String> {
        let context = self.recipe.model.context;
        let needed = context.saturating_mul(10).saturating_add(1);
        (summary.characters < needed).then(|| {
            format!(
                "{}: {} characters are too few for a context of {}: take a text of at least {} or a shorter context",
                self.recipe.data.text,
                grouped(summary.characters as u64),
                grouped(context as u64),
                grouped(needed as u64)
            )
        })
    }

    /// Whether all that it lacks is that its text is read.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.text, TextState::Unknown | TextState::Reading { .. }) && self.faults().is_empty()
    }

    /// Why no run can be started from it, if so.
    #[must_use]
    pub fn hindrance(&self) -> Option<String> {
        match (self.faults().first(), &self.text) {
            (Some(fault), _) => Some(fault.message.clone()),
            (None, TextState::Known(_)) => None,
            (None, _) => Some(format!("Reading the text ({})…", self.recipe.data.text)),
        }
    }

    /// A name for the run's folder: the preset's, or the text's when that is not the preset's own.
    #[must_use]
    pub fn run_name(&self) -> String {
        let own = preset::find(&self.name).is_none_or(|preset| preset.recipe.data.text == self.recipe.data.text);
        match &self.recipe.data.text {
            TextSource::File(path) if !own || self.name.is_empty() => {
                slug(&path.file_stem().unwrap_or_default().to_string_lossy())
            }
            TextSource::Generated(lesson) if !own => slug(&lesson.to_string()),
            _ => slug(&self.name),
        }
    }
}

/// The last part of a path, for people.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Lower-case letters, digits and hyphens, never empty.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.to_lowercase().chars() {
        if character.is_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug: String = slug.trim_end_matches('-').chars().take(60).collect();
    if slug.is_empty() { "run".into() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Lesson;

    #[test]
    fn names_become_folder_names() {
        assert_eq!(slug("Tiny Shakespeare (1.1 MB)"), "tiny-shakespeare-1-1-mb");
        assert_eq!(slug("../.."), "run");
    }

    #[test]
    fn a_text_shorter_than_its_context_needs_is_a_fault() {
        let mut draft = Draft::from_preset(preset::built_in().remove(0));
        let summary = TextSummary::built_in();
        draft.text = TextState::Known(Box::new(summary.clone()));
        assert_eq!(draft.faults(), []);
        draft.text = TextState::Known(Box::new(TextSummary { characters: 100, ..summary }));
        assert_eq!(draft.faults().first().map(|fault| fault.field), Some(Field::Text));
        assert!(draft.hindrance().is_some_and(|why| why.contains("100 characters")));
    }

    #[test]
    fn a_text_in_another_script_brings_its_own_probe_and_prompt() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("лес.txt");
        std::fs::write(&path, "\nВ лесу родилась ёлочка, в лесу она росла.\n").expect("written");
        let summary = TextSummary::scan(&path, &mut |_| true).expect("a text");
        let mut draft = Draft::from_preset(preset::built_in().remove(0));
        draft.take_text(TextSource::File(path), summary);
        assert_eq!(
            (draft.recipe.data.probe.as_str(), draft.recipe.sampling.prompt.as_str()),
            ("В лесу родилась ёлочка, в ле", "В ")
        );
        let mut plain = Draft::from_preset(preset::built_in().remove(0));
        let probe = plain.recipe.data.probe.clone();
        plain.take_text(TextSource::BuiltIn, TextSummary::built_in());
        assert_eq!(plain.recipe.data.probe, probe, "what fits is kept");
    }

    #[test]
    fn an_opened_model_is_counted_with_its_own_tokens_until_it_is_changed() {
        let mut draft = Draft::from_preset(preset::first());
        draft.text = TextState::Known(Box::new(TextSummary::built_in()));
        let characters = draft.vocabulary();
        let run = draft.recipe.clone();
        assert_eq!(draft.vocabulary_beside(Some((&run, 50_257))), Some(50_257));
        assert_eq!(draft.vocabulary_beside(None), characters);
        draft.recipe.model.layers += 1;
        assert_eq!(draft.vocabulary_beside(Some((&run, 50_257))), characters, "Train would learn characters");
    }

    #[test]
    fn a_preset_leaves_the_text_that_was_opened() {
        let mut draft = Draft::from_preset(preset::first());
        let source = TextSource::File("poem.txt".into());
        draft.take_text(source.clone(), TextSummary::built_in());
        let glass_box = preset::find("glass-box").expect("built in");
        assert!(!draft.use_preset(glass_box.clone()), "nothing new to read");
        assert_eq!((&draft.recipe.data.text, draft.recipe.model.width), (&source, glass_box.recipe.model.width));
        assert!(!draft.differs_from(&glass_box));
        draft.recipe.model.width += 4;
        assert!(draft.differs_from(&glass_box));
    }

    #[test]
    fn a_lesson_goes_with_its_preset() {
        let mut draft = Draft::from_preset(preset::first());
        let addition = preset::find("addition").expect("built in");
        assert!(draft.use_preset(addition.clone()), "another text is to be read");
        assert_eq!((&draft.recipe, draft.run_name().as_str()), (&addition.recipe, "addition"));
        draft.recipe.data.text = TextSource::Generated(Lesson::Brackets);
        assert!(draft.differs_from(&addition) && draft.run_name() == "brackets-lesson");
        assert!(draft.use_preset(preset::first()), "dialogues again");
        assert_eq!(draft.recipe, preset::first().recipe);
    }

    #[test]
    fn a_remembered_draft_is_not_called_by_another_presets_name() {
        let recipe = preset::find("glass-box").expect("built in").recipe;
        let of_a_run = Draft::remembered(Some(recipe.clone()), "", "2026-01-05-poems");
        assert_eq!((of_a_run.name.as_str(), of_a_run.title.as_str()), ("", "2026-01-05-poems"));
        assert_eq!(Draft::remembered(Some(recipe), "glass-box", "").title, preset::find("glass-box").unwrap().title);
        assert_eq!(Draft::remembered(None, "", "").name, preset::first().name);
    }
}
