//! A golden case: what its files hold, and from them and `case.json` what each tensor of the output should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use super::entry::Entry;
use super::float::Tensor;
use super::running::Running;
use super::{Tensors, formulas, quantised, read};

pub struct Case {
    pub json: Value,
    pub base: Tensors,
    pub merged: Tensors,
    pub adapters: Vec<Tensors>,
}

/// What a tensor should be.
pub enum Right {
    /// These bytes: nothing is computed but the rounding of a replacement, or the decoding of codes.
    Bytes(Vec<u8>),
    /// Near these values.
    Near(Running),
    /// Codes of eight bits near these values, which are already divided by the scale of each.
    Codes(Running),
}

impl Case {
    pub fn read(folder: &Path) -> Case {
        let json: Value =
            serde_json::from_slice(&fs::read(folder.join("case.json")).expect("case.json")).expect("JSON");
        let adapter = |entry: &Value| {
            let home = folder.join(entry["dir"].as_str().expect("a folder"));
            let found = read(&home, "adapter_model");
            if !found.is_empty() {
                return found;
            }
            let mut inner = fs::read_dir(&home).expect("a folder").filter_map(|entry| {
                let path = entry.expect("an entry").path();
                path.join("adapter_model.safetensors").exists().then_some(path)
            });
            read(&inner.next().expect("one adapter below"), "adapter_model")
        };
        Case {
            adapters: json["adapters"].as_array().expect("a list").iter().map(adapter).collect(),
            base: read(&folder.join("base"), "model"),
            merged: read(&folder.join("merged"), "model"),
            json,
        }
    }

    /// The folders and weights of its adapters.
    pub fn adapters(&self) -> Vec<(String, f64)> {
        let entry = |e: &Value| Some((e["dir"].as_str()?.to_owned(), e["weight"].as_f64()?));
        self.list("adapters").iter().map(|e| entry(e).expect("a folder and its weight")).collect()
    }

    /// Flags of the command.
    pub fn flags(&self) -> Vec<&str> {
        self.list("flags").iter().map(|flag| flag.as_str().expect("a flag")).collect()
    }

    /// The names of the output's tensors.
    pub fn names(&self) -> BTreeSet<&str> {
        let named =
            |list| self.list(list).iter().map(|entry| entry["tensor"].as_str().expect("a name")).collect();
        let (created, replaced): (BTreeSet<_>, BTreeSet<_>) = (named("created"), named("replaced"));
        let dropped: BTreeSet<_> = self.list("dropped").iter().filter_map(Value::as_str).collect();
        let mut names: BTreeSet<&str> = self.base.keys().map(String::as_str).collect();
        for name in &dropped {
            assert!(names.remove(name), "`{name}` is dropped, and not in the base");
        }
        for name in &created {
            assert!(names.insert(name), "`{name}` is created, and in the base");
        }
        for entry in self.list("renamed") {
            let (from, to) = (text(&entry["from"]), text(&entry["tensor"]));
            assert!(names.remove(from) && names.insert(to), "`{from}` cannot become `{to}`");
        }
        names.extend(replaced);
        names
    }

