//! The look: quiet surfaces, one accent colour, room to breathe. The only file in which colours are written down.
//!
//! The accent is a warm amber (the lamp of the name); the training curve is blue. The pair stays apart for eyes that
//! do not tell red from green, and both have a contrast of at least 4.5 to 1 on their surface.

use eframe::egui::{
    self, Color32, Context, CornerRadius, FontDefinitions, FontFamily, FontId, Margin, RichText, Shadow, Stroke,
    TextStyle, Visuals, vec2,
};

use super::glyphs;
use crate::ui::actions::Theme;

struct Palette {
    window: Color32,
    panel: Color32,
    field: Color32,
    control: Color32,
    control_hovered: Color32,
    control_active: Color32,
    line: Color32,
    text: Color32,
    strong: Color32,
    muted: Color32,
    accent: Color32,
    on_accent: Color32,
    train: Color32,
    warning: Color32,
    selection: Color32,
}

const DARK: Palette = Palette {
    window: Color32::from_rgb(0x14, 0x16, 0x1a),
    panel: Color32::from_rgb(0x1b, 0x1e, 0x23),
    field: Color32::from_rgb(0x12, 0x14, 0x18),
    control: Color32::from_rgb(0x2a, 0x2e, 0x35),
    control_hovered: Color32::from_rgb(0x34, 0x39, 0x42),
    control_active: Color32::from_rgb(0x40, 0x46, 0x50),
    line: Color32::from_rgb(0x30, 0x34, 0x3c),
    text: Color32::from_rgb(0xcb, 0xcf, 0xd6),
    strong: Color32::from_rgb(0xf3, 0xf4, 0xf6),
    muted: Color32::from_rgb(0x93, 0x99, 0xa4),
    accent: Color32::from_rgb(0xf2, 0xb8, 0x4b),
    on_accent: Color32::from_rgb(0x1d, 0x16, 0x06),
    train: Color32::from_rgb(0x77, 0xb0, 0xec),
    warning: Color32::from_rgb(0xff, 0x85, 0x74),
    selection: Color32::from_rgb(0x4d, 0x3d, 0x1c),
};

const LIGHT: Palette = Palette {
    window: Color32::from_rgb(0xec, 0xec, 0xe8),
    panel: Color32::from_rgb(0xf8, 0xf8, 0xf5),
    field: Color32::from_rgb(0xff, 0xff, 0xff),
    control: Color32::from_rgb(0xe6, 0xe6, 0xe1),
    control_hovered: Color32::from_rgb(0xdb, 0xdb, 0xd5),
    control_active: Color32::from_rgb(0xcc, 0xcc, 0xc5),
    line: Color32::from_rgb(0xd3, 0xd3, 0xcc),
    text: Color32::from_rgb(0x36, 0x39, 0x3f),
    strong: Color32::from_rgb(0x14, 0x16, 0x1a),
    muted: Color32::from_rgb(0x66, 0x6a, 0x72),
    accent: Color32::from_rgb(0x8a, 0x54, 0x00),
    on_accent: Color32::from_rgb(0xff, 0xff, 0xff),
    train: Color32::from_rgb(0x1f, 0x63, 0xb0),
    warning: Color32::from_rgb(0xb8, 0x2a, 0x1a),
    selection: Color32::from_rgb(0xf5, 0xdf, 0xb3),
};

const fn palette(dark: bool) -> &'static Palette {
    if dark { &DARK } else { &LIGHT }
}

/// The one accent colour: what is chosen, what is best, what to press next.
#[must_use]
pub fn accent(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).accent
}

/// Text on a surface of the accent colour.
#[must_use]
pub fn on_accent(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).on_accent
}

/// The training curve.
#[must_use]
pub fn train_color(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).train
}

/// The validation curve.
#[must_use]
pub fn validation_color(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).accent
}

/// Words that explain and do not ask for attention.
#[must_use]
pub fn muted(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).muted
}

/// Faults and failures.
#[must_use]
pub fn warning(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).warning
}

