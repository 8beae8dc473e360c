//! What is looked at, and what is seen there: plain data, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::finite::{NonFinite, falling, or_null};
use super::{AttentionSnapshot, HeadId, Step};

/// What the views show: which moment of the model, what is switched off in it, and what is asked about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// A kept step; `None` is the model as it is now.
    pub step: Option<Step>,
    pub switches: Switches,
    /// Weights of the probe's attention that are made zero.
    pub cuts: BTreeSet<Cut>,
    /// Whether what is left of a cut row is scaled up to sum to 1 again.
    pub renormalise: bool,
    /// Another moment, to be compared with.
    pub pin: Option<Pin>,
    pub wants: Wants,
}

impl View {
    /// What the view changes in the model.
    #[must_use]
    pub const fn changes(&self) -> (&Switches, &BTreeSet<Cut>, bool) {
        (&self.switches, &self.cuts, self.renormalise)
    }
}

/// Parts of the model that are switched off. They are part of a view, never of the saved weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switches {
    pub heads: BTreeMap<HeadId, Off>,
    /// By layer.
    pub mlps: BTreeMap<usize, Off>,
}

impl Switches {
    /// `1 head`, `2 heads and 1 MLP`.
    #[must_use]
    pub fn counted(&self) -> String {
        let counted = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {one}s")),
        };
        let parts = [counted(self.heads.len(), "head"), counted(self.mlps.len(), "MLP")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.mlps.is_empty()
    }

    /// Whether a part is to write its mean.
    #[must_use]
    pub fn need_means(&self) -> bool {
        self.heads.values().chain(self.mlps.values()).any(|&off| off == Off::Mean)
    }
}

/// What a part that is switched off writes to the residual stream instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// Nothing.
    #[default]
    Zero,
    /// At every position what it writes on average on the validation text.
    Mean,
}

impl Off {
    /// `zero`, for files and the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Mean => "mean",
        }
    }
}

/// One weight of one head's attention on the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cut {
    pub head: HeadId,
    pub query: usize,
    pub key: usize,
}

/// The prediction at the last position in whose row a weight is cut: all of the cuts can reach it, and in the last layer no
/// later one.
#[derive(Debug, Clone, PartialEq)]
pub struct CutEffect {
    pub position: usize,
    /// The likeliest tokens first, ten at most.
    pub before: Vec<(u32, f32)>,
    pub after: Vec<(u32, f32)>,
}

/// A moment that is held fast, for comparing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Another run's folder, of the same tokenizer; `None` is this run.
    pub run: Option<PathBuf>,
    /// A kept step; `None` is the other run's last checkpoint.
    pub step: Option<Step>,
}

/// What is asked about the model beside its attention: what nobody looks at is not computed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wants {
    /// The prediction after each layer.
    pub lens: bool,
    /// How much each part of the model adds to a logit.
    pub attribution: Option<Target>,
    /// query · key before mask and softmax of this head.
    pub scores: Option<HeadId>,
    /// Attention through all layers at once.
    pub rollout: bool,
}

/// A logit: that of `token` (the likeliest where `None`) after the probe's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub position: usize,
    pub token: Option<u32>,
}

/// What a view shows. Tokens are numbers of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What was asked for.
    pub view: View,
    pub attention: Arc<AttentionSnapshot>,
    /// Where the pass stopped giving numbers, if it did.
    pub non_finite: Option<NonFinite>,
    /// What the heads do, but where the view is the model that trains: that is in the run's own history.
    pub roles: Option<RoleReport>,
    /// After the probe's last token, the likeliest first, ten at most.
    pub next: Vec<(u32, f32)>,
    /// What the cuts do, where there are any.
    pub cut: Option<CutEffect>,
    pub lens: Option<Lens>,
    pub attribution: Option<Attribution>,
    /// [`Wants::scores`]: query · key / √head_width, `[query, key]`, no mask.
    pub scores: Option<(HeadId, Vec<f32>)>,
    /// Attention rollout (Abnar & Zuidema 2020), `[query, key]`, rows sum to 1.
    pub rollout: Option<Vec<f32>>,
    /// The pinned moment's attention on the same probe, or why it cannot be shown.
    pub pinned: Option<Result<Arc<AttentionSnapshot>, String>>,
}

/// The share of a head's attention that falls where a role would have it: 0 to 1 each. As TransformerLens's
/// `head_detector` with its default measure, and two more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RoleScores {
    #[serde(deserialize_with = "or_null")]
    pub previous: f32,
    #[serde(deserialize_with = "or_null")]
    pub current: f32,
    #[serde(deserialize_with = "or_null")]
    pub first: f32,
    /// Earlier places of the query's token.
    #[serde(deserialize_with = "or_null")]
    pub duplicate: f32,
    /// Places after an earlier one of the query's token.
    #[serde(deserialize_with = "or_null")]
    pub induction: f32,
}

