//! From a checkpoint and adapters to a plan: every method claims, everything is checked, the claims become output tensors.

use std::collections::HashMap;

use crate::adapters::claiming::inseparable;
use crate::adapters::pieces::{Unfit, onto, value_of};
use crate::adapters::{Adapter, Change, Claimed, Claiming, Contents, Effect, METHODS, check_targets, reads};
use crate::checkpoint::{Checkpoint, Weights, carried, is_beside};
use crate::error::{Error, ErrorKind, Result};
use crate::families::{Logicals, Piece, Placed, Spaces};
use crate::storage::list::Found;
use crate::tensor::{Shape, TensorRef};

use super::check::{check_config, check_contents, check_encodings, check_vocabulary, provenance};
use super::ends::part_stored;
use super::files::{self, QUANTISATION_FILES};
use super::idle::{Doing, Idle, idle, no_effect};
use super::layout::{Layout, Touched};
use super::overlap::overlap;
use super::{
    AdapterUse, Carried, Claim, ClaimId, Identity, Input, Joined, Op, OutShard, Outline, Placement, Plan,
    Role, SideFile, Target, Tied,
};

/// What plans are made from.
pub struct Planner<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// The adapters, in the order in which they are added.
    pub adapters: &'a [Adapter],
    /// Config fields that the user said to pass over.
    pub ignored_fields: &'a [String],
    /// What happens to tied heads.
    pub tied: Tied,
    /// Whether encoded weights stay encoded.
    pub keep_quantized: bool,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
}

/// A plan, and what is worth saying about it.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Things worth saying that are no errors.
    pub notices: Vec<String>,
}

/// The output: its shards, the small files made for it, and those carried over.
#[derive(Default)]
struct Laid {
    shards: Vec<OutShard>,
    files: Vec<SideFile>,
    carried: Vec<Carried>,
    /// What is said of files that adapters bring along.
    brought: Vec<String>,
}

/// Claims of all adapters by tensor.
#[derive(Default)]
struct Gathered {
    touched: HashMap<Target, Touched>,
    claims: Vec<Claim>,
    /// What each adapter's claims do; none where something is wrong with them.
    doing: Vec<Option<Vec<Doing>>>,
    /// Adapters whose changes of the embedding a tied head follows.
    head_follows: Vec<bool>,
    /// What was left out, allowed or parted, as the model card tells it.
    skipped: Vec<String>,
    errors: Vec<Error>,
    notices: Vec<String>,
}

