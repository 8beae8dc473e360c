//! What makes a checkpoint itself: digests that tell an altered file from a good one, and one model's from another's.
//!
//! # Format 2
//!
//! A digest is the SHA-256 of a list. Each entry is a name and a value, both written as their length (8 bytes, the lowest
//! first) and then their bytes; so no two lists are written alike. Whole numbers are 8 bytes, truth values 1, floating-point
//! numbers their bits, all the lowest byte first; a choice is its name here, which never changes.
//!
//! * The owner's list: `what` = `owner`, `layers`, `heads`, `width`, `context`, `tied_head`; then, where they are not as in
//!   GPT-2, `key_value_heads`, `norm`, `norm_epsilon`, `rotary_base`, `activation`, `mlp_width`, `biases.query_key_value`,
//!   `biases.projection`, `biases.mlp`, `biases.norms`, `biases.head`, `scaled_residuals`, and `pruned` once for each head;
//!   then `tokenizer` (its kind) and `vocabulary`. Dropout is left out: it is no part of the model's shape.
//! * The contents' list: `what` = `checkpoint`, `format`, `owner`, `updates`, `step`, `learning_rate`, `final_learning_rate`,
//!   `elapsed_secs`, `best_validation_loss` where there is one; then for each tensor in the order of their names `tensor`
//!   (its name), `shape`, `values`.
//!
//! **A field that is added to the recipe or to the training state** is listed behind the others, under a name of its own,
//! and only where it is not what files without it mean. So the lists of everything written before stay as they are. The
//! rule is changed in no other way without a new format; the functions take recipe and state apart in full, so that the
//! compiler asks what becomes of a new field.
//!
//! # Format 1
//!
//! Its digests were over the text that Rust's `Debug` printed for the recipe and the state as they were then. That text is
//! written out by hand here, for ever: what these types become later changes nothing in it.

use sha2::{Digest, Sha256};

use super::TrainingState;
use crate::recipe::{Activation, Biases, ModelRecipe, Norm, Position};
use crate::runs::tensors::Encoded;
use crate::text::Tokenizer;

/// The newest format, which is written.
pub(super) const FORMAT: u32 = 2;

/// The digest of a model's shape and tokenizer by the rule of a format, which is a known one.
pub(super) fn owner(format: u32, recipe: &ModelRecipe, tokenizer: &Tokenizer) -> String {
    if format == 1 { owner_1(recipe, tokenizer) } else { owner_2(recipe, tokenizer) }
}

/// The digest of a checkpoint's contents by the rule of its format, which is a known one.
pub(super) fn contents(format: u32, state: &TrainingState, updates: u64, owner: &str, tensors: &[Encoded]) -> String {
    // Which is not their order in a file.
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by(|a, b| a.name.cmp(&b.name));
    if format == 1 { contents_1(state, updates, owner, &order) } else { contents_2(state, updates, owner, &order) }
}

/// A list of names and values that is being hashed.
struct List(Sha256);

impl List {
    fn of(what: &str) -> Self {
        let mut list = Self(Sha256::new());
        list.add("what", what.as_bytes());
        list
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.add(name, &value.to_le_bytes());
    }

    fn real(&mut self, name: &str, value: f64) {
        self.add(name, &value.to_bits().to_le_bytes());
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.add(name, &[u8::from(value)]);
    }

    fn finish(self) -> String {
        hex(self.0)
    }
}

