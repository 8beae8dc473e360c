//! What happened, in words: notices that come and go in a corner, and the log that keeps them.
//!
//! The notices are plain egui areas: they wrap long sentences, are read by screen readers, and ask for a frame only when
//! one of them is due to go.

use std::time::Duration;

use eframe::egui::{
    self, Align2, Area, Context, Frame, Id, Label, Layout, Margin, Order, Rect, RichText, Role, ScrollArea, Stroke, Ui,
    WidgetInfo, vec2,
};

use crate::store::{Level, LogLine, RunStore};
use crate::ui::actions::Action;
use crate::ui::widgets::theme;

/// More than this would cover the panes; the oldest goes first.
const SHOWN_MAX: usize = 4;
/// The recipe's column is a little wider.
const WIDTH: f32 = 276.0;

/// The notices on the screen.
#[derive(Debug, Default)]
pub struct Notices {
    /// The newest line of the log that was looked at.
    seen: u64,
    shown: Vec<Notice>,
}

#[derive(Debug)]
struct Notice {
    line: LogLine,
    /// Seconds on the window's clock; the log keeps what was said.
    until: f64,
}

impl Notices {
    /// Takes up what the log has gained.
    pub fn collect(&mut self, store: &RunStore, now: f64) {
        for line in store.log_after(self.seen) {
            self.seen = line.serial;
            if !line.notice {
                continue;
            }
            let until = now
                + match line.level {
                    Level::Info => 5.0,
                    Level::Warning => 15.0,
                    Level::Error => 30.0,
                };
            self.shown.retain(|notice| notice.line.text != line.text);
            self.shown.push(Notice { line: line.clone(), until });
        }
        let surplus = self.shown.len().saturating_sub(SHOWN_MAX);
        self.shown.drain(..surplus);
    }

    /// Paints the notices in the lower left corner of the panes, over the end of the recipe: what is trained stays in
    /// sight, and the timeline in reach.
    pub fn ui(&mut self, ctx: &Context, panes: Rect) {
        let now = ctx.input(|input| input.time);
        self.shown.retain(|notice| notice.until > now);
        if self.shown.is_empty() {
            return;
        }
        if let Some(next) = self.shown.iter().map(|notice| notice.until).min_by(f64::total_cmp) {
            ctx.request_repaint_after(Duration::from_secs_f64((next - now).max(0.05)));
        }
        let mut closed = None;
        let corner = panes.left_bottom() + vec2(10.0, -10.0);
        let area = Area::new(Id::unique("notices")).order(Order::Foreground).pivot(Align2::LEFT_BOTTOM);
        area.fixed_pos(corner).show(ctx, |ui| {
            for notice in &self.shown {
                if notice_ui(ui, &notice.line) {
                    closed = Some(notice.line.serial);
                }
            }
        });
        if let Some(serial) = closed {
            self.shown.retain(|notice| notice.line.serial != serial);
        }
    }
}

/// One notice; true when it is closed.
fn notice_ui(ui: &mut Ui, line: &LogLine) -> bool {
    let visuals = ui.visuals();
    let edge = match line.level {
        Level::Info => theme::muted(visuals),
        Level::Warning | Level::Error => theme::warning(visuals),
    };
    let frame = Frame::popup(ui.style()).inner_margin(Margin { left: 14, right: 8, top: 8, bottom: 8 });
    let shown = frame.show(ui, |ui| {
        ui.set_width(WIDTH);
        ui.horizontal_top(|ui| {
            let closed = ui.with_layout(Layout::right_to_left(egui::Align::Min), |ui| {
                let close = ui.button("Close").on_hover_text("Takes this notice away; the log keeps it.");
                close.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Close notice"));
                let closed = close.clicked();
                ui.with_layout(Layout::left_to_right(egui::Align::Min), |ui| {
                    ui.add(Label::new(&line.text).wrap().selectable(true));
                });
                closed
            });
            closed.inner
        })
        .inner
    });
    let rect = shown.response.rect;
    ui.painter().vline(rect.left() + 5.0, rect.y_range().shrink(7.0), Stroke::new(3.0, edge));
    shown.inner
}

/// The log pane: everything that was said, to select and to copy.
pub fn log_ui(ui: &mut Ui, store: &RunStore) -> Vec<Action> {
    let mut actions = Vec::new();
    if store.log.is_empty() {
        ui.weak("What happens is written here: what was saved and where, warnings, errors.");
        return actions;
    }
    if ui.button("Copy all").on_hover_text("Puts the whole log on the clipboard.").clicked() {
        let lines: Vec<String> = store.log.iter().map(line_text).collect();
        actions.push(Action::CopyText(lines.join("\n")));
    }
    ScrollArea::vertical().auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
        for line in &store.log {
            ui.horizontal_top(|ui| {
                ui.label(theme::number(&line.at).color(theme::muted(ui.visuals())));
                let text = match line.level {
                    Level::Info => RichText::new(&line.text),
                    Level::Warning | Level::Error => {
                        RichText::new(format!("{}: {}", level_name(line.level), line.text))
                            .color(theme::warning(ui.visuals()))
                    }
                };
                ui.add(Label::new(text).wrap().selectable(true));
            });
        }
    });
    actions
}

fn line_text(line: &LogLine) -> String {
    format!("{} {}: {}", line.at, level_name(line.level), line.text)
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_shown_once_and_only_the_newest_few() {
        let (mut notices, mut store) = (Notices::default(), RunStore::default());
        for number in 0..6 {
            store.note(Level::Info, format!("saved {number}"));
        }
        notices.collect(&store, 0.0);
        notices.collect(&store, 1.0);
        let texts: Vec<&str> = notices.shown.iter().map(|notice| notice.line.text.as_str()).collect();
        assert_eq!(texts, ["saved 2", "saved 3", "saved 4", "saved 5"]);
    }

    #[test]
    fn an_error_stays_longest() {
        let (mut notices, mut store) = (Notices::default(), RunStore::default());
        store.note(Level::Error, "the disk is full");
        store.note(Level::Info, "saved");
        notices.collect(&store, 0.0);
        assert_eq!(notices.shown.iter().map(|notice| notice.until).collect::<Vec<_>>(), [30.0, 5.0]);
    }
}
