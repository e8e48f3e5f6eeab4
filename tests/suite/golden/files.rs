//! The files of the output beside the numbers: headers, index, config, and all that is copied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::config;
use crate::oracle::Case;

type Files = BTreeMap<String, Vec<u8>>;

/// Everything that is wrong with them. Where nothing changes name, dtype or shape they are the base's, byte for byte.
pub fn wrong(base: &Files, ours: &Files, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let shards = |files: &Files| -> BTreeMap<String, Header> {
        let shards = files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
        shards.map(|(name, bytes)| (name.clone(), Header::of(bytes))).collect()
    };
    let (base_shards, our_shards) = (shards(base), shards(ours));
    for (name, was) in &base_shards {
        match our_shards.get(name) {
            Some(is) => wrong.extend(was.wrong(is, case).map(|why| format!("{name}: {why}"))),
            None if was.order.iter().any(|tensor| case.becomes(tensor).is_some()) => {
                wrong.push(format!("{name} is missing"));
            }
            None => {}
        }
    }
    wrong.extend(
        our_shards
            .keys()
            .filter(|name| !base_shards.contains_key(*name))
            .map(|name| format!("{name} is no shard of the base")),
    );
    let is_same =
        base_shards.iter().all(|(name, was)| our_shards.get(name).is_some_and(|is| is.text == was.text));
    for (name, was) in base.iter().filter(|(name, _)| !base_shards.contains_key(*name)) {
        let Some(is) = ours.get(name) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        if name == "config.json" {
            wrong.extend(config::wrong(was, is, &case.json["config"]));
        } else if name.ends_with(".safetensors.index.json") && !is_same {
            wrong.extend(wrong_index(was, is, &our_shards).map(|why| format!("{name}: {why}")));
        } else if was != is {
            wrong.push(format!("{name} is not the base's"));
        }
    }
    wrong
}

/// The header of a shard.
struct Header {
    /// Its bytes, with their length in front.
    text: Vec<u8>,
    metadata: Value,
    /// The names of its tensors as their bytes lie.
    order: Vec<String>,
    /// What is said of each, but for its place; and the number of its bytes.
    tensors: BTreeMap<String, (Value, Value, u64)>,
}

impl Header {
    fn of(shard: &[u8]) -> Header {
        let end = 8 + u64::from_le_bytes(shard[..8].try_into().expect("eight bytes")) as usize;
        let mut json: Value = serde_json::from_slice(&shard[8..end]).expect("a header");
        let all = json.as_object_mut().expect("an object");
        let metadata = all.shift_remove("__metadata__").unwrap_or_default();
        let span = |entry: &Value| {
            let at = |i: usize| entry["data_offsets"][i].as_u64().expect("an offset");
            (at(0), at(1))
        };
        let mut order: Vec<String> = all.keys().cloned().collect();
        order.sort_by_key(|name| span(&all[name]));
        let tensors = all.iter().map(|(name, entry)| {
            let (from, to) = span(entry);
            (name.clone(), (entry["dtype"].clone(), entry["shape"].clone(), to - from))
        });
        Header { text: shard[..end].to_vec(), tensors: tensors.collect(), metadata, order }
    }

    /// What is wrong with the shard that this one of the base became: what stays is in its order, what is new follows,
    /// and is where the tensor is that it was made from.
    fn wrong(&self, ours: &Header, case: &Case) -> Option<String> {
        let stays: Vec<&str> = self.order.iter().filter_map(|name| case.becomes(name)).collect();
        let ours_in_order = || ours.order.iter().map(String::as_str);
        let new: Vec<&str> = ours_in_order().filter(|name| !stays.contains(name)).collect();
        if stays.len() == self.order.len() && new.is_empty() && self.tensors == ours.tensors {
            return (self.text != ours.text).then(|| "the header is not the base's".to_owned());
        }
        if self.metadata != ours.metadata {
            return Some(format!("metadata {}, should be {}", ours.metadata, self.metadata));
        }
        if !stays.iter().chain(&new).copied().eq(ours_in_order()) {
            return Some(format!("its tensors are in the order {:?}", ours.order));
        }
        let is_strange = |name: &&&str| match case.source(name) {
            Some(from) => case.base.contains_key(**name) || !self.tensors.contains_key(from),
            None => false,
        };
        new.iter().find(is_strange).map(|name| format!("{name} belongs into another shard"))
    }
}

