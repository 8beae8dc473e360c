//! The chosen head over the probe's words: its weights as coloured words or lines, how they come about, all layers at
//! once, and the mean over a text.

mod lines;
mod mean;
mod stages;
mod words;

use eframe::egui::{Id, Label, Rect, RichText, Role, Sense, Ui, WidgetInfo};

use self::lines::Lines;
use self::mean::Mean;
use self::stages::Stages;
use self::words::Words;
use super::attention_view::non_finite_line;
use crate::protocol::{AttentionSnapshot, HeadId, Wants, falling, first_non_finite, non_finite_words};
use crate::store::RunStore;
use crate::ui::actions::{Action, ViewSettings, WordsMode};
use crate::ui::widgets::words::{nothing_yet, scale_of, selected_in, weight_text};
use crate::ui::widgets::{colormap, theme};

/// The pane. Keeps the query that was clicked, places and pictures, nothing of the run.
#[derive(Default)]
pub struct TokensView {
    query: Chosen,
    words: Words,
    lines: Lines,
    stages: Stages,
    mean: Mean,
}

/// The query whose row is told: the one under the pointer, else the one that a click keeps.
#[derive(Debug, Clone, Copy, Default)]
struct Chosen {
    hovered: Option<usize>,
    kept: Option<usize>,
}

impl Chosen {
    /// Takes what the pointer is at and what was clicked in this frame.
    fn take(&mut self, ui: &Ui, hovered: Option<usize>, clicked: Option<usize>) {
        if let Some(query) = clicked {
            self.kept = if self.kept == Some(query) { None } else { Some(query) };
        }
        if self.hovered != hovered || clicked.is_some() {
            // What is painted before it was known.
            ui.ctx().request_repaint();
        }
        self.hovered = hovered;
    }
}

/// The chosen head on the probe.
#[derive(Clone, Copy)]
struct Shown<'a> {
    snapshot: &'a AttentionSnapshot,
    /// `[query, key]`.
    weights: &'a [f32],
    head: HeadId,
    version: u64,
}

impl<'a> Shown<'a> {
    fn count(&self) -> usize {
        self.snapshot.tokens.len()
    }

    fn token(&self, place: usize) -> &'a str {
        &self.snapshot.tokens[place]
    }

    fn row(&self, query: usize) -> &'a [f32] {
        &self.weights[query * self.count()..(query + 1) * self.count()]
    }
}

impl TokensView {
    /// What the pane has to ask of the model while it is in sight.
    #[must_use]
    pub fn wants(wants: Wants, store: &RunStore, view: &ViewSettings, in_sight: bool) -> Wants {
        let is = |mode| in_sight && view.words == mode;
        let selected = store.attention.as_ref().map_or(view.selected, |snapshot| selected_in(snapshot, view));
        Wants { scores: is(WordsMode::Stages).then_some(selected), rollout: is(WordsMode::AllLayers), ..wants }
    }

    /// The probe is another one: places in the old one mean nothing.
    pub fn forget_places(&mut self) {
        self.query = Chosen::default();
    }

