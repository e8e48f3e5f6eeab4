//! The index of a sharded checkpoint, `model.safetensors.index.json`: which shard holds which tensor.
//!
//! The order of the file is kept, and so is whatever else it holds, so that an index that is read and built again differs
//! only where it must. Whether the shards agree with it is for the reader of the checkpoint to see.

use std::collections::HashSet;
use std::fmt;
use std::mem::size_of;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::formats::allowance::Allowance;
use crate::formats::json;
use crate::formats::json::{Cause, JsonProblem, Strict, first_twice};

/// An index, in the order of its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// Each tensor's name and the name of the shard that holds it: a file inside the index's directory, perhaps in one below.
    pub weight_map: Vec<(String, Arc<str>)>,
    /// What stands beside it.
    pub about: About,
}

/// What an index holds beside its `weight_map`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Bytes of all tensors together, as the file claims; `None` if it is missing or no whole number. Never to be relied
    /// on: one tool writes the number of tensors here.
    pub total_size: Option<u64>,
    /// All of `metadata` as it stood in the file, `total_size` included so that it keeps its place.
    pub metadata: Map<String, Value>,
    /// All keys beside `weight_map` and `metadata`.
    pub other: Map<String, Value>,
}

impl Index {
    /// The names of the shards, each once, in the order in which the list has them first.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        self.weight_map.iter().map(|(_, shard)| &**shard).filter(move |shard| seen.insert(*shard))
    }
}

/// What is wrong with an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum IndexProblem {
    #[error("it cannot be read as JSON")]
    Json(#[source] JsonProblem),
    #[error("what it lists takes {needed} bytes of memory")]
    NoRoom { needed: u64 },
    #[error("it has no `weight_map`")]
    NoWeightMap,
    #[error("`weight_map` does not map names to shards")]
    WeightMap(#[source] serde_json::Error),
    #[error("`metadata` is not an object")]
    Metadata,
    #[error("`weight_map` has tensor `{tensor}` twice")]
    Twice { tensor: String },
    #[error("`weight_map` puts `{tensor}` into `{}`, which is no file name inside the directory", shard.escape_debug())]
    LeadsOut { tensor: String, shard: String },
    #[error(
        "`weight_map` puts `{tensor}` into a file whose name is {found} bytes long, at most {MOST_NAME_BYTES} can be"
    )]
    LongName { tensor: String, found: usize },
}

/// Reads an index, for which and for all that is read of it there are `room` bytes of memory.
///
/// # Errors
/// If it is no JSON object, has a key twice in any of its objects, has no `weight_map` of strings, or names a shard that
/// is no plain file name.
pub(crate) fn parse_index(json: &[u8], room: u64) -> Result<Index, IndexProblem> {
    let text = json::utf8(json).map_err(IndexProblem::Json)?;
    // Editors of other systems put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (cause, allowance) = (Cause::default(), Allowance::new(room));
    let top = Top { cause: &cause, allowance: &allowance };
    let index = json::read(text, top).map_err(|error| match cause.take() {
        Some(IndexTrace::Is(problem)) => problem,
        Some(IndexTrace::InWeightMap) if error.is_data() => IndexProblem::WeightMap(error),
        _ => IndexProblem::Json(JsonProblem::Syntax(error)),
    })?;
    if !allowance.suffices() {
        return Err(IndexProblem::NoRoom { needed: allowance.needed() });
    }
    if let Some(tensor) = first_twice(index.weight_map.iter().map(|(tensor, _)| tensor.as_str())) {
        return Err(IndexProblem::Twice { tensor: tensor.to_owned() });
    }
    if let Some((tensor, shard)) = index.weight_map.iter().find(|(_, shard)| !is_inside(shard)) {
        return Err(IndexProblem::LeadsOut { tensor: tensor.clone(), shard: shard.to_string() });
    }
    let longest = |shard: &str| shard.split('/').map(str::len).max().unwrap_or_default();
    match index.weight_map.iter().find(|(_, shard)| longest(shard) > MOST_NAME_BYTES) {
        Some((tensor, shard)) => {
            Err(IndexProblem::LongName { tensor: tensor.clone(), found: longest(shard) })
        }
        None => Ok(index),
    }
}