impl Planner<'_> {
    /// Makes the plan, or says everything that is wrong. `contents` is asked what each adapter's file holds when all that
    /// headers tell is done, so that the files can be read meanwhile.
    ///
    /// # Errors
    /// Every reason to refuse, together; what `contents` fails with.
    pub fn plan(&self, contents: impl FnOnce() -> Result<Vec<Contents>>) -> Result<Planned> {
        let (weights, errors) = Weights::of(self.base);
        let mut gathered = Gathered { notices: self.base.notices.clone(), errors, ..Gathered::default() };
        let disk = Logicals { catalogue: &self.base.catalogue, weights: &weights };
        let spaces = Spaces::new(&disk, &self.base.config);
        let mut outline = Outline::new(self.base, &weights, self.tied);
        for (i, adapter) in self.adapters.iter().enumerate() {
            gathered.notices.extend(provenance(&self.base.config, adapter));
            let (claimed, with_claims) = self.claim(adapter, &spaces, &mut gathered, outline);
            outline = with_claims;
            for claimed in claimed {
                gathered.add(i as u32, claimed, self, &outline);
            }
            gathered.refuse_overlaps(i as u32, &outline);
        }
        gathered.part_tied_ends(&mut outline);
        match part_stored(&mut outline, |target| gathered.touching(target, self.adapters)) {
            Ok(told) => {
                gathered.notices.extend(told.clone());
                gathered.skipped.extend(told);
            }
            Err(error) => gathered.errors.push(error),
        }
        gathered.errors.extend(check_vocabulary(&outline));
        if !self.keep_quantized {
            gathered.errors.extend(check_encodings(&outline));
        }
        // The output is laid out while the files are still read.
        let laid = match gathered.errors.is_empty() {
            true => self.lay_out(&outline, std::mem::take(&mut gathered.touched)),
            false => Ok(Laid::default()),
        };
        let contents = contents()?;
        gathered.check_contents(self, &contents);
        let Gathered { claims, skipped, errors, mut notices, .. } = gathered;
        Error::all(errors)?;
        let Laid { shards, files, carried, brought } = laid?;
        notices.extend(brought);
        let plan = Plan {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            inputs: self.inputs(&contents),
            adapters: self.adapters.iter().map(used).collect(),
            choices: [choices(&outline, self.keep_quantized), self.experts(), skipped].concat(),
            shards,
            claims,
            carried,
            files,
        };
        Ok(Planned { plan, notices })
    }

    /// What the output consists of.
    fn lay_out(&self, outline: &Outline<'_>, touched: HashMap<Target, Touched>) -> Result<Laid> {
        let shards = Layout { outline, touched, keep_quantized: self.keep_quantized }.shards()?;
        let is_decoded = outline.weights.any() && !self.keep_quantized;
        let index = files::index(outline, &shards);
        let files: Vec<_> =
            index.into_iter().chain(files::config(outline, self.adapters, is_decoded)).collect();
        let is_left = |name: &str| {
            files.iter().any(|file| file.name == name) || is_decoded && QUANTISATION_FILES.contains(&name)
        };
        let mut brought = Vec::new();
        let mut carried = self.carried(&mut brought)?;
        carried.retain(|file| !is_left(&file.name));
        Ok(Laid { shards, files, carried, brought })
    }

    /// The files that are copied: those beside the base's shards, and what adapters bring along, the last of them.
    fn carried(&self, notices: &mut Vec<String>) -> Result<Vec<Carried>> {
        let by = |beside: Role| move |Found { name, bytes }: Found| Carried { name, bytes, beside };
        let mut all: Vec<Carried> = carried(&self.base.path)?.into_iter().map(by(Role::Base)).collect();
        for (i, adapter) in self.adapters.iter().enumerate() {
            let brought = adapter.brought()?;
            let Some(Found { name, .. }) = brought.first() else { continue };
            notices.push(format!(
                "`{name}` of `{}` is copied as it is: it belongs beside the model, and no merge changes it",
                adapter.name
            ));
            all.retain(|file| !is_beside(&file.name));
            all.extend(brought.into_iter().map(by(Role::Adapter(i as u32))));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Lets every method of the adapter's type claim, and checks what they claimed.
    fn claim<'o>(
        &'o self,
        adapter: &'o Adapter,
        spaces: &Spaces<'o>,
        gathered: &mut Gathered,
        outline: Outline<'o>,
    ) -> (Vec<Claimed>, Outline<'o>) {
        let refused = check_config(&adapter.config, self.ignored_fields);
        let names = match refused.is_empty() {
            true => adapter.names(spaces).map_err(|error| vec![error]),
            false => Err(refused),
        };
        let names = match names {
            Ok(names) => names,
            Err(errors) => {
                gathered.errors.extend(errors);
                gathered.head_follows.push(false);
                gathered.doing.push(None);
                return (Vec::new(), outline);
            }
        };
        gathered.notices.extend(names.notices().iter().map(|told| format!("`{}`: {told}", adapter.name)));
        let mut claiming = Claiming::new(adapter, outline, names);
        let peft_type = adapter.config.text("peft_type").unwrap_or_default();
        for method in METHODS.iter().filter(|method| reads(**method, peft_type)) {
            method.claim(&mut claiming);
        }
        let (outcome, outline, names) = claiming.finish();
        let is_sound = outcome.errors.is_empty();
        gathered.errors.extend(outcome.errors);
        gathered.notices.extend(outcome.notices);
        gathered.head_follows.push(outcome.head_follows);
        gathered.skipped.extend(outcome.skipped.iter().map(|key| {
            format!("`{key}` of `{}` is left out, as asked: no base tensor has its name", adapter.name)
        }));
        if is_sound {
            let (errors, notices) = check_targets(adapter, &outcome.claimed, &names);
            gathered.errors.extend(errors);
            gathered.notices.extend(notices);
        }
        gathered.doing.push(is_sound.then(|| outcome.claimed.iter().map(Doing::of).collect()));
        (outcome.claimed, outline)
    }

    /// What the user said of experts, each once.
    fn experts(&self) -> Vec<String> {
        let mut told: Vec<String> = self.adapters.iter().flat_map(|adapter| adapter.experts.told()).collect();
        told.sort_unstable();
        told.dedup();
        told
    }

    /// The files the plan reads: the base's shards, then each adapter's, as their [`crate::tensor::FileId`]s count.
    fn inputs(&self, contents: &[Contents]) -> Vec<Input> {
        let shards = self.base.catalogue.shards.iter();
        let base = shards.map(|shard| Input {
            role: Role::Base,
            name: shard.name.clone(),
            identity: shard.identity.clone(),
        });
        let adapters = self.adapters.iter().zip(contents).enumerate();
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
                    let ops = &mut self.touched.entry(target).or_default().ops;
                    // Most tensors have one op, of 45,000 in a large mixture of experts.
                    ops.reserve_exact(changes.len());
                    ops.extend(changes.into_iter().map(|change| op(claim, change)));
                }
                Effect::Replace { value } => {
                    if let Some(error) = self.replace(target, value, claim, planner, outline) {
                        self.errors.push(error);
                    }
                }
            }
        }
    }

    /// Checks what each adapter's file holds against what it is claimed for.
    fn check_contents(&mut self, planner: &Planner<'_>, contents: &[Contents]) {
        let doing = std::mem::take(&mut self.doing);
        for ((adapter, contents), doing) in planner.adapters.iter().zip(contents).zip(doing) {
            self.errors.extend(check_contents(adapter, contents));
            if let Some(doing) = doing {
                self.check_effect(planner, adapter, contents, &doing);
            }
        }
    }

    /// Refuses an adapter that changes nothing, or says so where the user allows it, and what of others does nothing.
    fn check_effect(
        &mut self,
        planner: &Planner<'_>,
        adapter: &Adapter,
        contents: &Contents,
        doing: &[Doing],
    ) {
        if doing.is_empty() {
            return self.errors.push(no_effect(adapter, "no tensor of it was placed".to_owned()));
        }
        match idle(planner.base, adapter, contents, doing) {
            Err(error) => self.errors.push(error),
            Ok(Idle::Nothing) => {}
            Ok(Idle::Some(told)) => self.notices.push(told),
            Ok(Idle::All(why)) if planner.allow_noop => {
                let told = format!("`{}` changes nothing, as `--allow-noop` allows: {why}", adapter.name);
                self.notices.push(told.clone());
                self.skipped.push(told);
            }
            Ok(Idle::All(why)) => self.errors.push(
                no_effect(adapter, why).hint("`--allow-noop` takes it along, where nothing is what you want"),
            ),
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

    /// The adapters that change a target.
    fn touching<'p>(&self, target: Target, adapters: &'p [Adapter]) -> Vec<&'p Adapter> {
        let Some(touched) = self.touched.get(&target) else { return Vec::new() };
        let claims =
            touched.ops.iter().map(|op| op.claim).chain(touched.replaced.iter().map(|(_, claim)| *claim));
        claims.map(|claim| &adapters[self.claims[claim.0 as usize].adapter as usize]).collect()
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
