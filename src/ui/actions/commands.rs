//! Every command of the window in one table: its words, its key, when it can be given. Menus, keys and the list of
//! shortcuts all read it.

use eframe::egui::{Context, Event, Key, KeyboardShortcut, Modifiers};

use crate::findings::Finding;
use crate::protocol::ExportFormat;
use crate::recipe::SamplingRecipe;
use crate::ui::actions::{Action, Move, PickPurpose};

/// A command of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MenuCommand {
    OpenText,
    OpenRun,
    OpenModel,
    OpenPreset,
    SavePreset,
    SaveCheckpoint,
    ExportModel,
    ExportWeights,
    ExportCheckpoint,
    SaveCurves,
    SaveFinding(Finding),
    SavePage,
    OverlayRun,
    Quit,
    TrainOrPause,
    Step,
    Reset,
    Sample,
    EvaluateWhole,
    ParityRun,
    EarlierStep,
    LaterStep,
    PlayTimeline,
    Live,
    UndoSwitch,
    ZoomIn,
    ZoomOut,
    ZoomReset,
    ResetLayout,
    Shortcuts,
    About,
}

/// What the run is doing, as far as the window's commands care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Preparing,
    Training,
    Paused,
    Completed,
    /// Asked to stop; it saves a checkpoint first.
    Ending,
}

/// Where the window stands: decides which commands can be given.
#[derive(Debug, Clone)]
pub struct Situation {
    pub phase: Phase,
    /// Why no new run can be started, if so.
    pub hindrance: Option<String>,
    /// Whether that is over by itself in a moment.
    pub waiting: bool,
    /// Why the run that is there can only be looked at, if so.
    pub blocked: Option<String>,
    /// Whether there is a curve to save.
    pub has_curve: bool,
    /// What has been measured and can be saved.
    pub found: Vec<Finding>,
    /// Whether the run that is there can be compared with nanoGPT's.
    pub is_parity_run: bool,
    pub sampling: SamplingRecipe,
    /// Whether there are kept steps to go to.
    pub has_kept: bool,
    /// Whether something was switched off or on.
    pub can_undo: bool,
}

const NO_RUN: &str = "There is no model yet: Train makes one.";
const NOT_READY: &str = "The run is being prepared.";
const ENDING: &str = "The run is being saved.";

