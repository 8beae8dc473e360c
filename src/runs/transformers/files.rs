//! `model.safetensors`, or its shards, into the model's weights.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::super::weights::{Weight, listed, require_finite};
use super::super::{RunError, read_bounded};
use super::json;
use super::names::{EMBEDDING, Entry, HEAD};
use crate::files::{self, Links};
use crate::recipe::{PARAMETERS_MAX, bytes_text};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The largest index that is read, in bytes.
const INDEX_BYTES_MAX: u64 = 16 << 20;
/// The largest weights file that is read: the largest model in 64 bits, and room for the masks that old files hold.
const WEIGHTS_BYTES_MAX: u64 = 8 * PARAMETERS_MAX + (256 << 20);
/// The most shards of one model.
const SHARDS_MAX: usize = 1000;
/// Longer names are no weight's.
const NAME_BYTES_MAX: usize = 300;
/// Parts of names that the wrappers of PyTorch put in: parallel training, `torch.compile`, recomputed activations.
const WRAPPERS: [&str; 5] =
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];
/// Parts that the bare model without its head leaves out of its names.
const BARE: [&str; 2] = ["transformer.", "model."];

/// The index of a model in shards.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: HashMap<String, String>,
}

/// What a folder's files hold.
pub(super) struct Found {
    /// By our names.
    pub weights: HashMap<String, Weight>,
    /// The head is another than the embedding, which the config says it is.
    pub untied: bool,
    /// In sentences.
    pub notes: Vec<String>,
}

/// Reads the tensors of `entries` from a folder. Those of a `tied` model name the head too: it may be left out, or stand
/// alone for both.
///
/// # Errors
/// Names the file and the tensors that are missing, left over, of another shape or of another kind of number.
pub(super) fn read(folder: &Path, entries: &[Entry], tied: bool) -> Result<Found, RunError> {
    let (listing, paths) = paths_of(folder)?;
    let mut collect =
        Collect { wanted: HashMap::new(), found: HashMap::new(), prefixes: BTreeSet::new(), rounded: None };
    for (name, shape) in entries.iter().flat_map(|entry| &entry.theirs) {
        collect.wanted.insert(name, shape);
    }
    for path in paths {
        collect.file(&path)?;
    }
    let Collect { mut found, prefixes, rounded, .. } = collect;
    let untied = tied && resolve_tie(entries, &mut found);
    let may_lack = |entry: &Entry| tied && !untied && entry.is(HEAD);
    let missing: Vec<_> = entries.iter().filter(|entry| !may_lack(entry)).flat_map(|entry| &entry.theirs).collect();
    let missing = missing.into_iter().filter(|(name, _)| !found.contains_key(name));
    let missing: Vec<_> = missing.map(|(name, _)| format!("'{name}' is missing")).collect();
    if !missing.is_empty() {
        return Err(RunError::damaged(&listing, format!("its tensors are not the config's: {}", listed(missing))));
    }
    let mut weights = HashMap::new();
    for entry in entries.iter().filter(|entry| !may_lack(entry)) {
        let theirs = entry.theirs.iter().map(|(name, _)| found.remove(name).unwrap_or_default()).collect();
        weights.extend(entry.take(theirs).into_iter().map(|weight| (weight.name.clone(), weight)));
    }
    let mut notes = Vec::new();
    if untied {
        notes.push(
            "config.json ties the head to the embedding, but the file holds another head: both are taken as they are, as \
             transformers 5 does (older versions drop the head)"
                .into(),
        );
    }
    for prefix in prefixes {
        notes.push(format!("the names of its tensors begin with '{prefix}', which is left out"));
    }
    notes.extend(rounded.map(|rounded| match rounded {
        true => "its numbers of 64 bits are rounded to 32".into(),
        false => "its numbers of 64 bits are kept as 32, in which they fit exactly".into(),
    }));
    Ok(Found { weights, untied, notes })
}

/// Of a tied model one of embedding and head may be in the file, and is both. Returns whether they are two.
fn resolve_tie(entries: &[Entry], found: &mut HashMap<String, Vec<f32>>) -> bool {
    let name = |ours| entries.iter().find(|entry| entry.is(ours)).map(|entry| entry.theirs[0].0.clone());
    let (Some(embedding), Some(head)) = (name(EMBEDDING), name(HEAD)) else { return false };
    if found.get(&head).is_some_and(|head| found.get(&embedding).is_some_and(|embedding| embedding != head)) {
        return true;
    }
    if let Some(head) = found.remove(&head) {
        found.entry(embedding).or_insert(head);
    }
    false
}

/// Checks that a folder's weights take at least so many bytes.
///
/// # Errors
/// If there are none, or too few for the model that the config describes.
pub(super) fn require(folder: &Path, bytes: u64) -> Result<(), RunError> {
    let (listing, paths) = paths_of(folder)?;
    let mut found = 0;
    for path in &paths {
        let file = files::open_itself(path, Links::Followed).map_err(RunError::file(path))?;
        found += file.metadata().map_err(RunError::io(path))?.len();
    }
    if found < bytes {
        let (found, needed) = (bytes_text(found), bytes_text(bytes));
        let fault =
            format!("{found} are too small for the config's model, which takes {needed} or more: it may be cut short");
        return Err(RunError::damaged(&listing, fault));
    }
    Ok(())
}

