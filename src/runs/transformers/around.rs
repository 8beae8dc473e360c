//! The tokenizer of a folder, as `transformers` makes it of `tokenizer.json` (or `vocab.json` and `merges.txt`) and the files
//! beside it, and what those say of the tokens that begin and end a text.
//!
//! What the other files add is written into the run's own `tokenizer.json`, so that this alone says what the ids of a text are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::around::{Around, FILES};
use super::super::{RunError, read_bounded};
use super::characters;
use crate::text::{TOKENIZER_BYTES_MAX, TokenId, Tokenizer};

/// The largest of the small files beside a tokenizer, in bytes.
const SMALL_BYTES_MAX: u64 = 8 << 20;
/// The special tokens that have names, in the order in which transformers adds them.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Tokenizer classes whose tokens are known here: those that take `tokenizer.json` as it is, and GPT-2's.
const OF_THE_FILE: [&str; 4] = ["PreTrainedTokenizer", "TokenizersBackend", "LlamaTokenizer", "GPT2Tokenizer"];
/// Where newer models keep chat templates for special uses.
const MORE_TEMPLATES: &str = "additional_chat_templates";
/// What GPT-2's tokenizer class takes for the first three where nothing is said.
const GPT2_SPECIAL: &str = "<|endoftext|>";

/// Reads a folder's tokenizer and what stands around the weights. `config` is its `config.json`.
///
/// # Errors
/// Names the file that cannot be read or is no tokenizer for a model of so many rows.
pub(super) fn read(
    folder: &Path,
    config: &Value,
    rows: usize,
    notes: &mut Vec<String>,
) -> Result<(Tokenizer, Around), RunError> {
    let mut files = BTreeMap::new();
    for name in FILES {
        let path = folder.join(name);
        // Also a link that leads nowhere: the file belongs to the model, and is missed.
        if path.symlink_metadata().is_err() {
            continue;
        }
        match text_of(&path) {
            Ok(text) => drop(files.insert(name.to_owned(), text)),
            // Without these the tokenizer may be another one; the rest says nothing of it.
            Err(error) if ["tokenizer_config.json", "vocab.json", "merges.txt"].contains(&name) => return Err(error),
            Err(error) => notes.push(format!("{error}: it is left out")),
        }
    }
    let mut object = |name: &str, files: &mut BTreeMap<String, String>| -> Result<Map<String, Value>, RunError> {
        let Some(text) = files.get(name) else { return Ok(Map::new()) };
        let error = match super::json::parse(text.as_bytes()) {
            Ok(Value::Object(object)) => return Ok(object),
            Ok(_) => RunError::damaged(&folder.join(name), "it is not a JSON object: get the file again"),
            Err(error) => {
                RunError::damaged(&folder.join(name), format!("it is not JSON ({error}): get the file again"))
            }
        };
        if name == "tokenizer_config.json" {
            return Err(error);
        }
        files.remove(name);
        notes.push(format!("{error}. It is left out"));
        Ok(Map::new())
    };
    let mut says = object("tokenizer_config.json", &mut files)?;
    let mut own = says.clone();
    let special_map = object("special_tokens_map.json", &mut files)?;
    let added = object("added_tokens.json", &mut files)?;
    let generation = object("generation_config.json", &mut files)?;
    // The older file counts only where the newer one does not list its tokens.
    if !says.contains_key("added_tokens_decoder") {
        says.extend(special_map);
    }
    let class = says.get("tokenizer_class").or_else(|| config.get("tokenizer_class")).and_then(Value::as_str);
    let class = class.map(|class| class.trim_end_matches("Fast").to_owned());
    let by_kind = class.is_none() && ["gpt2", "opt"].iter().any(|kind| config["model_type"] == *kind);
    let source =
        Source { gpt2: by_kind || class.as_deref() == Some("GPT2Tokenizer"), says: &says, added: &added, rows };

    let strange = class.clone().filter(|class| !OF_THE_FILE.contains(&class.as_str()));

    let path = folder.join("tokenizer.json");
    let tokenizer = if path.symlink_metadata().is_ok() {
        let json = read_bounded(&path, TOKENIZER_BYTES_MAX)?;
        source.whole_file(&path, &json)?
    } else if let (Some(vocab), Some(merges)) = (files.get("vocab.json"), files.get("merges.txt")) {
        let path = folder.join("vocab.json");
        if let Some(class) = class.filter(|class| !["GPT2Tokenizer", "PreTrainedTokenizer"].contains(&class.as_str())) {
            let fault = format!(
                "vocab.json and merges.txt of a {class} are not read, a GPT2Tokenizer's are: save it with \
                transformers, which writes tokenizer.json"
            );
            return Err(RunError::damaged(&path, fault));
        }
        let damaged = |(name, fault): (&str, String)| RunError::damaged(&folder.join(name), fault);
        let value = source.slow_files(vocab, merges).map_err(damaged)?;
        read_json(&path, &value.to_string(), rows)?
    } else {
        let alone = files.contains_key("vocab.json") || files.contains_key("merges.txt");
        let found =
            if alone { "no tokenizer.json, and not both of vocab.json and merges.txt" } else { "no tokenizer.json" };
        notes.push(format!("the folder holds {found}: texts for this model are token numbers, as in '5 7 9'"));
        Tokenizer::Numbers(rows)
    };
    if let Tokenizer::Bpe(bpe) = &tokenizer {
        notes.extend(bpe.notes().iter().cloned());
        notes.extend(strange.map(|class| {
            format!(
                "its tokenizer is a {}, which transformers may build anew and so make other tokens of a text: here \
                 tokenizer.json alone says them",
                short(&class)
            )
        }));
    }
    if folder.join(MORE_TEMPLATES).is_dir() {
        notes.push(format!("the chat templates in {MORE_TEMPLATES} are left out; the one that is usual is kept"));
    }

    let number = |name: &str| {
        let name = content_of(says.get(name)?)?;
        let Tokenizer::Bpe(bpe) = &tokenizer else { return None };
        bpe.number(name)
    };
    let mut ids = |key: &str, named: Option<TokenId>| -> Vec<TokenId> {
        for (file, object) in [("generation_config.json", Some(&generation)), ("config.json", config.as_object())] {
            let Some(found) = object.and_then(|object| object.get(key)).filter(|found| !found.is_null()) else {
                continue;
            };
            let numbers = found.as_array().map_or(std::slice::from_ref(found), Vec::as_slice);
            let known = |id: &Value| id.as_u64().filter(|&id| id < rows as u64).map(|id| TokenId(id as u32));
            // A negative number says that there is none.
            let strange = numbers.iter().find(|id| known(id).is_none() && id.as_i64().is_none_or(|id| id >= 0));
            if let Some(strange) = strange {
                notes.push(format!(
                    "{file}: '{key}' names {strange}, and the model has rows 0 to {}: it is left out",
                    rows - 1
                ));
            }
            return numbers.iter().filter_map(known).collect();
        }
        named.into_iter().filter(|id| (id.0 as usize) < rows).collect()
    };
    let begin = ids("bos_token_id", number("bos_token")).first().copied();
    let ends = ids("eos_token_id", number("eos_token"));
    let padding = ids("pad_token_id", number("pad_token")).first().copied();
    let mut around = Around { begin, ends, padding, files }.sound(rows);
    if matches!(tokenizer, Tokenizer::Bpe(_)) {
        let is_there = around.files.contains_key("tokenizer_config.json");
        if !is_there {
            own.extend(names_of(&around, &tokenizer));
        }
        if let Some(text) = with_class(own, is_there, config, by_kind) {
            around.files.insert("tokenizer_config.json".into(), text);
        }
    }
    Ok((tokenizer, around))
}

