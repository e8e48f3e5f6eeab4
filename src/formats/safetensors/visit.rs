//! From JSON to the result in one pass, with serde's visitors.
//!
//! No value stands between them, so memory stays near the size of the result. A typed problem travels beside serde's own
//! error, as in [`json`](crate::formats::json); where serde's error says enough, only the place is noted.

use std::collections::HashSet;
use std::fmt;
use std::mem::size_of;

use serde::de::value::Error as PlainError;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use crate::tensor::dtype::Dtype;
use crate::tensor::name::NameList;
use crate::tensor::shape::SharedShapes;

use crate::formats::allowance::Allowance;
use crate::formats::json::{Cause, JsonProblem, Pairs, Strict};
use crate::formats::safetensors::entry::{CheckedEntry, Raw, checked};
use crate::formats::safetensors::problem::HeaderProblem;
use crate::formats::safetensors::{Header, MAX_NAME_BYTES, METADATA};

/// Characters of a name that is too long to be shown.
const SHOWN_CHARS: usize = 60;

/// Memory of a size in a list, which may have grown to twice what it holds and is there twice for a while.
const AXIS_BYTES: u64 = 3 * size_of::<u64>() as u64;
/// Memory of a key in a set beside its text.
const KEY_BYTES: u64 = 3 * size_of::<String>() as u64;

/// What a visitor knows when serde stops.
pub(crate) enum HeaderTrace {
    Is(HeaderProblem),
    InMetadata,
    InEntry { tensor: String },
    InField { tensor: String, field: &'static str },
}

/// Reads the whole header; names, order and tiling are for the caller to check.
pub(crate) struct Top<'a> {
    pub(crate) cause: &'a Cause<HeaderTrace>,
    /// What may be kept. Once it is used up the rest is only checked and counted.
    pub(crate) allowance: &'a Allowance,
    /// What each tensor is counted with, beside its name.
    pub(crate) tensor_bytes: u64,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Header, A::Error> {
        let (mut names, mut entries) = (NameList::default(), Vec::new());
        let mut shapes = SharedShapes::default();
        let mut metadata = None;
        while let Some(name) = object.next_key::<String>()? {
            if name == METADATA {
                if metadata.is_some() {
                    return Err(self.cause.stop(HeaderTrace::Is(HeaderProblem::Twice { name })));
                }
                let pairs = object.next_value_seed(Pairs(self.allowance));
                metadata = Some(pairs.inspect_err(|_| self.cause.note(HeaderTrace::InMetadata))?);
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                let start = name.chars().take(SHOWN_CHARS).collect();
                let problem = HeaderProblem::LongName { start, found: name.len() };
                return Err(self.cause.stop(HeaderTrace::Is(problem)));
            }
            let entry = Entry { name: &name, cause: self.cause, allowance: self.allowance };
            let raw = object
                .next_value_seed(entry)
                .inspect_err(|_| self.cause.note(HeaderTrace::InEntry { tensor: name.clone() }))?;
            if self.allowance.take(name.len() as u64 + self.tensor_bytes) {
                names.push(&name);
                let checked = checked(name, raw);
                let entry = checked.map_err(|problem| self.cause.stop(HeaderTrace::Is(problem)))?;
                entries.push(CheckedEntry { shape: shapes.first(entry.shape), ..entry });
            } else {
                (names, entries) = (NameList::default(), Vec::new());
            }
        }
        let tensors = entries.into_iter().zip(names.names()).map(|(entry, name)| entry.named(name)).collect();
        Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
    }
}

/// Reads one tensor's entry.
struct Entry<'a> {
    name: &'a str,
    cause: &'a Cause<HeaderTrace>,
    allowance: &'a Allowance,
}