impl MenuCommand {
    pub const ALL: [Self; 35] = [
        Self::OpenText,
        Self::OpenRun,
        Self::OpenModel,
        Self::OpenPreset,
        Self::SavePreset,
        Self::SaveCheckpoint,
        Self::ExportModel,
        Self::ExportWeights,
        Self::ExportCheckpoint,
        Self::SaveCurves,
        Self::SaveFinding(Finding::Attention),
        Self::SaveFinding(Finding::Roles),
        Self::SaveFinding(Finding::Lens),
        Self::SaveFinding(Finding::Attribution),
        Self::SaveFinding(Finding::Effects),
        Self::SavePage,
        Self::OverlayRun,
        Self::Quit,
        Self::TrainOrPause,
        Self::Step,
        Self::Reset,
        Self::Sample,
        Self::EvaluateWhole,
        Self::ParityRun,
        Self::EarlierStep,
        Self::LaterStep,
        Self::PlayTimeline,
        Self::Live,
        Self::UndoSwitch,
        Self::ZoomIn,
        Self::ZoomOut,
        Self::ZoomReset,
        Self::ResetLayout,
        Self::Shortcuts,
        Self::About,
    ];

    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OpenText => "Open text…",
            Self::OpenRun => "Open run…",
            Self::OpenModel => "Open model (Hugging Face folder)…",
            Self::OpenPreset => "Open preset…",
            Self::SavePreset => "Save preset…",
            Self::SaveCheckpoint => "Save checkpoint",
            Self::ExportModel => "Export for transformers…",
            Self::ExportWeights => "Export weights with nanoGPT's names…",
            Self::ExportCheckpoint => "Export checkpoint…",
            Self::SaveCurves => "Save curves (CSV)…",
            Self::SaveFinding(finding) => words(finding).text,
            Self::SavePage => "Save this step as a web page…",
            Self::OverlayRun => "Overlay an earlier run…",
            Self::Quit => "Quit",
            Self::TrainOrPause => "Train or pause",
            Self::Step => "Step",
            Self::Reset => "Reset",
            Self::Sample => "Sample",
            Self::EvaluateWhole => "Evaluate on the whole validation text",
            Self::ParityRun => "Parity run…",
            Self::EarlierStep => "Earlier kept step",
            Self::LaterStep => "Later kept step",
            Self::PlayTimeline => "Play or stop the timeline",
            Self::Live => "Live",
            Self::UndoSwitch => "Undo the last switch or cut",
            Self::ZoomIn => "Zoom in",
            Self::ZoomOut => "Zoom out",
            Self::ZoomReset => "Usual zoom",
            Self::ResetLayout => "Reset layout",
            Self::Shortcuts => "Shortcuts",
            Self::About => "About Headlight",
        }
    }

    /// One plain sentence.
    #[must_use]
    pub const fn tip(self) -> &'static str {
        match self {
            Self::OpenText => "Chooses a UTF-8 text to learn from.",
            Self::OpenRun => "Opens a run folder; training can go on from its last checkpoint.",
            Self::OpenModel => "Makes a run of a GPT-2, OPT, Llama or Phi-3 that another program saved.",
            Self::OpenPreset => "Reads a recipe from a .ron file.",
            Self::SavePreset => "Writes the recipe as it stands to a .ron file.",
            Self::SaveCheckpoint => "Saves model, optimizer and position in the run's folder now.",
            Self::ExportModel => "Writes a folder that transformers opens, reads it back and compares it.",
            Self::ExportWeights => "Writes model.safetensors and config.json with nanoGPT's names.",
            Self::ExportCheckpoint => "Copies everything that a resume needs to another folder.",
            Self::SaveCurves => "Writes loss, learning rate and gradient norm of each step.",
            Self::SaveFinding(finding) => words(finding).tip,
            Self::SavePage => "Writes one HTML file with all heads; it opens in any browser, also offline.",
            Self::OverlayRun => "Draws the curves of an earlier run under this one's.",
            Self::Quit => "Saves a running model and closes the window.",
            Self::TrainOrPause => "Starts training, pauses it, or goes on.",
            Self::Step => "Trains a single step, then pauses.",
            Self::Reset => "Saves and ends this run; the next Train starts anew.",
            Self::Sample => "Draws text from the model with the prompt of the sample pane.",
            Self::EvaluateWhole => "Measures the loss over all of the validation text, not only random batches.",
            Self::ParityRun => "Trains nanoGPT's recipe on tinyshakespeare and compares the losses with nanoGPT's own.",
            Self::EarlierStep => "Shows the kept step before the one that is viewed.",
            Self::LaterStep => "Shows the kept step after the one that is viewed; after the last, the live model.",
            Self::PlayTimeline => "Shows the kept steps one after the other.",
            Self::Live => "Shows the model as it is now, while it trains.",
            Self::UndoSwitch => "Takes back the last change of what is switched off or cut.",
            Self::ZoomIn => "Makes everything larger.",
            Self::ZoomOut => "Makes everything smaller.",
            Self::ZoomReset => "Shows everything in its usual size.",
            Self::ResetLayout => "Puts all panes back where they were at first.",
            Self::Shortcuts => "Shows or hides the list of keys.",
            Self::About => "Shows or hides what this program is.",
        }
    }

    /// The keys that give the command; the first is shown.
    #[must_use]
    pub const fn keys(self) -> &'static [KeyboardShortcut] {
        const fn command(key: Key) -> KeyboardShortcut {
            KeyboardShortcut::new(Modifiers::COMMAND, key)
        }
        const fn plain(key: Key) -> KeyboardShortcut {
            KeyboardShortcut::new(Modifiers::NONE, key)
        }
        const COMMAND_SHIFT: Modifiers = Modifiers::COMMAND.plus(Modifiers::SHIFT);
        match self {
            Self::OpenText => const { &[command(Key::O)] },
            Self::OpenRun => const { &[KeyboardShortcut::new(COMMAND_SHIFT, Key::O)] },
            Self::OpenPreset => const { &[command(Key::P)] },
            Self::SavePreset => const { &[KeyboardShortcut::new(COMMAND_SHIFT, Key::P)] },
            Self::SaveCheckpoint => const { &[command(Key::S)] },
            Self::ExportModel => const { &[command(Key::E)] },
            Self::OpenModel => const { &[command(Key::M)] },
            Self::Quit => const { &[command(Key::Q)] },
            Self::TrainOrPause => const { &[plain(Key::Space)] },
            Self::Step => const { &[plain(Key::S)] },
            Self::Reset => const { &[command(Key::R)] },
            Self::Sample => const { &[command(Key::Enter)] },
            Self::EarlierStep => const { &[plain(Key::Comma)] },
            Self::LaterStep => const { &[plain(Key::Period)] },
            Self::PlayTimeline => const { &[plain(Key::P)] },
            Self::Live => const { &[plain(Key::L)] },
            Self::UndoSwitch => const { &[command(Key::Z)] },
            Self::ZoomIn => const { &[command(Key::Plus), command(Key::Equals)] },
            Self::ZoomOut => const { &[command(Key::Minus)] },
            Self::ZoomReset => const { &[command(Key::Num0)] },
            Self::Shortcuts => const { &[plain(Key::F1)] },
            Self::ExportCheckpoint
            | Self::ExportWeights
            | Self::EvaluateWhole
            | Self::SaveCurves
            | Self::SaveFinding(_)
            | Self::SavePage
            | Self::OverlayRun
            | Self::ParityRun
            | Self::ResetLayout
            | Self::About => &[],
        }
    }

    /// Whether holding the key down gives the command again and again.
    const fn repeats(self) -> bool {
        matches!(self, Self::Step | Self::EarlierStep | Self::LaterStep | Self::ZoomIn | Self::ZoomOut)
    }

    /// What the command does now.
    ///
    /// # Errors
    /// Why it cannot be given now, in a sentence for the user.
    pub fn action(self, situation: &Situation) -> Result<Action, String> {
        let phase = situation.phase;
        let with_model = |action| match phase {
            Phase::Idle => Err(NO_RUN.to_owned()),
            Phase::Preparing => Err(NOT_READY.to_owned()),
            Phase::Ending => Err(ENDING.to_owned()),
            Phase::Training | Phase::Paused | Phase::Completed => Ok(action),
        };
        let with_curve =
            |action| if situation.has_curve { Ok(action) } else { Err("There is no curve yet.".to_owned()) };
        let with_kept = |to| {
            if situation.has_kept { Ok(Action::Timeline(to)) } else { Err("No step is kept.".to_owned()) }
        };
        let with = |finding, action| {
            if situation.found.contains(&finding) { Ok(action) } else { Err(words(finding).absent.to_owned()) }
        };
        let start = |action| match (phase, &situation.hindrance) {
            (Phase::Idle, Some(why)) => Err(why.clone()),
            (Phase::Preparing, _) => Err(NOT_READY.to_owned()),
            (Phase::Completed, _) => {
                Err("All steps are done: go on with more of them, or Reset, then Train, starts a new run.".to_owned())
            }
            (Phase::Ending, _) => Err(ENDING.to_owned()),
            (Phase::Idle, None) => Ok(action),
            (Phase::Paused | Phase::Training, _) => situation.blocked.clone().map_or(Ok(action), Err),
        };
        match self {
            Self::OpenText => Ok(Action::Pick(PickPurpose::OpenText)),
            Self::OpenRun if phase == Phase::Ending => Err(ENDING.to_owned()),
            Self::OpenRun => Ok(Action::Pick(PickPurpose::OpenRun)),
            Self::OpenModel if phase == Phase::Ending => Err(ENDING.to_owned()),
            Self::OpenModel => Ok(Action::Pick(PickPurpose::OpenModel)),
            Self::OpenPreset => Ok(Action::Pick(PickPurpose::OpenPreset)),
            Self::SavePreset => Ok(Action::Pick(PickPurpose::SavePreset)),
            Self::SaveCheckpoint => with_model(Action::Checkpoint),
            Self::ExportModel => with_model(Action::Pick(PickPurpose::Export(ExportFormat::Transformers(None)))),
            Self::ExportWeights => with_model(Action::Pick(PickPurpose::Export(ExportFormat::Safetensors))),
            Self::ExportCheckpoint => with_model(Action::Pick(PickPurpose::Export(ExportFormat::Checkpoint))),
            Self::SaveCurves => with_curve(Action::Pick(PickPurpose::SaveCurves)),
            Self::SaveFinding(finding) => with(finding, Action::Pick(PickPurpose::SaveFinding(finding))),
            Self::SavePage => with(Finding::Attention, Action::Pick(PickPurpose::SavePage)),
            Self::OverlayRun => Ok(Action::Pick(PickPurpose::OverlayRun)),
            Self::Quit => Ok(Action::Quit),
            Self::TrainOrPause if phase == Phase::Training => Ok(Action::Pause),
            Self::TrainOrPause => start(Action::Train),
            Self::Step => start(Action::StepOnce),
            Self::Reset if phase == Phase::Idle && situation.has_curve => Ok(Action::Reset),
            Self::Reset if phase == Phase::Preparing => Ok(Action::Reset),
            Self::Reset => with_model(Action::Reset),
            Self::Sample => with_model(Action::Sample(Box::new(situation.sampling.clone()))),
            Self::EvaluateWhole => with_model(Action::EvaluateWhole),
            Self::ParityRun if phase == Phase::Idle || situation.is_parity_run => Ok(Action::ParityRun),
            Self::ParityRun => Err("Another run is there: Reset ends it.".to_owned()),
            Self::EarlierStep => with_kept(Move::Earlier),
            Self::LaterStep => with_kept(Move::Later),
            Self::PlayTimeline => with_kept(Move::Play),
            Self::Live => with_kept(Move::Live),
            Self::UndoSwitch if situation.can_undo => with_model(Action::UndoSwitches),
            Self::UndoSwitch => Err("Nothing was switched off or cut.".to_owned()),
            Self::ZoomIn => Ok(Action::ZoomIn),
            Self::ZoomOut => Ok(Action::ZoomOut),
            Self::ZoomReset => Ok(Action::ZoomReset),
            Self::ResetLayout => Ok(Action::ResetLayout),
            Self::Shortcuts => Ok(Action::ToggleShortcuts),
            Self::About => Ok(Action::ToggleAbout),
        }
    }
}

