use super::super::actions::Theme;
use super::*;
use crate::lab::protocol::{Event, Step};
use crate::store::tests::{store_at_start, validation};
use egui_kittest::Harness;

fn one(name: &str, size: [f32; 2], steps: u64, view: &ViewSettings, theme_: Theme) {
    let mut store = store_at_start();
    let mut x = 12345_u64;
    let mut reports = Vec::new();
    for step in 1..=steps {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let noise = ((x >> 33) as f32 / 2f32.powi(31) - 0.5) * 0.2;
        let t = step as f32 / 2000.0;
        let loss = 1.4 + 2.8 * (-t * 6.0).exp() + noise;
        let lr = if step < 100 {
            1e-3 * step as f64 / 100.0
        } else {
            1e-4 + 4.5e-4 * (1.0 + (std::f64::consts::PI * step as f64 / 2000.0).cos())
        };
        reports.push(StepReport {
            step: Step(step),
            loss,
            learning_rate: lr,
            gradient_norm: 0.5 + 2.0 * (-t * 20.0).exp() + noise,
            elapsed_secs: 1.0,
            tokens_per_sec: 2.0,
        });
    }
    store.apply(Event::Progress(reports));
    for step in (0..=steps).step_by(250) {
        let t = step as f32 / 2000.0;
        store.apply(Event::Validated(validation(step, 1.45 + 2.8 * (-t * 6.0).exp() + 0.05 * t)));
    }
    let mut loss = LossView::default();
    let view = view.clone();
    let dark = if theme_ == Theme::Dark { egui::Theme::Dark } else { egui::Theme::Light };
    let mut harness = Harness::builder()
        .with_size(size)
        .with_theme(dark)
        .wgpu()
        .with_context_setup(move |ctx| theme::install(ctx, theme_))
        .build_ui(move |ui| {
            let _ = loss.ui(ui, &store, &view, &[]);
        });
    harness.run_steps(6);
    harness.render().unwrap().save(format!("/tmp/pics/{name}.png")).unwrap();
}

#[test]
fn draw_tmp() {
    std::fs::create_dir_all("/tmp/pics").unwrap();
    let view = ViewSettings::default();
    one("loss-small", [508.0, 328.0], 1250, &view, Theme::Dark);
    one("loss-large", [860.0, 468.0], 1250, &view, Theme::Light);
    one("loss-log", [508.0, 328.0], 2000, &ViewSettings { log_loss: true, ..view.clone() }, Theme::Dark);
    one("loss-min", [420.0, 260.0], 20, &view, Theme::Dark);
    one("loss-long", [508.0, 328.0], 100_000, &view, Theme::Dark);
}