/// What a head may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Previous,
    Current,
    First,
    Duplicate,
    Induction,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Previous, Self::Current, Self::First, Self::Duplicate, Self::Induction];

    /// `previous token`, for the screen.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Previous => "previous token",
            Self::Current => "current token",
            Self::First => "first token",
            Self::Duplicate => "duplicate token",
            Self::Induction => "induction",
        }
    }

    /// `previous`, for files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Current => "current",
            Self::First => "first",
            Self::Duplicate => "duplicate",
            Self::Induction => "induction",
        }
    }
}

impl RoleScores {
    /// From this score on a head is called by a role's name.
    pub const NAMED_FROM: f32 = 0.4;

    #[must_use]
    pub const fn of(&self, role: Role) -> f32 {
        match role {
            Role::Previous => self.previous,
            Role::Current => self.current,
            Role::First => self.first,
            Role::Duplicate => self.duplicate,
            Role::Induction => self.induction,
        }
    }

    /// The role with the highest score, where that is high enough to be called by its name. None where one is no number.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        let best = Role::ALL.into_iter().min_by(|&one, &other| falling(self.of(one), self.of(other)))?;
        (self.of(best) >= Self::NAMED_FROM).then_some(best)
    }

    /// Whether all are numbers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        Role::ALL.into_iter().all(|role| self.of(role).is_finite())
    }
}

/// What one head does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// On the standard test: a start token, then random tokens twice.
    pub test: RoleScores,
    pub probe: RoleScores,
    /// Mean entropy of its rows on the probe, in nats: 0 looks at one token, ln of the places looks everywhere alike.
    #[serde(deserialize_with = "or_null")]
    pub entropy: f32,
}

/// What every head does at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoleReport {
    pub step: Step,
    /// Heads in a layer.
    pub heads: usize,
    /// Layer after layer, [`heads`](Self::heads) each.
    pub reports: Vec<HeadReport>,
}

impl RoleReport {
    /// Whether all scores are numbers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.reports.iter().all(|head| head.test.is_finite() && head.probe.is_finite() && head.entropy.is_finite())
    }

    #[must_use]
    pub fn head(&self, head: HeadId) -> Option<&HeadReport> {
        (head.head < self.heads).then(|| self.reports.get(head.layer * self.heads + head.head)).flatten()
    }
}

/// The logit lens (nostalgebraist 2020): what the model would predict if it ended after a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lens {
    pub positions: usize,
    /// The embedding's row first, then one after each layer: `[row × positions]`, the likeliest tokens first, ten at most,
    /// with their probabilities.
    pub likeliest: Vec<Vec<(u32, f32)>>,
}

impl Lens {
    /// After `row` layers, at a position.
    #[must_use]
    pub fn at(&self, row: usize, position: usize) -> &[(u32, f32)] {
        self.likeliest.get(row * self.positions + position).map_or(&[], Vec::as_slice)
    }

    /// Layers and the embedding.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.likeliest.len() / self.positions.max(1)
    }
}

/// Direct logit attribution: what each part of the model adds to one logit, the last norm's scale taken as it was. The
/// parts sum to the logit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribution {
    pub position: usize,
    pub token: u32,
    pub logit: f32,
    /// Token embedding, and position's where it is learned.
    pub embedding: f32,
    /// Layer after layer, as many as the recipe has heads.
    pub heads: Vec<f32>,
    /// By layer.
    pub mlps: Vec<f32>,
    /// Biases of the attention's projections, of the last norm and of the output.
    pub biases: f32,
}

/// How much worse the model predicts without each of its parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EffectsReport {
    pub step: Step,
    pub off: Off,
    /// Validation tokens that each loss is a mean of.
    pub tokens: usize,
    /// Loss with all parts, in nats a token.
    pub loss: f32,
    pub heads_per_layer: usize,
    /// Loss without the head, less the loss: layer after layer. `None`: not measured yet, or pruned.
    pub heads: Vec<Option<f32>>,
    /// By layer.
    pub mlps: Vec<Option<f32>>,
    /// Batches done and to do.
    pub done: usize,
    pub total: usize,
}

impl EffectsReport {
    /// Whether all that was measured are numbers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.heads.iter().chain(&self.mlps).flatten().all(|effect| effect.is_finite())
    }

    /// What a head is worth, if that is measured.
    #[must_use]
    pub fn head(&self, head: HeadId) -> Option<f32> {
        let place = head.layer * self.heads_per_layer + head.head;
        (head.head < self.heads_per_layer).then(|| self.heads.get(place).copied().flatten()).flatten()
    }
}

/// Loss of a model with parts switched off, beside the whole one's, over the same validation tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchedReport {
    pub step: Step,
    pub switches: Switches,
    pub loss: f32,
    pub whole_loss: f32,
    pub tokens: usize,
}

/// Mean attention over the windows of a text file.
#[derive(Debug, Clone)]
pub struct MeanAttention {
    pub path: PathBuf,
    /// What the model does without.
    pub switches: Switches,
    pub windows: usize,
    /// Windows to do.
    pub total: usize,
    /// Its tokens are the places, counted from 0.
    pub attention: Arc<AttentionSnapshot>,
}
