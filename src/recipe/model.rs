//! The shape of the network, as plain data: the choices in which GPT-2, OPT, Llama and Phi-3 differ.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Fault, Field, PARAMETERS_MAX, fault, grouped, in_range};

/// The shape of the network: a decoder-only transformer. What a file leaves out is as in GPT-2 (Radford et al. 2019), so
/// that GPT-2, OPT, Llama and Phi-3 are recipes of one module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// Transformer blocks, one after the other.
    pub layers: usize,
    /// Attention heads in each block; they share the width equally.
    pub heads: usize,
    /// Heads that make keys and values, each for an equal share of the query heads (grouped-query attention, Ainslie et
    /// al. 2023). `None`: as many as heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_value_heads: Option<usize>,
    /// Size of the residual stream (GPT-2's `n_embd`).
    pub width: usize,
    /// How many tokens the model sees at once (GPT-2's `block_size`).
    pub context: usize,
    /// How the residual stream is scaled before each half of a block and before the head.
    #[serde(default)]
    pub norm: Norm,
    /// Added to the variance, against division by zero.
    #[serde(default = "usual_epsilon")]
    pub norm_epsilon: f64,
    /// How a token's place enters.
    #[serde(default)]
    pub position: Position,
    /// The function between the two layers of the MLP.
    #[serde(default)]
    pub activation: Activation,
    /// Values between the two layers of the MLP. `None`: four times the width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_width: Option<usize>,
    /// Probability with which an activation is zeroed in training.
    pub dropout: f64,
    /// Which layers have an additive bias.
    pub biases: Biases,
    /// Whether the output head shares the token embedding's weights (Press & Wolf 2017).
    pub tied_head: bool,
    /// Whether the two projections of a block that write to the residual stream begin smaller, by 1/√(2·layers)
    /// (Radford et al. 2019, section 2.3).
    #[serde(default = "usually")]
    pub scaled_residuals: bool,
    /// Heads that were taken out for good, as (layer, head) counted from 0 as if all were there, in rising order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<(usize, usize)>,
}

const fn usual_epsilon() -> f64 {
    1e-5
}

const fn usually() -> bool {
    true
}

/// How the residual stream is scaled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Mean 0 and variance 1 (Ba et al. 2016).
    #[default]
    LayerNorm,
    /// Root mean square 1, the mean left as it is (Zhang & Sennrich 2019).
    RmsNorm,
}

/// How a token's place enters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Position {
    /// A learned vector for each place, added to the token's.
    #[default]
    Learned,
    /// Queries and keys are turned by an angle for each place (Su et al. 2021), the two halves of a head as pairs, as
    /// Hugging Face's Llama has it. The slowest pair turns once in about 2π·`base` places.
    Rotary { base: f64 },
}

/// The function between the two layers of the MLP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x·Φ(x)` with the exact error function (Hendrycks & Gimpel 2016): nanoGPT's.
    #[default]
    Gelu,
    /// The same through a tanh, GPT-2's own (`gelu_new` in transformers).
    GeluTanh,
    /// `max(0, x)`: OPT's and GuppyLM's.
    Relu,
    /// `silu(gate(x))·up(x)`, with a third matrix for the gate (Shazeer 2020): Llama's and Phi-3's.
    SwiGlu,
}

/// Which layers have an additive bias. In a file `true` means all but the head's, `false` none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    pub query_key_value: bool,
    /// Of the attention's output projection.
    pub projection: bool,
    pub mlp: bool,
    pub norms: bool,
    pub head: bool,
}

impl Biases {
    pub const NONE: Self = Self { query_key_value: false, projection: false, mlp: false, norms: false, head: false };
    /// GPT-2's: all but the head's.
    pub const USUAL: Self = Self { query_key_value: true, projection: true, mlp: true, norms: true, head: false };
}

impl From<bool> for Biases {
    fn from(usual: bool) -> Self {
        if usual { Self::USUAL } else { Self::NONE }
    }
}

impl ModelRecipe {
    /// The GPT-2, as nanoGPT builds it, of the same size: with its biases or with none.
    #[must_use]
    pub fn as_gpt2(&self) -> Self {
        Self {
            key_value_heads: None,
            norm: Norm::LayerNorm,
            norm_epsilon: usual_epsilon(),
            position: Position::Learned,
            activation: Activation::Gelu,
            mlp_width: None,
            biases: (self.biases != Biases::NONE).into(),
            scaled_residuals: true,
            pruned: Vec::new(),
            ..self.clone()
        }
    }

