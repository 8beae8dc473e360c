//! How quick the window is: the real one, without a display. What the graphics driver does with a frame is not counted.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use eframe::App as _;
use eframe::egui::{Context, Event as Input, FullOutput, Pos2, RawInput, Rect, Vec2, pos2, vec2};
use serde::Serialize;

use crate::preset;
use crate::protocol::{AttentionSnapshot, DeviceChoice, Event, Look, SampleEvent, Step, StepReport, View};
use crate::ui::actions::Action;
use crate::ui::actions::commands::Phase;
use crate::ui::app::settings::Loaded;
use crate::ui::app::{App, AppOptions};

/// The window's size in points, one pixel each.
const SIZE: Vec2 = vec2(1920.0, 1080.0);
const PRESET: &str = "nanogpt-cpu";
/// As often as a worker wakes the window.
const FRAMES_PER_SEC: u64 = 30;
const SNAPSHOTS_PER_SEC: u64 = 10;
const FRAMES: u64 = 600;
const CURVE_STEPS: u64 = 1_000_000;
/// Layers, heads in each, tokens: of the largest preset, and the most that is shown (a context of 1,024 shows 512).
const CROWDS: [(usize, usize); 2] = [(6, 256), (8, 512)];
/// Ways along the timeline that are timed, and the kept steps that they lead to.
const SCRUBS: usize = 30;
const SCRUBBED_STEPS: usize = 6;
/// How long something may take to come about.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a window is watched in which nothing happens.
const REST: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Figures {
    /// From the start of the program to the end of the first frame.
    first_frame_ms: f64,
    /// From the wish to train to the first frame that shows a loss.
    first_loss_ms: f64,
    /// From a wish for a kept step to the frame that shows it, while the model trains.
    scrub_ms_median: f64,
    scrub_ms_max: f64,
    busy: Vec<Busy>,
    idle: Rest,
    paused: Rest,
}

/// Heads that change 10 times a second, a curve of a million points, a sample that grows.
#[derive(Debug, Serialize)]
struct Busy {
    heads: usize,
    tokens: usize,
    frame_ms_median: f64,
    frame_ms_p99: f64,
    /// New textures that such a change hands to the driver, mean.
    texture_bytes: usize,
}

/// A window that nothing happens in.
#[derive(Debug, Serialize)]
struct Rest {
    secs: f64,
    frames: usize,
    /// Of one core, by the whole program; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
}

/// Measures the window and prints what it found. With `first_frame` it makes one frame and ends: what the process that
/// measures the start waits for.
///
/// # Errors
/// If a run cannot be started, or nothing happens for long.
pub fn bench(first_frame: bool, json: bool) -> Result<ExitCode> {
    let home = std::env::temp_dir().join(format!("headlight-bench-{}", std::process::id()));
    let measured = if first_frame {
        Stage::open(&home).frame();
        Ok(())
    } else {
        measure(&home).and_then(|figures| figures.print(json))
    };
    let _ = fs::remove_dir_all(&home);
    measured.map(|()| ExitCode::SUCCESS)
}

fn measure(home: &Path) -> Result<Figures> {
    let first_frame_ms = first_frame()?;
    let mut stage = Stage::open(home);
    stage.until("the text is read", App::text_is_read)?;
    let preset = preset::find(PRESET).ok_or_else(|| anyhow!("there is no preset {PRESET}"))?;
    stage.act(Action::UsePreset(Box::new(preset)));
    stage.until("the preset's text is read", App::text_is_read)?;
    let idle = stage.rest();

    let clicked = Instant::now();
    stage.act(Action::Train);
    stage.until("the first loss", |app| !app.store.loss.is_empty())?;
    let first_loss_ms = milliseconds(clicked.elapsed());
    stage.until("the first attention", |app| app.store.attention.is_some())?;
    let mut scrubs = stage.scrub()?;
    scrubs.sort();
    stage.act(Action::Pause);
    stage.until("a pause", |app| app.phase() == Phase::Paused)?;
    let sampling = stage.app.draft().sampling.clone();
    stage.act(Action::Sample(Box::new(sampling)));
    stage.until("a sample", |app| !app.store.sample.running && !app.store.sample.tokens.is_empty())?;
    let paused = stage.rest();

    stage.grow_curve()?;
    let look = stage.app.store.look.clone().context("attention")?;
    let busy = CROWDS.map(|(side, tokens)| stage.busy_frames(&look, side, tokens)).into();
    stage.app.on_exit();
    let (scrub_ms_median, scrub_ms_max) = (share(&scrubs, 50), share(&scrubs, 100));
    Ok(Figures { first_frame_ms, first_loss_ms, scrub_ms_median, scrub_ms_max, busy, idle, paused })
}

/// Of sorted times, the one that so many percent are below.
fn share(times: &[Duration], percent: usize) -> f64 {
    milliseconds(times[(times.len() * percent / 100).min(times.len() - 1)])
}