/// A `tokenizer_config.json` that names its class itself, which this one leaves to `config.json`: that an export writes anew.
fn with_class(mut own: Map<String, Value>, is_there: bool, config: &Value, by_kind: bool) -> Option<String> {
    if own.get("tokenizer_class").is_some_and(|class| !class.is_null()) {
        return None;
    }
    let named = config.get("tokenizer_class").filter(|class| class.is_string()).cloned();
    // Where nothing is said at all the kind of model says it, and with it what begins and ends a text.
    let usual = || (by_kind && !is_there).then(|| Value::from("GPT2Tokenizer"));
    own.insert("tokenizer_class".into(), named.or_else(usual)?);
    Some(format!("{:#}\n", Value::Object(own)))
}

/// What the files beside a tokenizer say.
struct Source<'a> {
    /// Whether transformers takes GPT-2's class for it.
    gpt2: bool,
    /// `tokenizer_config.json`, and `special_tokens_map.json` where that counts.
    says: &'a Map<String, Value>,
    /// `added_tokens.json`.
    added: &'a Map<String, Value>,
    rows: usize,
}

impl Source<'_> {
    fn whole_file(&self, path: &Path, json: &[u8]) -> Result<Tokenizer, RunError> {
        let plain = |json: &[u8]| Tokenizer::from_json(json, self.rows).map_err(|fault| RunError::damaged(path, fault));
        let Ok(mut value) = serde_json::from_slice::<Value>(json) else { return plain(json) };
        match characters::from_json(&value) {
            Some(own) if own.vocabulary() == self.rows => return Ok(Tokenizer::Characters(own)),
            Some(own) => {
                let (found, rows) = (own.vocabulary(), self.rows);
                let fault = format!("it has {found} characters, but config.json a vocabulary of {rows}");
                return Err(RunError::damaged(path, fault));
            }
            None => {}
        }
        let ordered = self.gpt2 && by_number(&mut value["added_tokens"]);
        let mut changed = self.add_tokens(&mut value) || ordered;
        let space = self.says.get("add_prefix_space") == Some(&Value::Bool(true));
        // This class takes its own word for it, and no other does.
        if let Some(step) = value.get_mut("pre_tokenizer").filter(|step| self.gpt2 && step["type"] == "ByteLevel")
            && step["add_prefix_space"].as_bool().is_some_and(|found| found != space)
        {
            step["add_prefix_space"] = space.into();
            changed = true;
        }
        // The file's own bytes, where they say it all.
        if changed { read_json(path, &value.to_string(), self.rows) } else { plain(json) }
    }

    /// The `tokenizer.json` that `GPT2Tokenizer` makes of its older files.
    ///
    /// # Errors
    /// The file at fault, and what is wrong with it.
    fn slow_files(&self, vocab: &str, merges: &str) -> Result<Value, (&'static str, String)> {
        let vocab: Map<String, Value> = serde_json::from_str(vocab)
            .map_err(|error| ("vocab.json", format!("it is not a vocabulary ({error}): get the file again")))?;
        let of_merges = |fault: String| Err(("merges.txt", format!("{fault}: get the file again")));
        // A tokenizer without merges has a first line all the same.
        if merges.is_empty() {
            return of_merges("it is empty".into());
        }
        let mut pairs = Vec::new();
        for line in merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty()) {
            match line.trim_end().split_once(' ') {
                Some((left, right)) if !right.contains(' ') => {
                    let whole = format!("{left}{right}");
                    if let Some(unknown) = [left, right, &whole].into_iter().find(|token| !vocab.contains_key(*token)) {
                        return of_merges(format!(
                            "its line '{}' makes '{}', which vocab.json beside it lacks",
                            short(line),
                            short(unknown)
                        ));
                    }
                    pairs.push(json!([left, right]));
                }
                _ => return of_merges(format!("its line '{}' is no pair", short(line))),
            }
        }
        let space = self.says.get("add_prefix_space") == Some(&Value::Bool(true));
        let mut value = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": pairs,
            },
        });
        self.add_tokens(&mut value);
        let named = |name: &str| {
            let usual = Value::from(GPT2_SPECIAL);
            let content = content_of(self.says.get(name).unwrap_or(&usual))?.to_owned();
            let id = number_of(&value, &content)?;
            Some((content, id))
        };
        // With a tokenizer.json transformers leaves these two switches to it.
        let [before, after] = [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")]
            .map(|(switch, name)| if self.says.get(switch) == Some(&Value::Bool(true)) { named(name) } else { None });
        if before.is_some() || after.is_some() {
            let piece = |(name, _): &(String, u64)| json!({"SpecialToken": {"id": name, "type_id": 0}});
            let text = |id: &str, type_id: u8| json!({"Sequence": {"id": id, "type_id": type_id}});
            let [first, last] = [&before, &after].map(|side| side.iter().map(piece).collect::<Vec<_>>());
            let named = before.iter().chain(&after);
            let special = named.map(|(name, id)| (name.clone(), json!({"id": name, "ids": [id], "tokens": [name]})));
            let special: Map<String, Value> = special.collect();
            let single = [first, vec![text("A", 0)], last].concat();
            value["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": single,
                "pair": [text("A", 0), text("B", 1)],
                "special_tokens": special,
            });
        }
        Ok(value)
    }

    /// Adds the tokens that the files beside name to those of a `tokenizer.json`, as transformers does. Tells whether that
    /// changed it.
    fn add_tokens(&self, value: &mut Value) -> bool {
        let Some(vocab) = value["model"]["vocab"].as_object() else { return false };
        let before = value["added_tokens"].as_array().cloned().unwrap_or_default();
        let mut list = before.clone();
        let place_of = |list: &[Value], content: &str| list.iter().position(|token| token["content"] == content);
        let special = |content: &str| token(content, &json!({"special": true, "normalized": false}));
        let mut listed: Vec<(u64, Value)> = Vec::new();
        match self.says.get("added_tokens_decoder").and_then(Value::as_object) {
            Some(decoder) => listed.extend(
                decoder
                    .iter()
                    .filter_map(|(id, flags)| Some((id.parse().ok()?, token(flags["content"].as_str()?, flags)))),
            ),
            None => listed.extend(self.added.iter().filter_map(|(content, id)| {
                let named = NAMED.iter().any(|name| self.says.get(*name).and_then(content_of) == Some(content));
                Some((id.as_u64()?, token(content, &json!({"special": named, "normalized": !named}))))
            })),
        }
        listed.sort_by_key(|(id, _)| *id);
        for (_, token) in listed {
            match token["content"].as_str().and_then(|content| place_of(&list, content)) {
                Some(place) => {
                    let id = list[place]["id"].clone();
                    list[place] = token;
                    list[place]["id"] = id;
                }
                None => list.push(token),
            }
        }
        let usual = Value::from(GPT2_SPECIAL);
        for name in NAMED {
            let own = (self.gpt2 && ["bos_token", "eos_token", "unk_token"].contains(&name)).then_some(&usual);
            let Some(content) = self.says.get(name).or(own).and_then(content_of) else { continue };
            if place_of(&list, content).is_none() {
                let is_usual = self.says.get(name).is_none();
                let flags = self.says.get(name).filter(|flags| flags.is_object());
                let mut new = flags.map_or_else(|| special(content), |flags| token(content, flags));
                new["special"] = true.into();
                list.push(new);
                // What nobody named is no reason to speak of a token without a row.
                if is_usual && numbers(&list, vocab).last().is_some_and(|&id| id >= self.rows as u64) {
                    list.pop();
                }
            }
        }
        // The older name counts only where the newer one says nothing.
        let names = ["extra_special_tokens", "additional_special_tokens"];
        let mut lists = names.iter().filter_map(|name| match self.says.get(*name)? {
            Value::Array(list) => Some(list.iter().collect::<Vec<_>>()),
            Value::Object(named) => Some(named.values().collect()),
            _ => None,
        });
        let extra = lists.find(|list| !list.is_empty()).unwrap_or_default();
        let own = self
            .says
            .iter()
            .filter(|(name, value)| name.ends_with("_token") && !NAMED.contains(&name.as_str()) && value.is_string());
        for extra in own.map(|(_, value)| value).chain(extra) {
            let Some(content) = content_of(extra).filter(|content| place_of(&list, content).is_none()) else {
                continue;
            };
            list.push(if extra.is_object() { token(content, extra) } else { special(content) });
        }
        if list == before {
            return false;
        }
        let ids = numbers(&list, vocab);
        for (token, id) in list.iter_mut().zip(ids) {
            // Where the numbers say the order, one that was added must not come before one that left a gap.
            if token["id"].is_null() || self.gpt2 {
                token["id"] = id.into();
            }
        }
        value["added_tokens"] = Value::Array(list);
        true
    }
}

