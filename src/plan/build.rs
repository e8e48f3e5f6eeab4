//! From a checkpoint and adapters to a plan: every method claims, everything is checked, the claims become output tensors.

use std::collections::HashMap;

use crate::adapters::claiming::inseparable;
use crate::adapters::{Adapter, Change, Claimed, Claiming, Contents, Effect, METHODS, check_targets, reads};
use crate::checkpoint::{Checkpoint, Weights, carried};
use crate::error::{Error, ErrorKind, Result};
use crate::families;

use super::check::{check_config, check_contents, check_encodings, check_vocabulary, provenance};
use super::files::{self, QUANTISATION_FILES};
use super::layout::{Layout, Touched};
use super::{AdapterUse, Claim, ClaimId, Identity, Input, Op, Outline, Plan, Role, Target, Tied};

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
    errors: Vec<Error>,
    notices: Vec<String>,
}

impl Planner<'_> {
    /// Makes the plan, or says everything that is wrong.
    ///
    /// # Errors
    /// Every reason to refuse, together.
    pub fn plan(&self) -> Result<Planned> {
        let (weights, errors) = Weights::of(&self.base.catalogue, &self.base.config);
        let mut gathered = Gathered { notices: self.base.notices.clone(), errors, ..Gathered::default() };
        let mut outline = Outline::new(self.base, weights, self.tied);
        for (i, (adapter, contents)) in self.adapters.iter().zip(self.contents).enumerate() {
            gathered.notices.extend(provenance(&self.base.config, adapter));
            let (claimed, with_claims) = self.claim(adapter, contents, &mut gathered, outline);
            outline = with_claims;
            for claimed in claimed {
                gathered.add(i as u32, claimed, self, &outline);
            }
        }
        gathered.part_tied_ends(&mut outline);
        gathered.errors.extend(check_vocabulary(&outline));
        if !self.keep_quantized {
            gathered.errors.extend(check_encodings(&outline));
        }
        let Gathered { touched, claims, errors, notices, .. } = gathered;
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
            choices: choices(&outline, self.keep_quantized),
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
        gathered: &mut Gathered,
        outline: Outline<'o>,
    ) -> (Vec<Claimed>, Outline<'o>) {
        let refused = check_config(&adapter.config, self.ignored_fields);
        if !refused.is_empty() {
            gathered.errors.extend(refused);
            gathered.head_follows.push(false);
            return (Vec::new(), outline);
        }
        let family = families::of(&self.base.config);
        let mut claiming = Claiming::new(adapter, outline, family);
        let peft_type = adapter.config.text("peft_type").unwrap_or_default();
        for method in METHODS.iter().filter(|method| reads(**method, peft_type)) {
            method.claim(&mut claiming);
        }
        let (outcome, outline) = claiming.finish();
        let is_sound = outcome.errors.is_empty();
        gathered.errors.extend(outcome.errors);
        gathered.notices.extend(outcome.notices);
        gathered.head_follows.push(outcome.head_follows);
        gathered.errors.extend(check_contents(adapter, contents, is_sound.then_some(&outcome.claimed)));
        if is_sound {
            let claimed = outcome.claimed.iter().map(|claimed| claimed.module.as_str());
            let adapted: Vec<&str> = claimed.chain(outcome.ignored.iter().map(String::as_str)).collect();
            gathered.errors.extend(check_targets(&adapter.config, &adapted, &self.base.catalogue));
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
    /// Adds one claim. Replacements come before the deltas of the same adapter and must not undo those of an earlier one.
    fn add(&mut self, adapter: u32, claimed: Claimed, planner: &Planner<'_>, outline: &Outline<'_>) {
        let name = outline.weight(claimed.target).name;
        let touched = self.touched.entry(claimed.target).or_default();
        let claim = ClaimId(self.claims.len() as u32);
        match claimed.effect {
            Effect::Change(changes) => {
                touched.ops.extend(changes.into_iter().map(|change| op(claim, change)))
            }
            Effect::Replace { value } => {
                let by = |id: ClaimId| self.claims[id.0 as usize].adapter;
                if let Some(op) = touched.ops.iter().find(|op| by(op.claim) != adapter) {
                    let earlier = planner.adapters[by(op.claim) as usize].name.clone();
                    let later = planner.adapters[adapter as usize].name.clone();
                    self.errors.push(ErrorKind::ReplacedDelta { tensor: name, earlier, later }.into());
                    return;
                }
                if let Some((_, earlier)) = touched.replaced {
                    let (before, now) = (by(earlier), adapter);
                    if before == now {
                        let (first, second) = (&self.claims[earlier.0 as usize].keys[0], &claimed.keys[0]);
                        self.errors.push(Error::new(ErrorKind::KeyTwice {
                            adapter: planner.adapters[now as usize].name.clone(),
                            key: name,
                            first: first.clone(),
                            second: second.clone(),
                        }));
                        return;
                    }
                    let (before, now) =
                        (&planner.adapters[before as usize].name, &planner.adapters[now as usize].name);
                    self.notices.push(format!(
                        "`{name}` is replaced by `{before}` and again by `{now}`; the last wins"
                    ));
                    // What is overridden reaches nothing, by this rule and not by mistake.
                    self.claims[earlier.0 as usize].elements = 0;
                }
                touched.replaced = Some((value, claim));
            }
        }
        self.claims.push(Claim {
            adapter,
            module: claimed.module,
            method: claimed.method.to_owned(),
            keys: claimed.keys,
            tensor: name,
            elements: claimed.elements,
        });
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

/// A change with the claim that it counts for.
fn op(claim: ClaimId, change: Change) -> Op {
    let Change { method, placement, factors, scale, need, original, settings } = change;
    Op { claim, method: method.to_owned(), placement, factors, scale, need, original, settings }
}