/// The colour of the `index`th overlaid run: neither the accent nor the training curve's.
#[must_use]
pub fn overlay_color(index: usize, visuals: &Visuals) -> Color32 {
    // After Okabe and Ito (2008), without their orange and blue, which this run's curves have.
    const DARK: [Color32; 5] = [
        Color32::from_rgb(0x3c, 0xc2, 0x9a),
        Color32::from_rgb(0xd9, 0x91, 0xc0),
        Color32::from_rgb(0xb3, 0xb9, 0xc4),
        Color32::from_rgb(0xe8, 0xe0, 0x72),
        Color32::from_rgb(0xe8, 0x8a, 0x5c),
    ];
    const LIGHT: [Color32; 5] = [
        Color32::from_rgb(0x00, 0x7d, 0x5c),
        Color32::from_rgb(0xa5, 0x4b, 0x86),
        Color32::from_rgb(0x5c, 0x63, 0x70),
        Color32::from_rgb(0x7a, 0x6c, 0x00),
        Color32::from_rgb(0xb4, 0x4e, 0x1c),
    ];
    let colors = if visuals.dark_mode { DARK } else { LIGHT };
    colors[index % colors.len()]
}

/// What a part of the network is for, as the drawing of it shows by colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Embedding,
    Norm,
    Attention,
    Mlp,
}

/// Outlines and signs of a part.
#[must_use]
pub fn tone_color(tone: Tone, visuals: &Visuals) -> Color32 {
    let colors = palette(visuals.dark_mode);
    match tone {
        Tone::Embedding => colors.accent,
        Tone::Norm => colors.muted,
        Tone::Attention => colors.train,
        Tone::Mlp => overlay_color(0, visuals),
    }
}

/// The surface of a part: its colour, faint, so that text can be read on it.
#[must_use]
pub fn tone_fill(tone: Tone, visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).panel.lerp_to_gamma(tone_color(tone, visuals), 0.14)
}

/// Curves and marks of a reference that was measured elsewhere: no colour of this run's.
#[must_use]
pub fn reference_color(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).text
}

/// A heading inside a pane.
#[must_use]
pub fn heading(text: impl Into<String>) -> RichText {
    RichText::new(text).strong()
}

/// A number that changes: monospaced, so that nothing beside it moves.
#[must_use]
pub fn number(text: impl Into<String>) -> RichText {
    RichText::new(text).monospace()
}

/// Gives a context both looks and chooses between them.
pub fn install(ctx: &Context, theme: Theme) {
    let mut fonts = FontDefinitions::default();
    // The monospaced font has arrows that the other lacks.
    if let Some(family) = fonts.families.get_mut(&FontFamily::Proportional) {
        family.push("Hack".to_owned());
    }
    ctx.set_fonts(fonts);
    ctx.add_glyph_rasterizer(glyphs::rasterizer());
    for (of, dark) in [(egui::Theme::Dark, true), (egui::Theme::Light, false)] {
        ctx.set_visuals_of(of, visuals(dark));
    }
    ctx.all_styles_mut(|style| {
        style.text_styles = [
            (TextStyle::Small, FontId::proportional(11.5)),
            (TextStyle::Body, FontId::proportional(13.5)),
            (TextStyle::Button, FontId::proportional(13.5)),
            (TextStyle::Heading, FontId::proportional(17.0)),
            (TextStyle::Monospace, FontId::monospace(12.5)),
        ]
        .into();
        style.drag_value_text_style = TextStyle::Monospace;
        style.animation_time = 0.1;
        style.explanation_tooltips = false;
        // A drag across the window moves panes and numbers; what is worth copying says so itself.
        style.interaction.selectable_labels = false;
        let spacing = &mut style.spacing;
        spacing.item_spacing = vec2(8.0, 5.0);
        spacing.button_padding = vec2(8.0, 3.0);
        spacing.interact_size.y = 22.0;
        spacing.menu_margin = Margin::same(6);
        spacing.window_margin = Margin::same(12);
        spacing.tooltip_width = 360.0;
    });
    choose(ctx, theme);
}

