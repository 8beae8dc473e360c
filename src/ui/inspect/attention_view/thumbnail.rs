//! What is written on a thumbnail: the head's role, what it is worth, whether it is off. Above the diagonal nothing is
//! drawn of attention, so that the words hide none of it.

use eframe::egui::{Align2, FontId, Pos2, Rect, TextStyle, Ui, Vec2, vec2};

use super::AttentionState;
use super::switches::Part;
use crate::protocol::{EffectsReport, HeadReport, Off, Role, RoleReport, RoleScores};
use crate::ui::widgets::theme;
use crate::ui::widgets::words::number_text;

/// Smaller thumbnails have no room for a number.
const NUMBER_FROM: f32 = 40.0;

/// What is known of the parts at the shown step, beside their attention.
pub(super) struct Known<'a> {
    roles: Option<&'a RoleReport>,
    effects: Option<&'a EffectsReport>,
}

impl<'a> Known<'a> {
    pub fn new(state: &AttentionState<'a>) -> Self {
        let step = state.store.attention.as_ref().map(|attention| attention.step);
        let effects = state.store.effects.as_ref().filter(|effects| Some(effects.step) == step);
        Self { roles: state.store.shown_roles(), effects }
    }

    fn report(&self, part: Part) -> Option<&'a HeadReport> {
        match part {
            Part::Head(head) => self.roles?.head(head),
            Part::Mlp(_) => None,
        }
    }

    fn role(&self, part: Part) -> Option<Role> {
        self.report(part)?.test.role()
    }

    fn effect(&self, part: Part) -> Option<f32> {
        let effects = self.effects?;
        match part {
            Part::Head(head) => effects.head(head),
            Part::Mlp(layer) => effects.mlps.get(layer).copied().flatten(),
        }
    }

    /// All of it, for the pointer.
    pub fn words(&self, part: Part, off: Option<Off>) -> String {
        let mut words = part.text();
        if let Some(report) = self.report(part) {
            words += &match report.test.role() {
                _ if !report.test.is_finite() => {
                    "\nno role: its scores on the standard test are not numbers".to_owned()
                }
                Some(role) => format!("\n{}: {:.2} on the standard test", role.text(), report.test.of(role)),
                None => format!("\nno role: no score of {} on the standard test", RoleScores::NAMED_FROM),
            };
        }
        if let (Some(effect), Some(effects)) = (self.effect(part), self.effects) {
            let effect = number_text(effect, |effect| format!("{effect:+.4}"));
            words += &format!("\nvalidation loss {effect} without it ({})", effects.off.name());
        }
        words += match off {
            Some(Off::Zero) => "\noff: it adds nothing",
            Some(Off::Mean) => "\noff: it adds its mean",
            None => "",
        };
        words
    }

    /// Writes it on the picture at `square`.
    pub fn paint(&self, ui: &Ui, square: Rect, part: Part) {
        let font = FontId { size: 10.0, ..TextStyle::Small.resolve(ui.style()) };
        let corner = square.right_top() + vec2(-2.0, 2.0);
        let mut below = corner;
        if let Some(role) = self.role(part) {
            let width = 0.62 * square.width();
            let galley = |text: &str| {
                ui.painter().layout_no_wrap(text.to_owned(), font.clone(), ui.visuals().strong_text_color())
            };
            let name = galley(role.name());
            let name = if name.size().x <= width { name } else { galley(short(role)) };
            let place = Align2::RIGHT_TOP.anchor_size(corner, name.size());
            ui.painter().rect_filled(place.expand2(vec2(2.0, 0.0)), 2.0, ui.visuals().extreme_bg_color);
            below.y = place.bottom() + 1.0;
            ui.painter().galley(place.min, name, ui.visuals().strong_text_color());
        }
        if let Some(effect) = self.effect(part).filter(|_| square.width() >= NUMBER_FROM) {
            number(ui, below, effect);
        }
    }

    /// Writes what an MLP is worth, or that it is there.
    pub fn paint_mlp(&self, ui: &Ui, rect: Rect, part: Part) {
        match self.effect(part) {
            Some(effect) => {
                let (upper, lower) = rect.split_top_bottom_at_fraction(0.5);
                middle(ui, upper, "MLP");
                number(ui, lower.right_center() - vec2(2.0, 6.0), effect);
            }
            None => middle(ui, rect, "MLP"),
        }
    }
}

fn number(ui: &Ui, right_top: Pos2, effect: f32) {
    let font = FontId::monospace(9.5);
    let color = theme::muted(ui.visuals());
    let galley = ui.painter().layout_no_wrap(number_text(effect, |effect| format!("{effect:+.3}")), font, color);
    let place = Align2::RIGHT_TOP.anchor_size(right_top, galley.size());
    ui.painter().rect_filled(place.expand2(Vec2::new(2.0, 0.0)), 2.0, ui.visuals().extreme_bg_color);
    ui.painter().galley(place.min, galley, color);
}

/// Greys a part that is off, and says so.
pub(super) fn paint_off(ui: &Ui, rect: Rect, off: Off) {
    ui.painter().rect_filled(rect, 0.0, ui.visuals().panel_fill.gamma_multiply(0.82));
    middle(ui, rect, if off == Off::Zero { "off" } else { "mean" });
}

/// A word where there is no picture.
pub(super) fn middle(ui: &Ui, rect: Rect, text: &str) {
    let color = theme::muted(ui.visuals());
    let font = |size| FontId { size, ..TextStyle::Small.resolve(ui.style()) };
    let full = font(11.5);
    let galley = ui.painter().layout_no_wrap(text.to_owned(), full, color);
    let galley = if galley.size().x <= rect.width() - 4.0 {
        galley
    } else {
        ui.painter().layout_no_wrap(text.to_owned(), font(9.0), color)
    };
    let place = Align2::CENTER_CENTER.anchor_size(rect.center(), galley.size());
    ui.painter().galley(place.min, galley, color);
}

const fn short(role: Role) -> &'static str {
    match role {
        Role::Previous => "prev",
        Role::Current => "cur",
        Role::First => "first",
        Role::Duplicate => "dup",
        Role::Induction => "ind",
    }
}
