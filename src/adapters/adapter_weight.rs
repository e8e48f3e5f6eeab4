//! The weight of an adapter: a number, or numbers by module, as `layers.0-9=0.5,q_proj=0,*=1`.
//!
//! A pattern is some segments of a module's path in a row, wherever in it they stand: names, whole numbers, ranges of them (`0-9`, both ends
//! among them, `10-` without an end), and `*` for any one segment. The first pattern that a module's path has is the one whose number
//! it gets; `*` by itself, which comes last, is for all others, and without it these have 1. A number that is 0 leaves the deltas of
//! its modules out.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::request::RequestError;
use crate::error::{Error, Result};

/// What is accepted, for messages.
const ACCEPTED: &str = "a finite number is accepted, such as 0.5 or -1, or numbers by module, such as `layers.0-9=0.5,q_proj=0,*=1`";
/// The pattern for all modules that no other has.
const OTHERS: &str = "*";
/// The longest list that is read.
const MOST_BYTES: usize = 4096;
/// The longest path that is compared with a pattern.
const MOST_COMPARED: usize = 256;
/// Names that a message gives.
const NEAREST: usize = 2;

/// What an adapter's deltas are multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterWeight {
    /// Those of some modules.
    by_module: Vec<WeightOfModules>,
    /// That of all others.
    others: f64,
}

/// What the deltas of modules are multiplied by whose paths have some segments.
#[derive(Clone, Debug, PartialEq)]
struct WeightOfModules {
    /// The segments, between dots.
    pattern: String,
    weight: f64,
}

impl AdapterWeight {
    /// That of an adapter which is added as it is.
    pub(crate) const ONE: AdapterWeight = AdapterWeight { by_module: Vec::new(), others: 1.0 };

    /// The weight that a text says, or what is accepted instead.
    pub(crate) fn typed(text: &str) -> std::result::Result<AdapterWeight, &'static str> {
        if let Some(weight) = number(text) {
            return Ok(weight.into());
        }
        if text.len() > MOST_BYTES {
            return Err("a list of at most 4096 bytes is accepted");
        }
        let mut read = AdapterWeight::ONE;
        let mut parts = text.split(',').map(str::trim).peekable();
        while let Some(part) = parts.next() {
            let (pattern, weight) = part.split_once('=').ok_or(ACCEPTED)?;
            let (pattern, weight) = (pattern.trim(), number(weight.trim()).ok_or(ACCEPTED)?);
            if pattern != OTHERS {
                check(pattern)?;
                read.by_module.push(WeightOfModules { pattern: pattern.to_owned(), weight });
            } else if parts.peek().is_some() {
                return Err(
                    "`*=` is for all modules that no other pattern has, and is accepted at the end only",
                );
            } else {
                read.others = weight;
            }
        }
        Ok(read)
    }

    /// That of a module.
    pub(crate) fn of(&self, module: &str) -> f64 {
        let found = self.by_module.iter().find(|one| one.is_of(module));
        found.map_or(self.others, |one| one.weight)
    }

    /// Whether it is the same for all modules, and one.
    pub(crate) fn is_one(&self) -> bool {
        *self == AdapterWeight::ONE
    }

    /// Refuses a pattern that decides the weight of none of an adapter's modules.
    ///
    /// # Errors
    /// [`RequestError::WeightOfNothing`].
    pub(crate) fn check<'m>(
        &self,
        adapter: &str,
        modules: impl Iterator<Item = &'m str> + Clone,
    ) -> Result<()> {
        for (i, one) in self.by_module.iter().enumerate() {
            let earlier = &self.by_module[..i];
            let is_first =
                |module: &str| one.is_of(module) && earlier.iter().all(|other| !other.is_of(module));
            if modules.clone().any(is_first) {
                continue;
            }
            let (pattern, adapter) = (one.pattern.clone(), adapter.to_owned());
            let is_late = modules.clone().any(|module| one.is_of(module));
            let error = Error::new(RequestError::WeightOfNothing { pattern, adapter, is_late });
            return Err(if is_late {
                error.hint(
                    "the first pattern that a module has decides: put the narrower one before the wider one",
                )
            } else {
                match nearest(&one.pattern, modules) {
                    None => error,
                    Some(names) => error.hint(names),
                }
            });
        }
        Ok(())
    }
}

