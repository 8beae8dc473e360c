//! What a panel may ask for. Panels read the store and the settings and return actions; only `App::apply` acts on them.

pub mod commands;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::findings::Finding;
use crate::lab::file_worker::Search;
use crate::preset::Preset;
use crate::protocol::{DeviceChoice, ExportFormat, HeadId, Off, Step, View};
use crate::recipe::{Recipe, SamplingRecipe, TextSource};

/// One wish of the user's.
#[derive(Debug, Clone)]
#[must_use = "an action does nothing until App::apply gets it"]
pub enum Action {
    // The run.
    Train,
    Pause,
    StepOnce,
    Reset,
    Checkpoint,
    EvaluateWhole,
    Rollback,
    OpenRun(PathBuf),
    /// Trains nanoGPT's recipe on its text to compare the losses, or shows how far that is.
    ParityRun,
    CloseParity,
    SetProbe(String),
    /// Whether the probe gets what the tokenizer puts around a text.
    SetProbeSpecial(bool),
    Sample(Box<SamplingRecipe>),
    StopSampling,
    /// What the views show.
    Look(Box<View>),
    /// To another kept step.
    Timeline(Move),
    /// Takes back the newest change of what is switched off.
    UndoSwitches,
    MeasureEffects(Off),
    StopMeasuring,
    /// A new run of the viewed model without the heads that are switched off.
    Prune,
    /// Asks how many steps a run is to have that goes on from this one, which is finished; and makes it.
    AskLonger,
    ForkLonger {
        steps: u64,
    },
    /// A new run that goes on from a kept step; with the draft's training and sampling, or as it was.
    Fork {
        step: Step,
        changed: bool,
    },

    /// Starts the run that was not begun, as memory is tight.
    StartAnyway,

    // The draft that the next run is made from.
    /// Makes the recipe of the run that was opened the draft.
    UseRunRecipe,
    EditRecipe(Box<Recipe>),
    EditSampling(Box<SamplingRecipe>),
    UsePreset(Box<Preset>),
    /// Reads a text, and takes it if it can be read.
    UseText(TextSource),
    SetDevice(DeviceChoice),
    /// Whether a device is taken although its test finds wrong numbers.
    SetInsist(bool),

    // Files: the window asks for a path, then the file desk works.
    Pick(PickPurpose),
    OpenPath(PickPurpose, PathBuf),
    RemoveOverlay(PathBuf),
    /// Puts the picture of a pane on the clipboard.
    CopyPicture(Pane),

    // The window itself.
    SetView(Box<ViewSettings>),
    CopyText(String),
    ToggleShortcuts,
    ToggleAbout,
    SetTheme(Theme),
    ZoomIn,
    ZoomOut,
    ZoomReset,
    ResetLayout,
    /// Brings a pane into sight, or hides it when it is.
    TogglePane(Pane),
    /// The path window asks what a typed path leads to, and what lies beside it.
    LookAt(PathBuf),
    ListFolder(Search),
    ClosePicker,
    Quit,
    /// The answers to the question before something that ends a run; the latter is a no to any question.
    EndRun,
    KeepRun,
}

/// What a path is wanted for.
#[derive(Debug, Clone, PartialEq)]
pub enum PickPurpose {
    OpenText,
    /// The text of the parity run.
    ParityText,
    OpenPreset,
    OpenRun,
    /// A model in the folder format of `transformers`, to become a run.
    OpenModel,
    OverlayRun,
    /// A text over which the heads' attention is averaged.
    MeanAttention,
    /// A run to compare this one's attention with.
    PinRun,
    /// Where the text of the run that is there lies now.
    MovedText,
    SavePreset,
    Export(ExportFormat),
    /// Where a run goes on that lost its folder.
    SaveElsewhere,
    /// Loss and rate curves as comma-separated values.
    SaveCurves,
    /// A picture of a pane.
    SavePicture(Pane),
    /// A measurement as CSV or JSON, as the file's ending says.
    SaveFinding(Finding),
    /// What is looked at as one HTML file.
    SavePage,
}

/// How the views look: remembered between starts, changed only as a whole through [`Action::SetView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewSettings {
    pub log_loss: bool,
    /// 0 shows every value, towards 1 averages more.
    pub smoothing: f32,
    pub show_rates: bool,
    pub selected: HeadId,
    /// Colours follow the square root of the weight, which shows faint attention.
    pub square_root: bool,
    /// What is shown while another moment is pinned.
    pub compare: Compare,
    /// How the chosen head is shown over the probe's words.
    pub words: WordsMode,
}

/// What of the chosen head is shown over the probe's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WordsMode {
    /// Words coloured by the weights of one query.
    #[default]
    Words,
    /// Lines from queries to keys.
    Lines,
    /// From query · key to the weights.
    Stages,
    /// Attention rollout through all layers.
    AllLayers,
    /// The mean over a text.
    Mean,
}

/// A moment beside the pinned one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    This,
    Pinned,
    #[default]
    SideBySide,
    /// This less the pinned one.
    Difference,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            log_loss: false,
            smoothing: 0.6,
            show_rates: true,
            selected: HeadId::default(),
            square_root: true,
            words: WordsMode::default(),
            compare: Compare::default(),
        }
    }
}

/// Light, dark, or as the system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

/// What is done once a run has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AfterEnd {
    /// The curves go, the next Train starts anew.
    Clear,
    Open {
        folder: PathBuf,
        /// Where its text lies now, if that was moved.
        text: Option<PathBuf>,
    },
    Close,
}

/// The panes of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pane {
    Recipe,
    Loss,
    /// All heads, small.
    Heads,
    /// The chosen head, large.
    Head,
    /// The chosen head over the probe's words.
    Tokens,
    /// The prediction after each layer, and what adds to it.
    Lens,
    /// What each head does, over training, and what it is worth.
    Roles,
    /// The network of the recipe, drawn.
    Architecture,
    Sample,
    Log,
}

impl Pane {
    pub const ALL: [Self; 10] = [
        Self::Recipe,
        Self::Loss,
        Self::Heads,
        Self::Head,
        Self::Tokens,
        Self::Lens,
        Self::Roles,
        Self::Architecture,
        Self::Sample,
        Self::Log,
    ];

    /// For tabs and menus.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Recipe => "Recipe",
            Self::Loss => "Loss",
            Self::Heads => "Attention: all heads",
            Self::Head => "Attention: one head",
            Self::Tokens => "Head on the words",
            Self::Lens => "Logit lens",
            Self::Roles => "Roles",
            Self::Architecture => "Architecture",
            Self::Sample => "Sample",
            Self::Log => "Log",
        }
    }
}

/// Ways along the kept steps. The live model comes after the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    First,
    Earlier,
    Later,
    Last,
    Live,
    /// One after the other by itself; or an end of that.
    Play,
}
