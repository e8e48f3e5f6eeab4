//! From a checkpoint and adapters to a plan: every method claims, everything is checked, the claims become output tensors.

use std::collections::HashMap;

use crate::adapters::claiming::inseparable;
use crate::adapters::pieces::{Unfit, onto, value_of};
use crate::adapters::{Adapter, Change, Claimed, Claiming, Contents, Effect, METHODS, check_targets, reads};
use crate::checkpoint::{Checkpoint, Weights, carried};
use crate::error::{Error, ErrorKind, Result};
use crate::families::{Logicals, Piece, Placed};
use crate::tensor::{Shape, TensorRef};

use super::check::{check_config, check_contents, check_encodings, check_vocabulary, provenance};
use super::files::{self, QUANTISATION_FILES};
use super::layout::{Layout, Touched};
use super::overlap::overlap;
use super::{
    AdapterUse, Claim, ClaimId, Identity, Input, Joined, Op, Outline, Placement, Plan, Role, Target, Tied,
};

/// What plans are made from.
pub struct Planner<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// The adapters, in the order in which they are added.
    pub adapters: &'a [Adapter],
    /// What each adapter's file holds.
    pub contents: &'a [Contents],
    /// Config fields that the user said to pass over.
    pub ignored_fields: &'a [String],
    /// What happens to tied heads.
    pub tied: Tied,
    /// Whether encoded weights stay encoded.
    pub keep_quantized: bool,
}

/// A plan, and what is worth saying about it.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Things worth saying that are no errors.
    pub notices: Vec<String>,
}

/// Claims of all adapters by tensor.
#[derive(Default)]
struct Gathered {
    touched: HashMap<Target, Touched>,
    claims: Vec<Claim>,
    /// Adapters whose changes of the embedding a tied head follows.
    head_follows: Vec<bool>,
    /// What was left out, as the model card tells it.
    skipped: Vec<String>,
    errors: Vec<Error>,
    notices: Vec<String>,
}

