//! What a config says of how far a token sees and of how places are told apart: much of it changes no number at the context
//! that is taken over, and is refused only where it does.

use serde_json::Value;

use super::Family;
use super::keys::Keys;

/// The positions that transformers takes a Phi-3 to be trained with where its config does not say.
const PHI3_TRAINED: usize = 4096;

/// Looks whether attention to the last tokens alone is attention to all of them, in a context of so many.
///
/// # Errors
/// Where it is not, and which context to ask for.
pub(super) fn check_windows(
    keys: &Keys<'_>,
    family: Family,
    context: usize,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    if !slides(keys, family)? {
        return Ok(());
    }
    for key in ["sliding_window", "attention_chunk_size"] {
        if matches!(keys.value(key), None | Some(Value::Bool(false))) {
            continue;
        }
        // A window of 0 would show nothing.
        let window = match keys.value(key) {
            Some(value) if value.as_u64() == Some(0) => 0,
            _ => keys.size(key, None)?,
        };
        if window >= context {
            notes.push(format!(
                "its window of {window} tokens ('{key}') hides nothing at the context of {context} that is taken over"
            ));
            continue;
        }
        let instead = match window {
            0 | 1 => String::new(),
            _ => format!(". At a context of {window} or less it hides nothing: headlight import --context {window}"),
        };
        return Err(format!(
            "sliding-window attention ('{key}' {window}) is not supported at a context of {context}{instead}"
        ));
    }
    Ok(())
}

/// Whether a window counts at all. transformers' Phi-3 asks `sliding_window` alone; its Llama has none, but what calls
/// itself one may.
fn slides(keys: &Keys<'_>, family: Family) -> Result<bool, String> {
    let used = keys.value("use_sliding_window").is_none() || keys.flag("use_sliding_window", true)?;
    let mut all_full = false;
    if let Some(types) = keys.value("layer_types") {
        let types = types.as_array().ok_or_else(|| format!("'layer_types' is {types}, not a list"))?;
        let known = ["full_attention", "sliding_attention", "chunked_attention"].map(Value::from);
        if let Some(other) = types.iter().find(|kind| !known.contains(kind)) {
            return Err(format!("layers of the kind {other} ('layer_types') are not supported; full_attention is"));
        }
        all_full = types.iter().all(|kind| *kind == known[0]);
        if !all_full && ["sliding_window", "attention_chunk_size"].iter().all(|key| keys.value(key).is_none()) {
            return Err("'layer_types' asks for sliding attention, but no 'sliding_window' says of how many".into());
        }
    }
    Ok(family == Family::Phi3 || (used && !all_full))
}

/// The base of rotary positions. transformers 5 writes `rope_parameters`, older ones `rope_theta` and `rope_scaling`.
///
/// # Errors
/// If there are several.
pub(super) fn rotary_base(keys: &Keys<'_>) -> Result<f64, String> {
    let mut bases = Vec::new();
    for part in [vec![Keys(keys.0)], parts(keys)?].concat() {
        bases.extend(part.value("rope_theta").map(|_| part.number("rope_theta", 0.0)));
    }
    let bases = bases.into_iter().collect::<Result<Vec<f64>, String>>()?;
    match bases.as_slice() {
        [] => Ok(10_000.0),
        [base, others @ ..] if others.iter().all(|other| other == base) => Ok(*base),
        _ => Err(format!("its 'rope_theta' are not the same: {bases:?}")),
    }
}

/// Looks whether rotary positions are plain ones at a context of so many tokens.
///
/// # Errors
/// Names the kind of scaling that changes them.
pub(super) fn check_scaling(keys: &Keys<'_>, family: Family, context: usize) -> Result<(), String> {
    for part in [vec![Keys(keys.0)], parts(keys)?].concat() {
        match part.number("partial_rotary_factor", 1.0)? {
            1.0 => {}
            part => {
                return Err(format!(
                    "rotary positions on a part of a head ('partial_rotary_factor' {part}) are not supported"
                ));
            }
        }
    }
    for part in parts(keys)? {
        // Versions of transformers differ in which of the two names they believe.
        for name in ["rope_type", "type"] {
            let kind = part.text(name, Some("default"))?;
            if !is_plain(kind, &part, keys, family, context)? {
                let factor = part.value("factor").map_or_else(String::new, |factor| format!(", factor {factor}"));
                return Err(format!("scaled rotary positions (rope type '{kind}'{factor}) are not supported"));
            }
        }
    }
    Ok(())
}

/// Whether a kind of scaling scales nothing (`modeling_rope_utils.py` of transformers).
fn is_plain(kind: &str, part: &Keys<'_>, keys: &Keys<'_>, family: Family, context: usize) -> Result<bool, String> {
    let is_one = |key: &str, usual: f64| part.number(key, usual).map(|number| number == 1.0);
    let whole = keys.size("max_position_embeddings", Some(usize::MAX))?;
    let usual = if family == Family::Phi3 { PHI3_TRAINED } else { usize::MAX };
    let usual = keys.size("original_max_position_embeddings", Some(usual))?;
    let trained = part.size("original_max_position_embeddings", Some(usual))?.min(usual);
    Ok(match kind {
        "default" => true,
        "linear" | "llama3" => is_one("factor", 0.0)?,
        // It begins past the positions that the model was made for.
        "dynamic" => part.number("factor", 1.0)? >= 1.0 && context <= trained.min(whole),
        // Both also scale the attention, by the ratio of the two lengths or as they are told to.
        "yarn" => is_one("factor", 0.0)? && is_one("attention_factor", 1.0)? && trained >= whole,
        "longrope" | "su" => {
            let ones = |key: &str| match part.value(key) {
                Some(Value::Array(factors)) => factors.iter().all(|factor| factor.as_f64() == Some(1.0)),
                other => other.is_none(),
            };
            let same = ones("short_factor") && ones("long_factor") && trained >= whole;
            same && is_one("factor", 1.0)? && is_one("attention_factor", 1.0)?
        }
        _ => false,
    })
}

/// The objects in which a config speaks of rotary positions; newer ones may hold one for each kind of layer.
fn parts<'a>(keys: &Keys<'a>) -> Result<Vec<Keys<'a>>, String> {
    let mut parts = Vec::new();
    for name in ["rope_scaling", "rope_parameters"] {
        match keys.value(name) {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Object(inner)) => {
                parts.push(Keys(inner));
                parts.extend(inner.values().filter_map(Value::as_object).map(Keys));
            }
            Some(_) => return Err(format!("'{name}' is not an object")),
        }
    }
    Ok(parts)
}
