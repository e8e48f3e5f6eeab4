//! What the claims of all adapters come to, by tensor: their ops and replacements, and what is wrong with them together.

use std::collections::BTreeMap;

use crate::adapters::adapter::Adapter;
use crate::adapters::claim::edits::{ClaimedModule, Edit};
use crate::adapters::scan::Contents;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::no_effect::NoEffectReason;
use crate::error::plan::PlanError;
use crate::note::Note;
use crate::note::plan::PlanNote;
use crate::tensor::name::Name;
use crate::tensor::reference::TensorRef;

use crate::model::outline::{Outline, Target};
use crate::ops::op::{ClaimId, Op};
use crate::plan::check::check_contents;
use crate::plan::fused::{PartEdit, split_by_slice};
use crate::plan::noop::{AdapterEffect, Noop, no_effect, noop};
use crate::plan::out_content::TensorEdits;
use crate::plan::out_tensor::{ClaimRecord, OutShard};
use crate::plan::overlap::overlap;
use crate::plan::planner::Planner;

/// What is put in place of a tensor's values.
enum Put {
    /// A value for all of them.
    Whole(TensorRef),
    /// What an op puts in place of some.
    Values(Op),
}

/// Claims of all adapters by tensor.
#[derive(Default)]
pub(crate) struct ClaimSet {
    pub(crate) edits: BTreeMap<Target, TensorEdits>,
    pub(crate) claims: Vec<ClaimRecord>,
    /// What each adapter's claims do; none where something is wrong with them.
    pub(crate) effects: Vec<Option<AdapterEffect>>,
    /// Adapters whose changes of the embedding a tied head follows.
    pub(crate) head_follows: Vec<bool>,
    /// Adapters that train tied ends as one, whichever end they hold.
    pub(crate) trains_as_one: Vec<bool>,
    /// What was ignored, allowed or untied, as the model card says it.
    pub(crate) skipped: Vec<String>,
    pub(crate) errors: Vec<Error>,
    pub(crate) notes: Vec<Note>,
}

impl ClaimSet {
    /// Adds the claims of one adapter; whether they have an effect is asked only of those that are sound.
    pub(crate) fn add_all(
        &mut self,
        adapter: u32,
        claimed: Vec<ClaimedModule>,
        is_sound: bool,
        (planner, outline): (&Planner<'_>, &Outline<'_>),
    ) {
        let first = self.claims.len();
        let mut replacing = Vec::new();
        let replaced = |claimed: &ClaimedModule| match &claimed.edit {
            Edit::Replace { value } => Some((claimed.target, value.clone())),
            Edit::Change(_) => None,
        };
        let replaces = claimed.iter().filter_map(replaced).collect();
        let mut next = first;
        let record = |claimed| {
            let claim = ClaimId(next as u32);
            let record = self.add((adapter, claim), claimed, &mut replacing, (planner, outline))?;
            next += 1;
            Some(record)
        };
        // Of 60,000 claims each becomes a record in the place that it had.
        let mut records: Vec<ClaimRecord> = claimed.into_iter().filter_map(record).collect();
        records.shrink_to_fit();
        if self.claims.is_empty() {
            self.claims = records;
        } else {
            self.claims.append(&mut records);
        }
        for (target, put, claim) in replacing {
            let error = self.replace(target, put, claim, planner, outline);
            self.errors.extend(error);
        }
        let claims = first..next;
        self.effects.push(is_sound.then_some(AdapterEffect { claims, replaces }));
    }

    /// Adds one claim, slice by slice if its parameter is several tensors on disk; its record, if it can be cut so. What it puts
    /// in a tensor's place goes to `replacing`.
    fn add(
        &mut self,
        (adapter, claim): (u32, ClaimId),
        claimed: ClaimedModule,
        replacing: &mut Vec<(Target, Put, ClaimId)>,
        (planner, outline): (&Planner<'_>, &Outline<'_>),
    ) -> Option<ClaimRecord> {
        let ClaimedModule { method, module, keys, target, elements, edit } = claimed;
        let tensor = outline.weight(target).name;
        let found = match target {
            _ if edit.is_nothing() => Ok(Vec::new()),
            Target::Fused(i) => split_by_slice(&outline.fused(i), edit, elements, outline),
            target => Ok(vec![(target, PartEdit::Whole(edit))]),
        };
        let parts = match found {
            Ok(parts) => parts,
            Err(why) => {
                let adapter = planner.adapters[adapter as usize].name.clone();
                self.errors.push(ClaimError::InPieces { adapter, parameter: tensor.to_string(), why }.into());
                return None;
            }
        };
        for (target, edit) in parts {
            match edit {
                PartEdit::Whole(Edit::Change(new)) => {
                    let mut new: Vec<Op> = new.into_iter().map(|op| op.counted_for(claim)).collect();
                    let ops = &mut self.edits.entry(target).or_default().ops;
                    // Most tensors have one op, of 45,000 in a large mixture of experts.
                    if ops.is_empty() {
                        new.shrink_to_fit();
                        *ops = new;
                    } else {
                        ops.reserve_exact(new.len());
                        ops.append(&mut new);
                    }
                }
                PartEdit::Whole(Edit::Replace { value }) => {
                    replacing.push((target, Put::Whole(value), claim))
                }
                PartEdit::Values(op) => replacing.push((target, Put::Values(op), claim)),
            }
        }
        Some(ClaimRecord {
            adapter,
            module,
            method: method.into(),
            keys,
            tensor,
            elements,
            combined_in: None,
        })
    }

