//! What the network is made of, in words and numbers: one [`Part`] for each thing that is drawn.

use crate::recipe::{Activation, ModelRecipe, Norm, Position, Recipe, grouped};

/// A part of the network. Those of a block are there once for each layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    TokenEmbedding,
    PositionEmbedding,
    Stream,
    AttentionNorm,
    QueryKeyValue,
    Rotation,
    Heads,
    Projection,
    AttentionSum,
    MlpNorm,
    Gate,
    Up,
    Activation,
    Down,
    MlpSum,
    FinalNorm,
    Head,
    Logits,
}

/// What is told of a part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub kind: Kind,
    /// In the drawing, where its place says the rest.
    pub short: String,
    /// By itself.
    pub name: String,
    /// What it does.
    pub sentence: String,
    /// Of its weights (`384 → 1,152`), or of its values where it has none.
    pub shape: String,
    /// What comes out, with this recipe's numbers.
    pub output: String,
    /// Of one; `None` while the vocabulary is not known.
    pub weights: Option<u64>,
    /// How many there are.
    pub times: usize,
}

impl Part {
    /// Its weights over all layers.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.weights.map(|weights| weights * self.times as u64)
    }

    /// For those who do not see the drawing.
    #[must_use]
    pub fn label(&self) -> String {
        let weights = match (self.weights, self.times) {
            (None, _) => "weights not known yet".to_owned(),
            (Some(0), _) => "no weights of its own".to_owned(),
            (Some(weights), 1) => format!("{} weights", grouped(weights)),
            (Some(weights), times) => format!("{} weights in each of {times} layers", grouped(weights)),
        };
        format!("{}: {}, {weights}", self.name, self.shape)
    }
}

/// Every part of the network in the order of the forward pass; what stands on another part comes after it.
#[must_use]
pub(super) fn parts(recipe: &Recipe, vocabulary: Option<usize>) -> Vec<Part> {
    let model = &recipe.model;
    let weights = model.weights(vocabulary.unwrap_or_default());
    let [width, hidden, joined, heads, groups] =
        [model.width, model.mlp_width(), model.query_key_value_width(), model.heads, model.key_value_heads()]
            .map(number);
    let tokens = vocabulary.map_or_else(|| "vocabulary".to_owned(), number);
    let size = number(model.head_width());
    let (batch, context) = (number(recipe.training.batch), number(model.context));
    let along = |last: &str| format!("[batch, position, {last}] = [{batch}, {context}, {last}]");
    let stream = along(&width);
    let bias = |there: bool| if there { " A bias is added." } else { "" };
    let biases = model.biases;
    let outside = |kind, short: &str, sentence: String, shape: String, output: String, count: Option<u64>| Part {
        kind,
        short: short.to_owned(),
        name: short.to_owned(),
        sentence,
        shape,
        output,
        weights: count,
        times: 1,
    };
    let inside = |kind, short: &str, sentence: String, shape: String, output: String, count: u64| Part {
        times: model.layers,
        ..outside(kind, short, sentence, shape, output, Some(count))
    };
    let of_tokens = |count: u64| vocabulary.map(|_| count);
    let named = |name: &str, part: Part| Part { name: name.to_owned(), ..part };

    let mut parts = vec![outside(
        Kind::TokenEmbedding,
        "Token embedding",
        "Looks up a learned vector for each token: the start of the residual stream.".into(),
        format!("{tokens} → {width}"),
        stream.clone(),
        of_tokens(weights.token_embedding),
    )];
    if model.position == Position::Learned {
        parts.push(outside(
            Kind::PositionEmbedding,
            "Position embedding",
            "Adds a learned vector for each place, so that the order of the tokens counts.".into(),
            format!("{context} → {width}"),
            stream.clone(),
            Some(weights.position_embedding),
        ));
    }
    parts.push(outside(
        Kind::Stream,
        "Residual stream",
        "Carries a vector for each token from layer to layer. Every part reads it and adds to it.".into(),
        format!("[batch, position, {width}]"),
        stream.clone(),
        Some(0),
    ));

    let norm = norm_words(model);
    let norm_name = norm_name(model);
    parts.push(named(
        &format!("{norm_name} before attention"),
        inside(Kind::AttentionNorm, norm_name, norm.clone(), width.clone(), stream.clone(), weights.norm),
    ));
    parts.push(inside(
        Kind::QueryKeyValue,
        "Query, key, value",
        format!(
            "Makes {heads} queries, {groups} keys and {groups} values of {size} numbers for each token.{}",
            bias(biases.query_key_value)
        ),
        format!("{width} → {joined}"),
        along(&joined),
        weights.query_key_value,
    ));
    parts.push(named(
        &heads_name(model),
        inside(
            Kind::Heads,
            "Attention",
            heads_sentence(model),
            "[batch, head, query, key]".into(),
            format!("[batch, head, query, key] = [{batch}, {heads}, {context}, {context}]"),
            0,
        ),
    ));
    if let Position::Rotary { base } = model.position {
        let sentence = format!(
            "Turns queries and keys by an angle for each place, so that their product depends on the distance alone. The slowest pair turns once in about 2π × {base} places."
        );
        let output = format!("[batch, head, position, {size}]");
        parts.push(inside(Kind::Rotation, "Rotary positions", sentence, format!("base {base}"), output, 0));
    }
    parts.push(inside(
        Kind::Projection,
        "Projection",
        format!("Mixes what the heads found and writes it to the stream.{}", bias(biases.projection)),
        format!("{width} → {width}"),
        stream.clone(),
        weights.projection,
    ));
    let sum = |kind, name| {
        let sentence = "Adds what was found to the stream, which is otherwise left as it is.".into();
        inside(kind, name, sentence, format!("[batch, position, {width}]"), stream.clone(), 0)
    };
    parts.push(sum(Kind::AttentionSum, "Attention added to the stream"));

    parts.push(named(
        &format!("{norm_name} before the MLP"),
        inside(Kind::MlpNorm, norm_name, norm.clone(), width.clone(), stream.clone(), weights.norm),
    ));
    let one = weights.mlp_in / model.mlp_inputs() as u64;
    let (into, inner) = (format!("{width} → {hidden}"), along(&hidden));
    if model.activation == Activation::SwiGlu {
        let sentence = format!("Says for each value of the MLP how far it is let through.{}", bias(biases.mlp));
        parts.push(named("MLP gate", inside(Kind::Gate, "Gate", sentence, into.clone(), inner.clone(), one)));
    }
    let sentence = format!("Widens each token's vector; each position by itself.{}", bias(biases.mlp));
    parts.push(named("MLP up", inside(Kind::Up, "Up", sentence, into, inner.clone(), one)));
    let (name, formula, sentence) = activation_words(model.activation);
    parts.push(named(
        name,
        inside(Kind::Activation, formula, sentence.into(), format!("[batch, position, {hidden}]"), inner, 0),
    ));
    parts.push(named(
        "MLP down",
        inside(
            Kind::Down,
            "Down",
            format!("Narrows it again and writes it to the stream.{}", bias(biases.mlp)),
            format!("{hidden} → {width}"),
            stream.clone(),
            weights.mlp_out,
        ),
    ));
    parts.push(sum(Kind::MlpSum, "MLP added to the stream"));

    parts.push(named(
        &format!("Final {norm_name}"),
        outside(Kind::FinalNorm, norm_name, norm, width.clone(), stream, Some(weights.norm)),
    ));
    let head = if model.tied_head {
        "Compares the stream with every token's embedding: the head is tied to it and has no weights of its own.".into()
    } else {
        format!("Turns the stream into one score for each token of the vocabulary.{}", bias(biases.head))
    };
    let name = if model.tied_head { "Head, tied to the token embedding" } else { "Head" };
    let count = if model.tied_head { Some(0) } else { of_tokens(weights.head) };
    parts.push(named(name, outside(Kind::Head, "Head", head, format!("{width} → {tokens}"), along(&tokens), count)));
    parts.push(outside(
        Kind::Logits,
        "Logits",
        "One number for each token that may come next: softmax makes probabilities of them.".into(),
        format!("[batch, position, {tokens}]"),
        along(&tokens),
        Some(0),
    ));
    parts
}