impl WeightOfModules {
    /// Whether a module's path has its segments, in a row.
    fn is_of(&self, module: &str) -> bool {
        let count = self.pattern.split('.').count();
        let starts = module.split('.').count().checked_sub(count);
        starts.is_some_and(|last| {
            (0..=last).any(|start| {
                let found = module.split('.').skip(start);
                self.pattern.split('.').zip(found).all(|(wanted, found)| is_segment(wanted, found))
            })
        })
    }
}

/// Whether a segment of a path is one that a segment of a pattern stands for.
fn is_segment(wanted: &str, found: &str) -> bool {
    let in_range = || {
        let (first, last) = range(wanted)?;
        let found = whole(found)?;
        Some(first <= found && last.is_none_or(|last| found <= last))
    };
    wanted == OTHERS || wanted == found || in_range() == Some(true)
}

/// The ends of a range of numbers, of which the last may be missing; none if it is no range.
fn range(segment: &str) -> Option<(u32, Option<u32>)> {
    let (first, last) = segment.split_once('-')?;
    Some((whole(first)?, if last.is_empty() { None } else { Some(whole(last)?) }))
}

/// A whole number; signs are none of it.
fn whole(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|weight: &f64| weight.is_finite())
}

/// Whether a pattern can stand for anything.
fn check(pattern: &str) -> std::result::Result<(), &'static str> {
    if pattern.split('.').any(str::is_empty) {
        return Err(
            "a pattern is segments of a module's path with a dot between them, such as `layers.0-9`, `down_blocks.0` or `q_proj`",
        );
    }
    let is_backward =
        |segment| range(segment).is_some_and(|(first, last)| last.is_some_and(|last| last < first));
    if pattern.split('.').any(is_backward) {
        return Err("a range begins with its smaller number, such as `layers.0-9`");
    }
    Ok(())
}

/// The modules that have as many segments in a row that are most like a pattern, as a hint.
fn nearest<'m>(pattern: &str, modules: impl Iterator<Item = &'m str>) -> Option<String> {
    let (count, mut found) = (pattern.split('.').count(), Vec::<(f64, &str)>::new());
    // What takes the square of its length to tell.
    let is_short = |text: &str| text.len() <= MOST_COMPARED;
    for module in modules.filter(|module| is_short(module) && is_short(pattern)) {
        let ends: Vec<usize> = module.match_indices('.').map(|(dot, _)| dot).chain([module.len()]).collect();
        let mut likeness = 0f64;
        for first in 0..(ends.len() + 1).saturating_sub(count) {
            let start = first.checked_sub(1).map_or(0, |before| ends[before] + 1);
            let part = &module[start..ends[first + count - 1]];
            likeness = likeness.max(strsim::normalized_damerau_levenshtein(pattern, part));
        }
        found.push((likeness, module));
        found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        found.dedup_by(|a, b| a.1 == b.1);
        found.truncate(NEAREST);
    }
    let names: Vec<&str> = found.into_iter().map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| format!("the nearest of its modules are `{}`", names.join("`, `")))
}

impl Default for AdapterWeight {
    fn default() -> AdapterWeight {
        AdapterWeight::ONE
    }
}

impl From<f64> for AdapterWeight {
    fn from(weight: f64) -> AdapterWeight {
        AdapterWeight { by_module: Vec::new(), others: weight }
    }
}

impl fmt::Display for AdapterWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_module.is_empty() {
            return self.others.fmt(f);
        }
        for WeightOfModules { pattern, weight } in &self.by_module {
            write!(f, "{pattern}={weight},")?;
        }
        write!(f, "{OTHERS}={}", self.others)
    }
}

impl Serialize for AdapterWeight {
    /// A number as one, a list as its text.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.by_module.is_empty() {
            serializer.serialize_f64(self.others)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for AdapterWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<AdapterWeight, D::Error> {
        deserializer.deserialize_any(Stored)
    }
}

