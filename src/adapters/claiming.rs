//! One adapter being claimed: which of its tensors are spoken for, what they do to which base tensors, and what is wrong.
//!
//! Every tensor ends in exactly one of: claimed by a method, ignorable by a named rule, or refused. Nothing is reported one
//! at a time: a method goes on after an error, and [`Claiming::finish`] adds what nobody claimed.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::{BaseTensor, Checkpoint};
use crate::encodings;
use crate::error::{Error, ErrorKind};
use crate::families::Family;
use crate::plan::{Factor, Need, Placement};
use crate::tensor::{Dtype, TensorRef, is_mergeable};

use super::keys::{Tail, normalise};
use super::{Adapter, AdapterTensor};

/// What a claim does to its base tensor.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Adds a delta.
    Add {
        /// Where the delta falls.
        placement: Placement,
        /// What makes it.
        factors: Vec<Factor>,
        /// What it is multiplied by.
        scale: f32,
        /// What it must see at once.
        need: Need,
    },
    /// Puts another tensor in its place.
    Replace {
        /// The adapter's tensor.
        value: TensorRef,
    },
}

/// What a method claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The method's name.
    pub method: &'static str,
    /// Module path as the adapter spells it.
    pub module: String,
    /// The keys it uses.
    pub keys: Vec<String>,
    /// Position of the base tensor in the catalogue.
    pub target: usize,
    /// Elements of the output that it must reach.
    pub elements: u64,
    /// What it does.
    pub effect: Effect,
}

/// An adapter whose tensors are being claimed.
pub struct Claiming<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// The family of the base.
    pub family: &'a dyn Family,
    base: &'a Checkpoint,
    paths: Vec<String>,
    by_key: HashMap<&'a str, usize>,
    taken: Vec<bool>,
    unmatched: Vec<(String, String)>,
    claimed: Vec<Claimed>,
    errors: Vec<Error>,
    notices: Vec<String>,
}

/// What claiming an adapter came to.
pub struct Outcome {
    /// The claims, in the order they were made.
    pub claimed: Vec<Claimed>,
    /// All that is wrong.
    pub errors: Vec<Error>,
    /// Things worth saying.
    pub notices: Vec<String>,
}

impl<'a> Claiming<'a> {
    /// Begins with every tensor of `adapter` unclaimed.
    pub fn new(adapter: &'a Adapter, base: &'a Checkpoint, family: &'a dyn Family) -> Claiming<'a> {
        let mut stripped: BTreeMap<&str, usize> = BTreeMap::new();
        let mut paths = Vec::with_capacity(adapter.tensors.len());
        for tensor in &adapter.tensors {
            let (path, wrapper) = normalise(&tensor.key);
            if let Some(wrapper) = wrapper {
                *stripped.entry(wrapper).or_default() += 1;
            }
            paths.push(path);
        }
        let told = |(wrapper, count)| format!("took `{wrapper}.` off {count} keys of `{}`", adapter.name);
        Claiming {
            adapter,
            family,
            base,
            by_key: adapter.tensors.iter().enumerate().map(|(i, tensor)| (tensor.key.as_str(), i)).collect(),
            taken: vec![false; paths.len()],
            paths,
            unmatched: Vec::new(),
            claimed: Vec::new(),
            errors: Vec::new(),
            notices: stripped.into_iter().map(told).collect(),
        }
    }

    /// Takes every tensor with that tail, by module path.
    pub fn take(&mut self, tail: Tail) -> BTreeMap<String, usize> {
        let mut modules = BTreeMap::new();
        for i in 0..self.paths.len() {
            if self.taken[i] {
                continue;
            }
            let Some(module) = tail.module(&self.paths[i]).map(str::to_owned) else { continue };
            self.taken[i] = true;
            if let Some(first) = modules.insert(module, i) {
                self.errors.push(self.twice(first, i));
            }
        }
        modules
    }

    fn twice(&self, first: usize, second: usize) -> Error {
        let (first, second) = (self.tensor(first).key.clone(), self.tensor(second).key.clone());
        let adapter = self.adapter.name.clone();
        ErrorKind::KeyTwice { adapter, key: self.paths[self.by_key[second.as_str()]].clone(), first, second }
            .into()
    }

    /// The tensors that nobody has taken, which are taken with this.
    pub fn untaken(&mut self) -> Vec<usize> {
        let untaken = (0..self.taken.len()).filter(|&i| !self.taken[i]).collect();
        self.taken.fill(true);
        untaken
    }

    /// One of the adapter's tensors.
    pub fn tensor(&self, i: usize) -> &'a AdapterTensor {
        &self.adapter.tensors[i]
    }