    pub fn ui(&mut self, ui: &mut Ui, store: &RunStore, view: &ViewSettings) -> Vec<Action> {
        let mut actions = Vec::new();
        ui.horizontal_wrapped(|ui| {
            let mut changed = view.clone();
            for (mode, name, hint) in [
                (WordsMode::Words, "Words", "The words coloured by what one of them looks at"),
                (WordsMode::Lines, "Lines", "A line from each word to those that it looks at"),
                (WordsMode::Stages, "Stages", "How the weights come about: scores, mask, softmax"),
                (WordsMode::AllLayers, "All layers", "Attention rollout: the attention of all layers together"),
                (WordsMode::Mean, "Mean over a text", "Where the head looks on average"),
            ] {
                ui.selectable_value(&mut changed.words, mode, name).on_hover_text(hint);
            }
            let switches = store.shown_switches();
            if !switches.is_empty() && view.words != WordsMode::Mean {
                ui.weak(format!("{} off", switches.counted()));
            }
            if changed != *view {
                actions.push(Action::SetView(Box::new(changed)));
            }
        });
        let Some(snapshot) = store.attention.as_ref().filter(|snapshot| !snapshot.tokens.is_empty()) else {
            nothing_yet(ui, "The chosen head over the probe's words appears here when training starts.");
            return actions;
        };
        let head = selected_in(snapshot, view);
        if view.words == WordsMode::Mean {
            actions.extend(self.mean.ui(ui, store, head, scale_of(view)));
            return actions;
        }
        if !snapshot.note.is_empty() {
            ui.label(RichText::new(&snapshot.note).color(theme::warning(ui.visuals())));
        }
        let pruned = store.ready.as_ref().map(|ready| &ready.recipe.model.pruned);
        if view.words != WordsMode::AllLayers && pruned.is_some_and(|pruned| pruned.contains(&(head.layer, head.head)))
        {
            let name = name_of(head);
            nothing_yet(ui, &format!("{name} was pruned: it looks at nothing. Choose another one in the grid."));
            return actions;
        }
        non_finite_line(ui, store);
        let shown = Shown { snapshot, weights: snapshot.head(head), head, version: store.attention_version };
        non_finite_weights(ui, shown.weights, shown.count(), head);
        self.query.kept = self.query.kept.filter(|&query| query < shown.count());
        self.query.hovered = self.query.hovered.filter(|&query| query < shown.count());
        match view.words {
            WordsMode::Words => {
                let told = name_of(head);
                self.words.ui(ui, shown, &mut self.query, scale_of(view), &told);
            }
            WordsMode::Lines => self.lines.ui(ui, shown, &mut self.query),
            WordsMode::Stages => {
                let scores = store.look.as_ref().and_then(|look| look.scores.as_ref());
                let scores = scores.filter(|(of, scores)| *of == head && scores.len() == shown.weights.len());
                self.stages.ui(ui, shown, scores.map(|(_, scores)| scores.as_slice()), &mut self.query, scale_of(view));
            }
            WordsMode::AllLayers => {
                let rollout = store.look.as_ref().and_then(|look| look.rollout.as_ref());
                match rollout.filter(|rollout| rollout.len() == shown.weights.len()) {
                    Some(rollout) => {
                        let shown = Shown { weights: rollout, ..shown };
                        self.words.ui(ui, shown, &mut self.query, scale_of(view), "All layers together (rollout)");
                    }
                    None => nothing_yet(ui, "The attention of all layers is being computed."),
                }
            }
            WordsMode::Mean => {}
        }
        actions
    }
}

/// Says so where weights are no numbers, and from where on.
fn non_finite_weights(ui: &mut Ui, weights: &[f32], tokens: usize, head: HeadId) {
    if let Some(query) = first_non_finite(weights, tokens) {
        ui.label(RichText::new(non_finite_words(head, query)).color(theme::warning(ui.visuals())));
    }
}

/// `Layer 2 · head 1`.
fn name_of(HeadId { layer, head }: HeadId) -> String {
    format!("Layer {} · head {}", layer + 1, head + 1)
}

/// What a row looks at most, with the weights.
fn most(shown: Shown<'_>, query: usize) -> String {
    let row = &shown.row(query)[..=query];
    let mut keys: Vec<usize> = (0..row.len()).collect();
    keys.sort_by(|&one, &other| falling(row[one], row[other]).then(one.cmp(&other)));
    let most: Vec<String> =
        keys.iter().take(5).map(|&key| format!("'{}' {}", shown.token(key), weight_text(row[key]))).collect();
    format!("'{}' (token {}) → {}", shown.token(query), query + 1, most.join("  "))
}

/// One line that tells numbers; a long one is cut off, so that nothing below it moves.
fn tell(ui: &mut Ui, words: &str) {
    ui.add(Label::new(RichText::new(words).monospace().strong()).truncate());
}

/// A token that can be pointed at and clicked: whether each is done.
fn pointed(ui: &Ui, area: Rect, id: Id, name: &str) -> [bool; 2] {
    let response = ui.interact(area, id, Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, name));
    [response.hovered(), response.clicked()]
}

/// One quiet line that says what is seen, with the colours' legend before it.
fn explain(ui: &mut Ui, scale: colormap::WeightScale, sentence: &str) {
    ui.horizontal_wrapped(|ui| {
        colormap::legend(ui, scale);
        ui.label(RichText::new(sentence).color(theme::muted(ui.visuals())));
    });
}

#[cfg(test)]
mod tests;