/// The file to name when tensors are missing, and all files that hold some.
fn paths_of(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>), RunError> {
    let (whole, listing) = (folder.join(WHOLE), folder.join(INDEX));
    // Also a link that leads nowhere.
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if is_there(&whole) {
        return Ok((whole.clone(), vec![whole]));
    }
    if !is_there(&listing) {
        let fault = format!("it holds neither {WHOLE} nor {INDEX} (weights in another format are not read)");
        return Err(RunError::damaged(folder, fault));
    }
    let index: Index = json::parse(&read_bounded(&listing, INDEX_BYTES_MAX)?)
        .and_then(serde_json::from_value)
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
            let fault =
                files::dangling_fault(&path).unwrap_or_else(|| format!("this shard is missing; {INDEX} names it"));
            return Err(RunError::damaged(&path, fault));
        }
        paths.push(path);
    }
    Ok((listing, paths))
}

struct Collect<'a> {
    /// Name and shape.
    wanted: HashMap<&'a str, &'a [usize]>,
    found: HashMap<String, Vec<f32>>,
    /// What was taken off the names.
    prefixes: BTreeSet<String>,
    /// Where there are numbers of 64 bits, whether they lost some of them.
    rounded: Option<bool>,
}

impl Collect<'_> {
    fn file(&mut self, path: &Path) -> Result<(), RunError> {
        let bytes = read_bounded(path, WEIGHTS_BYTES_MAX)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| RunError::damaged(path, fault_of(&error)))?;
        let prefix = self.prefix(file.iter().map(|(name, _)| name));
        let (mut faults, mut taken) = (Vec::new(), Vec::new());
        for (name, view) in file.iter() {
            let plain = unwrapped(name);
            let plain = plain.strip_prefix(&prefix).unwrap_or(&plain);
            let Some((known, shape)) = self.known(plain) else {
                if !is_no_weight(plain) {
                    faults.push(format!("'{name}' is left over"));
                }
                continue;
            };
            if view.shape() != shape {
                faults.push(format!("'{name}' is {:?}, the config makes it {shape:?}", view.shape()));
            } else if !matches!(view.dtype(), Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                faults.push(format!("'{name}' holds {:?} numbers; F64, F32, F16 and BF16 are read", view.dtype()));
            } else {
                taken.push((known.to_owned(), view));
            }
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(RunError::damaged(path, format!("its tensors are not the config's: {}", listed(faults))));
        }
        for (name, view) in taken {
            let values = match view.dtype() {
                Dtype::F64 => {
                    self.halved(&view).map_err(|fault| RunError::damaged(path, format!("'{name}' {fault}")))?
                }
                _ => numbers(&view),
            };
            require_finite(&name, view.shape(), &values)
                .map_err(|fault| RunError::damaged(path, format!("{fault}: use another copy of the model")))?;
            if self.found.insert(name.clone(), values).is_some() {
                return Err(RunError::damaged(path, format!("'{name}' comes twice")));
            }
        }
        if !prefix.is_empty() {
            self.prefixes.insert(prefix);
        }
        Ok(())
    }

    /// A wanted tensor by its name in the file: the bare model without its head leaves the first part out.
    fn known(&self, name: &str) -> Option<(&str, &[usize])> {
        let find = |name: &str| self.wanted.get_key_value(name).map(|(name, shape)| (*name, *shape));
        find(name).or_else(|| BARE.iter().find_map(|part| find(&format!("{part}{name}"))))
    }

    /// What stands before the known part of most names, as a model in another's care has it: `net.`, `base_model.model.`.
    fn prefix<'n>(&self, names: impl Iterator<Item = &'n str>) -> String {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for name in names.filter(|name| name.len() <= NAME_BYTES_MAX) {
            let plain = unwrapped(name);
            let starts = std::iter::once(0).chain(plain.match_indices('.').map(|(place, _)| place + 1));
            if let Some(start) = starts.into_iter().find(|&start| self.known(&plain[start..]).is_some()) {
                *counted.entry(plain[..start].to_owned()).or_default() += 1;
            }
        }
        let most = counted.into_iter().max_by(|(one, often), (other, oftener)| {
            // Of two that are met as often, the shorter one.
            often.cmp(oftener).then(other.len().cmp(&one.len()))
        });
        most.map(|(prefix, _)| prefix).unwrap_or_default()
    }

    /// Numbers of 64 bits as the nearest of 32.
    fn halved(&mut self, view: &TensorView<'_>) -> Result<Vec<f32>, String> {
        let rounded = self.rounded.get_or_insert(false);
        let mut values = Vec::with_capacity(view.data().len() / 8);
        for eight in view.data().chunks_exact(8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(eight);
            let (wide, value) = (f64::from_le_bytes(bytes), f64::from_le_bytes(bytes) as f32);
            if wide.is_finite() && value.is_infinite() {
                return Err(format!("holds {wide:e}, which is past what 32 bits hold"));
            }
            *rounded |= f64::from(value) != wide;
            values.push(value);
        }
        Ok(values)
    }
}

/// A name without the parts that wrappers put in.
fn unwrapped(name: &str) -> Cow<'_, str> {
    if !name.split('.').any(|part| WRAPPERS.contains(&part)) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join("."))
}

/// What files hold beside weights: masks, angles, and the version of a format.
fn is_no_weight(name: &str) -> bool {
    let buffers = [
        "attn.bias",
        "attn.masked_bias",
        "rotary_emb.inv_freq",
        "rotary_emb.cos_cached",
        "rotary_emb.sin_cached",
        "decoder.version",
    ];
    buffers.iter().any(|end| name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.')))
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
