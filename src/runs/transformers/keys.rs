//! The keys of a `config.json`, read with care.

use serde_json::{Map, Value};

use crate::recipe::Activation;

#[derive(Clone, Copy)]
pub(super) struct Keys<'a>(pub &'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// What stands at a key; `null` counts as left out, as in transformers.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn get<T>(&self, key: &str, usual: Option<T>, what: &str, read: fn(&'a Value) -> Option<T>) -> Result<T, String> {
        match self.value(key) {
            None => usual.ok_or_else(|| format!("'{key}' is missing")),
            Some(value) => read(value).ok_or_else(|| format!("'{key}' is {value}, not {what}")),
        }
    }

    pub fn text(&self, key: &str, usual: Option<&'static str>) -> Result<&'a str, String> {
        self.get(key, usual, "a text", Value::as_str)
    }

    pub fn flag(&self, key: &str, usual: bool) -> Result<bool, String> {
        self.get(key, Some(usual), "true or false", Value::as_bool)
    }

    pub fn number(&self, key: &str, usual: f64) -> Result<f64, String> {
        self.get(key, Some(usual), "a number", Value::as_f64)
    }

    /// A whole number from 1 to a million million.
    pub fn size(&self, key: &str, usual: Option<usize>) -> Result<usize, String> {
        let read =
            |value: &Value| value.as_u64().filter(|&size| (1..=1 << 40).contains(&size)).map(|size| size as usize);
        self.get(key, usual, "a whole number above 0", read)
    }

    /// A size under any of its names, which must agree.
    pub fn size_of(&self, names: [&str; 2]) -> Result<usize, String> {
        let [own, other] = names;
        match (self.value(own), self.value(other)) {
            (_, None) => self.size(own, None),
            (None, Some(_)) => self.size(other, None),
            (Some(_), Some(_)) => match (self.size(own, None)?, self.size(other, None)?) {
                (one, two) if one == two => Ok(one),
                (one, two) => Err(format!("'{own}' is {one}, but '{other}', which is the same, {two}")),
            },
        }
    }

    /// A size, if it is not the usual one.
    pub fn other_than(&self, usual: usize, key: &str) -> Result<Option<usize>, String> {
        Ok(Some(self.size(key, Some(usual))?).filter(|&size| size != usual))
    }

    pub fn activation(&self, key: &str, usual: &'static str) -> Result<Activation, String> {
        match self.text(key, Some(usual))? {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            // One function written in several ways, the constant rounded to ten digits in one of them.
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
                Ok(Activation::GeluTanh)
            }
            "relu" => Ok(Activation::Relu),
            other => Err(format!(
                "the activation '{other}' ('{key}') is not supported; gelu, gelu_new (and its other names) and relu are"
            )),
        }
    }

    pub fn must_be(&self, key: &str, wanted: bool) -> Result<(), String> {
        match self.flag(key, wanted)? {
            found if found == wanted => Ok(()),
            found => Err(format!("'{key}': {found} is not supported")),
        }
    }

    /// Refuses what is there and says something: not `null`, `false`, or an empty object.
    pub fn refuse(&self, key: &str, what: &str) -> Result<(), String> {
        match self.value(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Object(inner)) if inner.is_empty() => Ok(()),
            Some(_) => Err(format!("{what} ('{key}') is not supported")),
        }
    }
}