fn owner_2(recipe: &ModelRecipe, tokenizer: &Tokenizer) -> String {
    let ModelRecipe {
        layers,
        heads,
        key_value_heads: _,
        width,
        context,
        norm,
        norm_epsilon,
        position,
        activation,
        mlp_width: _,
        dropout: _,
        biases,
        tied_head,
        scaled_residuals,
        pruned,
    } = recipe;
    let mut list = List::of("owner");
    for (name, size) in [("layers", layers), ("heads", heads), ("width", width), ("context", context)] {
        list.number(name, *size as u64);
    }
    list.truth("tied_head", *tied_head);
    if recipe.key_value_heads() != *heads {
        list.number("key_value_heads", recipe.key_value_heads() as u64);
    }
    match norm {
        Norm::LayerNorm => {}
        Norm::RmsNorm => list.add("norm", b"RMSNorm"),
    }
    if *norm_epsilon != 1e-5 {
        list.real("norm_epsilon", *norm_epsilon);
    }
    match position {
        Position::Learned => {}
        Position::Rotary { base } => list.real("rotary_base", *base),
    }
    match activation {
        Activation::Gelu => {}
        Activation::GeluTanh => list.add("activation", b"GELU through tanh"),
        Activation::Relu => list.add("activation", b"ReLU"),
        Activation::SwiGlu => list.add("activation", b"SwiGLU"),
    }
    if recipe.mlp_width() != 4 * width {
        list.number("mlp_width", recipe.mlp_width() as u64);
    }
    let Biases { query_key_value, projection, mlp, norms, head } = *biases;
    for (name, has, usual) in [
        ("biases.query_key_value", query_key_value, true),
        ("biases.projection", projection, true),
        ("biases.mlp", mlp, true),
        ("biases.norms", norms, true),
        ("biases.head", head, false),
    ] {
        if has != usual {
            list.truth(name, has);
        }
    }
    if !scaled_residuals {
        list.truth("scaled_residuals", false);
    }
    for &(layer, head) in pruned {
        list.add("pruned", &[layer as u64, head as u64].map(u64::to_le_bytes).concat());
    }
    match tokenizer {
        Tokenizer::Characters(characters) => {
            list.add("tokenizer", b"characters");
            list.add("vocabulary", characters.characters().iter().collect::<String>().as_bytes());
        }
        Tokenizer::Bpe(bpe) => {
            list.add("tokenizer", b"byte-level BPE");
            list.number("rows", bpe.vocabulary() as u64);
            list.add("vocabulary", bpe.digest().as_bytes());
        }
        Tokenizer::Numbers(rows) => {
            list.add("tokenizer", b"numbers");
            list.number("rows", *rows as u64);
        }
    }
    list.finish()
}

fn contents_2(state: &TrainingState, updates: u64, owner: &str, tensors: &[&Encoded]) -> String {
    let TrainingState { step, learning_rate, final_learning_rate, elapsed_secs, best_validation_loss } = *state;
    let mut list = List::of("checkpoint");
    list.number("format", 2);
    list.add("owner", owner.as_bytes());
    list.number("updates", updates);
    list.number("step", step.0);
    list.real("learning_rate", learning_rate);
    list.real("final_learning_rate", final_learning_rate);
    list.real("elapsed_secs", elapsed_secs);
    if let Some(best) = best_validation_loss {
        list.add("best_validation_loss", &best.to_bits().to_le_bytes());
    }
    for Encoded { name, shape, bytes } in tensors {
        list.add("tensor", name.as_bytes());
        list.add("shape", &shape.iter().flat_map(|&size| (size as u64).to_le_bytes()).collect::<Vec<u8>>());
        list.add("values", bytes);
    }
    list.finish()
}

fn owner_1(recipe: &ModelRecipe, tokenizer: &Tokenizer) -> String {
    let ModelRecipe { layers, heads, width, context, tied_head, .. } = recipe;
    let mut hasher = Sha256::new();
    hasher.update(format!("{layers} {heads} {width} {context} {} {tied_head} ", recipe.biases == Biases::USUAL));
    // Models of GPT-2's kind had a digest before there were others, and kept it.
    let gpt2 = recipe.key_value_heads.is_none()
        && recipe.norm == Norm::LayerNorm
        && recipe.norm_epsilon == 1e-5
        && recipe.position == Position::Learned
        && recipe.activation == Activation::Gelu
        && recipe.mlp_width.is_none()
        && (recipe.biases == Biases::USUAL || recipe.biases == Biases::NONE)
        && recipe.scaled_residuals
        && recipe.pruned.is_empty();
    if !gpt2 {
        hasher.update(recipe_text_1(recipe));
    }
    hasher.update(match tokenizer {
        Tokenizer::Characters(characters) => characters.characters().iter().collect(),
        Tokenizer::Bpe(bpe) => format!("bpe {} {}", bpe.vocabulary(), bpe.digest()),
        Tokenizer::Numbers(rows) => format!("numbers {rows}"),
    });
    hex(hasher)
}

