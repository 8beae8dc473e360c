//! `config.json` ↔ [`ModelRecipe`].

use serde_json::{Value, json};

use super::Family;
use super::keys::Keys;
use super::reach::{check_scaling, check_windows, rotary_base};
use crate::recipe::{Activation, Biases, ModelRecipe, Norm, Position};

/// The longest context that is taken over without being asked for, where the weights do not depend on it.
const ROTARY_CONTEXT: usize = 1024;

/// What a config says.
#[derive(Debug)]
pub(super) struct Read {
    pub family: Family,
    pub recipe: ModelRecipe,
    pub vocabulary: usize,
    pub notes: Vec<String>,
}

/// Reads a config.
///
/// # Errors
/// Names the key that is missing, of another kind, or asks for something that this program lacks.
pub(super) fn read(config: &Value, context: Option<usize>) -> Result<Read, String> {
    let keys = Keys(config.as_object().ok_or("not a JSON object")?);
    let kind = keys.text("model_type", None)?;
    keys.refuse("quantization_config", "quantized weights")?;
    // transformers 5 asks it of every family.
    keys.must_be("is_causal", true)?;
    let (family, mut recipe) = match kind {
        "gpt2" => (Family::Gpt2, gpt2(&keys)?),
        "opt" => (Family::Opt, opt(&keys)?),
        "llama" => (Family::Llama, llama(&keys)?),
        "phi3" => (Family::Phi3, phi3(&keys)?),
        "nanogpt" | "headlight" => {
            return Err("this is an export with nanoGPT's names: export the run again with --format hf".into());
        }
        other => {
            return Err(format!("models of the type '{other}' are not read; those of gpt2, opt, llama and phi3 are"));
        }
    };
    let mut notes = Vec::new();
    let whole = recipe.context;
    let rotary = matches!(recipe.position, Position::Rotary { .. });
    let wanted = context.unwrap_or(if rotary { whole.min(ROTARY_CONTEXT) } else { whole });
    if wanted > whole {
        return Err(format!("a context of {wanted} was asked for, but the model knows only {whole} positions"));
    }
    if wanted < whole && !rotary {
        return Err(format!("the model has a learned vector for each of {whole} positions: its context stays {whole}"));
    }
    if wanted < whole && context.is_none() {
        notes.push(format!("the context is {wanted} of the model's {whole} positions (headlight import --context N)"));
    }
    recipe.context = wanted;
    if rotary {
        check_windows(&keys, family, wanted, &mut notes)?;
        check_scaling(&keys, family, wanted)?;
    }
    Ok(Read { family, recipe, vocabulary: keys.size("vocab_size", None)?, notes })
}

fn gpt2(keys: &Keys<'_>) -> Result<ModelRecipe, String> {
    keys.must_be("scale_attn_weights", true)?;
    keys.must_be("add_cross_attention", false)?;
    // GPT-2's own names, and what all families call it (`attribute_map` in transformers).
    let layers = keys.size_of(["n_layer", "num_hidden_layers"])?;
    let width = keys.size_of(["n_embd", "hidden_size"])?;
    let positions = ["n_positions", "max_position_embeddings"];
    let written = positions.iter().any(|name| keys.value(name).is_some()) || keys.value("n_ctx").is_none();
    if layers > 1 {
        // The first layer is divided by one.
        keys.must_be("scale_attn_by_inverse_layer_idx", false)?;
    }
    Ok(ModelRecipe {
        layers,
        heads: keys.size_of(["n_head", "num_attention_heads"])?,
        key_value_heads: None,
        width,
        // Files of long ago have it under this name as well.
        context: if written { keys.size_of(positions)? } else { keys.size("n_ctx", None)? },
        norm: Norm::LayerNorm,
        norm_epsilon: keys.number("layer_norm_epsilon", 1e-5)?,
        position: Position::Learned,
        activation: keys.activation("activation_function", "gelu_new")?,
        mlp_width: keys.other_than(4 * width, "n_inner")?,
        dropout: keys.number("resid_pdrop", 0.1)?,
        biases: Biases::USUAL,
        tied_head: keys.flag("tie_word_embeddings", true)?,
        scaled_residuals: true,
        pruned: Vec::new(),
    })
}

