//! The pictures of the README: the real window, trained for real, drawn off screen.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use eframe::egui::{Rect, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

use super::actions::{Action, Theme, ViewSettings};
use super::app::{App, AppOptions};
use super::layout::Pane;
use super::settings::Loaded;
use crate::lab::protocol::{DeviceChoice, HeadId};
use crate::preset;

/// How long one scene may take to come about.
const SCENE_LIMIT: Duration = Duration::from_secs(300);
/// Where training is paused for its picture: heads have found their places, and the sample reads like the text.
const PICTURED_STEP: u64 = 1000;

/// Trains the default preset in the window and writes its pictures into `out`. Needs a graphics driver (llvmpipe will
/// do) and no display.
///
/// # Errors
/// If there is no driver, or a file cannot be written.
pub fn screenshots(out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let home = std::env::temp_dir().join(format!("headlight-pictures-{}", std::process::id()));
    // The drawing library panics where it finds no driver.
    let taken = catch_unwind(AssertUnwindSafe(|| take_all(out, &home)));
    let _ = fs::remove_dir_all(&home);
    taken.unwrap_or_else(|_| {
        bail!("no graphics driver was found to draw with: install one (on Debian mesa-vulkan-drivers)")
    })
}

fn take_all(out: &Path, home: &Path) -> Result<()> {
    let mut scene = Scene::open(home, [1280.0, 800.0]);
    scene.act(Action::SetTheme(Theme::Dark));
    scene.until("the text is read", |app| app.text_is_read())?;

    let recipe = scene.app().draft().clone();
    let mut wrong = recipe.clone();
    wrong.model.width = 130;
    scene.act(Action::EditRecipe(Box::new(wrong)));
    scene.take(&out.join("wrong-width.png"))?;
    scene.act(Action::EditRecipe(Box::new(recipe)));
    scene.architecture(&out.join("architecture.png"))?;

    scene.act(Action::Train);
    scene.until("training", |app| app.store().latest.is_some_and(|latest| latest.step.0 >= PICTURED_STEP))?;
    scene.act(Action::Pause);
    scene.until("the last attention", |app| {
        let (latest, attention) = (app.store().latest, app.store().attention.as_ref());
        attention.is_some_and(|attention| latest.is_some_and(|latest| attention.step == latest.step))
    })?;
    let sampling = scene.app().draft().sampling.clone();
    let wanted = sampling.tokens;
    scene.act(Action::Sample(Box::new(sampling)));
    scene.until("a sample", |app| !app.store().sample.running && app.store().sample.tokens.len() == wanted)?;
    let selected = scene.clearest_head()?;
    scene.act(Action::SetView(Box::new(ViewSettings { selected, ..ViewSettings::default() })));
    scene.hover_strongest(selected)?;
    // Notices go away by themselves.
    scene.window.run_steps(1200);
    scene.take(&out.join("window.png"))?;

    scene.act(Action::SetTheme(Theme::Light));
    scene.resize([1920.0, 1080.0]);
    scene.hover_strongest(selected)?;
    scene.take(&out.join("light.png"))?;

    scene.act(Action::SetTheme(Theme::Dark));
    scene.resize([1280.0, 800.0]);
    scene.act(Action::ToggleShortcuts);
    scene.take(&out.join("shortcuts.png"))
}

/// The window, off screen.
struct Scene {
    window: Harness<'static, App>,
}

impl Scene {
    fn open(home: &Path, size: [f32; 2]) -> Self {
        let options = AppOptions {
            device: Some(DeviceChoice::Cpu),
            settings: Loaded::from_file(&home.join("settings.ron")),
            runs_root: Some(home.join("runs")),
            ..AppOptions::default()
        };
        let builder = Harness::builder().with_size(size).with_max_steps(16).wgpu();
        Self { window: builder.build_eframe(move |creation| App::new(&creation.egui_ctx, options)) }
    }

    fn app(&self) -> &App {
        self.window.state()
    }

    fn act(&mut self, action: Action) {
        self.window.state_mut().apply(action);
        self.window.run_steps(2);
    }

    /// Frame after frame until `done`, as the worker answers from its own thread.
    fn until(&mut self, what: &str, done: impl Fn(&App) -> bool) -> Result<()> {
        let started = Instant::now();
        while !done(self.app()) {
            if started.elapsed() > SCENE_LIMIT {
                bail!("waited too long for: {what}");
            }
            std::thread::sleep(Duration::from_millis(20));
            self.window.step();
        }
        self.window.run_steps(2);
        Ok(())
    }

    fn resize(&mut self, size: [f32; 2]) {
        self.window.set_size(size.into());
        self.window.run_steps(4);
    }

    /// Recipe and drawing side by side, of a network whose heads share keys.
    fn architecture(&mut self, path: &Path) -> Result<()> {
        let preset = |name| preset::find(name).ok_or_else(|| anyhow!("there is no preset {name}"));
        let first = preset::first();
        self.act(Action::UsePreset(Box::new(preset("smollm-micro")?)));
        for pane in [Pane::Loss, Pane::Heads, Pane::Sample, Pane::Log] {
            self.act(Action::TogglePane(pane));
        }
        self.act(Action::TogglePane(Pane::Architecture));
        self.resize([980.0, 760.0]);
        self.take(path)?;
        self.act(Action::ResetLayout);
        self.act(Action::UsePreset(Box::new(first)));
        self.resize([1280.0, 800.0]);
        Ok(())
    }

    /// The head that looks most at the token just before: its picture explains itself.
    fn clearest_head(&self) -> Result<HeadId> {
        let snapshot = self.app().store().attention.as_ref().ok_or_else(|| anyhow!("no attention was recorded"))?;
        let previous =
            |head: HeadId| (1..snapshot.tokens.len()).map(|query| snapshot.weight(head, query, query - 1)).sum::<f32>();
        let heads = (0..snapshot.layers).flat_map(|layer| (0..snapshot.heads).map(move |head| HeadId { layer, head }));
        heads.max_by(|&a, &b| previous(a).total_cmp(&previous(b))).ok_or_else(|| anyhow!("the model has no heads"))
    }

    /// Rests the pointer on the strongest look back of the text's second half.
    fn hover_strongest(&mut self, head: HeadId) -> Result<()> {
        let snapshot = self.app().store().attention.clone().ok_or_else(|| anyhow!("no attention was recorded"))?;
        let count = snapshot.tokens.len();
        let looks_back = (count / 2..count).flat_map(|query| (0..query).map(move |key| (query, key)));
        let weight = |(query, key)| snapshot.weight(head, query, key);
        let strongest = looks_back.max_by(|&a, &b| weight(a).total_cmp(&weight(b)));
        let (query, key) = strongest.ok_or_else(|| anyhow!("the probe is too short to look back"))?;
        let name = format!("Attention of layer {}, head {}", head.layer + 1, head.head + 1);
        let map: Rect = self.window.get_by_label(&name).rect();
        let cell = map.size() / count as f32;
        self.window.hover_at(map.left_top() + vec2((key as f32 + 0.5) * cell.x, (query as f32 + 0.5) * cell.y));
        self.window.run_steps(4);
        Ok(())
    }

    fn take(&mut self, path: &Path) -> Result<()> {
        let picture = self.window.render().map_err(|error| anyhow!(error))?;
        picture.save(path).with_context(|| path.display().to_string())
    }
}