    /// Width of one head: `width / heads`.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.width / self.heads.max(1)
    }

    /// Every mistake in the shape alone, its size included.
    #[must_use]
    pub fn check(&self, vocabulary: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.judge(&mut faults);
        if faults.is_empty() && self.parameter_count(vocabulary) > PARAMETERS_MAX {
            let (found, most) = (grouped(self.parameter_count(vocabulary)), grouped(PARAMETERS_MAX));
            let message =
                format!("{found} weights are more than the {most} this program trains: lower the width or the layers");
            faults.push(fault(Field::Width, message));
        }
        faults
    }

    /// Heads that make keys and values.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.key_value_heads.unwrap_or(self.heads)
    }

    /// Values that a token's query, key and value take together, over all heads of a layer without pruned ones.
    #[must_use]
    pub fn query_key_value_width(&self) -> usize {
        self.width.saturating_add(self.key_value_heads().saturating_mul(self.head_width()).saturating_mul(2))
    }

    /// The heads that a layer has, by their numbers as if none were pruned.
    #[must_use]
    pub fn heads_of(&self, layer: usize) -> Vec<usize> {
        (0..self.heads).filter(|&head| !self.pruned.contains(&(layer, head))).collect()
    }

    /// Query heads, and key/value heads, that a layer has.
    #[must_use]
    pub fn head_counts(&self, layer: usize) -> (usize, usize) {
        let heads = self.heads_of(layer).len();
        (heads, heads * self.key_value_heads() / self.heads.max(1))
    }

    /// Why these heads cannot be pruned, if they cannot: each layer keeps a head, and heads that share keys and values go
    /// together.
    ///
    /// # Errors
    /// One sentence.
    pub fn check_pruned(&self, pruned: &[(usize, usize)]) -> Result<(), String> {
        let shared = self.heads / self.key_value_heads().max(1);
        for &(layer, head) in pruned {
            if layer >= self.layers || head >= self.heads {
                return Err(format!("there is no head {} in layer {} that could be pruned", head + 1, layer + 1));
            }
            let group = head / shared.max(1) * shared;
            if let Some(other) = (group..group + shared).find(|&other| !pruned.contains(&(layer, other))) {
                let (head, other, layer) = (head + 1, other + 1, layer + 1);
                return Err(format!(
                    "head {head} of layer {layer} shares keys and values with head {other}: prune both or none"
                ));
            }
            if (0..self.heads).all(|head| pruned.contains(&(layer, head))) {
                return Err(format!("layer {} must keep one of its heads", layer + 1));
            }
        }
        if pruned.is_sorted_by(|one, other| one < other) {
            return Ok(());
        }
        Err("the pruned heads are not in rising order, each once".into())
    }

    /// Values between the two layers of the MLP.
    #[must_use]
    pub fn mlp_width(&self) -> usize {
        self.mlp_width.unwrap_or(self.width.saturating_mul(4))
    }

    /// Matrices that lead into the MLP: a gated one has two.
    #[must_use]
    pub const fn mlp_inputs(&self) -> usize {
        if matches!(self.activation, Activation::SwiGlu) { 2 } else { 1 }
    }

    /// Where the weights are.
    #[must_use]
    pub fn weights(&self, vocabulary: usize) -> WeightCounts {
        let [width, hidden, joined, inputs] =
            [self.width, self.mlp_width(), self.query_key_value_width(), self.mlp_inputs()].map(|size| size as u64);
        let vocabulary = vocabulary as u64;
        let bias = |present: bool, size: u64| if present { size } else { 0 };
        let matrix = |rows: u64, columns: u64, biases: u64| rows.saturating_mul(columns).saturating_add(biases);
        WeightCounts {
            token_embedding: matrix(vocabulary, width, 0),
            position_embedding: bias(self.position == Position::Learned, matrix(self.context as u64, width, 0)),
            norm: width.saturating_add(bias(self.biases.norms, width)),
            query_key_value: matrix(width, joined, bias(self.biases.query_key_value, joined)),
            projection: matrix(width, width, bias(self.biases.projection, width)),
            mlp_in: matrix(width, hidden, bias(self.biases.mlp, hidden)).saturating_mul(inputs),
            mlp_out: matrix(hidden, width, bias(self.biases.mlp, width)),
            head: bias(!self.tied_head, matrix(vocabulary, width, bias(self.biases.head, vocabulary))),
        }
    }

    /// Number of weights, learned positions included.
    #[must_use]
    pub fn parameter_count(&self, vocabulary: usize) -> u64 {
        let weights = self.weights(vocabulary);
        let outside = [weights.token_embedding, weights.position_embedding, weights.norm, weights.head];
        let outside = outside.into_iter().fold(0, u64::saturating_add);
        let input = self.width.saturating_add(usize::from(self.biases.query_key_value));
        let input = input.saturating_mul(self.head_width());
        let lacking: BTreeSet<usize> = self.pruned.iter().map(|&(layer, _)| layer).collect();
        let pruned = lacking.into_iter().map(|layer| {
            let (heads, groups) = self.head_counts(layer);
            let (heads, groups) = (self.heads - heads, self.key_value_heads() - groups);
            (heads * (input + self.head_width() * self.width) + 2 * groups * input) as u64
        });
        outside.saturating_add((self.layers as u64).saturating_mul(weights.block())) - pruned.sum::<u64>()
    }

    /// Bytes of the weights in a file (32-bit floats).
    #[must_use]
    pub fn file_bytes(&self, vocabulary: usize) -> u64 {
        self.parameter_count(vocabulary).saturating_mul(4)
    }

    pub(super) fn judge(&self, faults: &mut Vec<Fault>) {
        in_range(faults, Field::Layers, "layers", self.layers, 1, 64);
        in_range(faults, Field::Heads, "heads", self.heads, 1, 64);
        in_range(faults, Field::Width, "width", self.width, 1, 4096);
        in_range(faults, Field::Context, "context", self.context, 2, 4096);
        let usable = (1..=64).contains(&self.heads) && (1..=4096).contains(&self.width);
        if usable && !self.width.is_multiple_of(self.heads) {
            let (width, heads) = (self.width, self.heads);
            let (below, above) = (width / heads * heads, (width / heads + 1) * heads);
            let advice = if below == 0 { format!("try {above}") } else { format!("try {below} or {above}") };
            faults.push(fault(Field::Width, format!("width {width} is not a multiple of {heads} heads: {advice}")));
        } else if let (true, Position::Rotary { .. }) = (usable && !self.head_width().is_multiple_of(2), self.position)
        {
            let message = format!(
                "a head of {} values cannot be turned in pairs: rotary positions need an even width / heads",
                self.head_width()
            );
            faults.push(fault(Field::Width, message));
        }
        let groups = self.key_value_heads();
        if usable && !(1..=self.heads).contains(&groups) {
            let message = format!("key/value heads {groups} is not between 1 and {} (the heads)", self.heads);
            faults.push(fault(Field::KeyValueHeads, message));
        } else if usable && !self.heads.is_multiple_of(groups) {
            let message = format!("{groups} key/value heads cannot serve {} heads in equal shares", self.heads);
            faults.push(fault(Field::KeyValueHeads, message));
        }
        if usable {
            in_range(faults, Field::MlpWidth, "MLP width", self.mlp_width(), 1, 16_384);
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon <= 0.1) {
            let message = format!("norm epsilon {} is not above 0 and at most 0.1: try 0.00001", self.norm_epsilon);
            faults.push(fault(Field::NormEpsilon, message));
        }
        if let Position::Rotary { base } = self.position
            && !(base > 1.0 && base <= 1e9)
        {
            faults.push(fault(Field::RotaryBase, format!("rotary base {base} is not above 1: try 10000")));
        }
        if self.biases.norms && self.norm == Norm::RmsNorm {
            faults.push(fault(Field::Biases, "an RMSNorm has no bias: switch the norms' bias off".into()));
        }
        if self.biases.head && self.tied_head {
            faults.push(fault(Field::Biases, "a tied head has no bias: switch its bias off, or untie it".into()));
        }
        if faults.is_empty()
            && let Err(message) = self.check_pruned(&self.pruned)
        {
            faults.push(fault(Field::Heads, message));
        }
        if !(0.0..=0.9).contains(&self.dropout) {
            faults.push(fault(Field::Dropout, format!("dropout {} is not between 0 and 0.9", self.dropout)));
        }
    }
}