fn opt(keys: &Keys<'_>) -> Result<ModelRecipe, String> {
    keys.must_be("do_layer_norm_before", true)?;
    keys.must_be("layer_norm_elementwise_affine", true)?;
    keys.must_be("_remove_final_layer_norm", false)?;
    let width = keys.size("hidden_size", None)?;
    let projected = keys.size("word_embed_proj_dim", Some(width))?;
    if projected != width {
        return Err(format!("'word_embed_proj_dim' {projected} is not the width {width}: not supported"));
    }
    let linear = keys.flag("enable_bias", true)?;
    Ok(ModelRecipe {
        layers: keys.size("num_hidden_layers", None)?,
        heads: keys.size("num_attention_heads", None)?,
        key_value_heads: None,
        width,
        context: keys.size("max_position_embeddings", None)?,
        norm: Norm::LayerNorm,
        norm_epsilon: 1e-5,
        position: Position::Learned,
        activation: keys.activation("activation_function", "relu")?,
        mlp_width: keys.other_than(4 * width, "ffn_dim")?,
        dropout: keys.number("dropout", 0.1)?,
        biases: Biases { norms: true, ..linear_biases(linear, linear) },
        tied_head: keys.flag("tie_word_embeddings", true)?,
        scaled_residuals: false,
        pruned: Vec::new(),
    })
}

fn llama(keys: &Keys<'_>) -> Result<ModelRecipe, String> {
    let biases = linear_biases(keys.flag("attention_bias", false)?, keys.flag("mlp_bias", false)?);
    Ok(ModelRecipe { biases, ..gated(keys, 1e-6)? })
}

fn phi3(keys: &Keys<'_>) -> Result<ModelRecipe, String> {
    Ok(ModelRecipe { dropout: keys.number("resid_pdrop", 0.0)?, ..gated(keys, 1e-5)? })
}

/// What Llama and Phi-3 have in common; `epsilon` is the usual one.
fn gated(keys: &Keys<'_>, epsilon: f64) -> Result<ModelRecipe, String> {
    let width = keys.size("hidden_size", None)?;
    let heads = keys.size("num_attention_heads", None)?;
    let groups = keys.size("num_key_value_heads", Some(heads))?;
    let head_width = width / heads;
    let found = keys.size("head_dim", Some(head_width))?;
    if found != head_width {
        return Err(format!("'head_dim' {found} is not the width {width} / {heads} heads: not supported"));
    }
    match keys.text("hidden_act", Some("silu"))? {
        "silu" | "swish" => {}
        other => return Err(format!("the activation '{other}' ('hidden_act') is not supported; silu is")),
    }
    Ok(ModelRecipe {
        layers: keys.size("num_hidden_layers", None)?,
        heads,
        key_value_heads: (groups != heads).then_some(groups),
        width,
        context: keys.size("max_position_embeddings", None)?,
        norm: Norm::RmsNorm,
        norm_epsilon: keys.number("rms_norm_eps", epsilon)?,
        position: Position::Rotary { base: rotary_base(keys)? },
        activation: Activation::SwiGlu,
        mlp_width: keys.other_than(4 * width, "intermediate_size")?,
        dropout: 0.0,
        biases: Biases::NONE,
        tied_head: keys.flag("tie_word_embeddings", false)?,
        scaled_residuals: false,
        pruned: Vec::new(),
    })
}

const fn linear_biases(attention: bool, mlp: bool) -> Biases {
    Biases { query_key_value: attention, projection: attention, mlp, norms: false, head: false }
}

/// The family whose own design a model has.
///
/// # Errors
/// Why each family cannot hold it.
pub(in crate::runs) fn family_of(recipe: &ModelRecipe) -> Result<Family, String> {
    let order = match (recipe.position, recipe.activation) {
        (Position::Rotary { .. }, _) => [Family::Llama, Family::Phi3, Family::Gpt2, Family::Opt],
        (_, Activation::Relu) => [Family::Opt, Family::Gpt2, Family::Llama, Family::Phi3],
        _ => [Family::Gpt2, Family::Opt, Family::Llama, Family::Phi3],
    };
    let mut reasons = Vec::new();
    for family in order {
        match fits(family, recipe) {
            Ok(()) => return Ok(family),
            Err(why) => reasons.push(why),
        }
    }
    Err(format!(
        "no family of transformers holds this model ({}): take --format checkpoint, or train one without that",
        reasons.join("; ")
    ))
}