fn number(value: usize) -> String {
    grouped(value as u64)
}

const fn norm_name(model: &ModelRecipe) -> &'static str {
    match model.norm {
        Norm::LayerNorm => "LayerNorm",
        Norm::RmsNorm => "RMSNorm",
    }
}

fn norm_words(model: &ModelRecipe) -> String {
    let (what, epsilon) = (
        match model.norm {
            Norm::LayerNorm => "Brings each token's vector to mean 0 and variance 1, then scales each number",
            Norm::RmsNorm => "Brings each token's vector to a root mean square of 1, then scales each number",
        },
        model.norm_epsilon,
    );
    let shift = if model.biases.norms { " and shifts it" } else { "" };
    format!("{what}{shift}; ε is {epsilon}.")
}

fn heads_name(model: &ModelRecipe) -> String {
    let (heads, groups) = (model.heads, model.key_value_heads());
    if heads == groups {
        return format!("Attention of {heads} heads");
    }
    format!("Attention of {heads} query heads that share {groups} keys and values")
}

fn heads_sentence(model: &ModelRecipe) -> String {
    let (heads, groups) = (model.heads, model.key_value_heads());
    let shared = if heads == groups {
        "Each head has its own query, key and value".to_owned()
    } else {
        format!("Each key and value serves {} heads", heads / groups)
    };
    let size = model.head_width();
    format!(
        "{shared}. softmax(query · key / √{size}) says how much each token takes from each earlier one; each row sums to 1."
    )
}

/// Its name, what the drawing says, what it does.
const fn activation_words(activation: Activation) -> (&'static str, &'static str, &'static str) {
    match activation {
        Activation::Gelu => ("GELU", "GELU", "x·Φ(x): a soft step, with the exact Φ."),
        Activation::GeluTanh => ("GELU (tanh)", "GELU (tanh)", "x·Φ(x): a soft step, with Φ through a tanh."),
        Activation::Relu => ("ReLU", "ReLU", "max(0, x): what is below zero becomes zero."),
        Activation::SwiGlu => {
            ("SwiGLU", "silu(gate) × up", "silu(gate) × up, where silu(x) is x times the logistic function of x.")
        }
    }
}