impl Planner<'_> {
    /// Makes the plan, or says everything that is wrong.
    ///
    /// # Errors
    /// Every reason to refuse, together.
    pub fn plan(&self) -> Result<Planned> {
        let (weights, errors) = Weights::of(self.base);
        let mut gathered = Gathered { notices: self.base.notices.clone(), errors, ..Gathered::default() };
        let disk = Logicals { catalogue: &self.base.catalogue, weights: &weights };
        let mut outline = Outline::new(self.base, &weights, self.tied);
        for (i, (adapter, contents)) in self.adapters.iter().zip(self.contents).enumerate() {
            gathered.notices.extend(provenance(&self.base.config, adapter));
            let (claimed, with_claims) = self.claim(adapter, contents, &disk, &mut gathered, outline);
            outline = with_claims;
            for claimed in claimed {
                gathered.add(i as u32, claimed, self, &outline);
            }
            gathered.refuse_overlaps(i as u32, &outline);
        }
        gathered.part_tied_ends(&mut outline);
        gathered.errors.extend(check_vocabulary(&outline));
        if !self.keep_quantized {
            gathered.errors.extend(check_encodings(&outline));
        }
        let Gathered { touched, claims, skipped, errors, notices, .. } = gathered;
        Error::all(errors)?;
        let layout = Layout { outline: &outline, touched: &touched, keep_quantized: self.keep_quantized };
        let shards = layout.shards()?;
        let is_decoded = outline.weights.any() && !self.keep_quantized;
        let index = files::index(&outline, &shards);
        let files: Vec<_> =
            index.into_iter().chain(files::config(&outline, self.adapters, is_decoded)).collect();
        let is_left = |name: &str| {
            files.iter().any(|file| file.name == name) || is_decoded && QUANTISATION_FILES.contains(&name)
        };
        let carried = carried(&self.base.path)?.into_iter().filter(|file| !is_left(&file.name));
        let plan = Plan {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            inputs: self.inputs(),
            adapters: self.adapters.iter().map(used).collect(),
            choices: [choices(&outline, self.keep_quantized), skipped].concat(),
            shards,
            claims,
            carried: carried.map(|file| (file.name, file.bytes)).collect(),
            files,
        };
        Ok(Planned { plan, notices })
    }

    /// Lets every method of the adapter's type claim, and checks what they claimed.
    fn claim<'o>(
        &'o self,
        adapter: &'o Adapter,
        contents: &Contents,
        disk: &'o Logicals<'o>,
        gathered: &mut Gathered,
        outline: Outline<'o>,
    ) -> (Vec<Claimed>, Outline<'o>) {
        let refused = check_config(&adapter.config, self.ignored_fields);
        let names = match refused.is_empty() {
            true => adapter.names(disk, &self.base.config).map_err(|error| vec![error]),
            false => Err(refused),
        };
        let names = match names {
            Ok(names) => names,
            Err(errors) => {
                gathered.errors.extend(errors);
                gathered.head_follows.push(false);
                return (Vec::new(), outline);
            }
        };
        gathered.notices.extend(names.notices().iter().map(|told| format!("`{}`: {told}", adapter.name)));
        let mut claiming = Claiming::new(adapter, outline, names);
        let peft_type = adapter.config.text("peft_type").unwrap_or_default();
        for method in METHODS.iter().filter(|method| reads(**method, peft_type)) {
            method.claim(&mut claiming);
        }
        let (outcome, outline) = claiming.finish();
        let is_sound = outcome.errors.is_empty();
        gathered.errors.extend(outcome.errors);
        gathered.notices.extend(outcome.notices);
        gathered.head_follows.push(outcome.head_follows);
        gathered.skipped.extend(outcome.skipped.iter().map(|key| {
            format!("`{key}` of `{}` is left out, as asked: no base tensor has its name", adapter.name)
        }));
        gathered.errors.extend(check_contents(adapter, contents, is_sound.then_some(&outcome.claimed)));
        if is_sound {
            let claimed = outcome.claimed.iter().map(|claimed| claimed.module.as_str());
            let adapted: Vec<&str> = claimed.chain(outcome.ignored.iter().map(String::as_str)).collect();
            gathered.errors.extend(check_targets(&adapter.config, &adapted, disk));
        }
        (outcome.claimed, outline)
    }

    /// The files the plan reads: the base's shards, then each adapter's, as their [`crate::tensor::FileId`]s count.
    fn inputs(&self) -> Vec<Input> {
        let shards = self.base.catalogue.shards.iter();
        let base = shards.map(|shard| Input {
            role: Role::Base,
            name: shard.name.clone(),
            identity: shard.identity.clone(),
        });
        let adapters = self.adapters.iter().zip(self.contents).enumerate();
        let adapters = adapters.map(|(i, (adapter, contents))| Input {
            role: Role::Adapter(i as u32),
            name: "adapter_model.safetensors".to_owned(),
            identity: Identity {
                bytes: adapter.source.len(),
                header: adapter.header_hash.clone(),
                content: contents.hash.clone(),
            },
        });
        base.chain(adapters).collect()
    }
}

/// What was decided beyond adding deltas, as the model card tells it.
fn choices(outline: &Outline<'_>, keep_quantized: bool) -> Vec<String> {
    let mut choices = Vec::new();
    for addition in &outline.additions {
        choices.push(match addition.copy_of {
            Some(from) => format!(
                "`{}` has a tensor of its own; in the base it shares `{}`",
                addition.name, outline.base.catalogue.tensors[from].name
            ),
            None => format!("`{}` is new: no base has it", addition.name),
        });
    }
    if let Some((old, new)) = files::vocabulary(outline) {
        choices.push(format!("the vocabulary has {new} tokens, in the base {old}"));
    }
    if outline.weights.any() {
        choices.push(match keep_quantized {
            true => "changed weights of the quantised base are encoded again with the scales they had, and new ones where a \
                     value would not fit"
                .to_owned(),
            false => format!("the quantised base is decoded to {:?}", outline.float_dtype()),
        });
    }
    choices
}

fn used(adapter: &Adapter) -> AdapterUse {
    AdapterUse {
        name: adapter.name.clone(),
        weight: adapter.weight,
        peft_type: adapter.config.text("peft_type").unwrap_or_default().to_owned(),
        config: adapter.config_hash.clone(),
    }
}

