//! The interpretation of an adapter's paths: which names of the checkpoint they mean.
//!
//! An adapter was trained on a running model, whose names depend on the version of transformers, on the class that was
//! loaded (the bare model, with a head, the language part of a larger one) and on the checkpoint. So the paths are changed by
//! several [`NameMapping`]s, and each is looked up in the names that the checkpoint has after none, some or all of the rules
//! of its class ([`NameTable`]). A mapping with a table is an interpretation. The first one that places every path is taken;
//! if none does, the one that places most, and others for towers that it places nothing of.
//!
//! An example: LLaVA as transformers 4 saved it, and an adapter that was trained on its language model alone.
//!
//! ```text
//! adapter   model.layers.0.mlp.up_proj
//! on disk   language_model.model.layers.0.mlp.up_proj.weight
//!
//!                        | names on disk                    | names after all rules (transformers 5)
//!                        | language_model.model.layers.0.…  | model.language_model.layers.0.…
//! -----------------------+----------------------------------+----------------------------------------
//! Same                   | model.layers.0.…              no | model.layers.0.…                     no
//! WithBase("model.")     | model.model.layers.0.…        no | model.model.layers.0.…               no
//! Language("model.language_model.")                         | model.language_model.layers.0.…     yes
//! ```
//!
//! The only interpretation that places the path is the one of the last line, so `up_proj` is the tensor that became
//! `model.language_model.layers.0.mlp.up_proj`. Were there another that places every path and means other tensors, the
//! adapter would be refused as ambiguous. Two that mean the same tensors are one: [`PathMatches::sums`] has equal numbers
//! for equal sets of tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::names::geometry::Geometry;
use crate::model::names::name_table::NameTable;
use crate::model::names::rules::Rules;

/// How a path is changed before it is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameMapping {
    /// Not at all.
    Same,
    /// The base model's path is put in front: trained on the bare model.
    WithBase(String),
    /// The base model's path is taken away: the checkpoint was saved from the bare model.
    WithoutBase(String),
    /// Renamed by the rules: names of an older transformers.
    Older,
    /// `model.` in front is replaced: trained on the language part of a model with towers.
    Language(&'static str),
    /// Segments that a producer calls otherwise.
    Spelt(Vec<&'static Spelling>),
    /// A prefix by tower, inferred from names that end alike.
    Inferred(BTreeMap<String, String>),
}

/// Segments that a producer calls otherwise than the model does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// Models in which it does; all, if none is named.
    model_types: &'static [&'static str],
    /// The producer's: one segment, or several.
    pub theirs: &'static str,
    /// The model's.
    pub models: &'static str,
}

/// Tinker has one name for the attention of every model, and puts the head of some inside the base model (GLM, Nemotron).
const SPELLINGS: &[Spelling] = &[
    Spelling { model_types: &["gpt_oss"], theirs: "attn", models: "self_attn" },
    Spelling { model_types: &[], theirs: "model.lm_head", models: "lm_head" },
];

impl Spelling {
    /// The path as the model has it, if it has those segments.
    fn read(&self, path: &str) -> Option<String> {
        exchanged(path, self.theirs, self.models)
    }

    /// A name of the model as the producer has it, if it has those segments.
    fn spelt(&self, name: &str) -> Option<String> {
        exchanged(name, self.models, self.theirs)
    }
}

/// The path with the first segments that are `from` exchanged for `to`, if there are any.
fn exchanged(path: &str, from: &str, to: &str) -> Option<String> {
    let starts = path.match_indices(from).map(|(start, _)| (start, start + from.len()));
    let is_between = |&(start, end): &(usize, usize)| {
        (start == 0 || path[..start].ends_with('.')) && (end == path.len() || path[end..].starts_with('.'))
    };
    let (start, end) = starts.into_iter().find(is_between)?;
    Some(format!("{}{to}{}", &path[..start], &path[end..]))
}

impl NameMapping {
    /// Every mapping but the inferred one, in the order in which they are tried.
    pub(crate) fn all(base: &str, geometry: &Geometry) -> Vec<NameMapping> {
        let mut mappings = vec![NameMapping::Same];
        if !base.is_empty() {
            mappings.extend([
                NameMapping::WithBase(format!("{base}.")),
                NameMapping::WithoutBase(format!("{base}.")),
            ]);
        }
        let language = ["model.language_model.", "language_model.model."].map(NameMapping::Language);
        let is_of = |spelling: &&Spelling| {
            spelling.model_types.is_empty() || geometry.is_one_of(spelling.model_types)
        };
        let spelt = NameMapping::Spelt(SPELLINGS.iter().filter(is_of).collect());
        mappings.into_iter().chain([NameMapping::Older]).chain(language).chain([spelt]).collect()
    }

    /// Whether it is tried on the names after all rules alone.
    pub(crate) fn needs_all_rules(&self) -> bool {
        matches!(self, NameMapping::Older | NameMapping::Language(_))
    }