    /// Checks what each adapter's file holds against what it is claimed for, of which `shards` have the ops.
    pub(crate) fn check_contents(
        &mut self,
        planner: &Planner<'_>,
        contents: &[Contents],
        shards: &[OutShard],
    ) {
        let effects = std::mem::take(&mut self.effects);
        for ((adapter, contents), effects) in planner.adapters.iter().zip(contents).zip(effects) {
            self.errors.extend(check_contents(adapter, contents));
            if let Some(effect) = effects {
                self.check_effect(planner, adapter, contents, (&effect, shards));
            }
        }
    }

    /// Refuses an adapter that changes nothing, or says so where the user allows it, and what of others does nothing.
    fn check_effect(
        &mut self,
        planner: &Planner<'_>,
        adapter: &Adapter,
        contents: &Contents,
        (effect, shards): (&AdapterEffect, &[OutShard]),
    ) {
        if effect.claims.is_empty() {
            return self.errors.push(no_effect(adapter, NoEffectReason::NoPlace));
        }
        match noop(planner.base, adapter, contents, (effect, &self.claims, shards)) {
            Err(error) => self.errors.push(error),
            Ok(Noop::Nothing) => {}
            Ok(Noop::Some(note)) => self.notes.push(note.into()),
            Ok(Noop::All(why)) if planner.allow_noop => {
                let note = PlanNote::NoEffectAllowed { adapter: adapter.name.clone(), why };
                self.skipped.push(note.to_string());
                self.notes.push(note.into());
            }
            Ok(Noop::All(why)) => {
                self.errors.push(no_effect(adapter, why).hint("pass `--allow-noop` to merge it anyway"))
            }
        }
    }

    /// Puts a value in a tensor's place. Replacements come before the deltas of the same adapter and must not undo those of
    /// an earlier one.
    fn replace(
        &mut self,
        target: Target,
        put: Put,
        claim: ClaimId,
        planner: &Planner<'_>,
        outline: &Outline<'_>,
    ) -> Option<Error> {
        let edits = self.edits.entry(target).or_default();
        let by = |id: ClaimId| self.claims[id.0 as usize].adapter;
        let named = |adapter: u32| planner.adapters[adapter as usize].name.clone();
        let (adapter, tensor) = (by(claim), outline.weight(target).name.to_string());
        if let Some(op) = edits.ops.iter().find(|op| by(op.claim) != adapter) {
            let (earlier, later) = (named(by(op.claim)), named(adapter));
            return Some(PlanError::ReplacedDelta { tensor, earlier, later }.into());
        }
        let value = match put {
            Put::Whole(value) => value,
            Put::Values(op) => {
                // All that is there is of this adapter, and is done to what is put there.
                edits.ops.insert(0, op.counted_for(claim));
                return None;
            }
        };
        let (_, earlier) = *edits.replaced.replace(Box::new((value, claim)))?;
        if by(earlier) == adapter {
            let key = |claim: ClaimId| self.claims[claim.0 as usize].keys[0].to_string();
            let (first, second) = (key(earlier), key(claim));
            return Some(PlanError::KeyTwice { adapter: named(adapter), key: tensor, first, second }.into());
        }
        let (first, later) = (named(by(earlier)), named(adapter));
        self.notes.push(PlanNote::ReplacedTwice { tensor, earlier: first, later }.into());
        // What is overridden reaches nothing, by this rule and not by mistake.
        self.claims[earlier.0 as usize].elements = 0;
        None
    }

    /// The claims that change a target.
    pub(crate) fn claims_on(&self, target: Target) -> Vec<ClaimId> {
        let Some(edits) = self.edits.get(&target) else { return Vec::new() };
        let replaced = edits.replaced.iter().map(|replaced| replaced.1);
        edits.ops.iter().map(|op| op.claim).chain(replaced).collect()
    }

    /// The place of the adapter that made a claim.
    pub(crate) fn by(&self, claim: ClaimId) -> usize {
        self.claims[claim.0 as usize].adapter as usize
    }

    /// Refuses two deltas of one adapter that fall on the same values: the same thing in two spellings.
    pub(crate) fn refuse_overlaps(&mut self, adapter: u32, outline: &Outline<'_>) {
        // The embedding and the head may both change one tensor, if they stay one.
        let shared = outline.shared_embedding().map(Target::Base);
        let mut found: Vec<(Name, ClaimId, ClaimId)> = Vec::new();
        for (&target, edits) in self.edits.iter().filter(|(target, _)| Some(**target) != shared) {
            let is_its = |op: &&Op| self.claims[op.claim.0 as usize].adapter == adapter;
            let ops: Vec<&Op> = edits.ops.iter().filter(is_its).collect();
            let weight = outline.weight(target);
            found.extend(
                overlap(&weight.shape, &ops).map(|(first, second)| (weight.name.clone(), first, second)),
            );
        }
        found.sort_unstable_by_key(|(_, first, second)| (first.0, second.0));
        for (tensor, first, second) in found {
            let key = |claim: ClaimId| self.claims[claim.0 as usize].keys[0].to_string();
            let (first, second) = (key(first), key(second));
            self.errors.push(PlanError::Overlap { tensor: tensor.to_string(), first, second }.into());
        }
    }
}
