use super::super::actions::Theme;
use super::super::theme;
use super::*;
use crate::store::tests::{snapshot, store_at_start};
use eframe::egui::{self, Key, vec2};
use egui_kittest::Harness;

fn open(size: [f32; 2], tokens: &[&str], layers: usize, heads: usize, grid: bool) -> Harness<'static> {
    let mut store = store_at_start();
    store.apply_attention(snapshot(1250, tokens, layers, heads));
    let (mut attention, view) = (AttentionView::default(), ViewSettings::default());
    Harness::builder()
        .with_size(size)
        .with_theme(egui::Theme::Dark)
        .wgpu()
        .with_context_setup(move |ctx| theme::install(ctx, Theme::Dark))
        .build_ui(move |ui| {
            let _ =
                if grid { attention.grid_ui(ui, &store, &view, "the") } else { attention.head_ui(ui, &store, &view) };
        })
}
fn save(h: &mut Harness<'_>, name: &str) {
    h.run_steps(4);
    h.render().unwrap().save(format!("/tmp/pics/{name}.png")).unwrap();
}

#[test]
fn draw_tmp() {
    std::fs::create_dir_all("/tmp/pics").unwrap();
    let text: Vec<String> = "The quick brown fox jumps over the lazy dog and "
        .chars()
        .cycle()
        .take(512)
        .map(|c| if c == ' ' { "␣".into() } else { c.to_string() })
        .collect();
    let chars: Vec<&str> = text.iter().map(|s| s.as_str()).collect();
    let mut h = open([430.0, 400.0], &chars, 2, 2, false);
    save(&mut h, "head-512");
    h.hover_at(egui::pos2(160.0, 250.0));
    for _ in 0..8 {
        h.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: vec2(0.0, 120.0),
            phase: egui::TouchPhase::Move,
            modifiers: egui::Modifiers::NONE,
            source: egui::MouseWheelSource::Wheel,
        });
        h.run();
    }
    save(&mut h, "head-512-zoomed");
    h.drag_at(egui::pos2(160.0, 250.0));
    h.run();
    h.hover_at(egui::pos2(130.0, 200.0));
    h.run();
    h.drop_at(egui::pos2(130.0, 200.0));
    h.run();
    h.key_press(Key::Tab);
    h.run();
    h.key_press(Key::ArrowLeft);
    h.run();
    h.key_press(Key::ArrowLeft);
    save(&mut h, "head-512-keys");
    let mut h = open([430.0, 400.0], &chars[..64], 2, 2, false);
    save(&mut h, "head-64");
    let mut h = open([860.0, 468.0], &chars[..64], 4, 4, true);
    save(&mut h, "grid-large");
    let mut h = open([508.0, 328.0], &chars[..64], 6, 6, true);
    save(&mut h, "grid-small");
}
