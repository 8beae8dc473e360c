//! `model.safetensors`, or its shards, into the model's weights.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::super::weights::{Weight, listed, require_finite};
use super::super::{RunError, read_bounded};
use super::names::Entry;
use crate::recipe::{ModelRecipe, PARAMETERS_MAX, bytes_text};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The largest index that is read, in bytes.
const INDEX_BYTES_MAX: u64 = 16 << 20;
/// The largest weights file that is read: the largest model in 32 bits, and room for the masks that old files hold.
const WEIGHTS_BYTES_MAX: u64 = 4 * PARAMETERS_MAX + (256 << 20);
/// The most shards of one model.
const SHARDS_MAX: usize = 1000;

/// The index of a model in shards.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: HashMap<String, String>,
}

/// Reads the tensors of `entries` from a folder, by our names.
///
/// # Errors
/// Names the file and the tensors that are missing, left over, of another shape or of another kind of number.
pub(super) fn read(
    folder: &Path,
    entries: &[Entry],
    recipe: &ModelRecipe,
) -> Result<HashMap<String, Weight>, RunError> {
    let (listing, paths) = files(folder)?;
    let mut collect = Collect { wanted: HashMap::new(), found: HashMap::new(), tied: recipe.tied_head };
    for (name, shape) in entries.iter().flat_map(|entry| &entry.theirs) {
        collect.wanted.insert(name, shape);
    }
    for path in paths {
        collect.file(&path)?;
    }
    let missing: Vec<_> = entries.iter().flat_map(|entry| &entry.theirs).collect();
    let missing = missing.into_iter().filter(|(name, _)| !collect.found.contains_key(name));
    let missing: Vec<_> = missing.map(|(name, _)| format!("'{name}' is missing")).collect();
    if !missing.is_empty() {
        return Err(RunError::damaged(&listing, format!("its tensors are not the config's: {}", listed(missing))));
    }
    let mut weights = HashMap::new();
    for entry in entries {
        let theirs = entry.theirs.iter().map(|(name, _)| collect.found.remove(name).unwrap_or_default()).collect();
        weights.extend(entry.take(theirs).into_iter().map(|weight| (weight.name.clone(), weight)));
    }
    Ok(weights)
}

/// Checks that a folder's weights take at least so many bytes.
///
/// # Errors
/// If there are none, or too few for the model that the config describes.
pub(super) fn require(folder: &Path, bytes: u64) -> Result<(), RunError> {
    let (listing, paths) = files(folder)?;
    let sizes = paths.iter().map(|path| fs::metadata(path).map_err(RunError::io(path)).map(|metadata| metadata.len()));
    let found = sizes.sum::<Result<u64, _>>()?;
    if found < bytes {
        let (found, needed) = (bytes_text(found), bytes_text(bytes));
        let fault =
            format!("{found} are too small for the config's model, which takes {needed} or more: it may be cut short");
        return Err(RunError::damaged(&listing, fault));
    }
    Ok(())
}

/// The file to name when tensors are missing, and all files that hold some.
fn files(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>), RunError> {
    let (whole, listing) = (folder.join(WHOLE), folder.join(INDEX));
    if whole.exists() {
        return Ok((whole.clone(), vec![whole]));
    }
    if !listing.exists() {
        let fault = format!("it holds neither {WHOLE} nor {INDEX} (weights in another format are not read)");
        return Err(RunError::damaged(folder, fault));
    }
    let index: Index = serde_json::from_slice(&read_bounded(&listing, INDEX_BYTES_MAX)?)
        .map_err(|error| RunError::damaged(&listing, format!("not an index of shards ({error})")))?;
    let names: BTreeSet<_> = index.weight_map.into_values().collect();
    if names.len() > SHARDS_MAX {
        return Err(RunError::damaged(&listing, format!("{} shards are more than {SHARDS_MAX}", names.len())));
    }
    let mut paths = Vec::new();
    for name in names {
        // A name must not lead out of the folder.
        let path = folder.join(&name);
        if Path::new(&name).file_name().is_none_or(|own| own != name.as_str()) {
            return Err(RunError::damaged(&listing, format!("'{name}' is not the name of a file beside it")));
        }
        if !path.exists() {
            return Err(RunError::damaged(&path, format!("this shard is missing; {INDEX} names it")));
        }
        paths.push(path);
    }
    Ok((listing, paths))
}

struct Collect<'a> {
    /// Name and shape.
    wanted: HashMap<&'a str, &'a [usize]>,
    found: HashMap<String, Vec<f32>>,
    tied: bool,
}

impl Collect<'_> {
    fn file(&mut self, path: &Path) -> Result<(), RunError> {
        let bytes = read_bounded(path, WEIGHTS_BYTES_MAX)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| RunError::damaged(path, fault_of(&error)))?;
        let (mut faults, mut taken) = (Vec::new(), Vec::new());
        for (name, view) in file.iter() {
            let Some((known, shape)) = self.known(name) else {
                if !self.is_no_weight(name) {
                    faults.push(format!("'{name}' is left over"));
                }
                continue;
            };
            if view.shape() != shape {
                faults.push(format!("'{name}' is {:?}, the config makes it {shape:?}", view.shape()));
            } else if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                faults.push(format!("'{name}' holds {:?} numbers; F32, F16 and BF16 are read", view.dtype()));
            } else {
                taken.push((known.to_owned(), view));
            }
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(RunError::damaged(path, format!("its tensors are not the config's: {}", listed(faults))));
        }
        for (name, view) in taken {
            let values = numbers(&view);
            require_finite(&name, view.shape(), &values)
                .map_err(|fault| RunError::damaged(path, format!("{fault}: use another copy of the model")))?;
            if self.found.insert(name.clone(), values).is_some() {
                return Err(RunError::damaged(path, format!("'{name}' comes twice")));
            }
        }
        Ok(())
    }

    /// A wanted tensor by its name in the file: the bare model without its head leaves the first part out.
    fn known(&self, name: &str) -> Option<(&str, &[usize])> {
        let names = [name.to_owned(), format!("transformer.{name}"), format!("model.{name}")];
        names.iter().find_map(|name| self.wanted.get_key_value(name.as_str())).map(|(name, shape)| (*name, *shape))
    }

    /// What files hold beside weights: masks and angles, and the head again where it is tied.
    fn is_no_weight(&self, name: &str) -> bool {
        let buffers = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];
        buffers.iter().any(|end| name.ends_with(end)) || (self.tied && name == "lm_head.weight")
    }
}

fn numbers(view: &TensorView<'_>) -> Vec<f32> {
    let data = view.data();
    match view.dtype() {
        Dtype::F16 => data.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32()).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32()).collect(),
        _ => data.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect(),
    }
}

/// What is wrong with a safetensors file, in words for the user.
fn fault_of(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            "not a safetensors file: its header would be longer than the file".into()
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "its tensors are longer or shorter than the file: it may be cut short, copy it again".into()
        }
        SafeTensorError::InvalidOffset(name) => format!("'{name}' overlaps another tensor or leaves a gap before it"),
        other => format!("not a whole safetensors file ({other}); it may be cut short"),
    }
}
