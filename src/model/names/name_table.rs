//! The names that a checkpoint's tensors have after some rules, findable by name.
//!
//! Names are not kept: a checkpoint may have 92,000 tensors, and an interpretation needs several such sets one after the other. An
//! entry is a hash and a tensor's place, 16 bytes; what is found is made sure of by applying the rules to the few names
//! again. A second list finds the tensors of a module.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::conversion::ConversionProblem;
use crate::model::names::conversions::{ConversionFacts, ConversionOp, Made, TensorBlock, run, select};
use crate::model::names::disk::Disk;
use crate::model::names::experts::{
    ExpertPath, ExpertRole, all_experts, all_experts_spelled, canonical, expert, stacked,
};
use crate::model::names::fused_rows;
use crate::model::names::geometry::Geometry;
use crate::model::names::param_slice::StoredSlice;
use crate::model::names::parameter::{Parameter, made};
use crate::model::names::place_sum::place_sum;
use crate::model::names::rules::{ConversionKind, Converted, Rules};

/// A checkpoint's names after some rules.
pub struct NameTable<'a> {
    disk: &'a dyn Disk,
    rules: Arc<Rules>,
    geometry: Arc<Geometry>,
    lists: Rc<NameHashes>,
    /// The numbers that single experts have in the checkpoint. Those of a config are anybody's, and are not counted to.
    expert_numbers: BTreeSet<u64>,
}

/// Hashes of names, in order, each with the place of a tensor.
#[derive(PartialEq)]
struct NameHashes {
    names: Vec<(u64, u32)>,
    modules: Vec<(u64, u32)>,
}

/// How a tensor came to a name.
enum TableOrigin {
    /// It has it.
    Plain,
    /// It is one of those that a parameter is made of: the conversion, and which of its parameters.
    Part(Converted, usize),
}

/// Calls `then` with every runtime name that a tensor of that name on disk has part in.
fn names(rules: &Rules, name: &str, mut then: impl FnMut(&str, TableOrigin)) {
    let single = own_names(rules, name, &mut then);
    // What is stacked now was trained on one by one, and that is how it lies on disk.
    if let Some(single) = single {
        then(&single, TableOrigin::Plain);
    }
}

/// The same for names that parameters have under these very rules. What is stacked is returned with the name that it had
/// before.
fn own_names(rules: &Rules, name: &str, mut then: impl FnMut(&str, TableOrigin)) -> Option<String> {
    let renamed = rules.apply(name);
    let Some((first, converted)) = renamed.converted else {
        then(&renamed.name, TableOrigin::Plain);
        return None;
    };
    let rule = rules.conversion(converted.rule);
    then(&first, TableOrigin::Part(converted, 0));
    for (i, to) in rule.to.iter().enumerate().skip(1) {
        then(&first.replacen(&rule.to[0], to, 1), TableOrigin::Part(converted, i));
    }
    let is_stacked = matches!(&rule.kind, ConversionKind::Convert(ops) if ops.iter().any(|op| matches!(op, ConversionOp::Merge(_))));
    is_stacked.then(|| renamed.name.into_owned())
}