/// A recipe as format 1 spelled it, without dropout.
fn recipe_text_1(recipe: &ModelRecipe) -> String {
    let ModelRecipe { layers, heads, width, context, norm_epsilon, tied_head, scaled_residuals, .. } = recipe;
    let number = |number: Option<usize>| number.map_or_else(|| "None".to_owned(), |number| format!("Some({number})"));
    let norm = match recipe.norm {
        Norm::LayerNorm => "LayerNorm",
        Norm::RmsNorm => "RmsNorm",
    };
    let position = match recipe.position {
        Position::Learned => "Learned".to_owned(),
        Position::Rotary { base } => format!("Rotary {{ base: {base:?} }}"),
    };
    let activation = match recipe.activation {
        Activation::Gelu => "Gelu",
        Activation::GeluTanh => "GeluTanh",
        Activation::Relu => "Relu",
        Activation::SwiGlu => "SwiGlu",
    };
    let Biases { query_key_value, projection, mlp, norms, head } = recipe.biases;
    let pruned: Vec<String> = recipe.pruned.iter().map(|(layer, head)| format!("({layer}, {head})")).collect();
    let pruned = if pruned.is_empty() { String::new() } else { format!(", pruned: [{}]", pruned.join(", ")) };
    format!(
        "ModelRecipe {{ layers: {layers}, heads: {heads}, key_value_heads: {}, width: {width}, context: {context}, \
         norm: {norm}, norm_epsilon: {norm_epsilon:?}, position: {position}, activation: {activation}, mlp_width: {}, \
         dropout: 0.0, biases: Biases {{ query_key_value: {query_key_value}, projection: {projection}, mlp: {mlp}, \
         norms: {norms}, head: {head} }}, tied_head: {tied_head}, scaled_residuals: {scaled_residuals}{pruned} }}",
        number(recipe.key_value_heads),
        number(recipe.mlp_width),
    )
}

fn contents_1(state: &TrainingState, updates: u64, owner: &str, tensors: &[&Encoded]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("1 {} {updates} {owner}", state_text_1(state)));
    for Encoded { name, shape, bytes } in tensors {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        hasher.update(format!("{name} [{}]", sizes.join(", ")));
        hasher.update(bytes);
    }
    hex(hasher)
}