impl Gathered {
    /// Adds one claim, piece by piece if its parameter is in pieces on disk.
    fn add(&mut self, adapter: u32, claimed: Claimed, planner: &Planner<'_>, outline: &Outline<'_>) {
        let Claimed { method, module, keys, target, elements, effect } = claimed;
        let tensor = outline.weight(target).name;
        let claim = ClaimId(self.claims.len() as u32);
        let found = match target {
            Target::Joined(i) => taken_apart(&outline.joined(i), effect, elements, outline),
            target => Ok(vec![(target, effect)]),
        };
        let parts = match found {
            Ok(parts) => parts,
            Err(why) => {
                let adapter = planner.adapters[adapter as usize].name.clone();
                self.errors
                    .push(ErrorKind::InPieces { adapter, parameter: tensor, why: why.to_owned() }.into());
                return;
            }
        };
        self.claims.push(Claim { adapter, module, method: method.to_owned(), keys, tensor, elements });
        for (target, effect) in parts {
            match effect {
                Effect::Change(changes) => {
                    let ops = changes.into_iter().map(|change| op(claim, change));
                    self.touched.entry(target).or_default().ops.extend(ops);
                }
                Effect::Replace { value } => {
                    if let Some(error) = self.replace(target, value, claim, planner, outline) {
                        self.errors.push(error);
                    }
                }
            }
        }
    }

    /// Puts a value in a tensor's place. Replacements come before the deltas of the same adapter and must not undo those of
    /// an earlier one.
    fn replace(
        &mut self,
        target: Target,
        value: TensorRef,
        claim: ClaimId,
        planner: &Planner<'_>,
        outline: &Outline<'_>,
    ) -> Option<Error> {
        let touched = self.touched.entry(target).or_default();
        let by = |id: ClaimId| self.claims[id.0 as usize].adapter;
        let named = |adapter: u32| planner.adapters[adapter as usize].name.clone();
        let (adapter, tensor) = (by(claim), outline.weight(target).name);
        if let Some(op) = touched.ops.iter().find(|op| by(op.claim) != adapter) {
            let (earlier, later) = (named(by(op.claim)), named(adapter));
            return Some(ErrorKind::ReplacedDelta { tensor, earlier, later }.into());
        }
        let (_, earlier) = touched.replaced.replace((value, claim))?;
        if by(earlier) == adapter {
            let key = |claim: ClaimId| self.claims[claim.0 as usize].keys[0].clone();
            let (first, second) = (key(earlier), key(claim));
            return Some(ErrorKind::KeyTwice { adapter: named(adapter), key: tensor, first, second }.into());
        }
        self.notices.push(format!(
            "`{tensor}` is replaced by `{}` and again by `{}`; the last wins",
            named(by(earlier)),
            named(adapter)
        ));
        // What is overridden reaches nothing, by this rule and not by mistake.
        self.claims[earlier.0 as usize].elements = 0;
        None
    }

    /// Refuses two deltas of one adapter that fall on the same values: the same thing in two spellings.
    fn refuse_overlaps(&mut self, adapter: u32, outline: &Outline<'_>) {
        // Both ends of one tensor may change it, if they stay one.
        let folded = outline.head.as_ref().filter(|_| outline.tied == Tied::Fold);
        let folded = folded.map(|head| Target::Base(head.source));
        let mut found: Vec<(String, ClaimId, ClaimId)> = Vec::new();
        for (&target, touched) in self.touched.iter().filter(|(target, _)| Some(**target) != folded) {
            let is_its = |op: &&Op| self.claims[op.claim.0 as usize].adapter == adapter;
            let ops: Vec<&Op> = touched.ops.iter().filter(is_its).collect();
            let weight = outline.weight(target);
            found.extend(overlap(&weight.shape, &ops).map(|(first, second)| (weight.name, first, second)));
        }
        found.sort_unstable_by_key(|(_, first, second)| (first.0, second.0));
        for (tensor, first, second) in found {
            let key = |claim: ClaimId| self.claims[claim.0 as usize].keys[0].clone();
            let (first, second) = (key(first), key(second));
            self.errors.push(ErrorKind::Overlap { tensor, first, second }.into());
        }
    }

