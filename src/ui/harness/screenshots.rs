//! The pictures of the README: the real window, trained for real, drawn off screen.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use eframe::egui::{Rect, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

use crate::preset;
use crate::protocol::{DeviceChoice, HeadId, Off, Pin, Step, Switches, Target, View, Wants};
use crate::ui::actions::{Action, Compare, Pane, Theme, ViewSettings};
use crate::ui::app::settings::Loaded;
use crate::ui::app::{App, AppOptions};

/// How long one scene may take to come about.
const SCENE_LIMIT: Duration = Duration::from_secs(300);
/// Where training is paused for its picture: heads have found their places, and the sample reads like the text.
const PICTURED_STEP: u64 = 1000;
/// In the lesson of induction: a head that copies, the head before it without which it cannot, a letter that is copied,
/// and a step before they have found each other.
const LESSON_HEAD: HeadId = HeadId { layer: 1, head: 0 };
const LESSON_SUPPORT: HeadId = HeadId { layer: 0, head: 1 };
const LESSON_POSITION: usize = 14;
const TURNING_STEP: u64 = 500;

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
    scene.take(&out.join("shortcuts.png"))?;
    scene.act(Action::ToggleShortcuts);
    scene.lesson(out)
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

    /// The lesson of induction, from its end back to where it happened.
    fn lesson(&mut self, out: &Path) -> Result<()> {
        let preset = preset::find("induction").ok_or_else(|| anyhow!("there is no preset induction"))?;
        self.act(Action::Reset);
        self.until("the end of the run", |app| app.store().ready.is_none())?;
        let last = Step(preset.recipe.training.steps);
        self.act(Action::UsePreset(Box::new(preset)));
        self.until("the lesson is read", App::text_is_read)?;
        self.act(Action::Train);
        self.until("the lesson's last step is kept", |app| app.store().kept.last() == Some(&last))?;
        self.act(Action::MeasureEffects(Off::Zero));
        let measured = |app: &App| app.store().effects.as_ref().is_some_and(|found| found.done == found.total);
        self.until("the heads' effects", measured)?;
        self.act(Action::SetView(Box::new(ViewSettings { selected: LESSON_HEAD, ..ViewSettings::default() })));
        self.resize([1600.0, 960.0]);
        self.act(Action::TogglePane(Pane::Roles));
        self.look(View::default())?;
        self.take(&out.join("roles.png"))?;

        let turned = self.app().store().kept.iter().rev().find(|step| step.0 <= TURNING_STEP).copied();
        let pin = turned.map(|step| Pin { run: None, step: Some(step) });
        self.look(View { step: turned, ..View::default() })?;
        self.act(Action::TogglePane(Pane::Heads));
        self.act(Action::TogglePane(Pane::Lens));
        let target = Some(Target { position: LESSON_POSITION, token: None });
        let wants = Wants { attribution: target, lens: true, ..Wants::default() };
        self.look(View { wants, ..View::default() })?;
        self.take(&out.join("lens.png"))?;
        self.act(Action::SetTheme(Theme::Light));
        self.act(Action::TogglePane(Pane::Head));
        let settings = ViewSettings { selected: LESSON_HEAD, compare: Compare::Difference, ..ViewSettings::default() };
        self.act(Action::SetView(Box::new(settings)));
        self.look(View { pin, ..View::default() })?;
        self.take(&out.join("compared.png"))?;
        self.act(Action::TogglePane(Pane::Tokens));
        let switches = Switches { heads: [(LESSON_SUPPORT, Off::Zero)].into(), ..Switches::default() };
        let off = View { switches: switches.clone(), ..View::default() };
        self.look(off)?;
        let told = |app: &App| app.store().switched.as_ref().is_some_and(|found| found.switches == switches);
        self.until("the loss without the head", told)?;
        self.take(&out.join("switched-off.png"))
    }

    /// Asks for a view and waits until it is shown. What the panes in sight want is added to it.
    fn look(&mut self, view: View) -> Result<()> {
        self.act(Action::Look(Box::new(view.clone())));
        self.until("the view", |app| {
            let look = app.store().look.as_ref();
            look.is_some_and(|look| {
                look.view.step == view.step && look.view.switches == view.switches && look.view.pin == view.pin
            })
        })?;
        self.until("what the panes want", |app| app.store().look.as_ref().is_some_and(|look| look.view == app.view))?;
        // Notices go away by themselves.
        self.window.run_steps(1200);
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