/// GPT-2's class takes a file's added tokens by their numbers, and of two with one number the last; others take them in the
/// file's order. Tells whether that changed it.
fn by_number(added: &mut Value) -> bool {
    let Some(list) = added.as_array_mut() else { return false };
    let id = |token: &Value| token["id"].as_u64();
    if list.iter().any(|token| id(token).is_none()) || list.is_sorted_by(|one, next| id(one) < id(next)) {
        return false;
    }
    // The last of a number comes first, and is kept.
    list.reverse();
    list.sort_by_key(id);
    list.dedup_by_key(|token| id(token));
    true
}

/// A token with its flags as a `tokenizer.json` has it, without a number yet.
fn token(content: &str, flags: &Value) -> Value {
    let flag = |name: &str| flags[name].as_bool().unwrap_or(false);
    let special = flag("special");
    json!({
        "id": null, "content": content, "single_word": flag("single_word"), "lstrip": flag("lstrip"),
        "rstrip": flag("rstrip"), "normalized": flags["normalized"].as_bool().unwrap_or(!special), "special": special,
    })
}

/// The text of a token that a file names: alone, or with its flags.
fn content_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str()).filter(|content| !content.is_empty())
}

/// The numbers that `tokenizers` gives to added tokens, one after the other.
fn numbers(list: &[Value], vocab: &Map<String, Value>) -> Vec<u64> {
    let (mut next, mut seen) = (vocab.len() as u64, HashMap::new());
    let mut number = |token: &Value| {
        let content = token["content"].as_str().unwrap_or_default();
        *seen.entry(content.to_owned()).or_insert_with(|| {
            vocab.get(content).and_then(Value::as_u64).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        })
    };
    list.iter().map(&mut number).collect()
}

