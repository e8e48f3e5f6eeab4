//! The plan of a pipeline: the plans of its components, each in the directory that it has there.
//!
//! A component is planned as a checkpoint by itself, by its own config and its own index, and knows nothing of the others. Here files and
//! claims are numbered anew, and names get the component's in front; nothing else changes.

use crate::error::{Error, Result};
use crate::ops::op::ClaimId;
use crate::plan::out_tensor::{
    AdapterUse, ClaimRecord, Content, CopiedFile, Input, OutHeader, OutShard, Plan, Role, SideFile,
    sort_copied,
};
use crate::plan::output_files::check_names;
use crate::tensor::name::Name;
use crate::tensor::reference::{FileId, TensorRef};

/// The plan of one component.
pub(crate) struct ComponentPlan {
    /// The directory that the component has in the pipeline.
    pub(crate) directory: String,
    /// What is done to it.
    pub(crate) plan: Plan,
    /// The numbers that its adapters have among all.
    pub(crate) adapters: Vec<u32>,
}

/// The plan of all components, and of files beside them.
///
/// # Errors
/// [`PlanError::NameTwice`](crate::error::plan::PlanError::NameTwice).
pub(crate) fn joined(parts: Vec<ComponentPlan>, beside: Vec<CopiedFile>) -> Result<Plan> {
    let numbers = FileNumbers::of(&parts);
    let mut whole = Plan { inputs: numbers.inputs(&parts), copied: beside, ..Plan::default() };
    let mut uses: Vec<Option<AdapterUse>> = vec![None; numbers.adapters.len()];
    for (i, part) in parts.into_iter().enumerate() {
        let files = numbers.of_part(i, &part);
        let ComponentPlan { directory, plan, adapters } = part;
        let within = |name: &str| format!("{directory}/{name}");
        let first_claim = whole.claims.len() as u32;
        whole.shards.extend(plan.shards.into_iter().map(|mut shard| {
            renumber(&mut shard, &files, first_claim);
            OutShard { name: within(&shard.name), ..shard }
        }));
        whole.claims.extend(plan.claims.into_iter().map(|claim| ClaimRecord {
            adapter: adapters[claim.adapter as usize],
            tensor: Name::from(format!("{directory}.{}", claim.tensor)),
            module: Name::from(format!("{directory}.{}", claim.module)),
            combined_in: claim.combined_in.map(|other| ClaimId(other.0 + first_claim)),
            ..claim
        }));
        let inside = |file: SideFile| SideFile { name: within(&file.name), ..file };
        whole.files.extend(plan.files.into_iter().map(inside));
        whole.copied.extend(plan.copied.into_iter().map(|file| CopiedFile {
            name: within(&file.name),
            beside: of_whole(file.beside, &adapters),
            ..file
        }));
        for choice in plan.choices {
            if !whole.choices.contains(&choice) {
                whole.choices.push(choice);
            }
        }
        for (&number, used) in adapters.iter().zip(plan.adapters) {
            uses[number as usize] = Some(used);
        }
        (whole.version, whole.sha256, whole.undo) = (plan.version, plan.sha256, plan.undo);
    }
    whole.adapters = uses.into_iter().flatten().collect();
    sort_copied(&mut whole.copied);
    Error::all(check_names(&whole.shards, &whole.files, &whole.copied, (whole.sha256, whole.undo)))?;
    Ok(whole)
}

/// The role among all of what has that one in a component.
fn of_whole(role: Role, adapters: &[u32]) -> Role {
    match role {
        Role::Adapter(i) => Role::Adapter(adapters[i as usize]),
        other => other,
    }
}

/// The numbers of files in the plan of all: bases come first, then every adapter once.
struct FileNumbers {
    /// The first file of each component's base.
    bases: Vec<u32>,
    /// The file of each adapter, by its number; none for one that no component has.
    adapters: Vec<Option<u32>>,
}

impl FileNumbers {
    fn of(parts: &[ComponentPlan]) -> FileNumbers {
        let (mut bases, mut next) = (Vec::new(), 0);
        for part in parts {
            bases.push(next);
            next += part.plan.inputs_of(Role::Base).len() as u32;
        }
        let used = || parts.iter().flat_map(|part| part.adapters.iter().copied());
        let count = used().max().map_or(0, |last| last + 1);
        let mut files = next..;
        let adapters =
            (0..count).map(|number| used().any(|other| other == number).then(|| files.next()).flatten());
        FileNumbers { bases, adapters: adapters.collect() }
    }

    /// What the files of a component are called among all, by their number in its plan.
    fn of_part(&self, i: usize, part: &ComponentPlan) -> Vec<FileId> {
        let number = |(own, input): (u32, &Input)| match input.role {
            Role::Adapter(k) => {
                let file = self.adapters[part.adapters[k as usize] as usize];
                FileId(file.expect("it is one of a component's"))
            }
            _ => FileId(self.bases[i] + own),
        };
        (0..).zip(&part.plan.inputs).map(number).collect()
    }

    fn inputs(&self, parts: &[ComponentPlan]) -> Vec<Input> {
        let mut all: Vec<Option<Input>> = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            for (FileId(file), input) in self.of_part(i, part).into_iter().zip(&part.plan.inputs) {
                let role = of_whole(input.role, &part.adapters);
                let name = match role {
                    Role::Adapter(_) => input.name.clone(),
                    _ => format!("{}/{}", part.directory, input.name),
                };
                let place = file as usize;
                all.resize(all.len().max(place + 1), None);
                all[place] = Some(Input { role, name, identity: input.identity.clone() });
            }
        }
        all.into_iter().flatten().collect()
    }
}

/// Gives a shard the numbers that files and claims have among all.
fn renumber(shard: &mut OutShard, files: &[FileId], first_claim: u32) {
    let of = |file: FileId| files[file.0 as usize];
    let at = |tensor: &mut TensorRef| tensor.file = of(tensor.file);
    let counted = |claim: &mut ClaimId| claim.0 += first_claim;
    if let OutHeader::Copied { from, .. } = &mut shard.header {
        *from = of(*from);
    }
    for tensor in &mut shard.tensors {
        match &mut tensor.content {
            Content::Copy { from, claim } => {
                at(from);
                claim.iter_mut().for_each(counted);
            }
            Content::Compute { start, claim, ops, form, .. } => {
                *start = start.in_files(&of);
                if let Some(form) = form {
                    **form = form.in_files(&of);
                }
                claim.iter_mut().for_each(counted);
                for op in ops {
                    counted(&mut op.claim);
                    op.factors.iter_mut().for_each(|factor| factor.for_each_tensor(at));
                }
            }
        }
    }
}