/// The number of weights in each part of a model, biases included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightCounts {
    pub token_embedding: u64,
    /// 0 with rotary positions.
    pub position_embedding: u64,
    /// One norm; a block has two, and one stands before the head.
    pub norm: u64,
    pub query_key_value: u64,
    pub projection: u64,
    pub mlp_in: u64,
    pub mlp_out: u64,
    /// 0 when it is tied.
    pub head: u64,
}

impl WeightCounts {
    /// One block.
    #[must_use]
    pub const fn block(&self) -> u64 {
        let attention = self.query_key_value.saturating_add(self.projection);
        self.norm.saturating_mul(2).saturating_add(attention).saturating_add(self.mlp_in).saturating_add(self.mlp_out)
    }
}

/// [`Biases`] as a file spells them out.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Biases", deny_unknown_fields)]
struct BiasFields {
    query_key_value: bool,
    projection: bool,
    mlp: bool,
    norms: bool,
    head: bool,
}

impl Serialize for Biases {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::NONE => serializer.serialize_bool(false),
            Self::USUAL => serializer.serialize_bool(true),
            Self { query_key_value, projection, mlp, norms, head } => {
                BiasFields { query_key_value, projection, mlp, norms, head }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Biases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Biases;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false, or (query_key_value, projection, mlp, norms, head)")
            }
            fn visit_bool<E>(self, usual: bool) -> Result<Biases, E> {
                Ok(usual.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Biases, A::Error> {
                let fields = BiasFields::deserialize(MapAccessDeserializer::new(map))?;
                let BiasFields { query_key_value, projection, mlp, norms, head } = fields;
                Ok(Biases { query_key_value, projection, mlp, norms, head })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