    /// Gives a tied head a tensor of its own where an adapter changes the embedding and the head does not follow; a model
    /// with the head of another task has none.
    fn part_tied_ends(&mut self, outline: &mut Outline<'_>) {
        let is_tied = outline.tied == Tied::Untie && !outline.has_other_head();
        let Some(head) = outline.head.clone().filter(|_| is_tied) else { return };
        let Some(touched) = self.touched.get(&Target::Base(head.source)) else { return };
        let by = |id: ClaimId| self.claims[id.0 as usize].adapter as usize;
        let claims =
            touched.ops.iter().map(|op| op.claim).chain(touched.replaced.iter().map(|(_, claim)| *claim));
        let (follow, part): (Vec<ClaimId>, Vec<ClaimId>) =
            claims.partition(|&claim| self.head_follows[by(claim)]);
        let is_parted = outline.find(&head.head).is_some();
        let name = outline.weight(Target::Base(head.source)).name;
        if !follow.is_empty() && (is_parted || !part.is_empty()) {
            self.errors.push(
                Error::new(ErrorKind::TiedBothWays { tensor: name })
                    .hint("merge these adapters one after the other"),
            );
        } else if !part.is_empty() && !is_parted {
            match head.inseparable {
                Some(why) => self.errors.push(inseparable(name, why)),
                None => {
                    outline.untie(&head);
                }
            }
        }
    }
}

/// What is done to a parameter in pieces, as what is done to the tensors that hold them.
fn taken_apart(
    joined: &Joined,
    effect: Effect,
    elements: u64,
    outline: &Outline<'_>,
) -> std::result::Result<Vec<(Target, Effect)>, Unfit> {
    const MISSING: Unfit = "some of it is in no tensor";
    let (mut parts, mut reached) = (Vec::new(), 0);
    let slices = Slices::of(&effect, &joined.shape);
    for Placed { tensor, piece } in &joined.pieces {
        let target = Target::Base(*tensor);
        let disk = outline.weight(target).shape;
        match &effect {
            Effect::Replace { value } => {
                let value = value_of(value, &joined.shape, piece, &disk)?;
                reached += piece.elements();
                parts.push((target, Effect::Replace { value }));
            }
            Effect::Change(changes) => {
                let mut cut = Vec::new();
                for &i in slices.at(piece) {
                    cut.extend(onto(&changes[i], &joined.shape, piece, &disk)?);
                }
                reached += cut.iter().map(|change| change.placement.elements()).sum::<u64>();
                if !cut.is_empty() {
                    parts.push((target, Effect::Change(cut)));
                }
            }
        }
    }
    if reached == elements { Ok(parts) } else { Err(MISSING) }
}

/// Changes by the position on the first axis at which they stand, so that those of 256 experts are not each tried on the
/// tensors of all the others.
struct Slices {
    all: Vec<usize>,
    by_position: HashMap<u64, Vec<usize>>,
}

impl Slices {
    fn of(effect: &Effect, shape: &Shape) -> Slices {
        let Effect::Change(changes) = effect else {
            return Slices { all: Vec::new(), by_position: HashMap::new() };
        };
        let slice: u64 = shape.axes().iter().skip(1).product::<u64>().max(1);
        let mut by_position: HashMap<u64, Vec<usize>> = HashMap::new();
        for (i, change) in changes.iter().enumerate() {
            let Placement { start, .. } = change.placement;
            for position in start / slice..=(change.placement.end() - 1) / slice {
                by_position.entry(position).or_default().push(i);
            }
        }
        Slices { all: (0..changes.len()).collect(), by_position }
    }

    /// Changes that may fall on a piece.
    fn at(&self, piece: &Piece) -> &[usize] {
        match piece.fixed.iter().find(|(axis, _)| *axis == 0) {
            Some((_, position)) => self.by_position.get(position).map_or(&[], Vec::as_slice),
            None => &self.all,
        }
    }
}

/// A change with the claim that it counts for.
fn op(claim: ClaimId, change: Change) -> Op {
    let Change { method, placement, factors, scale, need, original, settings } = change;
    Op { claim, method: method.to_owned(), placement, factors, scale, need, original, settings }
}
