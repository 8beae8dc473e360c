//! The shown moment beside the pinned one.

use eframe::egui::Ui;

use super::AttentionState;
use crate::protocol::{AttentionSnapshot, HeadId};
use crate::ui::actions::{Action, Compare, ViewSettings};
use crate::ui::widgets::colormap;
use crate::ui::widgets::words::scale_of;

/// Which weights a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ui) enum Source {
    This,
    Pinned,
    /// This less the pinned.
    Difference,
}

/// One head's weights as they are drawn.
#[derive(Debug, Clone, Copy)]
pub(in crate::ui) struct Drawn<'a> {
    pub tokens: usize,
    /// `[query, key]`.
    pub weights: &'a [f32],
    /// What is taken off, where a difference is drawn.
    pub less: Option<&'a [f32]>,
}

/// What is shown, and what is pinned beside it.
#[derive(Clone, Copy)]
pub(super) struct Moments<'a> {
    pub this: &'a AttentionSnapshot,
    /// `None` where nothing is pinned; or why what is pinned cannot be shown.
    pub pinned: Option<Result<&'a AttentionSnapshot, &'a str>>,
    pruned: &'a [(usize, usize)],
    compare: Compare,
}

impl<'a> Moments<'a> {
    pub fn new(state: &AttentionState<'a>) -> Option<Self> {
        let this = state.store.attention.as_deref()?;
        let look = state.store.look.as_ref();
        let pinned = state.looked.pin.as_ref().map(|pin| {
            let known = look.filter(|look| look.view.pin.as_ref() == Some(pin)).and_then(|look| look.pinned.as_ref());
            match known {
                None => Err("Reading what is pinned…"),
                Some(Err(why)) => Err(why.as_str()),
                Some(Ok(pinned)) if pinned.tokens != this.tokens => Err("The pinned moment saw another probe."),
                Some(Ok(pinned)) => Ok(&**pinned),
            }
        });
        let pruned = state.store.ready.as_ref().map_or(&[][..], |ready| &ready.recipe.model.pruned);
        Some(Self { this, pinned, pruned, compare: state.view.compare })
    }

    /// The pictures that stand side by side.
    pub fn sources(&self) -> &'static [Source] {
        match (self.pinned, self.compare) {
            (None, _) | (Some(_), Compare::This) => &[Source::This],
            (Some(_), Compare::Pinned) => &[Source::Pinned],
            (Some(_), Compare::SideBySide) => &[Source::This, Source::Pinned],
            (Some(_), Compare::Difference) => &[Source::Difference],
        }
    }

    /// A head's weights.
    ///
    /// # Errors
    /// Why there are none to draw.
    pub fn drawn(&self, head: HeadId, source: Source) -> Result<Drawn<'a>, String> {
        let this = Drawn { tokens: self.this.tokens.len(), weights: self.this.head(head), less: None };
        if source != Source::Pinned && self.pruned.contains(&(head.layer, head.head)) {
            return Err("This head was pruned: the model does not have it any more.".to_owned());
        }
        if source == Source::This {
            return Ok(this);
        }
        let pinned = self.pinned.unwrap_or(Err("Nothing is pinned."))?;
        if !has(pinned, head) {
            let (layers, heads) = (pinned.layers, pinned.heads);
            let inside = head.layer < layers && head.head < heads;
            let why = if inside { "it was pruned".into() } else { format!("it has {layers} layers of {heads} heads") };
            return Err(format!("The pinned model has no such head: {why}."));
        }
        let pinned = pinned.head(head);
        Ok(match source {
            Source::Difference => Drawn { less: Some(pinned), ..this },
            _ => Drawn { weights: pinned, ..this },
        })
    }

    /// The pinned moment's weight, where it has that head.
    pub fn pinned_weight(&self, head: HeadId, query: usize, key: usize) -> Option<f32> {
        let pinned = self.pinned?.ok().filter(|pinned| has(pinned, head))?;
        Some(pinned.weight(head, query, key))
    }

    /// What cannot be held against each other, in words.
    pub fn caveat(&self) -> Option<String> {
        let pinned = self.pinned?.ok()?;
        let shape = |snapshot: &AttentionSnapshot| (snapshot.layers, snapshot.heads);
        let ((layers, heads), (other_layers, other_heads)) = (shape(self.this), shape(pinned));
        ((layers, heads) != (other_layers, other_heads)).then(|| {
            format!(
                "This model has {layers} layers of {heads} heads, the pinned one {other_layers} of {other_heads}: compared \
                 is what both have, by number."
            )
        })
    }
}

/// Whether the model has the head. The first token looks at itself alone, unless its head was pruned.
fn has(snapshot: &AttentionSnapshot, head: HeadId) -> bool {
    let inside = head.layer < snapshot.layers && head.head < snapshot.heads;
    inside && snapshot.head(head).first().is_some_and(|&weight| weight != 0.0)
}

/// The switch between the two moments, while one is pinned.
pub(super) fn switch_ui(ui: &mut Ui, state: &AttentionState<'_>, actions: &mut Vec<Action>) {
    if state.looked.pin.is_none() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let mut compare = state.view.compare;
        for (value, name, tip) in [
            (Compare::This, "This", "The viewed step alone."),
            (Compare::Pinned, "Pinned", "The pinned moment alone."),
            (Compare::SideBySide, "Side by side", "The viewed step at the left, the pinned moment at the right."),
            (Compare::Difference, "Difference", "The viewed step less the pinned moment."),
        ] {
            ui.selectable_value(&mut compare, value, name).on_hover_text(tip);
        }
        if compare == Compare::Difference {
            colormap::difference_legend(ui, scale_of(state.view));
        }
        if compare != state.view.compare {
            actions.push(Action::SetView(Box::new(ViewSettings { compare, ..state.view.clone() })));
        }
    });
}
