//! From a checkpoint and adapters to a plan: every method claims, everything is checked, the claims become output tensors.

use std::collections::HashMap;

use crate::adapters::{Adapter, Claimed, Claiming, Contents, Effect, METHODS, check_targets};
use crate::checkpoint::{Checkpoint, carried};
use crate::error::{Error, ErrorKind, Result};
use crate::families;

use super::check::{check_config, check_contents, provenance};
use super::layout::{Touched, lay_out};
use super::{AdapterUse, Claim, ClaimId, Identity, Input, Op, Plan, Role};

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
}

/// A plan, and what is worth saying about it.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Things worth saying that are no errors.
    pub notices: Vec<String>,
}

/// Claims of all adapters by base tensor.
#[derive(Default)]
struct Gathered {
    touched: HashMap<usize, Touched>,
    claims: Vec<Claim>,
    errors: Vec<Error>,
    notices: Vec<String>,
}

impl Planner<'_> {
    /// Makes the plan, or says everything that is wrong.
    ///
    /// # Errors
    /// Every reason to refuse, together.
    pub fn plan(&self) -> Result<Planned> {
        let mut gathered = Gathered { notices: self.base.notices.clone(), ..Gathered::default() };
        for (i, (adapter, contents)) in self.adapters.iter().zip(self.contents).enumerate() {
            gathered.notices.extend(provenance(&self.base.config, adapter));
            let claimed = self.claim(adapter, contents, &mut gathered);
            for claimed in claimed {
                gathered.add(i as u32, claimed, self);
            }
        }
        let Gathered { touched, claims, errors, notices } = gathered;
        Error::all(errors)?;
        let shards = lay_out(self.base, touched)?;
        let plan = Plan {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            inputs: self.inputs(),
            adapters: self.adapters.iter().map(used).collect(),
            shards,
            claims,
            index: self.index(),
            carried: carried(&self.base.path)?.into_iter().map(|file| (file.name, file.bytes)).collect(),
        };
        Ok(Planned { plan, notices })
    }

    /// Lets every method of the adapter's type claim, and checks what they claimed.
    fn claim(&self, adapter: &Adapter, contents: &Contents, gathered: &mut Gathered) -> Vec<Claimed> {
        let refused = check_config(&adapter.config, self.ignored_fields);
        if !refused.is_empty() {
            gathered.errors.extend(refused);
            return Vec::new();
        }
        let family = families::of(&self.base.config);
        let mut claiming = Claiming::new(adapter, self.base, family);
        let peft_type = adapter.config.text("peft_type");
        for method in METHODS.iter().filter(|method| method.peft_type().is_none_or(|t| Some(t) == peft_type))
        {
            method.claim(&mut claiming);
        }
        let outcome = claiming.finish();
        let is_sound = outcome.errors.is_empty();
        gathered.errors.extend(outcome.errors);
        gathered.notices.extend(outcome.notices);
        gathered.errors.extend(check_contents(adapter, contents, is_sound.then_some(&outcome.claimed)));
        let adapted: Vec<&str> = outcome.claimed.iter().map(|claimed| claimed.module.as_str()).collect();
        if is_sound {
            gathered.errors.extend(check_targets(&adapter.config, &adapted, &self.base.catalogue));
        }
        outcome.claimed
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

    /// The base's index, with its size in bytes put right if it was wrong.
    fn index(&self) -> Option<(String, String)> {
        let (text, index) = self.base.index.as_ref()?;
        let total: u64 = self.base.catalogue.tensors.iter().map(|tensor| tensor.tensor.bytes()).sum();
        let content = match index.total_size == Some(total) {
            true => text.clone(),
            false => crate::formats::build_index(index, total),
        };
        Some(("model.safetensors.index.json".to_owned(), content))
    }
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
    fn add(&mut self, adapter: u32, claimed: Claimed, planner: &Planner<'_>) {
        let name = planner.base.catalogue.tensors[claimed.target].name.clone();
        let touched = self.touched.entry(claimed.target).or_default();
        let claim = ClaimId(self.claims.len() as u32);
        match claimed.effect {
            Effect::Add { placement, factors, scale, need } => {
                touched.ops.push(Op {
                    claim,
                    method: claimed.method.to_owned(),
                    placement,
                    factors,
                    scale,
                    need,
                });
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
}