/// Whether a family can hold a model.
///
/// # Errors
/// What it lacks, in words.
pub(super) fn fits(family: Family, recipe: &ModelRecipe) -> Result<(), String> {
    let gated = matches!(family, Family::Llama | Family::Phi3);
    let learned = recipe.position == Position::Learned;
    let lacks = |what: &str| Err(format!("{family} has no {what}"));
    let ModelRecipe { norm, activation, biases, .. } = recipe;
    match family {
        _ if biases.head => lacks("bias on the head"),
        Family::Gpt2 | Family::Opt if !learned => lacks("rotary positions"),
        Family::Llama | Family::Phi3 if learned => lacks("learned positions"),
        Family::Gpt2 | Family::Opt if *norm == Norm::RmsNorm => lacks("RMSNorm"),
        Family::Llama | Family::Phi3 if *norm == Norm::LayerNorm => lacks("LayerNorm"),
        _ if gated != (*activation == Activation::SwiGlu) => lacks(if gated { "MLP without a gate" } else { "SwiGLU" }),
        Family::Gpt2 | Family::Opt if recipe.key_value_heads() != recipe.heads => lacks("grouped key/value heads"),
        Family::Opt if recipe.norm_epsilon != 1e-5 => lacks("other norm epsilon than 0.00001"),
        Family::Phi3 if *biases != Biases::NONE => lacks("biases"),
        _ => Ok(()),
    }
}

/// The config of a model that the family can hold.
pub(super) fn write(family: Family, recipe: &ModelRecipe, vocabulary: usize) -> Value {
    let ModelRecipe { layers, heads, width, context, norm_epsilon, dropout, biases, tied_head, .. } = recipe;
    let (hidden, groups) = (recipe.mlp_width(), recipe.key_value_heads());
    let activation = match recipe.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu => "relu",
        Activation::SwiGlu => "silu",
    };
    let base = if let Position::Rotary { base } = recipe.position { base } else { 0.0 };
    let mut config = match family {
        Family::Gpt2 => json!({
            "architectures": ["GPT2LMHeadModel"],
            "n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": context, "n_inner": hidden,
            "activation_function": activation, "layer_norm_epsilon": norm_epsilon,
            "resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout,
        }),
        Family::Opt => json!({
            "architectures": ["OPTForCausalLM"],
            "num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": width,
            "word_embed_proj_dim": width, "max_position_embeddings": context, "ffn_dim": hidden,
            "activation_function": activation, "do_layer_norm_before": true,
            "enable_bias": biases.query_key_value || biases.projection || biases.mlp,
            "dropout": dropout, "attention_dropout": dropout,
        }),
        Family::Llama | Family::Phi3 => json!({
            "architectures": [if family == Family::Llama { "LlamaForCausalLM" } else { "Phi3ForCausalLM" }],
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": groups,
            "hidden_size": width, "max_position_embeddings": context, "intermediate_size": hidden,
            "hidden_act": activation, "rms_norm_eps": norm_epsilon,
            // The first for transformers 5, the second for older ones.
            "rope_parameters": { "rope_theta": base, "rope_type": "default" }, "rope_theta": base,
        }),
    };
    let shared = match family {
        Family::Llama => json!({
            "attention_bias": biases.query_key_value || biases.projection, "mlp_bias": biases.mlp,
        }),
        Family::Phi3 => json!({
            "original_max_position_embeddings": context, "sliding_window": null,
            "resid_pdrop": dropout, "embd_pdrop": dropout, "attention_dropout": dropout,
        }),
        Family::Gpt2 | Family::Opt => json!({}),
    };
    let common = json!({
        "model_type": family.name(), "vocab_size": vocabulary, "tie_word_embeddings": tied_head,
        // Said even where there is none: the defaults of some families lie outside a small vocabulary.
        "bos_token_id": null, "eos_token_id": null, "pad_token_id": null, "dtype": "float32",
    });
    for more in [shared, common] {
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
    }
    config
}