/// In a process of its own, so that nothing is warm.
fn first_frame() -> Result<f64> {
    let program = std::env::current_exe().context("where this program is")?;
    let started = Instant::now();
    let ended = Command::new(program).args(["bench", "ui", "--first-frame"]).stdout(Stdio::null()).status()?;
    ensure!(ended.success(), "the first frame failed: {ended}");
    Ok(milliseconds(started.elapsed()))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl Figures {
    fn print(&self, json: bool) -> Result<()> {
        use std::io::Write as _;
        let mut out = std::io::stdout();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        let Self { first_frame_ms, first_loss_ms, scrub_ms_median, scrub_ms_max, busy, idle, paused } = self;
        writeln!(out, "from the start to the first frame: {first_frame_ms:.0} ms")?;
        writeln!(out, "from Train to the first loss ({PRESET}): {first_loss_ms:.0} ms")?;
        writeln!(
            out,
            "from a kept step's choice to its look, while it trains: {scrub_ms_median:.0} ms (median of {SCRUBS}), \
             {scrub_ms_max:.0} ms (the slowest)"
        )?;
        for Busy { heads, tokens, frame_ms_median, frame_ms_p99, texture_bytes } in busy {
            writeln!(
                out,
                "a frame with {heads} heads of {tokens}² at {SNAPSHOTS_PER_SEC} a second, a million points and a growing \
                 sample: {frame_ms_median:.2} ms (median), {frame_ms_p99:.2} ms (99th percentile); {} KiB of textures a \
                 change",
                texture_bytes / 1024
            )?;
        }
        for (name, Rest { secs, frames, cpu_percent }) in [("idle", idle), ("paused", paused)] {
            let cpu = cpu_percent.map_or_else(String::new, |percent| format!(", {percent:.1} % of a core"));
            writeln!(out, "{name} for {secs:.0} s: {frames} frames{cpu}")?;
        }
        Ok(())
    }
}

/// When the next frame is asked for.
type Due = Arc<(Mutex<Option<Instant>>, Condvar)>;

/// The window, run as its framework would.
struct Stage {
    ctx: Context,
    app: App,
    frame: eframe::Frame,
    opened: Instant,
    due: Due,
}

impl Stage {
    fn open(home: &Path) -> Self {
        let (ctx, due) = (Context::default(), Due::default());
        let asked = Arc::clone(&due);
        ctx.set_request_repaint_callback(move |request| {
            let at = Instant::now() + request.delay;
            let mut due = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            *due = Some(due.map_or(at, |due| due.min(at)));
            asked.1.notify_all();
        });
        let options = AppOptions {
            device: Some(DeviceChoice::Cpu),
            settings: Loaded::from_file(&home.join("settings.ron")),
            runs_root: Some(home.join("runs")),
            ..AppOptions::default()
        };
        let app = App::new(&ctx, options);
        Self { ctx, app, frame: eframe::Frame::_new_kittest(), opened: Instant::now(), due }
    }

    /// One frame, down to the triangles.
    fn frame(&mut self) -> FullOutput {
        self.frame_with(Vec::new())
    }

    fn frame_with(&mut self, events: Vec<Input>) -> FullOutput {
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, SIZE)),
            time: Some(self.opened.elapsed().as_secs_f64()),
            focused: true,
            events,
            ..RawInput::default()
        };
        let (app, frame) = (&mut self.app, &mut self.frame);
        let mut output = self.ctx.run_ui(input, |ui| {
            app.logic(ui.ctx(), frame);
            app.ui(ui, frame);
        });
        let triangles = self.ctx.tessellate(std::mem::take(&mut output.shapes), output.pixels_per_point);
        std::hint::black_box(triangles);
        output
    }

    fn act(&mut self, action: Action) {
        self.app.apply(action);
        self.ctx.request_repaint();
    }

    /// Frames whenever one is asked for, until `done` or the end; how many there were.
    fn frames_until(&mut self, end: Instant, done: impl Fn(&App) -> bool) -> usize {
        let mut frames = 0;
        loop {
            let (due, bell) = (&self.due.0, &self.due.1);
            let mut due = due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now >= end || done(&self.app) {
                return frames;
            }
            match *due {
                Some(at) if at <= now => {
                    *due = None;
                    drop(due);
                    self.frame();
                    frames += 1;
                }
                at => {
                    let rest = at.map_or(end, |at| at.min(end)) - now;
                    drop(bell.wait_timeout(due, rest).unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&App) -> bool) -> Result<()> {
        self.frames_until(Instant::now() + LIMIT, &done);
        if !done(&self.app) {
            bail!("waited too long for: {what}");
        }
        // What was just learned is painted.
        self.frame();
        Ok(())
    }

    /// A while in which nothing happens, after what moves by itself, such as notices that go away, has come to rest.
    fn rest(&mut self) -> Rest {
        self.frames_until(Instant::now() + 2 * REST, |_| false);
        let (started, before) = (Instant::now(), cpu_time());
        let frames = self.frames_until(started + REST, |_| false);
        let secs = started.elapsed().as_secs_f64();
        let used = cpu_time().zip(before).map(|(after, before)| (after - before).as_secs_f64());
        let cpu_percent = used.map(|used| (1e4 * used / secs).round() / 100.0);
        Rest { secs: (secs * 10.0).round() / 10.0, frames, cpu_percent }
    }

    /// To and fro between kept steps while the model trains.
    fn scrub(&mut self) -> Result<Vec<Duration>> {
        self.until("kept steps", |app| app.store.kept.len() >= SCRUBBED_STEPS)?;
        let kept: Vec<Step> = self.app.store.kept.iter().copied().take(SCRUBBED_STEPS).collect();
        let mut times = Vec::new();
        for turn in 0..SCRUBS {
            let step = Some(kept[turn * 5 % SCRUBBED_STEPS]);
            let chosen = Instant::now();
            self.act(Action::Look(Box::new(View { step, ..self.app.view.clone() })));
            self.until("the look of a kept step", |app| {
                app.store.look.as_ref().is_some_and(|it| it.view.step == step)
            })?;
            times.push(chosen.elapsed());
        }
        self.act(Action::Look(Box::default()));
        self.until("the live model", |app| app.store.look.as_ref().is_some_and(|it| it.view.step.is_none()))?;
        Ok(times)
    }

    fn report(&self, step: u64) -> Result<StepReport> {
        let loss = 1.8 + 2.4 / (1.0 + step as f32 / 2000.0) + (step * 7919 % 997) as f32 / 5000.0;
        Ok(StepReport { step: Step(step), loss, ..self.app.store.latest.context("a step")? })
    }

    fn grow_curve(&mut self) -> Result<()> {
        let first = self.app.store.latest.context("a step")?.step.0 + 1;
        let reports = (first..CURVE_STEPS).map(|step| self.report(step)).collect::<Result<_>>()?;
        self.app.store.apply(Event::Progress(reports));
        Ok(())
    }

    /// Frames in which everything changes that can, with the pointer over the heads.
    fn busy_frames(&mut self, look: &Look, side: usize, tokens: usize) -> Busy {
        let latest = self.app.store.latest;
        let report = |index: u64| {
            let step = latest.map_or(0, |latest| latest.step.0) + 1 + index;
            latest.map(|latest| StepReport { step: Step(step), ..latest })
        };
        let snapshots = [0, 1].map(|turn| crowd(&look.attention, side, tokens, turn));
        let drawn = self.app.store.sample.clone();
        self.app.store.sample_started(drawn.id + 1);
        let (mut times, mut bytes) = (Vec::new(), 0);
        for index in 0..FRAMES {
            let fresh = index.is_multiple_of(FRAMES_PER_SEC / SNAPSHOTS_PER_SEC);
            let snapshot = fresh.then(|| Arc::new(snapshots[index as usize % 2].clone()));
            let look = snapshot.map(|attention| Arc::new(Look { attention, ..look.clone() }));
            let token = drawn.tokens[index as usize % drawn.tokens.len()].clone();
            let progress = report(index).into_iter().collect();
            let place = pos2(SIZE.x * (0.2 + 0.7 * (index % 97) as f32 / 97.0), SIZE.y * 0.6);
            let started = Instant::now();
            let store = &mut self.app.store;
            store.apply(Event::Progress(progress));
            store.apply(Event::Sampled(SampleEvent::Token { id: drawn.id + 1, token }));
            look.into_iter().for_each(|look| store.apply_look(look));
            let output = self.frame_with(vec![Input::PointerMoved(place)]);
            times.push(started.elapsed());
            let images = output.textures_delta.set.values().flat_map(|deltas| deltas.iter().map(|delta| &delta.image));
            bytes += images.map(|image| 4 * image.width() * image.height()).sum::<usize>();
        }
        times.sort();
        let (frame_ms_median, frame_ms_p99) = (share(&times, 50), share(&times, 99));
        let texture_bytes = bytes / (FRAMES * SNAPSHOTS_PER_SEC / FRAMES_PER_SEC) as usize;
        Busy { heads: side * side, tokens, frame_ms_median, frame_ms_p99, texture_bytes }
    }
}

/// Attention of `side` layers of as many heads on a long text. `turn` makes another one.
fn crowd(real: &AttentionSnapshot, side: usize, count: usize, turn: usize) -> AttentionSnapshot {
    let heads = side * side;
    let mut weights = Vec::with_capacity(heads * count * count);
    for head in 0..heads {
        for query in 0..count {
            let raw = |key: usize| if key > query { 0.0 } else { 1.0 + ((key * 7 + head * 3 + turn) % 11) as f32 };
            let sum: f32 = (0..count).map(raw).sum();
            weights.extend((0..count).map(|key| raw(key) / sum));
        }
    }
    let tokens = real.tokens.iter().cycle().take(count).cloned().collect();
    AttentionSnapshot { tokens, layers: side, heads: side, weights, ..real.clone() }
}

/// Processor time that this program has taken, all threads together, in hundredths of a second (Linux: `man 5 proc`).
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything; times are the 14th and the 15th.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}