/// A training state as format 1 spelled it.
fn state_text_1(state: &TrainingState) -> String {
    let TrainingState { step, learning_rate, final_learning_rate, elapsed_secs, best_validation_loss, .. } = state;
    let best = best_validation_loss.map_or_else(|| "None".to_owned(), |best| format!("Some({best:?})"));
    format!(
        "TrainingState {{ step: Step({}), learning_rate: {learning_rate:?}, final_learning_rate: {final_learning_rate:?}, \
         elapsed_secs: {elapsed_secs:?}, best_validation_loss: {best} }}",
        step.0
    )
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::protocol::Step;
    use crate::text::CharTokenizer;

    fn recipe() -> ModelRecipe {
        let small = ModelRecipe {
            layers: 2,
            heads: 4,
            width: 16,
            context: 8,
            dropout: 0.1,
            ..crate::preset::first().recipe.model
        };
        ModelRecipe { biases: Biases::USUAL, tied_head: true, ..small.as_gpt2() }
    }

    fn state() -> TrainingState {
        TrainingState {
            step: Step(6),
            learning_rate: 1e-3,
            final_learning_rate: 1e-5,
            elapsed_secs: 0.25,
            best_validation_loss: Some(2.5),
        }
    }

    fn letters(letters: &str) -> Tokenizer {
        CharTokenizer::from_chars(letters.chars()).into()
    }

    #[test]
    fn format_1_spells_as_rust_did() {
        let other = ModelRecipe {
            key_value_heads: Some(2),
            norm: Norm::RmsNorm,
            position: Position::Rotary { base: 10_000.0 },
            activation: Activation::SwiGlu,
            mlp_width: Some(48),
            biases: Biases::NONE,
            pruned: vec![(0, 0), (0, 1)],
            ..recipe()
        };
        assert_eq!(
            recipe_text_1(&other),
            "ModelRecipe { layers: 2, heads: 4, key_value_heads: Some(2), width: 16, context: 8, norm: RmsNorm, \
             norm_epsilon: 1e-5, position: Rotary { base: 10000.0 }, activation: SwiGlu, mlp_width: Some(48), dropout: 0.0, \
             biases: Biases { query_key_value: false, projection: false, mlp: false, norms: false, head: false }, \
             tied_head: true, scaled_residuals: true, pruned: [(0, 0), (0, 1)] }"
        );
        assert_eq!(
            state_text_1(&state()),
            "TrainingState { step: Step(6), learning_rate: 0.001, final_learning_rate: 1e-5, elapsed_secs: 0.25, \
             best_validation_loss: Some(2.5) }"
        );
        assert!(
            state_text_1(&TrainingState { best_validation_loss: None, ..state() })
                .ends_with("best_validation_loss: None }")
        );
        // As the first program wrote it: of GPT-2's kind these few words, and the characters.
        let wanted = hex(Sha256::new_with_prefix("2 4 16 8 true true abc"));
        assert_eq!(owner(1, &recipe(), &letters("abc")), wanted);
    }

    /// The very digests: whoever changes them makes every checkpoint an altered one.
    #[test]
    fn format_2_is_what_it_was() {
        assert_eq!(
            owner(2, &recipe(), &letters("abc")),
            "2f613574c4098be0aff5959463c535e3694fbd3756b9ad14a57cc46cda8f62e2"
        );
        let tensor = Encoded { name: "model.a".into(), shape: vec![1, 2], bytes: vec![0; 8] };
        assert_eq!(
            contents(2, &state(), 6, "somebody", &[tensor]),
            "3c48d14a4638b916180ef8bbf66f3f356e1a7b863ee72f6eca388230d1cc222f"
        );
    }

    #[test]
    fn everything_of_the_shape_makes_another_owner_and_dropout_does_not() {
        let base = recipe();
        let all = [
            base.clone(),
            ModelRecipe { layers: 3, ..base.clone() },
            ModelRecipe { heads: 2, ..base.clone() },
            ModelRecipe { width: 32, ..base.clone() },
            ModelRecipe { context: 9, ..base.clone() },
            ModelRecipe { tied_head: false, ..base.clone() },
            ModelRecipe { key_value_heads: Some(2), ..base.clone() },
            ModelRecipe { norm: Norm::RmsNorm, ..base.clone() },
            ModelRecipe { norm_epsilon: 1e-6, ..base.clone() },
            ModelRecipe { position: Position::Rotary { base: 10_000.0 }, ..base.clone() },
            ModelRecipe { position: Position::Rotary { base: 10_001.0 }, ..base.clone() },
            ModelRecipe { activation: Activation::GeluTanh, ..base.clone() },
            ModelRecipe { activation: Activation::Relu, ..base.clone() },
            ModelRecipe { activation: Activation::SwiGlu, ..base.clone() },
            ModelRecipe { mlp_width: Some(48), ..base.clone() },
            ModelRecipe { biases: Biases::NONE, ..base.clone() },
            ModelRecipe { biases: Biases { head: true, ..Biases::USUAL }, ..base.clone() },
            ModelRecipe { biases: Biases { norms: false, ..Biases::USUAL }, ..base.clone() },
            ModelRecipe { scaled_residuals: false, ..base.clone() },
            ModelRecipe { pruned: vec![(0, 1)], ..base.clone() },
            ModelRecipe { pruned: vec![(1, 0)], ..base.clone() },
        ];
        for format in [1, FORMAT] {
            let owners: HashSet<String> = all.iter().map(|recipe| owner(format, recipe, &letters("abc"))).collect();
            assert_eq!(owners.len(), all.len(), "format {format}");
            assert!(!owners.contains(&owner(format, &base, &letters("abd"))));
            assert!(!owners.contains(&owner(format, &base, &Tokenizer::Numbers(3))));
            let calm = ModelRecipe { dropout: 0.0, ..base.clone() };
            assert!(owners.contains(&owner(format, &calm, &letters("abc"))), "format {format}");
        }
        // Written out or left out, it is the same shape.
        let spelled = ModelRecipe { key_value_heads: Some(4), mlp_width: Some(64), ..base.clone() };
        assert_eq!(owner(2, &spelled, &letters("abc")), owner(2, &base, &letters("abc")));
    }

    #[test]
    fn every_value_of_a_checkpoint_is_in_its_digest() {
        let tensor = |name: &str, shape: &[usize], byte: u8| Encoded {
            name: name.into(),
            shape: shape.into(),
            bytes: vec![byte; 8],
        };
        let of = |state: TrainingState, updates, owner: &str, tensors: &[Encoded]| {
            contents(2, &state, updates, owner, tensors)
        };
        let (one, two) = (|| tensor("a", &[2], 1), || tensor("b", &[2], 1));
        let base = of(state(), 6, "x", &[one(), two()]);
        assert_eq!(of(state(), 6, "x", &[two(), one()]), base, "their order in the file is no matter");
        let others = [
            of(TrainingState { step: Step(7), ..state() }, 6, "x", &[one(), two()]),
            of(TrainingState { learning_rate: 1e-4, ..state() }, 6, "x", &[one(), two()]),
            of(TrainingState { final_learning_rate: 1e-4, ..state() }, 6, "x", &[one(), two()]),
            of(TrainingState { elapsed_secs: 1.0, ..state() }, 6, "x", &[one(), two()]),
            of(TrainingState { best_validation_loss: None, ..state() }, 6, "x", &[one(), two()]),
            of(state(), 7, "x", &[one(), two()]),
            of(state(), 6, "y", &[one(), two()]),
            of(state(), 6, "x", &[one()]),
            of(state(), 6, "x", &[one(), tensor("b", &[1, 2], 1)]),
            of(state(), 6, "x", &[one(), tensor("b", &[2], 2)]),
            of(state(), 6, "x", &[one(), tensor("c", &[2], 1)]),
        ];
        assert!(!others.contains(&base));
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
    }
}
