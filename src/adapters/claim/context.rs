//! One adapter being claimed: which of its tensors are spoken for, what they do to which base tensors, and what is wrong.
//!
//! Every tensor ends in exactly one of: claimed by a method, ignorable by a named rule, or refused. Nothing is reported one
//! at a time: a method goes on after an error, and [`Claiming::finish`] adds what nobody claimed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::discover::Checkpoint;
use crate::encodings;
use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::model::names::lookup::Names;
use crate::model::outline::{Outline, Target, Tied, Weight};
use crate::model::tied::{is_embedding, is_head};
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::edits::{Change, Claimed, Effect};
use crate::adapters::claim::locate::{join, locate, name_head};
use crate::adapters::peft::keys::{Tail, replaced};
use crate::adapters::peft::producers::aside;

/// An adapter whose tensors are being claimed.
pub(crate) struct Claiming<'a> {
    /// The adapter.
    pub adapter: &'a Adapter,
    /// Where the parameters of the running model are on disk.
    pub names: Names<'a>,
    /// The output's tensors so far.
    pub outline: Outline<'a>,
    base: &'a Checkpoint,
    /// Which tensor of the adapter stands in place of that target.
    values: HashMap<Target, usize>,
    /// Which of them stands in place of a tied head, which has no target yet.
    head_value: Option<usize>,
    paths: Vec<&'a str>,
    by_key: HashMap<&'a str, usize>,
    by_path: HashMap<&'a str, usize>,
    /// Parameters in pieces that were looked up: 512 tensors for gate and up of 256 experts.
    in_pieces: RefCell<HashMap<String, Target>>,
    taken: Vec<bool>,
    unmatched: Vec<(String, String)>,
    claimed: Vec<Claimed>,
    head_follows: bool,
    trains_as_one: bool,
    skipped: Vec<String>,
    errors: Vec<Error>,
    notices: Vec<String>,
}

/// What claiming an adapter came to.
pub(crate) struct Outcome {
    /// The claims, in the order they were made.
    pub claimed: Vec<Claimed>,
    /// Whether a tied head follows what is done to the embedding.
    pub head_follows: bool,
    /// Whether what it holds of one tied end was trained for both, unless it holds the other's too.
    pub trains_as_one: bool,
    /// Keys that are left out because the user said so.
    pub skipped: Vec<String>,
    /// All that is wrong.
    pub errors: Vec<Error>,
    /// Things worth saying.
    pub notices: Vec<String>,
}

impl<'a> Claiming<'a> {
    /// Begins with every tensor of `adapter` unclaimed.
    pub(crate) fn new(adapter: &'a Adapter, mut outline: Outline<'a>, names: Names<'a>) -> Claiming<'a> {
        let mut stripped: BTreeMap<&str, usize> = BTreeMap::new();
        let mut paths = Vec::with_capacity(adapter.tensors.len());
        for tensor in &adapter.tensors {
            if let Some(wrapper) = tensor.wrapper {
                *stripped.entry(wrapper).or_default() += 1;
            }
            paths.push(tensor.path.as_str());
        }
        name_head(&mut outline, &names);
        // What a tied head starts from is the embedding, if they stay one.
        let folded = outline.head.as_ref().filter(|_| outline.tied == Tied::Fold);
        let named = |(i, path): (usize, &&'a str)| {
            let (module, parameter) = replaced(path);
            let name = join(&module, parameter);
            let target = locate(&outline, &names, &name)
                .or_else(|| folded.filter(|_| is_head(&name)).map(|head| Target::Base(head.source)));
            Some((target?, i))
        };
        let values = paths
            .iter()
            .enumerate()
            .filter(|&(i, _)| adapter.tensors[i].is_value())
            .filter_map(named)
            .collect();
        let of_head = |tensor: &AdapterTensor| {
            let (module, parameter) = replaced(&tensor.path);
            let name = join(&module, parameter);
            tensor.is_value() && is_head(&name) && locate(&outline, &names, &name).is_none()
        };
        let head_value = adapter.tensors.iter().position(of_head).filter(|_| outline.head.is_some());
        let told = |(wrapper, count)| format!("took `{wrapper}.` off {count} keys of `{}`", adapter.name);
        let mut claiming = Claiming {
            adapter,
            names,
            base: outline.base,
            outline,
            values,
            head_value,
            by_key: adapter.tensors.iter().enumerate().map(|(i, tensor)| (tensor.key.as_str(), i)).collect(),
            by_path: paths.iter().enumerate().map(|(i, path)| (*path, i)).collect(),
            in_pieces: RefCell::default(),
            taken: vec![false; paths.len()],
            paths,
            unmatched: Vec::new(),
            claimed: Vec::new(),
            head_follows: false,
            trains_as_one: false,
            skipped: Vec::new(),
            errors: Vec::new(),
            notices: stripped.into_iter().map(told).collect(),
        };
        claiming.leave_aside();
        claiming
    }

    /// Leaves what no merge needs aside, by rules that say so.
    fn leave_aside(&mut self) {
        let mut by_rule: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, path) in self.paths.iter().enumerate() {
            if let Some(rule) = aside(path, self.adapter.tensors[i].tensor.shape.elements()) {
                by_rule.entry(rule).or_default().push(i);
            }
        }
        by_rule.into_iter().for_each(|(rule, found)| self.ignore_all(&found, rule));
    }