/// An index names every tensor with its shard, and how many bytes all tensors have.
fn wrong_index(base: &[u8], ours: &[u8], shards: &BTreeMap<String, Header>) -> Option<String> {
    let mut right: Value = serde_json::from_slice(base).expect("the base's index");
    let tensors = |(shard, header): (&String, &Header)| {
        header.tensors.keys().map(|name| (name.clone(), Value::from(shard.as_str()))).collect::<Vec<_>>()
    };
    right["weight_map"] = Value::Object(shards.iter().flat_map(tensors).collect());
    let sizes = shards.values().flat_map(|header| header.tensors.values().map(|(_, _, bytes)| bytes));
    right["metadata"]["total_size"] = sizes.sum::<u64>().into();
    let found: Value = match serde_json::from_slice(ours) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let names = |of: &Value| -> BTreeSet<String> {
        of["weight_map"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, shard)| format!("{name} {shard}"))
            .collect()
    };
    match names(&right) == names(&found) {
        true if right == found => None,
        true => Some(format!("metadata {}, should be {}", found["metadata"], right["metadata"])),
        false => Some(format!("names that differ: {:?}", &names(&right) ^ &names(&found))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oracle::Tensor;

    fn shard(tensors: &[(&str, usize)]) -> Vec<u8> {
        let mut header = json!({ "__metadata__": { "format": "pt" } });
        let mut end = 0;
        for (name, bytes) in tensors {
            header[name] =
                json!({ "dtype": "F32", "shape": [bytes / 4], "data_offsets": [end, end + bytes] });
            end += bytes;
        }
        let text = header.to_string();
        [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &vec![0; end]].concat()
    }

    fn index(tensors: &[(&str, &str)], bytes: usize) -> Vec<u8> {
        let map: serde_json::Map<_, _> =
            tensors.iter().map(|(name, shard)| (name.to_string(), json!(shard))).collect();
        json!({ "metadata": { "total_size": bytes }, "weight_map": map }).to_string().into_bytes()
    }

    /// A base of `b`, `a` and `old` in one shard and `c` in another; the output drops `old`, and has a `head` from `a`.
    fn wrong_with(one: &[(&str, usize)], two: &[(&str, usize)], listed: &[u8]) -> Vec<String> {
        let (first, second) = ("model-1.safetensors".to_owned(), "model-2.safetensors".to_owned());
        let listing = "model.safetensors.index.json".to_owned();
        let files = |one: &[(&str, usize)], two: &[(&str, usize)], listed: &[u8]| -> Files {
            let files = [(&first, shard(one)), (&second, shard(two)), (&listing, listed.to_vec())];
            files.into_iter().map(|(name, bytes)| (name.clone(), bytes)).collect()
        };
        let tensor = Tensor { dtype: safetensors::Dtype::F32, shape: vec![1], raw: vec![0; 4] };
        let names = ["b", "a", "old", "c"];
        let case = Case {
            json: json!({ "created": [{ "tensor": "head", "from": "a" }], "dropped": ["old"] }),
            base: names.iter().map(|name| (name.to_string(), tensor.clone())).collect(),
            merged: BTreeMap::new(),
            adapters: vec![],
        };
        let base = files(&[("b", 4), ("a", 8), ("old", 4)], &[("c", 4)], &index(&[], 0));
        wrong(&base, &files(one, two, listed), &case)
    }

    #[test]
    fn order_and_index_of_changed_shards() {
        let (one, two) = ("model-1.safetensors", "model-2.safetensors");
        let all = [("b", one), ("a", one), ("head", one), ("c", two)];
        let right = [("b", 4), ("a", 8), ("head", 8)];
        assert_eq!(wrong_with(&right, &[("c", 4)], &index(&all, 24)), [""; 0]);
        assert_eq!(wrong_with(&right, &[("c", 4)], &index(&all, 20)).len(), 1, "bytes");
        assert_eq!(wrong_with(&right, &[("c", 4)], &index(&all[1..], 24)).len(), 1, "a name is missing");
        let turned = [("a", 8), ("b", 4), ("head", 8)];
        assert_eq!(wrong_with(&turned, &[("c", 4)], &index(&all, 24)).len(), 1, "order");
        let first = [("head", 8), ("b", 4), ("a", 8)];
        assert_eq!(wrong_with(&first, &[("c", 4)], &index(&all, 24)).len(), 1, "the new one is first");
        let elsewhere = [("b", one), ("a", one), ("head", two), ("c", two)];
        let found = wrong_with(&right[..2], &[("c", 4), ("head", 8)], &index(&elsewhere, 24));
        assert_eq!(found.len(), 1, "the new one is in another shard: {found:?}");
    }
}