    /// Its key without prefix and wrappers.
    pub fn path(&self, i: usize) -> &str {
        &self.paths[i]
    }

    /// The tensor whose key is `key` with its tail `from` exchanged for `to`, an adapter's name between them kept.
    pub fn beside(&self, key: &str, from: Tail, to: Tail) -> Option<&'a AdapterTensor> {
        let module = from.module(key)?;
        let name = key[module.len() + from.role.len()..].strip_suffix(from.ending)?;
        let beside = format!("{module}{}{name}{}", to.role, to.ending);
        self.by_key.get(beside.as_str()).map(|&i| self.tensor(i))
    }

    /// A base tensor by its place.
    pub fn base_tensor(&self, target: usize) -> &'a BaseTensor {
        &self.base.catalogue.tensors[target]
    }

    /// The place of a module's parameter among the base tensors.
    pub fn lookup(&self, module: &str, parameter: &str) -> Option<usize> {
        self.base.catalogue.position(&self.family.name_on_disk(module, parameter))
    }

    /// The same, for something to be put in its place; what does not match is noted.
    pub fn place(&mut self, tensors: &[usize], module: &str, parameter: &str) -> Option<usize> {
        let name = self.family.name_on_disk(module, parameter);
        let Some(target) = self.base.catalogue.position(&name) else {
            if let Some(error) = self.quantised_elsewhere(module, &name).or_else(|| self.tied_head(&name)) {
                self.errors.push(error);
            } else {
                let adapter = self.adapter;
                self.unmatched
                    .extend(tensors.iter().map(|&i| (adapter.tensors[i].key.clone(), name.clone())));
            }
            return None;
        };
        if self.is_tied_source(&name) {
            self.errors.push(tied(name));
            return None;
        }
        Some(target)
    }

    /// The same, for a delta to be added: it must be plain numbers and nothing else.
    pub fn target(&mut self, tensors: &[usize], module: &str, parameter: &str) -> Option<usize> {
        let target = self.place(tensors, module, parameter)?;
        let base = self.base_tensor(target);
        let refused = self.quantised(module, &base.name).or_else(|| {
            let (tensor, found) = (base.name.clone(), base.tensor.dtype);
            (!is_mergeable(found)).then(|| {
                let error = Error::new(ErrorKind::TargetDtype { tensor, found });
                error.hint("only BF16, F16 and F32 tensors can be merged into")
            })
        });
        match refused {
            Some(error) => {
                self.errors.push(error);
                None
            }
            None => Some(target),
        }
    }

    /// Records a claim, unless its factors are of a type that is not read.
    pub fn claim(&mut self, claimed: Claimed) {
        if let Effect::Add { factors, .. } = &claimed.effect {
            let odd = |factor: &Factor| encodings::plain(factor.tensor.dtype).is_none();
            let odd: Vec<(usize, Dtype)> = factors
                .iter()
                .enumerate()
                .filter(|(_, f)| odd(f))
                .map(|(i, f)| (i, f.tensor.dtype))
                .collect();
            if !odd.is_empty() {
                self.errors.extend(odd.into_iter().map(|(i, found)| {
                    let key = claimed.keys.get(i).unwrap_or(&claimed.module).clone();
                    Error::new(ErrorKind::FactorDtype { adapter: self.adapter.name.clone(), key, found })
                }));
                return;
            }
        }
        self.claimed.push(claimed);
    }

    /// Records an error.
    pub fn refuse(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// Refuses a tensor for what it is.
    pub fn refuse_tensor(&mut self, i: usize, why: &str) {
        let (adapter, key) = (self.adapter.name.clone(), self.tensor(i).key.clone());
        self.errors.push(ErrorKind::Unclaimed { adapter, key, why: why.to_owned() }.into());
    }

    /// Notes that a tensor lacks the one it needs.
    pub fn lacks_partner(&mut self, i: usize, partner: &str) {
        let (adapter, key) = (self.adapter.name.clone(), self.tensor(i).key.clone());
        let error = Error::new(ErrorKind::NoPartner { adapter, key, partner: partner.to_owned() });
        self.errors.push(error.hint("the adapter was not saved whole: save it again, or get the whole file"));
    }

    /// Leaves a tensor aside by a rule, and says so.
    pub fn ignore(&mut self, i: usize, rule: &str) {
        self.notices.push(format!("`{}` is left aside: {rule}", self.tensor(i).key));
    }

    /// Says something that is no error.
    pub fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// What all of it came to.
    pub fn finish(mut self) -> Outcome {
        for i in self.untaken() {
            self.refuse_tensor(i, "no method knows it");
        }
        if let Some((_, name)) = self.unmatched.first() {
            let nearest = self.base.catalogue.nearest(name, 3);
            let keys: Vec<String> = self.unmatched.iter().map(|(key, _)| key.clone()).collect();
            let hint = match nearest.as_slice() {
                [] => format!("no base tensor has a name like `{name}`: is the adapter for this base?"),
                nearest => format!("tried `{name}`; the base has `{}`", nearest.join("`, `")),
            };
            let (adapter, count) = (self.adapter.name.clone(), keys.len());
            self.errors.push(Error::new(ErrorKind::Unmatched { adapter, count, keys, nearest }).hint(hint));
        }
        Outcome { claimed: self.claimed, errors: self.errors, notices: self.notices }
    }

    /// Why a base tensor's numbers are not what they seem, if they are not.
    fn quantised(&self, module: &str, name: &str) -> Option<Error> {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let companions = [
            "weight_scale",
            "weight_scale_inv",
            "scale",
            "qscale_weight",
            "weight_scale_2",
            "weight_packed",
            "SCB",
            "scales",
            "weight.absmax",
            "weight.quant_map",
        ];
        let found = companions.iter().map(|companion| format!("{stem}.{companion}"));
        if let Some(companion) = found.into_iter().find(|name| self.base.catalogue.find(name).is_some()) {
            return Some(quantised(name, format!("`{companion}` belongs to it")));
        }
        let dtype = self.base.catalogue.find(name)?.tensor.dtype;
        let is_float8 = matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4);
        let covered = self.base.config.quantization().is_some() && !self.base.config.is_kept_plain(module);
        (covered || is_float8).then(|| match covered {
            true => quantised(name, "`quantization_config` of the base covers it".to_owned()),
            false => quantised(name, format!("its dtype is {dtype:?}")),
        })
    }

    /// A target without a tensor of its name that is there in quantised form.
    fn quantised_elsewhere(&self, module: &str, name: &str) -> Option<Error> {
        let packed = ["qweight", "weight_packed"].iter().map(|leaf| self.family.name_on_disk(module, leaf));
        let blocks = [format!("{name}_blocks")];
        let found = packed.chain(blocks).find(|name| self.base.catalogue.find(name).is_some())?;
        Some(quantised(name, format!("it is stored as `{found}`")))
    }

    /// The refusal for a head that has no tensor because it shares the embedding's.
    fn tied_head(&self, name: &str) -> Option<Error> {
        let stem = name.strip_suffix(".weight")?;
        let is_head = HEADS.contains(&stem.rsplit('.').next().unwrap_or(stem));
        (is_head && self.base.config.ties_embeddings() != Some(false)).then(|| tied(name.to_owned()))
    }

    /// Whether a tensor also serves as an output head that has none of its own.
    fn is_tied_source(&self, name: &str) -> bool {
        let Some(stem) = name.strip_suffix(".weight") else { return false };
        let config = &self.base.config;
        EMBEDDINGS.contains(&stem.rsplit('.').next().unwrap_or(stem))
            && config.predicts_tokens()
            && config.ties_embeddings() != Some(false)
            && !self.base.catalogue.tensors.iter().any(|tensor| {
                let stem = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
                HEADS.contains(&stem.rsplit('.').next().unwrap_or(stem))
            })
    }
}

const HEADS: &[&str] = &["lm_head", "embed_out", "proj_out", "decoder"];
const EMBEDDINGS: &[&str] =
    &["embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings"];

fn tied(tensor: String) -> Error {
    Error::new(ErrorKind::Tied { tensor })
        .hint("merging into tied weights would change both ends of the model; it is not merged yet")
}

fn quantised(tensor: &str, why: String) -> Error {
    Error::new(ErrorKind::Quantised { tensor: tensor.to_owned(), why }).hint(
        "merge into the 16-bit checkpoint that this base was made from, or load the base with transformers, dequantise it \
         and save it first",
    )
}