/// What reads one.
struct Stored;

impl Visitor<'_> for Stored {
    type Value = AdapterWeight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ACCEPTED)
    }

    fn visit_f64<E: de::Error>(self, weight: f64) -> std::result::Result<AdapterWeight, E> {
        Ok(weight.into())
    }

    fn visit_u64<E: de::Error>(self, weight: u64) -> std::result::Result<AdapterWeight, E> {
        Ok((weight as f64).into())
    }

    fn visit_i64<E: de::Error>(self, weight: i64) -> std::result::Result<AdapterWeight, E> {
        Ok((weight as f64).into())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<AdapterWeight, E> {
        AdapterWeight::typed(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(text: &str) -> AdapterWeight {
        AdapterWeight::typed(text).expect(text)
    }

    #[test]
    fn the_first_pattern_that_a_module_has_decides() {
        let weight = weight(
            "layers.0-9.*.k_proj=0.25, layers.0-9=0.5, layers.10-=0.75, down_blocks.0=2, q_proj=0, *=-3",
        );
        for (module, of) in [
            ("model.layers.0.self_attn.q_proj", 0.5),
            ("model.layers.9.self_attn.k_proj", 0.25),
            ("layers.9.k_proj", 0.5),
            ("model.layers.10.self_attn.k_proj", 0.75),
            ("model.layers.123.q_proj", 0.75),
            ("encoder.layers.x.q_proj", 0.0),
            ("q_proj", 0.0),
            ("q_proj_2", -3.0),
            ("down_blocks.0.attentions.1.to_q", 2.0),
            ("down_blocks.1.attentions.0.to_q", -3.0),
            ("layers", -3.0),
            ("layers.+5.x", -3.0),
        ] {
            assert_eq!(weight.of(module), of, "{module}");
        }
        assert_eq!(super::AdapterWeight::typed("q_proj=0").map(|weight| weight.of("k_proj")), Ok(1.0));
    }

    #[test]
    fn what_is_no_weight_is_refused() {
        for text in [
            "", "x", "NaN", "inf", "1,5", "q=", "=1", "q=x", "q=NaN", ".q=1", "a..b=1", "*=1,q=2", "9-3=1",
            "q=1,",
        ] {
            assert!(AdapterWeight::typed(text).is_err(), "{text}");
        }
        assert!(AdapterWeight::typed(&format!("{}=1", "q".repeat(MOST_BYTES))).is_err());
    }

    #[test]
    fn a_plan_s_text_reads_back_and_a_number_stays_one() {
        for (text, json) in [
            ("0.5", "0.5"),
            ("-1", "-1.0"),
            (" layers.0-9 = 0.5,q_proj=0", "\"layers.0-9=0.5,q_proj=0,*=1\""),
        ] {
            let weight = weight(text);
            assert_eq!(serde_json::to_string(&weight).expect("plain"), json);
            assert_eq!(serde_json::from_str::<AdapterWeight>(json).expect(json), weight);
        }
        assert_eq!(serde_json::from_str::<AdapterWeight>("2").expect("a whole number"), 2.0.into());
        assert!(serde_json::from_str::<AdapterWeight>("\"q\"").is_err());
    }

    #[test]
    fn a_pattern_that_decides_nothing_is_refused_with_what_is_near() {
        let modules = ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"];
        let check = |text: &str| {
            weight(text)
                .check("a", modules.iter().copied())
                .map_err(|error| (error.to_string(), error.advice().unwrap_or_default().to_owned()))
        };
        assert_eq!(check("layers.0=2,layers.1-=0,*=1"), Ok(()));
        let (message, hint) = check("layers.0=2,qproj=0").expect_err("no such module");
        assert_eq!(message, "weight of `qproj`: no module of adapter `a` has that in its path");
        assert!(hint.contains("self_attn.q_proj"), "{hint}");
        let (message, hint) = check("q_proj=2,layers.1=0").expect_err("never asked");
        assert_eq!(
            message,
            "weight of `layers.1`: earlier patterns decide all modules of adapter `a` that have it"
        );
        assert!(hint.contains("narrower"), "{hint}");
    }
}