/// Calls `then` with the names that the weights of `disk` have in a model under these very rules, and the axes of the
/// weight; a name comes once for each weight that has part in it.
pub(crate) fn each_own_name(disk: &dyn Disk, rules: &Rules, mut then: impl FnMut(&str, usize)) {
    for (name, shape) in (0..disk.count()).filter_map(|place| disk.weight(place)) {
        let axes = shape.axes().len();
        own_names(rules, &name, |own, _| then(own, axes));
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(canonical(name).as_bytes());
    hasher.finish()
}

fn found(entries: &[(u64, u32)], name: &str) -> impl Iterator<Item = usize> + Clone {
    let hash = hash(name);
    let start = entries.partition_point(|entry| entry.0 < hash);
    entries[start..].iter().take_while(move |entry| entry.0 == hash).map(|entry| entry.1 as usize)
}

impl<'a> NameTable<'a> {
    /// The names of all weights of `disk` after `rules`.
    pub fn new(disk: &'a dyn Disk, rules: Arc<Rules>, geometry: Arc<Geometry>) -> NameTable<'a> {
        let weights = || (0..disk.count()).filter_map(|place| Some((place, disk.weight(place)?.0)));
        if rules.must_notice() {
            weights().for_each(|(_, name)| rules.notice(&name));
        }
        let (mut found, mut modules) = (Vec::with_capacity(disk.count()), Vec::with_capacity(disk.count()));
        let mut expert_numbers = BTreeSet::new();
        for (place, name) in weights() {
            names(&rules, &name, |name, _| {
                found.push((hash(name), place as u32));
                expert_numbers.extend(expert(name).map(|expert| expert.number));
                modules.push((hash(name.rsplit_once('.').map_or("", |(module, _)| module)), place as u32));
            });
        }
        for entries in [&mut found, &mut modules] {
            entries.sort_unstable();
            entries.dedup();
        }
        NameTable {
            disk,
            rules,
            geometry,
            lists: Rc::new(NameHashes { names: found, modules }),
            expert_numbers,
        }
    }

    /// The same, with the lists of one of the others if they are equal.
    #[must_use]
    pub fn sharing<'n>(self, mut others: impl Iterator<Item = &'n NameTable<'a>>) -> NameTable<'a>
    where
        'a: 'n,
    {
        match others.find(|other| other.lists == self.lists) {
            Some(other) => NameTable { lists: other.lists.clone(), ..self },
            None => self,
        }
    }

    /// Whether its lists are those of another, which shares what is equal.
    pub fn has_names_of(&self, other: &NameTable<'_>) -> bool {
        Rc::ptr_eq(&self.lists, &other.lists)
    }

    /// The rules that gave the names.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The same, to be kept.
    pub(crate) fn shared_rules(&self) -> Arc<Rules> {
        self.rules.clone()
    }

    /// Whether `path` is a parameter, or a module that has one; also one expert where experts are fused, or fused where
    /// they are single, and likewise for dense projections. What is returned stands for the tensors that are meant: it is
    /// the same for the same tensors.
    pub fn fits(&self, path: &str) -> Option<u64> {
        let own =
            place_sum(found(&self.lists.names, path)).or_else(|| place_sum(found(&self.lists.modules, path)));
        own.or_else(|| {
            let fused = expert(path)?.fused();
            fused.iter().find_map(|name| place_sum(found(&self.lists.names, name)))
        })
        .or_else(|| self.fits_stacked(path))
        .or_else(|| self.fits_all_experts(path))
        .or_else(|| {
            let (stack, names) = all_experts_spelled(path)?;
            names.iter().find_map(|name| self.fits_all_experts(&format!("{stack}.{name}")))
        })
        .or_else(|| {
            let part = fused_rows::part(path, &self.geometry)?;
            place_sum(found(&self.lists.names, &format!("{}.weight", part.whole)))
        })
        .or_else(|| {
            let parts = fused_rows::parts(path)?;
            let all = parts.iter().map(|part| place_sum(found(&self.lists.names, &format!("{part}.weight"))));
            all.reduce(|a, b| Some(a?.wrapping_add(b?))).flatten()
        })
    }

    /// As [`NameTable::fits`], for an experts module (or a fused parameter of one) whose experts are single.
    fn fits_stacked(&self, path: &str) -> Option<u64> {
        let (stack, roles) = match stacked(path) {
            Some((stack, roles, "weight")) => (stack, roles),
            _ if path == "experts" || path.ends_with(".experts") => {
                (path, &["gate_proj", "up_proj", "down_proj"][..])
            }
            _ => return None,
        };
        let mut total: Option<u64> = None;
        for number in self.expert_numbers() {
            let single =
                |role: &&str| place_sum(found(&self.lists.names, &format!("{stack}.{number}.{role}.weight")));
            match roles.iter().filter_map(single).reduce(u64::wrapping_add) {
                Some(all) => total = Some(total.unwrap_or(0).wrapping_add(all)),
                None if !self.may_miss(number) => break,
                None => {}
            }
        }
        total
    }

    /// Whether an expert of that number that is not there is missing: up to the number that the config has, it is not the end.
    fn may_miss(&self, number: u64) -> bool {
        number < self.geometry.experts.unwrap_or(0)
    }

    /// Numbers that experts of a stack may have, from 0 to the first that is the end.
    fn expert_numbers(&self) -> impl Iterator<Item = u64> {
        let mut next = 0u64;
        self.expert_numbers.iter().copied().take_while(move |&number| {
            let is_due = number == next || self.may_miss(next);
            next = number.saturating_add(1);
            is_due
        })
    }

    /// As [`NameTable::fits`], for one projection of all experts.
    fn fits_all_experts(&self, path: &str) -> Option<u64> {
        let all = self.all_experts(path)?;
        // Single tensors first: they have their names under any rules.
        self.fits_stacked(&format!("{}.{}", all.stack, all.role.single()))
            .or_else(|| all.fused().iter().find_map(|name| place_sum(found(&self.lists.names, name))))
    }

    /// The first of the experts whose projections `path` is. Without gates, what is called `w1` is the way up, and there is
    /// no `w3`.
    fn all_experts<'p>(&self, path: &'p str) -> Option<ExpertPath<'p>> {
        let (stack, role) = all_experts(path)?;
        let has = |name: String| found(&self.lists.names, &name).next().is_some();
        let is_gated = || has(format!("{stack}.gate_up_proj")) || has(format!("{stack}.0.gate_proj.weight"));
        let role = match role {
            ExpertRole::Gate if !is_gated() => ExpertRole::Up,
            ExpertRole::Up if !is_gated() => return None,
            role => role,
        };
        Some(ExpertPath { stack, number: 0, role, parameter: "weight" })
    }

    /// The tensors that are meant, for a message.
    pub fn meant(&self, path: &str) -> String {
        let mut places = found(&self.lists.names, path).chain(found(&self.lists.modules, path));
        let first = places.next().and_then(|place| self.disk.weight(place));
        first.map_or_else(|| path.to_owned(), |(name, _)| name.into_owned())
    }

    /// A parameter by its name.
    pub fn parameter(&self, name: &str) -> Option<Parameter> {
        let parameter = self.own(name).or_else(|| self.of_fused_experts(name));
        parameter
            .or_else(|| self.of_per_expert(name))
            .or_else(|| self.of_all_experts(name))
            .or_else(|| self.part(name))
            .or_else(|| self.fused(name))
    }

    /// One that has that name, or that the rules make.
    fn own(&self, name: &str) -> Option<Parameter> {
        let (mut plain, mut blocks, mut conversions) = (Vec::new(), Vec::new(), Vec::new());
        let wanted = canonical(name);
        for place in found(&self.lists.names, name) {
            let (disk_name, shape) = self.disk.weight(place)?;
            names(&self.rules, &disk_name, |other, role| {
                if canonical(other) != wanted {
                    return;
                }
                let shape = shape.axes().to_vec();
                let slices = self.disk.slices(place);
                match role {
                    TableOrigin::Plain => plain.push(TensorBlock { from: 0, number: None, shape, slices }),
                    TableOrigin::Part(converted, target) => {
                        let (from, number) = (converted.from, converted.number);
                        blocks.push(TensorBlock { from, number, shape, slices });
                        conversions.push((converted.rule, target));
                    }
                }
            });
        }
        conversions.dedup();
        match (plain.len(), conversions.as_slice()) {
            (0, []) => None,
            (1, []) => plain.pop().map(|block| made(Ok((block.shape, block.slices)))),
            (0, &[(rule, target)]) => Some(made(self.converted(name, rule, blocks, target))),
            _ => Some(made(Err(ConversionProblem::Several { count: plain.len() + blocks.len() }))),
        }
    }

    fn converted(&self, name: &str, rule: usize, blocks: Vec<TensorBlock>, target: usize) -> Made {
        let rule = self.rules.conversion(rule);
        let ConversionKind::Convert(ops) = &rule.kind else {
            return Err(ConversionProblem::NoOperations);
        };
        // The stored shape is the parameter's if it is square: then nothing is transposed.
        let must_transpose = |shape: &[u64]| {
            let down = name.ends_with("down_proj");
            let is_square = matches!(shape, [_, a, b] if a == b);
            !is_square && self.geometry.is_in_out((!down).then_some(shape), down.then_some(shape))
        };
        let sizes = |_| self.geometry.attention().map(|sizes| sizes.to_vec());
        let facts = ConversionFacts {
            patterns: rule.pattern.sources().len(),
            targets: rule.to.len(),
            must_transpose: &must_transpose,
            sizes: &sizes,
            heads: &|of| self.geometry.heads_of(of),
            made: &rule.to[target],
        };
        run(ops, blocks, &facts, target)
    }

    /// One expert's parameter, where experts are fused.
    fn of_fused_experts(&self, name: &str) -> Option<Parameter> {
        let expert = expert(name).filter(|expert| matches!(expert.parameter, "weight" | "bias"))?;
        let (fused, mut parameter) = expert.fused().into_iter().find_map(|fused| {
            let parameter = self.own(&fused)?;
            Some((fused, parameter))
        })?;
        if parameter.refused.is_some() {
            return Some(parameter);
        }
        if parameter.shape.len() != if expert.parameter == "bias" { 2 } else { 3 } {
            return Some(made(Err(ConversionProblem::WholeAxes {
                whole: fused,
                axes: parameter.shape.len(),
            })));
        }
        let count = parameter.shape.remove(0);
        if expert.number >= count {
            return None;
        }
        if let Some(expected) = self.geometry.experts.filter(|&expected| expected != count) {
            let why = ConversionProblem::ExpertCount { whole: fused, found: count, expected };
            return Some(made(Err(why)));
        }
        let slice = |placed: StoredSlice| {
            Some(StoredSlice { tensor: placed.tensor, slice: placed.slice.unstacked(0, expert.number)? })
        };
        parameter.slices = parameter.slices.into_iter().filter_map(slice).collect();
        Some(self.projection(&expert, &fused, parameter, 0))
    }

    /// One projection of all experts, `[experts, out, in]`.
    fn of_all_experts(&self, name: &str) -> Option<Parameter> {
        let all = self.all_experts(name)?;
        if let Some(single) = self.of_per_expert(&format!("{}.{}", all.stack, all.role.single())) {
            return Some(single);
        }
        let (fused, parameter) = all.fused().into_iter().find_map(|fused| {
            let parameter = self.own(&fused)?;
            Some((fused, parameter))
        })?;
        match parameter.shape.len() {
            _ if parameter.refused.is_some() => Some(parameter),
            3 if all.role == ExpertRole::GateUp && self.geometry.alternates() => {
                Some(made(Err(ConversionProblem::Alternating { whole: fused })))
            }
            3 => Some(self.projection(&all, &fused, parameter, 1)),
            axes => Some(made(Err(ConversionProblem::WholeAxes { whole: fused, axes }))),
        }
    }

    /// What of the parameter `fused` is an expert's projection: its outputs are then on `axis`, and its inputs on the next.
    fn projection(
        &self,
        expert: &ExpertPath<'_>,
        fused: &str,
        mut parameter: Parameter,
        axis: usize,
    ) -> Parameter {
        if expert.parameter == "weight" && self.is_in_out(expert.stack) {
            parameter.shape.swap(axis, axis + 1);
            for placed in &mut parameter.slices {
                placed.slice = placed.slice.clone().swapped(axis, axis + 1);
            }
        }
        let is_gated = fused.contains("gate_up_proj");
        let half = parameter.shape[axis] / 2;
        let (first, step) = match (expert.role, self.geometry.alternates()) {
            (ExpertRole::Gate, true) => (0, 2),
            (ExpertRole::Gate, false) => (0, 1),
            (ExpertRole::Up, true) if is_gated => (1, 2),
            (ExpertRole::Up, false) if is_gated => (half, 1),
            _ => return parameter,
        };
        parameter.shape[axis] = half;
        parameter.slices = select(parameter.slices, axis, first, step, half);
        parameter
    }

    /// Whether the fused parameters of an experts module are `[experts, in, out]`.
    pub fn is_in_out(&self, stack: &str) -> bool {
        let shape = |leaf: &str| self.own(&format!("{stack}.{leaf}")).map(|parameter| parameter.shape);
        let up = shape("gate_up_proj").or_else(|| shape("up_proj"));
        self.geometry.is_in_out(up.as_deref(), shape("down_proj").as_deref())
    }

    /// A fused parameter of experts, where experts are single.
    fn of_per_expert(&self, name: &str) -> Option<Parameter> {
        let (stack, roles, parameter) = stacked(name)?;
        let mut blocks = Vec::new();
        for number in self.expert_numbers() {
            let before = blocks.len();
            for (from, role) in roles.iter().enumerate() {
                let Some(single) = self.own(&format!("{stack}.{number}.{role}.{parameter}")) else {
                    continue;
                };
                if single.refused.is_some() {
                    return Some(single);
                }
                let (shape, slices) = (single.shape, single.slices);
                blocks.push(TensorBlock { from, number: Some(number), shape, slices });
            }
            if blocks.len() == before && !self.may_miss(number) {
                break;
            }
        }
        if blocks.is_empty() {
            return None;
        }
        let ops = [ConversionOp::Merge(0), ConversionOp::Concatenate(1)];
        let facts = ConversionFacts {
            patterns: roles.len(),
            targets: 1,
            must_transpose: &|_| false,
            sizes: &|_| None,
            heads: &|_| None,
            made: "",
        };
        Some(made(run(&ops[..roles.len()], blocks, &facts, 0)))
    }

    /// One of several dense projections, where they are fused.
    fn part(&self, name: &str) -> Option<Parameter> {
        let (module, leaf) = name.rsplit_once('.')?;
        let part = fused_rows::part(module, &self.geometry)?;
        let mut whole = self.own(&format!("{}.{leaf}", part.whole))?;
        if whole.refused.is_some() {
            return Some(whole);
        }
        let place = match part.place {
            Ok(place) => place,
            Err(problem) => return Some(made(Err(ConversionProblem::Rows { whole: part.whole, problem }))),
        };
        let (run, of) = (place.run, place.rows_of_whole());
        if whole.shape.first() != Some(&of) {
            let found = whole.shape.first().copied().unwrap_or(1);
            let why = ConversionProblem::WholeRows { whole: part.whole, found, expected: of };
            return Some(made(Err(why)));
        }
        // Rows of no columns may be any number in a file of no bytes.
        if whole.shape.contains(&0) {
            return Some(made(Err(ConversionProblem::WholeEmpty { whole: part.whole })));
        }
        whole.shape[0] = run * place.groups;
        let rows = |(at, start)| (at as u64 * run, select(whole.slices.clone(), 0, start, 1, run));
        let runs = place.starts().enumerate().map(rows);
        let moved = |(at, slices): (u64, Vec<StoredSlice>)| {
            slices.into_iter().map(move |placed| StoredSlice { slice: placed.slice.shifted(0, at), ..placed })
        };
        whole.slices = runs.flat_map(moved).collect();
        Some(whole)
    }

    /// A fused dense projection, where its parts are single.
    fn fused(&self, name: &str) -> Option<Parameter> {
        let (module, leaf) = name.rsplit_once('.')?;
        let mut blocks = Vec::new();
        for (from, part) in fused_rows::parts(module)?.iter().enumerate() {
            let part = self.own(&format!("{part}.{leaf}"))?;
            if part.refused.is_some() {
                return Some(part);
            }
            blocks.push(TensorBlock { from, number: None, shape: part.shape, slices: part.slices });
        }
        let facts = ConversionFacts {
            patterns: blocks.len(),
            targets: 1,
            must_transpose: &|_| false,
            sizes: &|_| None,
            heads: &|_| None,
            made: "",
        };
        Some(made(run(&[ConversionOp::Concatenate(0)], blocks, &facts, 0)))
    }
}