fn number_of(value: &Value, content: &str) -> Option<u64> {
    let vocab = value["model"]["vocab"].as_object()?;
    let list = value["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let place = list.iter().position(|token| token["content"] == content);
    place.map_or_else(|| vocab.get(content)?.as_u64(), |place| numbers(list, vocab).get(place).copied())
}

fn read_json(path: &Path, json: &str, rows: usize) -> Result<Tokenizer, RunError> {
    Tokenizer::from_json(json.as_bytes(), rows).map_err(|fault| RunError::damaged(path, fault))
}

fn short(line: &str) -> String {
    line.chars().take(40).flat_map(char::escape_debug).collect()
}

fn text_of(path: &Path) -> Result<String, RunError> {
    let large = path.file_name().is_some_and(|name| name == "vocab.json" || name == "merges.txt");
    let bytes = read_bounded(path, if large { TOKENIZER_BYTES_MAX } else { SMALL_BYTES_MAX })?;
    String::from_utf8(bytes)
        .map_err(|error| RunError::damaged(path, format!("it is not text ({error}): get the file again")))
}

/// The files that an export writes beside weights and config: those of the source, and what belongs to the tokenizer.
pub(super) fn files(around: &Around, tokenizer: &Tokenizer) -> Vec<(String, Vec<u8>)> {
    let kept = around.files.iter().filter(|(name, _)| *name != "tokenizer_config.json");
    let mut files: Vec<_> = kept.map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect();
    let source = around.files.get("tokenizer_config.json").and_then(|text| super::json::parse(text.as_bytes()).ok());
    let source = source.and_then(|source| match source {
        Value::Object(says) => Some(says),
        _ => None,
    });
    let json = match tokenizer {
        Tokenizer::Characters(own) => Some(characters::to_json(own).to_string()),
        Tokenizer::Bpe(bpe) => Some(bpe.json().to_owned()),
        Tokenizer::Numbers(_) => None,
    };
    let mut says: Map<String, Value> = match source {
        Some(says) => says,
        None if json.is_none() => return files,
        None => {
            let mut says = Map::from_iter([("tokenizer_class".to_owned(), Value::from("PreTrainedTokenizerFast"))]);
            says.extend(names_of(around, tokenizer));
            says
        }
    };
    // Older transformers otherwise lose the spaces before punctuation when they decode.
    says.entry("clean_up_tokenization_spaces").or_insert(Value::Bool(false));
    files.push(("tokenizer_config.json".into(), format!("{:#}\n", Value::Object(says)).into_bytes()));
    files.extend(json.map(|json| ("tokenizer.json".into(), json.into_bytes())));
    files
}

/// The special tokens that begin, end and fill a text, as a `tokenizer_config.json` names them.
fn names_of(around: &Around, tokenizer: &Tokenizer) -> Map<String, Value> {
    let named =
        [("bos_token", around.begin), ("eos_token", around.ends.first().copied()), ("pad_token", around.padding)];
    let special = named.into_iter().filter_map(|(name, id)| Some((name, id?)));
    let special = special.filter(|(_, id)| tokenizer.is_special(*id));
    special.map(|(name, id)| (name.to_owned(), tokenizer.text(id).into())).collect()
}

/// Names the tokens that begin, end and fill a text in a config.
pub(super) fn name_ends(config: &mut Value, around: &Around) {
    let ends = match around.ends.as_slice() {
        [] => Value::Null,
        [end] => end.0.into(),
        ends => ends.iter().map(|end| end.0).collect::<Vec<_>>().into(),
    };
    config["bos_token_id"] = around.begin.map_or(Value::Null, |id| id.0.into());
    config["eos_token_id"] = ends;
    config["pad_token_id"] = around.padding.map_or(Value::Null, |id| id.0.into());
}