    /// The tensor of the output that stands where one of the base stood; `None` if it has none.
    pub fn becomes<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let renamed = self.list("renamed").iter().find(|entry| entry["from"] == name);
        renamed.map(|entry| text(&entry["tensor"])).or_else(|| self.names().contains(name).then_some(name))
    }

    /// The base's tensor that a tensor of the output starts from; `None` if the base has none.
    pub fn source<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut made = self.list("created").iter().chain(self.list("renamed"));
        match made.find(|entry| entry["tensor"] == name) {
            Some(entry) => entry["from"].as_str(),
            None => self.base.contains_key(name).then_some(name),
        }
    }

    /// The dtype and shape of a tensor of the output. A tensor that only adapters have keeps what PEFT gave it.
    pub fn kind(&self, name: &str) -> (Dtype, Vec<usize>) {
        let source = self.source(name).map(|source| &self.base[source]);
        let dtype = match self.json["dtypes"][name].as_str() {
            Some(word) => dtype(word),
            None => source.unwrap_or_else(|| &self.merged[name]).dtype,
        };
        let shape = match self.json["quantised"][name]["shape"].as_array() {
            Some(axes) => axes.iter().map(|axis| axis.as_u64().expect("a side") as usize).collect(),
            None => self.replaced(name).or(source).expect("it comes from somewhere").shape.clone(),
        };
        (dtype, shape)
    }

    /// What a tensor of the output should be.
    pub fn right(&self, name: &str) -> Right {
        let deltas = self.deltas(name);
        let (dtype, _) = self.kind(name);
        if !deltas.is_empty() && dtype == Dtype::F8_E4M3 {
            return Right::Codes(quantised::codes(self, name, &self.sum(name, &deltas)));
        }
        if let Some(scales) = quantised::scales(self, name) {
            return Right::Near(scales);
        }
        match deltas.is_empty() {
            true => Right::Bytes(self.unchanged(name, dtype)),
            false => Right::Near(self.sum(name, &deltas)),
        }
    }

    /// The entries of `deltas` that name a tensor, in order.
    pub fn deltas(&self, name: &str) -> Vec<&Value> {
        self.list("deltas").iter().filter(|delta| delta["tensor"] == name).collect()
    }

    /// What entries make of a tensor, before the one rounding.
    pub fn sum(&self, name: &str, deltas: &[&Value]) -> Running {
        let (dtype, shape) = self.kind(name);
        let start = self.start(name, dtype);
        let mut running = start.clone();
        for (i, json) in deltas.iter().enumerate() {
            let before = running.exact.clone();
            let index = json["adapter"].as_u64().expect("an index") as usize;
            let (adapter, (_, weight)) = (&self.adapters[index], self.adapters()[index].clone());
            formulas::apply(&Entry { json, adapter, weight }, &start, &mut running, &shape);
            let own = json["peft_roundings"].as_u64().unwrap_or(0) as usize;
            running.peft_rounds(own + usize::from(i + 1 < deltas.len()), &before, dtype);
        }
        running
    }

    /// Whether anything happens to a tensor.
    pub fn is_touched(&self, name: &str) -> bool {
        let named = |list| self.list(list).iter().any(|entry| entry["tensor"] == name);
        named("deltas") || named("replaced") || named("created") || !self.json["dtypes"][name].is_null()
    }

    /// The list of that name; empty if there is none.
    fn list(&self, name: &str) -> &[Value] {
        self.json[name].as_array().map_or(&[], Vec::as_slice)
    }

    /// The adapter's tensor that stands in place of the base's; of several, the last.
    fn replaced(&self, name: &str) -> Option<&Tensor> {
        let entry = self.list("replaced").iter().rfind(|entry| entry["tensor"] == name)?;
        let adapter = entry["adapter"].as_u64().expect("an index") as usize;
        Some(&self.adapters[adapter][entry["key"].as_str().expect("a key")])
    }

    /// The values before the first entry of `deltas`.
    fn start(&self, name: &str, dtype: Dtype) -> Running {
        if let Some(value) = self.replaced(name) {
            let mut start = Running::exactly(value.values());
            if value.dtype != dtype {
                // PEFT rounds it to the base's dtype first; we add before the one rounding.
                start.peft_rounds(1, &start.exact.clone(), dtype);
            }
            return start;
        }
        let source = self.source(name).expect("it comes from somewhere");
        quantised::decoded(self, name).unwrap_or_else(|| Running::exactly(self.base[source].values()))
    }

    /// The bytes of a tensor that no entry of `deltas` names.
    fn unchanged(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let source = self.source(name);
        let tensor = self.replaced(name).unwrap_or_else(|| &self.base[source.expect("a source")]);
        if tensor.dtype == dtype {
            return tensor.raw.clone();
        }
        let decoded =
            source.filter(|_| self.replaced(name).is_none()).and_then(|_| quantised::decoded(self, name));
        // Codes are decoded in f32.
        let values = decoded.map(|decoded| decoded.exact.iter().map(|&x| f64::from(x as f32)).collect());
        let values = values.unwrap_or_else(|| tensor.values());
        Tensor::rounded(&values, &self.kind(name).1, dtype).raw
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a name")
}

fn dtype(word: &str) -> Dtype {
    match word {
        "BF16" => Dtype::BF16,
        "F16" => Dtype::F16,
        "F32" => Dtype::F32,
        "F8_E4M3" => Dtype::F8_E4M3,
        other => panic!("no dtype `{other}`"),
    }
}