/// Light, dark, or as the system has it.
pub fn choose(ctx: &Context, theme: Theme) {
    ctx.set_theme(match theme {
        Theme::System => egui::ThemePreference::System,
        Theme::Light => egui::ThemePreference::Light,
        Theme::Dark => egui::ThemePreference::Dark,
    });
}

fn visuals(dark: bool) -> Visuals {
    let mut visuals = if dark { Visuals::dark() } else { Visuals::light() };
    let colors = palette(dark);
    visuals.panel_fill = colors.panel;
    visuals.window_fill = colors.panel;
    visuals.window_stroke = Stroke::new(1.0, colors.line);
    visuals.extreme_bg_color = colors.field;
    visuals.faint_bg_color = colors.window;
    visuals.code_bg_color = colors.window;
    visuals.hyperlink_color = colors.accent;
    visuals.warn_fg_color = colors.warning;
    visuals.error_fg_color = colors.warning;
    visuals.weak_text_color = Some(colors.muted);
    visuals.selection.bg_fill = colors.selection;
    // Also the frame of the field that is typed into.
    visuals.selection.stroke = Stroke::new(1.0, colors.accent);
    visuals.text_cursor.stroke = Stroke::new(2.0, colors.accent);
    let shadow =
        Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(if dark { 110 } else { 40 }) };
    visuals.window_shadow = shadow;
    visuals.popup_shadow = shadow;
    visuals.window_corner_radius = CornerRadius::same(8);
    visuals.menu_corner_radius = CornerRadius::same(6);
    visuals.slider_trailing_fill = true;
    visuals.indent_has_left_vline = false;

    let widgets = &mut visuals.widgets;
    widgets.noninteractive.bg_fill = colors.panel;
    widgets.noninteractive.weak_bg_fill = colors.panel;
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, colors.line);
    widgets.noninteractive.fg_stroke = Stroke::new(1.0, colors.text);
    for (state, fill, text, outline) in [
        (&mut widgets.inactive, colors.control, colors.text, colors.line),
        (&mut widgets.hovered, colors.control_hovered, colors.strong, colors.muted),
        (&mut widgets.active, colors.control_active, colors.strong, colors.accent),
        (&mut widgets.open, colors.control, colors.strong, colors.line),
    ] {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, outline);
        state.fg_stroke = Stroke::new(1.0, text);
        state.corner_radius = CornerRadius::same(4);
        // Controls keep their size, so that nothing moves under the pointer.
        state.expansion = 0.0;
    }
    visuals
}

/// What lies behind the panes.
#[must_use]
pub fn backdrop(visuals: &Visuals) -> Color32 {
    palette(visuals.dark_mode).window
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.1, relative luminance and contrast.
    fn contrast(one: Color32, other: Color32) -> f32 {
        let luminance = |color: Color32| {
            let [red, green, blue, _] = egui::Rgba::from(color).to_array();
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_written_colour_can_be_read_on_its_surface() {
        for dark in [true, false] {
            let (colors, visuals) = (palette(dark), visuals(dark));
            let mut written =
                vec![colors.text, colors.strong, colors.muted, colors.accent, colors.train, colors.warning];
            written.extend((0..5).map(|index| overlay_color(index, &visuals)));
            for color in written {
                assert!(contrast(color, colors.panel) >= 4.5, "dark {dark}: {color:?} on the panel");
            }
            for tone in [Tone::Embedding, Tone::Norm, Tone::Attention, Tone::Mlp] {
                assert!(contrast(colors.text, tone_fill(tone, &visuals)) >= 4.5, "dark {dark}: text on {tone:?}");
            }
            assert!(contrast(colors.on_accent, colors.accent) >= 4.5, "dark {dark}: text on the accent");
            assert!(contrast(colors.accent, colors.selection) >= 4.5, "dark {dark}: selected text");
        }
    }
}