    /// A path of a module, or a parameter's, as this mapping has it.
    pub(crate) fn read<'p>(&self, path: &'p str, rules: &Rules) -> Cow<'p, str> {
        match self {
            NameMapping::Same => Cow::Borrowed(path),
            NameMapping::WithBase(base) => Cow::Owned(format!("{base}{path}")),
            NameMapping::WithoutBase(base) => Cow::Borrowed(path.strip_prefix(base.as_str()).unwrap_or(path)),
            NameMapping::Older => renamed(path, rules),
            NameMapping::Language(prefix) => match path.strip_prefix("model.") {
                Some(rest) => Cow::Owned(format!("{prefix}{rest}")),
                None => Cow::Borrowed(path),
            },
            NameMapping::Spelt(spellings) => spellings
                .iter()
                .fold(Cow::Borrowed(path), |path, spelling| spelling.read(&path).map_or(path, Cow::Owned)),
            NameMapping::Inferred(prefixes) => {
                // A parameter belongs to the tower of its module, which is the path itself where it has no number.
                let mut towers =
                    [tower(path), path.rsplit_once('.').map_or("", |(module, _)| module)].into_iter();
                match towers.find_map(|tower| prefixes.get(tower)) {
                    Some(prefix) => Cow::Owned(format!("{prefix}{path}")),
                    None => Cow::Borrowed(path),
                }
            }
        }
    }
}

impl NameMapping {
    /// A name of the model as an adapter that is read by this mapping spells it; none if its model has no such parameter.
    pub(crate) fn spelt<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        Some(match self {
            // What a name of an older transformers was cannot be told from what it became.
            NameMapping::Same | NameMapping::Older => Cow::Borrowed(name),
            NameMapping::WithBase(base) => Cow::Borrowed(name.strip_prefix(base.as_str())?),
            NameMapping::WithoutBase(base) => Cow::Owned(format!("{base}{name}")),
            NameMapping::Language(prefix) => match name.strip_prefix(prefix) {
                Some(rest) => Cow::Owned(format!("model.{rest}")),
                // The class of the language part has no other towers; heads stand outside.
                None => Cow::Borrowed(Some(name).filter(|name| tower(name) == *name)?),
            },
            NameMapping::Spelt(spellings) => spellings
                .iter()
                .fold(Cow::Borrowed(name), |name, spelling| spelling.spelt(&name).map_or(name, Cow::Owned)),
            NameMapping::Inferred(prefixes) => {
                let rest = prefixes.values().find_map(|prefix| name.strip_prefix(prefix.as_str()));
                // Other parts of the model are not what was trained; heads may stand outside all of them.
                let is_outside = || name.matches('.').count() < 2;
                Cow::Borrowed(rest.or_else(|| is_outside().then_some(name))?)
            }
        })
    }
}

/// Rules match parameters; a module is renamed with the weight that it would have.
fn renamed<'p>(path: &'p str, rules: &Rules) -> Cow<'p, str> {
    let as_module = format!("{path}.weight");
    match rules.rename(&as_module).strip_suffix(".weight") {
        Some(renamed) if renamed != path => Cow::Owned(renamed.to_owned()),
        _ => rules.rename(path),
    }
}

/// The tower that a path belongs to: its segments before the first number; all of it if it has none.
pub(crate) fn tower(path: &str) -> &str {
    let mut at = 0;
    for segment in path.split('.') {
        if !segment.is_empty() && segment.bytes().all(|c| c.is_ascii_digit()) {
            return path[..at].trim_end_matches('.');
        }
        at += segment.len() + 1;
    }
    path
}

/// The matches of an interpretation: for every path a number for the tensors that it means, or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathMatches {
    /// Which of the name tables it is looked up in.
    pub table: usize,
    /// How.
    pub mapping: NameMapping,
    /// By path.
    pub sums: Vec<u64>,
}

impl PathMatches {
    /// Reads every path; none if no path is placed. With `only_whole` there is an interpretation that places all that `required`
    /// says must be, so that nothing matters but others that do: this one is given up at the first that it does not place.
    pub(crate) fn of(
        name_table: &NameTable<'_>,
        (table, mapping): (usize, NameMapping),
        paths: &[&str],
        required: &[bool],
        only_whole: bool,
    ) -> Option<PathMatches> {
        let mut sums = Vec::with_capacity(paths.len());
        for (path, required) in paths.iter().zip(required) {
            let sum = name_table.fits(&mapping.read(path, name_table.rules())).unwrap_or(0);
            if sum == 0 && *required && only_whole {
                return None;
            }
            sums.push(sum);
        }
        sums.iter().any(|&sum| sum != 0).then_some(PathMatches { table, mapping, sums })
    }

    /// Whether it places every path that must be.
    pub(crate) fn places_all(&self, required: &[bool]) -> bool {
        self.sums.iter().zip(required).all(|(&sum, &required)| sum != 0 || !required)
    }