/// Takes the keys that give a command out of this frame's input. Plain keys are left to a field that is typed into, and
/// Space to a widget that it clicks.
pub fn keys(ctx: &Context, situation: &Situation, space_clicks: bool) -> Vec<Action> {
    let typing = ctx.text_edit_focused();
    let mut table: Vec<(MenuCommand, KeyboardShortcut)> =
        MenuCommand::ALL.iter().flat_map(|command| command.keys().iter().map(|key| (*command, *key))).collect();
    // Shift counts only where it is asked for, so the keys with it are tried first.
    table.sort_by_key(|(_, key)| !key.modifiers.shift);
    let mut given = Vec::new();
    ctx.input_mut(|input| {
        input.events.retain(|event| {
            let Event::Key { key, pressed: true, repeat, modifiers, .. } = event else { return true };
            let meant = table.iter().find(|(_, wanted)| {
                wanted.logical_key == *key
                    && modifiers.matches_logically(wanted.modifiers)
                    && (!typing || !is_for_text(wanted) || *key == Key::F1)
                    && !(space_clicks && wanted.logical_key == Key::Space)
            });
            let Some((command, _)) = meant else { return true };
            if !*repeat || command.repeats() {
                given.push(*command);
            }
            false
        });
    });
    given.into_iter().filter_map(|command| command.action(situation).ok()).collect()
}