    /// Takes every tensor with that tail, by module path.
    pub(crate) fn take(&mut self, tail: Tail) -> BTreeMap<String, usize> {
        self.take_where(tail, |_| true)
    }

    /// Takes every tensor with that tail whose module is one of those.
    pub(crate) fn take_where(
        &mut self,
        tail: Tail,
        is_one: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, usize> {
        let mut modules = BTreeMap::new();
        for i in 0..self.paths.len() {
            if self.taken[i] {
                continue;
            }
            let module = tail.module(self.paths[i]).filter(|module| is_one(module)).map(str::to_owned);
            let Some(module) = module else { continue };
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
        ErrorKind::KeyTwice {
            adapter,
            key: self.paths[self.by_key[second.as_str()]].to_owned(),
            first,
            second,
        }
        .into()
    }

    /// The tensors that nobody has taken, which are taken with this.
    pub(crate) fn untaken(&mut self) -> Vec<usize> {
        let untaken = (0..self.taken.len()).filter(|&i| !self.taken[i]).collect();
        self.taken.fill(true);
        untaken
    }

    /// One of the adapter's tensors.
    pub(crate) fn tensor(&self, i: usize) -> &'a AdapterTensor {
        &self.adapter.tensors[i]
    }

    /// Its key without prefix and wrappers.
    pub(crate) fn path(&self, i: usize) -> &str {
        self.paths[i]
    }

    /// The tensor at that path.
    pub(crate) fn at_path(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// The tensor whose key is `key` with its tail `from` exchanged for `to`, an adapter's name between them kept.
    pub(crate) fn beside(&self, key: &str, from: Tail, to: Tail) -> Option<&'a AdapterTensor> {
        let module = from.module(key)?;
        let name = key[module.len() + from.role.len()..].strip_suffix(from.ending)?;
        let beside = format!("{module}{}{name}{}", to.role, to.ending);
        self.by_key.get(beside.as_str()).map(|&i| self.tensor(i))
    }

    /// A target's name, type and shape, as it is once the adapter's own replacements are made.
    pub(crate) fn weight(&self, target: Target) -> Weight {
        let mut weight = self.outline.weight(target);
        let of_head = || match target {
            Target::New(i) => {
                self.head_value.as_ref().filter(|_| self.outline.additions[i].copy_of.is_some())
            }
            _ => None,
        };
        if let Some(&value) = self.values.get(&target).or_else(of_head) {
            weight.shape = self.adapter.tensors[value].tensor.shape.clone();
        }
        weight
    }

    /// The tensor of a module's parameter.
    pub(crate) fn lookup(&self, module: &str, parameter: &str) -> Option<Target> {
        let name = join(module, parameter);
        if let Some(&target) = self.in_pieces.borrow().get(&name) {
            return Some(target);
        }
        let target = locate(&self.outline, &self.names, &name);
        if let Some(target @ Target::Joined(_)) = target {
            self.in_pieces.borrow_mut().insert(name, target);
        }
        target
    }

    /// Why a module's parameter cannot be read as pieces of tensors, if there is such a parameter and it cannot.
    pub(crate) fn unreadable(&self, module: &str, parameter: &str) -> Option<String> {
        self.names.parameter(&join(module, parameter))?.refused
    }

    /// The tensor of a parameter, for something to be put in its place; what does not match is noted.
    pub(crate) fn place(&mut self, tensors: &[usize], module: &str, parameter: &str) -> Option<Target> {
        let name = join(module, parameter);
        if let Some(target) = self.lookup(module, parameter) {
            return Some(target);
        }
        if let Some(why) = self.unreadable(module, parameter) {
            self.errors.push(ErrorKind::Converted { parameter: name, why }.into());
            return None;
        }
        if let Some(error) = self.quantised_elsewhere(module, &name) {
            self.errors.push(error);
            return None;
        }
        if is_head(&name) && self.outline.head.is_some() {
            return self.head(name);
        }
        let adapter = self.adapter;
        self.unmatched.extend(tensors.iter().map(|&i| (adapter.tensors[i].key.clone(), name.clone())));
        None
    }

    /// The tensor of a head that the base has not, because it is tied.
    fn head(&mut self, name: String) -> Option<Target> {
        let head = self.outline.head.clone()?;
        match (self.outline.tied, head.inseparable) {
            (Tied::Fold, _) => Some(Target::Base(head.source)),
            (Tied::Untie, Some(why)) => {
                self.errors.push(inseparable(name, why));
                None
            }
            (Tied::Untie, None) => Some(self.outline.untie(&head)),
        }
    }

    /// The same, for its values to be changed: they must be plain numbers, or codes of a known encoding.
    pub(crate) fn target(&mut self, tensors: &[usize], module: &str, parameter: &str) -> Option<Target> {
        let target = self.place(tensors, module, parameter)?;
        let weight = self.outline.weight(target);
        let refused = self.quantised(module, target, &weight.name).or_else(|| {
            (!weight.is_known).then(|| {
                let error =
                    Error::new(ErrorKind::TargetDtype { tensor: weight.name.clone(), found: weight.dtype });
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
    pub(crate) fn claim(&mut self, claimed: Claimed) {
        let factors: &[Change] = match &claimed.effect {
            Effect::Change(changes) => changes,
            Effect::Replace { .. } => &[],
        };
        let odd = |tensor: &&TensorRef| encodings::plain(tensor.dtype).is_none();
        let odd = factors.iter().flat_map(|change| &change.factors).map(|factor| &factor.tensor).find(odd);
        match odd {
            Some(tensor) => {
                let (found, error) = (tensor.dtype, self.factor_dtype(tensor, &claimed.module));
                self.errors.push(error(found));
            }
            None => self.claimed.push(claimed),
        }
    }

    /// The refusal of a factor for its type, but for the type.
    fn factor_dtype(&self, tensor: &TensorRef, module: &str) -> impl FnOnce(Dtype) -> Error + use<> {
        let mut all = self.adapter.tensors.iter();
        let key = all.find(|other| other.tensor.offset == tensor.offset).map(|other| other.key.clone());
        let (adapter, key) = (self.adapter.name.clone(), key.unwrap_or_else(|| module.to_owned()));
        move |found| Error::new(ErrorKind::FactorDtype { adapter, key, found })
    }

    /// Records an error.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// Refuses a tensor for what it is.
    pub(crate) fn refuse_tensor(&mut self, i: usize, why: &str) {
        let (adapter, key) = (self.adapter.name.clone(), self.tensor(i).key.clone());
        self.errors.push(ErrorKind::Unclaimed { adapter, key, why: why.to_owned() }.into());
    }

    /// The refusal of a tensor for its shape.
    pub(crate) fn factor_shape(&self, i: usize, expected: String) -> Error {
        let tensor = self.tensor(i);
        let (adapter, key, found) =
            (self.adapter.name.clone(), tensor.key.clone(), tensor.tensor.shape.clone());
        ErrorKind::FactorShape { adapter, key, found, expected }.into()
    }

    /// Notes that a tensor lacks the one it needs.
    pub(crate) fn lacks_partner(&mut self, i: usize, partner: &str) {
        let (adapter, key) = (self.adapter.name.clone(), self.tensor(i).key.clone());
        let error = Error::new(ErrorKind::NoPartner { adapter, key, partner: partner.to_owned() });
        self.errors.push(error.hint("the adapter was not saved whole: save it again, or get the whole file"));
    }

    /// Whether one of its tensors is a value of the tied head.
    pub(crate) fn names_the_head_whole(&self) -> bool {
        self.head_value.is_some()
    }

    /// Path of the module that is a tied head, as the adapter spells it, if any of its tensors is for it.
    pub(crate) fn head_module(&self) -> Option<String> {
        let is_it = |module: &&str| {
            is_head(&join(module, "weight"))
                && self.lookup(module, "weight").is_none_or(|t| matches!(t, Target::New(_)))
        };
        self.adapter.tensors.iter().map(AdapterTensor::owner).find(is_it).map(str::to_owned)
    }

    /// Path of the module whose weight is `target`, as the adapter spells it, if any of its tensors is for it.
    pub(crate) fn module_at(&self, target: Target) -> Option<String> {
        let is_it = |module: &&str| self.lookup(module, "weight") == Some(target);
        let mut modules: Vec<&str> = self.adapter.tensors.iter().map(AdapterTensor::owner).collect();
        modules.dedup();
        modules.into_iter().find(is_it).map(str::to_owned)
    }

    /// Whether the model stores the linear layer of that name as `[in, out]`; heads, and what they are tied to, never are.
    pub(crate) fn stores_transposed(&self, name: &str) -> bool {
        self.names.conv1d() && !is_head(name) && !is_embedding(name)
    }

    /// Whether one of its tensors stands in place of that target.
    pub(crate) fn has_value(&self, target: Target) -> bool {
        self.values.contains_key(&target)
    }

    /// Whether the tied head follows what the adapter does to the embedding.
    pub(crate) fn does_head_follow(&self) -> bool {
        self.head_follows
    }

    /// Notes that whatever the adapter does to the embedding, the tied head follows.
    pub(crate) fn head_follows(&mut self) {
        self.head_follows = true;
    }

    /// Notes that tied ends were trained as one, however the base stores them: what the adapter holds of the embedding alone is
    /// the head's as well.
    pub(crate) fn trains_ends_as_one(&mut self) {
        self.trains_as_one = true;
    }

    /// Leaves a tensor aside by a rule, and says so.
    pub(crate) fn ignore(&mut self, i: usize, rule: &str) {
        self.taken[i] = true;
        self.notices.push(format!("`{}` is left aside: {rule}", self.tensor(i).key));
    }

    /// Leaves all untaken tensors of such paths aside by one rule, and says so once.
    pub(crate) fn ignore_where(&mut self, is_one: impl Fn(&str) -> bool, rule: &str) {
        let found = (0..self.paths.len()).filter(|&i| !self.taken[i] && is_one(self.paths[i]));
        let found: Vec<usize> = found.collect();
        self.ignore_all(&found, rule);
    }

    fn ignore_all(&mut self, found: &[usize], rule: &str) {
        let Some(&first) = found.first() else { return };
        for &i in found {
            self.taken[i] = true;
        }
        let key = &self.tensor(first).key;
        self.notices.push(match found.len() - 1 {
            0 => format!("`{key}` is left aside: {rule}"),
            more => format!("`{key}` and {more} more are left aside: {rule}"),
        });
    }

    /// Says something that is no error.
    pub(crate) fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// What all of it came to, the outline as it left it, and the names that it was read by.
    pub(crate) fn finish(mut self) -> (Outcome, Outline<'a>, Names<'a>) {
        for i in self.untaken() {
            self.refuse_tensor(i, "no method knows it");
        }
        self.skip_unmatched();
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
        let Claiming {
            claimed, head_follows, trains_as_one, skipped, errors, notices, outline, names, ..
        } = self;
        (Outcome { claimed, head_follows, trains_as_one, skipped, errors, notices }, outline, names)
    }

    /// Takes those out of what matches no base tensor that the user listed. A pattern that lists all of an adapter lists
    /// nothing, and is refused.
    fn skip_unmatched(&mut self) {
        let adapter = self.adapter;
        for pattern in &adapter.unmatched {
            if adapter.tensors.iter().all(|tensor| pattern.is_match(&tensor.key)) {
                let (flag, value) = ("--allow-unmatched".to_owned(), pattern.as_str().to_owned());
                let accepted = format!(
                    "it matches all {} tensors of adapter `{}`: name those that may be left out",
                    adapter.tensors.len(),
                    adapter.name
                );
                return self.errors.push(ErrorKind::Usage { flag, value, accepted }.into());
            }
        }
        let is_listed = |key: &str| adapter.unmatched.iter().any(|pattern| pattern.is_match(key));
        let (listed, others) =
            std::mem::take(&mut self.unmatched).into_iter().partition(|(key, _)| is_listed(key));
        self.unmatched = others;
        let listed: Vec<(String, String)> = listed;
        let Some((first, _)) = listed.first() else { return };
        self.notices.push(match listed.len() - 1 {
            0 => format!("`{first}` is left out, as `--allow-unmatched` says: no base tensor has its name"),
            more => format!(
                "`{first}` and {more} more are left out, as `--allow-unmatched` says: no base tensor has their names"
            ),
        });
        self.skipped = listed.into_iter().map(|(key, _)| key).collect();
    }
}

/// The refusal to part two tied ends.
pub(crate) fn inseparable(tensor: String, why: &str) -> Error {
    Error::new(ErrorKind::Tied { tensor, why: why.to_owned() })
        .hint("`--tied fold` changes the one tensor that both ends share, as PEFT's merge does")
}