impl Entry<'_> {
    fn stop<E: de::Error>(&self, problem: impl FnOnce(String) -> HeaderProblem) -> E {
        self.cause.stop(HeaderTrace::Is(problem(self.name.to_owned())))
    }

    /// Reads the value of `field` into `slot`, which must be empty.
    fn field<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
        &self,
        object: &mut A,
        field: &'static str,
        slot: &mut Option<S::Value>,
        seed: S,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.stop(|within| HeaderProblem::KeyTwice { within, key: field.to_owned() }));
        }
        let value = object.next_value_seed(seed);
        let tensor = || self.name.to_owned();
        *slot =
            Some(value.inspect_err(|_| self.cause.note(HeaderTrace::InField { tensor: tensor(), field }))?);
        Ok(())
    }

    /// Checks the value of a field that we do not know, and forgets it.
    fn extra<'de, A: MapAccess<'de>>(&self, object: &mut A) -> Result<(), A::Error> {
        let cause = Cause::default();
        match object.next_value_seed(Strict::check(&cause)) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.cause.note(HeaderTrace::Is(match cause.take() {
                    Some(JsonProblem::Twice { key }) => {
                        HeaderProblem::KeyTwice { within: self.name.to_owned(), key }
                    }
                    Some(problem) => HeaderProblem::Json(problem),
                    None => return Err(error),
                }));
                Err(error)
            }
        }
    }

    fn missing<E: de::Error>(&self, field: &'static str) -> E {
        self.stop(|tensor| HeaderProblem::Missing { tensor, field })
    }
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `dtype`, `shape` and `data_offsets`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Raw, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        let mut extra = HashSet::new();
        while let Some(key) = object.next_key_seed(FieldName)? {
            match key {
                Field::Dtype => {
                    let seed = DtypeName { tensor: self.name, cause: self.cause };
                    self.field(&mut object, "dtype", &mut dtype, seed)?;
                }
                Field::Shape => self.field(&mut object, "shape", &mut shape, Axes(self.allowance))?,
                Field::Offsets => self.field(&mut object, "data_offsets", &mut offsets, Offsets)?,
                Field::Other(key) => {
                    self.extra(&mut object)?;
                    if !self.allowance.take(KEY_BYTES + key.len() as u64) {
                        extra = HashSet::new();
                    } else if let Some(key) = extra.replace(key) {
                        return Err(self.stop(|within| HeaderProblem::KeyTwice { within, key }));
                    }
                }
            }
        }
        let dtype = dtype.ok_or_else(|| self.missing("dtype"))?;
        let shape = shape.ok_or_else(|| self.missing("shape"))?;
        let [start, end] = offsets.ok_or_else(|| self.missing("data_offsets"))?;
        Ok(Raw { dtype, shape, start, end })
    }
}

enum Field {
    Dtype,
    Shape,
    Offsets,
    Other(String),
}

struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "dtype" => Field::Dtype,
            "shape" => Field::Shape,
            "data_offsets" => Field::Offsets,
            _ => Field::Other(name.to_owned()),
        })
    }
}

/// Reads a dtype, a string and nothing else.
struct DtypeName<'a> {
    tensor: &'a str,
    cause: &'a Cause<HeaderTrace>,
}

impl<'de> DeserializeSeed<'de> for DtypeName<'_> {
    type Value = Dtype;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dtype, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for DtypeName<'_> {
    type Value = Dtype;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a dtype")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Dtype, E> {
        let known: Result<Dtype, PlainError> = Dtype::deserialize(name.into_deserializer());
        // Blocks of ggml have no place in such a file.
        known.ok().filter(|dtype| dtype.values() == 1).ok_or_else(|| {
            let (tensor, found) = (self.tensor.to_owned(), name.to_owned());
            self.cause.stop(HeaderTrace::Is(HeaderProblem::UnknownDtype { tensor, found }))
        })
    }
}

/// Reads a whole number from 0 to 2⁶⁴ − 1. `8.0` is none, and neither is `-0`.
struct Count;

impl<'de> DeserializeSeed<'de> for Count {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

impl Visitor<'_> for Count {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 18446744073709551615")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        Err(E::invalid_value(de::Unexpected::Signed(value), &self))
    }
}

/// Reads a list of sizes.
struct Axes<'a>(&'a Allowance);

impl<'de> DeserializeSeed<'de> for Axes<'_> {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Axes<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut axes = Vec::new();
        while let Some(axis) = list.next_element_seed(Count)? {
            if self.0.take(AXIS_BYTES) {
                axes.push(axis);
            } else {
                axes = Vec::new();
            }
        }
        Ok(axes)
    }
}

/// Reads the two numbers of a range.
struct Offsets;

impl<'de> DeserializeSeed<'de> for Offsets {
    type Value = [u64; 2];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<[u64; 2], D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Offsets {
    type Value = [u64; 2];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of two offsets")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<[u64; 2], A::Error> {
        let mut offsets = [0; 2];
        let mut count = 0;
        while let Some(offset) = list.next_element_seed(Count)? {
            if let Some(slot) = offsets.get_mut(count) {
                *slot = offset;
            }
            count += 1;
        }
        if count == 2 { Ok(offsets) } else { Err(de::Error::invalid_length(count, &self)) }
    }
}