/// Whether a field that is typed into has a use for the keys.
fn is_for_text(keys: &KeyboardShortcut) -> bool {
    keys.conflicts_with_text_editing() || keys.logical_key == Key::Z
}

#[cfg(test)]
mod tests;

/// How the menu speaks of a finding.
pub struct Words {
    pub text: &'static str,
    pub tip: &'static str,
    /// Why there is none.
    pub absent: &'static str,
}

#[must_use]
pub const fn words(finding: Finding) -> Words {
    let (text, tip, absent) = match finding {
        Finding::Attention => (
            "Attention (CSV or JSON)…",
            "Writes every head's weights on the probe, under TransformerLens's names.",
            "No attention has been recorded yet.",
        ),
        Finding::Roles => (
            "Roles (CSV or JSON)…",
            "Writes each head's role scores: at every step where they were measured, or of the viewed model if parts are off.",
            "No roles have been measured yet.",
        ),
        Finding::Lens => (
            "Logit lens (CSV or JSON)…",
            "Writes the likeliest tokens after each layer.",
            "What is not in sight is not computed: show the Logit lens pane first.",
        ),
        Finding::Attribution => (
            "Parts of a logit (CSV or JSON)…",
            "Writes what each part of the model adds to the logit that was asked about.",
            "No logit has been asked about yet, or its pane is not in sight.",
        ),
        Finding::Effects => (
            "Effects (CSV or JSON)…",
            "Writes how much worse the model predicts without each head and MLP.",
            "No effects have been measured yet.",
        ),
    };
    Words { text, tip, absent }
}