/// Bytes of an entry of the list beside its two names: spaces, quotes, a colon, a comma, an end of line.
const AROUND_ENTRY: usize = 12;

/// Writes an index as transformers does: indented by two, with a newline at the end.
///
/// `weight_map` are names of tensors and shards. `total_size`, in bytes, takes the place of the one in `about.metadata`, or is
/// added to it.
pub(crate) fn build_index(weight_map: &[(&str, &str)], about: &About, total_size: u64) -> String {
    // 92,000 entries are some megabytes, which would be moved as often as they double.
    let entry = |(tensor, shard): &(&str, &str)| tensor.len() + shard.len() + AROUND_ENTRY;
    let mut text = Vec::with_capacity(weight_map.iter().map(entry).sum());
    serde_json::to_writer_pretty(&mut text, &Built { weight_map, about, total_size })
        .expect("strings and JSON values always serialise");
    text.push(b'\n');
    text.shrink_to_fit();
    String::from_utf8(text).expect("JSON is text")
}

/// The most bytes that the name of a file may have on any of the usual file systems.
const MOST_NAME_BYTES: usize = 255;
/// The most segments that a name may have: far fewer than a path has room for.
const MOST_SEGMENTS: usize = 8;

/// Whether `name` means a file in the directory or in one below, on every platform.
fn is_inside(name: &str) -> bool {
    let names_a_drive = matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let segments = name.split('/');
    segments.clone().all(is_segment)
        && segments.count() <= MOST_SEGMENTS
        && !name.contains(['\\', '\0'])
        && !names_a_drive
}

struct Built<'a> {
    weight_map: &'a [(&'a str, &'a str)],
    about: &'a About,
    total_size: u64,
}

impl Serialize for Built<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut metadata = self.about.metadata.clone();
        metadata.insert("total_size".to_owned(), self.total_size.into());
        let mut top = serializer.serialize_map(None)?;
        top.serialize_entry("metadata", &metadata)?;
        top.serialize_entry("weight_map", &WeightMap(self.weight_map))?;
        for (key, value) in &self.about.other {
            top.serialize_entry(key, value)?;
        }
        top.end()
    }
}

struct WeightMap<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for WeightMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// What a visitor knows when serde stops.
enum IndexTrace {
    Is(IndexProblem),
    InWeightMap,
}

struct Top<'a> {
    cause: &'a Cause<IndexTrace>,
    /// What may be kept of the list.
    allowance: &'a Allowance,
}

impl Top<'_> {
    fn value<'de, A: MapAccess<'de>>(&self, object: &mut A) -> Result<Value, A::Error> {
        let cause = Cause::default();
        object.next_value_seed(Strict::keep(&cause)).inspect_err(|_| {
            if let Some(problem) = cause.take() {
                self.cause.note(IndexTrace::Is(IndexProblem::Json(problem)));
            }
        })
    }
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Index, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Index, A::Error> {
        let twice = |key: &str| -> A::Error {
            let problem = JsonProblem::Twice { key: key.to_owned() };
            self.cause.stop(IndexTrace::Is(IndexProblem::Json(problem)))
        };
        let (mut weight_map, mut metadata) = (None, None);
        let mut other = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "weight_map" if weight_map.is_some() => return Err(twice(&key)),
                "metadata" if metadata.is_some() => return Err(twice(&key)),
                "weight_map" => {
                    let pairs = object.next_value_seed(ListedTensors(self.allowance));
                    weight_map = Some(pairs.inspect_err(|_| self.cause.note(IndexTrace::InWeightMap))?);
                }
                "metadata" => {
                    metadata = Some(match self.value(&mut object)? {
                        Value::Object(items) => items,
                        Value::Null => Map::new(),
                        _ => return Err(self.cause.stop(IndexTrace::Is(IndexProblem::Metadata))),
                    });
                }
                _ if other.contains_key(&key) => return Err(twice(&key)),
                _ => {
                    let value = self.value(&mut object)?;
                    other.insert(key, value);
                }
            }
        }
        let Some(weight_map) = weight_map else {
            return Err(self.cause.stop(IndexTrace::Is(IndexProblem::NoWeightMap)));
        };
        let metadata = metadata.unwrap_or_default();
        let total_size = metadata.get("total_size").and_then(Value::as_u64);
        Ok(Index { weight_map, about: About { total_size, metadata, other } })
    }
}

