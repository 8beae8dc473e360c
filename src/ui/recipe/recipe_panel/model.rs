//! The rows of the model: first what every model has, then what tells the families apart, then the details.

use eframe::egui::Ui;

use super::rows::{Choice, Named, Rows, add_value, magnitude};
use crate::recipe::{Activation, Field, Norm, Position, Recipe};

/// Where a rotation begins that was not there: as in the paper (Su et al. 2021).
const USUAL_BASE: f64 = 10_000.0;

const POSITIONS: [Choice<Position>; 2] = [
    Choice {
        value: Position::Learned,
        name: "Learned",
        sentence: "A learned vector is added for each place, as in GPT-2.",
    },
    Choice {
        value: Position::Rotary { base: USUAL_BASE },
        name: "Rotary",
        sentence: "Queries and keys turn with their place, as in Llama.",
    },
];

const NORMS: [Choice<Norm>; 2] = [
    Choice { value: Norm::LayerNorm, name: "LayerNorm", sentence: "Mean 0 and variance 1, as in GPT-2." },
    Choice {
        value: Norm::RmsNorm,
        name: "RMSNorm",
        sentence: "Root mean square 1, the mean left as it is, as in Llama.",
    },
];

const ACTIVATIONS: [Choice<Activation>; 4] = [
    Choice {
        value: Activation::Gelu,
        name: "GELU",
        sentence: "x·Φ(x): a soft step, with the exact Φ as nanoGPT has it.",
    },
    Choice {
        value: Activation::GeluTanh,
        name: "GELU (tanh)",
        sentence: "x·Φ(x), Φ through a tanh: as GPT-2 was trained.",
    },
    Choice { value: Activation::Relu, name: "ReLU", sentence: "max(0, x): many values are zero, as in OPT, GuppyLM." },
    Choice { value: Activation::SwiGlu, name: "SwiGLU", sentence: "A third matrix gates each value, as in Llama." },
];

impl Rows<'_> {
    /// Size and family.
    pub fn model(&mut self, ui: &mut Ui) {
        let named = Named { name: "Layers", tip: "Transformer blocks, one after the other." };
        self.number(ui, named, Some(Field::Layers), 0.05, |r| &mut r.model.layers);
        let named = Named { name: "Heads", tip: "Attention heads in each layer; they share the width equally." };
        self.number(ui, named, Some(Field::Heads), 0.05, |r| &mut r.model.heads);
        let tip = "Numbers that stand for one token inside the model. Dragging keeps to multiples of the heads.";
        let dragged = self.number(ui, Named { name: "Width", tip }, Some(Field::Width), 0.5, |r| &mut r.model.width);
        if dragged {
            let (width, heads) = (self.edited.model.width, self.edited.model.heads.max(1));
            self.edited.model.width = (width.saturating_add(heads / 2) / heads).max(1).saturating_mul(heads);
        }
        let named = Named { name: "Context", tip: "How many tokens the model sees at once." };
        self.number(ui, named, Some(Field::Context), 0.5, |r| &mut r.model.context);

        let named = Named { name: "Positions", tip: "How a token's place enters." };
        self.choice(ui, named, &POSITIONS, |r| &mut r.model.position);
        let named = Named { name: "Norm", tip: "How the stream is scaled before each part reads it." };
        if self.choice(ui, named, &NORMS, |r| &mut r.model.norm) && self.edited.model.norm == Norm::RmsNorm {
            self.edited.model.biases.norms = false;
        }
        let named = Named { name: "MLP", tip: "The function between the two layers of the MLP." };
        self.choice(ui, named, &ACTIVATIONS, |r| &mut r.model.activation);
        let was_tied = self.edited.model.tied_head;
        let tip = "Whether reading tokens in and predicting them share their weights.";
        self.switch(ui, Named { name: "Tied head", tip }, |r| &mut r.model.tied_head);
        if self.edited.model.tied_head && !was_tied {
            self.edited.model.biases.head = false;
        }
    }

    /// What a family fixes once and a beginner leaves alone.
    pub fn details(&mut self, ui: &mut Ui) {
        let tip = "Heads that make keys and values, each for an equal share of the heads (grouped-query attention). \
                   Dragging keeps to divisors of the heads.";
        let (named, follows) = (Named { name: "Key/value heads", tip }, "as heads");
        let pick: fn(&mut Recipe) -> &mut Option<usize> = |r| &mut r.model.key_value_heads;
        if self.following(ui, named, Field::KeyValueHeads, follows, pick, |r| r.model.key_value_heads()) {
            let (heads, dragged) = (self.edited.model.heads, self.edited.model.key_value_heads());
            let divisors = (1..=heads.min(64)).filter(|count| heads.is_multiple_of(*count));
            self.edited.model.key_value_heads = divisors.min_by_key(|count| count.abs_diff(dragged)).or(Some(dragged));
        }
        let tip = "Values between the two layers of the MLP. With SwiGLU's third matrix, 8/3 × width costs what \
                   4 × width costs without.";
        let (named, follows) = (Named { name: "MLP width", tip }, "4 × width");
        let pick: fn(&mut Recipe) -> &mut Option<usize> = |r| &mut r.model.mlp_width;
        self.following(ui, named, Field::MlpWidth, follows, pick, |r| r.model.mlp_width());
        self.rotary_base(ui);
        let named = Named { name: "Norm epsilon", tip: "Added to the variance, against division by zero." };
        self.magnitude(ui, named, Field::NormEpsilon, |r| &mut r.model.norm_epsilon);
        let tip = "Share of activations set to zero while training, against learning by heart.";
        self.fraction(ui, Named { name: "Dropout", tip }, Field::Dropout, |r| &mut r.model.dropout);
        let tip = "Whether what writes to the residual stream begins smaller, by 1/√(2 × layers).";
        self.switch(ui, Named { name: "Scaled residuals", tip }, |r| &mut r.model.scaled_residuals);
    }

    fn rotary_base(&mut self, ui: &mut Ui) {
        let Position::Rotary { base: now } = self.edited.model.position else { return };
        let run = self.run.as_ref().map(|run| run.model.position);
        let changed = matches!(run, Some(Position::Rotary { base }) if base != now);
        let tip = "How slowly the slowest pair turns: once in about 2π × base places.";
        self.row(ui, Named { name: "Rotary base", tip }, Some(Field::RotaryBase), changed, |ui, recipe| {
            let mut base = now;
            let response = add_value(ui, magnitude(&mut base));
            recipe.model.position = Position::Rotary { base };
            response
        });
    }

    /// Where a constant is added.
    pub fn biases(&mut self, ui: &mut Ui) {
        let model = &self.edited.model;
        let no_norm = (model.norm == Norm::RmsNorm).then_some("an RMSNorm has none");
        let no_head = model.tied_head.then_some("a tied head has none");
        let named = Named { name: "Query, key, value", tip: "A constant for each value of query, key and value." };
        self.switch(ui, named, |r| &mut r.model.biases.query_key_value);
        let named = Named { name: "Projection", tip: "A constant where attention writes to the stream." };
        self.switch(ui, named, |r| &mut r.model.biases.projection);
        let named = Named { name: "MLP layers", tip: "A constant in each layer of the MLP." };
        self.switch(ui, named, |r| &mut r.model.biases.mlp);
        let named = Named { name: "Norms", tip: "A constant after the scale of each norm." };
        self.switch_unless(ui, named, no_norm, |r| &mut r.model.biases.norms);
        let named = Named { name: "Head", tip: "A constant for each token that may come next." };
        self.switch_unless(ui, named, no_head, |r| &mut r.model.biases.head);
        self.fault(ui, Field::Biases);
    }
}