    /// The first path that another means other tensors with.
    pub(crate) fn differs(&self, other: &PathMatches) -> Option<usize> {
        (0..self.sums.len())
            .find(|&i| self.sums[i] != 0 && other.sums[i] != 0 && self.sums[i] != other.sums[i])
    }
}

/// The interpretations to use, of those in `path_matches` (in the order in which they are to be preferred).
///
/// # Errors
/// With the places of two interpretations that place every path, and a path that they read differently.
pub(crate) fn choose(
    path_matches: &[PathMatches],
    paths: &[&str],
    required: &[bool],
) -> Result<Vec<usize>, (usize, usize, usize)> {
    let placed = |i: usize| path_matches[i].sums.iter().filter(|&&sum| sum != 0).count();
    let whole: Vec<usize> =
        (0..path_matches.len()).filter(|&i| path_matches[i].places_all(required)).collect();
    // Of what need not be placed, a head that has another name on disk may be; the first of those that place most.
    if let Some(&first) = whole.iter().rev().max_by_key(|&&i| placed(i)) {
        let differs = |other: usize| Some((first, other, path_matches[first].differs(&path_matches[other])?));
        return match whole.iter().find_map(|&other| differs(other)) {
            Some(disagreement) => Err(disagreement),
            None => Ok(vec![first]),
        };
    }
    let mut chosen = Vec::new();
    let mut open: Vec<bool> = vec![true; paths.len()];
    loop {
        let count = |i: usize| {
            path_matches[i].sums.iter().zip(&open).filter(|(sum, open)| **sum != 0 && **open).count()
        };
        // The first of those that place most; `max_by_key` would give the last.
        let Some(best) = (0..path_matches.len()).rev().max_by_key(|&i| count(i)).filter(|&i| count(i) > 0)
        else {
            return Ok(chosen);
        };
        let is_placed = |i: &usize| open[*i] && path_matches[best].sums[*i] != 0;
        let mut settled: Vec<&str> = (0..paths.len()).filter(is_placed).map(|i| tower(paths[i])).collect();
        settled.sort_unstable();
        settled.dedup();
        for (i, path) in paths.iter().enumerate() {
            open[i] &= settled.binary_search(&tower(path)).is_err();
        }
        chosen.push(best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers() {
        assert_eq!(tower("model.layers.0.mlp"), "model.layers");
        assert_eq!(tower("lm_head"), "lm_head");
        assert_eq!(tower("0.auto"), "");
    }

    fn matches(table: usize, sums: &[u64]) -> PathMatches {
        PathMatches { table, mapping: NameMapping::Same, sums: sums.to_vec() }
    }

    #[test]
    fn the_first_that_places_all_unless_another_disagrees() {
        let paths = ["a.0.x", "a.1.x", "b.0.x"];
        let all = [true; 3];
        let some = [matches(0, &[1, 0, 0]), matches(1, &[1, 2, 3]), matches(2, &[1, 2, 3])];
        assert_eq!(choose(&some, &paths, &all), Ok(vec![1]));
        let disagree = [matches(0, &[1, 2, 3]), matches(1, &[1, 2, 4])];
        assert_eq!(choose(&disagree, &paths, &all), Err((0, 1, 2)));
        assert_eq!(choose(&some[..1], &paths, &[true, false, false]), Ok(vec![0]));
        let head = [matches(0, &[1, 2, 0]), matches(1, &[1, 2, 3])];
        assert_eq!(choose(&head, &paths, &[true, true, false]), Ok(vec![1]), "a head that can be placed is");
    }

    #[test]
    fn whole_segments_are_spelt_otherwise() {
        let [attention, head] = SPELLINGS else { panic!("another table") };
        for (spelling, path, read) in [
            (attention, "model.layers.0.attn.q_proj", Some("model.layers.0.self_attn.q_proj")),
            (attention, "attn", Some("self_attn")),
            (attention, "model.layers.0.self_attn.q_proj", None),
            (attention, "model.self_attn.attn.attn2", Some("model.self_attn.self_attn.attn2")),
            (head, "model.lm_head", Some("lm_head")),
            (head, "model.lm_head.weight", Some("lm_head.weight")),
            (head, "language_model.lm_head", None),
            (head, "model.lm_head_2", None),
        ] {
            assert_eq!(spelling.read(path).as_deref(), read, "{path}");
        }
    }

    #[test]
    fn a_mix_between_towers_only() {
        let paths = ["a.0.x", "a.1.x", "b.0.x"];
        let mixed = [matches(0, &[1, 0, 0]), matches(1, &[0, 2, 3])];
        // The second places most; what it leaves of its own tower stays unplaced.
        assert_eq!(choose(&mixed, &paths, &[true; 3]), Ok(vec![1]));
        let towers = [matches(0, &[1, 2, 0]), matches(1, &[0, 0, 3])];
        assert_eq!(choose(&towers, &paths, &[true; 3]), Ok(vec![0, 1]));
    }
}