/// Memory of an entry of the list, which may have grown to twice what it holds and is looked through for names that are there
/// twice, beside its tensor's name.
const ENTRY_BYTES: u64 = 3 * size_of::<(String, Arc<str>)>() as u64;

/// Shards beyond the number that checkpoints have.
const MANY_SHARDS: usize = 10_000;

/// Reads the list of tensors and shards. A shard's name is kept once.
struct ListedTensors<'a>(&'a Allowance);

impl<'de> DeserializeSeed<'de> for ListedTensors<'_> {
    type Value = Vec<(String, Arc<str>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListedTensors<'_> {
    type Value = Vec<(String, Arc<str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut listed, mut shards) = (Vec::new(), HashSet::<Arc<str>>::new());
        while let Some((tensor, shard)) = object.next_entry::<String, String>()? {
            let known = shards.get(shard.as_str()).cloned();
            let new = known.as_ref().map_or(ENTRY_BYTES + shard.len() as u64, |_| 0);
            let is_kept = self.0.take(ENTRY_BYTES + tensor.len() as u64 + new);
            let shard = known.unwrap_or_else(|| shard.into());
            // Those that are known are counted once, so that some more are kept than there is room for.
            if is_kept || shards.len() < MANY_SHARDS {
                shards.insert(shard.clone());
            }
            if is_kept {
                listed.push((tensor, shard));
            } else {
                listed = Vec::new();
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::formats::testing::chain;

    /// As transformers writes it, with a key of its own and one of a stranger.
    const TEXT: &str = r#"{
  "metadata": {
    "total_parameters": 6,
    "total_size": 12
  },
  "weight_map": {
    "b.weight": "model-00001-of-00002.safetensors",
    "a.weight": "model-00002-of-00002.safetensors"
  },
  "note": [
    1,
    {}
  ]
}
"#;

    #[test]
    fn reads_and_builds_the_same() {
        let index = parse_index(TEXT.as_bytes(), u64::MAX).unwrap();
        let names: Vec<_> = index.weight_map.iter().map(|(tensor, _)| tensor.as_str()).collect();
        assert_eq!(names, ["b.weight", "a.weight"], "order of the file");
        assert_eq!(&*index.weight_map[0].1, "model-00001-of-00002.safetensors");
        assert_eq!(index.about.total_size, Some(12));
        assert_eq!(index.about.other["note"], json!([1, {}]));
        let map: Vec<_> = index.weight_map.iter().map(|(name, shard)| (name.as_str(), &**shard)).collect();
        assert_eq!(build_index(&map, &index.about, 12), TEXT);
        assert_eq!(build_index(&map, &index.about, 34), TEXT.replace("12", "34"));
    }

    #[test]
    fn builds_from_nothing() {
        let expected = "{\n  \"metadata\": {\n    \"total_size\": 5\n  },\n  \"weight_map\": {}\n}\n";
        assert_eq!(build_index(&[], &About::default(), 5), expected);
    }

    #[test]
    fn tolerates_what_tools_write() {
        let cases = [
            (r#"{"weight_map":{}}"#, None),
            ("\u{feff}{\"weight_map\":{},\"metadata\":{\"total_size\":3}}", Some(3)),
            (r#"{"weight_map":{},"metadata":null}"#, None),
            (r#"{"weight_map":{},"metadata":{}}"#, None),
            (r#"{"weight_map":{},"metadata":{"total_size":0}}"#, Some(0)),
            (r#"{"weight_map":{},"metadata":{"total_size":8.0}}"#, None),
            (r#"{"weight_map":{},"metadata":{"total_size":-8}}"#, None),
            (r#"{"weight_map":{},"metadata":{"total_size":"8"}}"#, None),
            (r#"{"weight_map":{},"metadata":{"total_size":99999999999999999999}}"#, None),
            (
                r#"{"weight_map":{"a":"model..v2.safetensors","":"x y:z"},"metadata":{"total_size":8}}"#,
                Some(8),
            ),
        ];
        for (text, total_size) in cases {
            assert_eq!(
                parse_index(text.as_bytes(), u64::MAX).unwrap().about.total_size,
                total_size,
                "{text}"
            );
        }
    }

    #[test]
    fn refuses() {
        let cases = [
            (
                "[]",
                "it cannot be read as JSON: invalid type: sequence, expected an object at line 1 column 0",
            ),
            ("{", "it cannot be read as JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"weight_map":{}} {}"#, "it cannot be read as JSON: trailing characters at line 1 column 19"),
            ("{}", "it has no `weight_map`"),
            (r#"{"weight_map":{"a":"f","a":"f"}}"#, "`weight_map` has tensor `a` twice"),
            (r#"{"weight_map":{"a":"f","\u0061":"g"}}"#, "`weight_map` has tensor `a` twice"),
            (
                r#"{"weight_map":{"a":1}}"#,
                "`weight_map` does not map names to shards: invalid type: integer `1`, expected a string at line 1 column 20",
            ),
            (
                r#"{"weight_map":[]}"#,
                "`weight_map` does not map names to shards: invalid type: sequence, expected an object of strings at \
                 line 1 column 14",
            ),
            (
                r#"{"weight_map":{},"weight_map":{}}"#,
                "it cannot be read as JSON: `weight_map` is there twice in one object",
            ),
            (
                r#"{"weight_map":{},"x":1,"x":1}"#,
                "it cannot be read as JSON: `x` is there twice in one object",
            ),
            (
                r#"{"weight_map":{},"metadata":{"total_size":1,"total_size":2}}"#,
                "it cannot be read as JSON: `total_size` is there twice in one object",
            ),
            (r#"{"weight_map":{},"metadata":[1]}"#, "`metadata` is not an object"),
        ];
        for (text, message) in cases {
            assert_eq!(chain(&parse_index(text.as_bytes(), u64::MAX).unwrap_err()), message, "{text}");
        }
    }

    #[test]
    fn shards_stay_in_the_folder() {
        let names = [
            "",
            ".",
            "..",
            "/etc/x",
            "a/../../b",
            "a//b",
            "a/./b",
            "../x",
            "./x",
            r"a\b",
            r"..\x",
            r"\\host\x",
            "C:x",
            "c:",
            "a\0b",
            "x/",
        ];
        for name in names {
            let text = json!({"weight_map": {"w": name}}).to_string();
            let problem = parse_index(text.as_bytes(), u64::MAX).unwrap_err();
            assert!(
                matches!(&problem, IndexProblem::LeadsOut { tensor, shard } if tensor == "w" && shard == name),
                "{name:?} gave {problem}"
            );
        }
        assert!(parse_index(br#"{"weight_map":{"w":"sub/model-1.safetensors"}}"#, u64::MAX).is_ok());
        let long = json!({"weight_map": {"w": format!("a/{}", "x".repeat(300))}}).to_string();
        let problem = parse_index(long.as_bytes(), u64::MAX).unwrap_err();
        assert!(problem.to_string().contains("300 bytes long, at most 255"), "{problem}");
        let problem = parse_index(br#"{"weight_map":{"w":"../x"}}"#, u64::MAX).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "`weight_map` puts `w` into `../x`, which is no file name inside the directory"
        );
    }

    #[test]
    fn what_has_no_room_is_counted_and_not_kept() {
        let list: Vec<String> =
            (0..50).map(|i| format!("\"tensor{i:02}\":\"{}.safetensors\"", i % 3)).collect();
        let text = format!("{{\"weight_map\":{{{}}}}}", list.join(","));
        let Err(IndexProblem::NoRoom { needed }) = parse_index(text.as_bytes(), 1) else { panic!("no room") };
        let index = parse_index(text.as_bytes(), needed).unwrap();
        assert_eq!((index.weight_map.len(), index.shards().count()), (50, 3));
        let again = parse_index(text.as_bytes(), needed - 1).unwrap_err();
        assert!(matches!(again, IndexProblem::NoRoom { needed: same } if same == needed), "{again}");
    }
}
