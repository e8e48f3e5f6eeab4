//! From a checkpoint and adapters to a plan: every rule claims, everything is checked, the claims become output tensors.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::adapters::adapter::Adapter;
use crate::adapters::claim::claims::{CLAIMS, reads};
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::{ClaimReport, Findings};
use crate::adapters::peft::promises::check::check_promises;
use crate::adapters::scan::Contents;
use crate::checkpoint::catalogue::FileLayout;
use crate::checkpoint::quantized::Weights;
use crate::checkpoint::side_files::{SideFiles, is_beside, side_files};
use crate::encodings::schemes;
use crate::error::path_reading::PathReading;
use crate::error::{Error, Result};
use crate::model::names::disk::Logicals;
use crate::model::names::lookup::Names;
use crate::model::names::name_tables::NameTables;
use crate::note::Note;
use crate::note::names::NameNote;
use crate::note::plan::PlanNote;
use crate::storage::store::Entry;

use crate::checkpoint::identity::Identity;
use crate::model::outline::{Outline, Target};
use crate::plan::check::{check_config, check_dubious, check_encodings, check_stored, check_vocabulary};
use crate::plan::claim_set::ClaimSet;
use crate::plan::config_file;
use crate::plan::decisions::decisions;
use crate::plan::layout::OutputLayout;
use crate::plan::links;
use crate::plan::original::Originals;
use crate::plan::out_content::TensorEdits;
use crate::plan::out_form::{OutForm, ShardCut};
use crate::plan::out_tensor::{AdapterUse, CopiedFile, Input, OutShard, Plan, Role, SideFile, sort_copied};
use crate::plan::output_files::{SUMS, check_names};
use crate::plan::planner::Planner;
use crate::plan::side_files::{self, OutIndex};
use crate::plan::tokenizer;

/// A plan, and what is worth saying about it.
pub(crate) struct Planned {
    /// The plan, which nobody changes any more: it is what its digest says.
    pub plan: Arc<Plan>,
    /// The plan's digest.
    pub digest: String,
    /// Things worth saying that are no errors.
    pub notes: Vec<Note>,
    /// What was decided beyond adding deltas, which the plan tells by itself.
    pub decisions: Vec<Note>,
}

/// The output: its shards, the small files made for it, and those that are copied.
#[derive(Default)]
struct OutputContents {
    shards: Vec<OutShard>,
    files: Vec<SideFile>,
    copied: Vec<CopiedFile>,
    /// What is noted of side files, of the base and of adapters.
    notes: Vec<Note>,
}

impl Planner<'_> {
    /// Makes the plan, or says everything that is wrong. `contents` is asked what each adapter's file holds when all that
    /// headers tell is done, so that the files can be read meanwhile.
    ///
    /// # Errors
    /// Every reason to refuse, together; what `contents` fails with.
    pub(crate) fn plan(&self, contents: impl FnOnce() -> Result<Vec<Contents>>) -> Result<Planned> {
        let (mut weights, mut errors) = Weights::of(self.base);
        if self.keep_quantized {
            weights.keep_as_stored();
        }
        let in_training = self.see_in_training(&mut weights).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        errors.extend(self.needless_original(&weights));
        let of_original = self.weights_of_original(&mut errors);
        let form = self.out_form((&weights, of_original.as_ref()), &mut errors);
        let mut claim_set = ClaimSet { notes: self.base.notes.clone(), errors, ..ClaimSet::default() };
        let of_weights = weights.stale().cloned().into_iter().chain(weights.turned());
        claim_set.notes.extend(of_weights.map(Note::from));
        let disk = Logicals::of(&self.base.catalogue, &weights);
        let mut name_tables = NameTables::new(&disk, &self.base.config);
        let mut outline = Outline::new(self.base, &weights, self.tied);
        for i in 0..self.adapters.len() {
            let (claimed, is_sound, claimed_on) = self.claim(i, &mut name_tables, &mut claim_set, outline);
            outline = claimed_on;
            claim_set.add_all(i as u32, claimed, is_sound, (self, &outline));
            claim_set.refuse_overlaps(i as u32, &outline);
        }
        if let Some(combination) = &self.combination {
            claim_set.combine(combination, (self, &outline));
        }
        self.check(&mut claim_set, &mut outline);
        // What the headers show to be wrong does not wait for the files.
        Error::all(std::mem::take(&mut claim_set.errors))?;
        // The output is laid out while the files are still read.
        let output =
            self.lay_out(&outline, std::mem::take(&mut claim_set.edits), (of_original.as_ref(), form));
        let contents = contents()?;
        let shards = output.as_ref().map_or(&[][..], |output| &output.shards);
        claim_set.check_contents(self, &contents, shards);
        let ClaimSet { claims, skipped, errors, mut notes, .. } = claim_set;
        Error::all(errors)?;
        let OutputContents { shards, files, copied, notes: of_files } = output?;
        notes.extend(of_files);
        let decisions = decisions(&outline, &shards, (self, form.cast), in_training);
        let plan = Plan {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            inputs: self.inputs(&contents),
            adapters: self.adapters.iter().map(used).collect(),
            choices: [texts(&decisions), self.experts(), skipped].concat(),
            shards,
            claims,
            copied,
            files,
            sha256: self.sha256,
            undo: self.keep_undo,
            is_inverse: false,
        };
        let digest = plan.digest();
        let decisions = decisions.into_iter().map(Note::from).collect();
        Ok(Planned { plan: Arc::new(plan), digest, notes, decisions })
    }

    /// What one adapter claims, whether that had nothing to refuse, and what it is claimed on.
    fn claim<'o>(
        &'o self,
        i: usize,
        name_tables: &mut NameTables<'o>,
        claim_set: &mut ClaimSet,
        outline: Outline<'o>,
    ) -> (Vec<ClaimedModule>, bool, Outline<'o>) {
        let adapter = &self.adapters[i];
        self.check_origin(adapter, claim_set);
        let names = self.names(adapter, name_tables);
        // Names keep the sets that they are read by, and the others are a tenth of what planning holds.
        if i + 1 == self.adapters.len() {
            name_tables.forget();
        }
        match names {
            Ok(names) => claim(adapter, names, claim_set, outline),
            Err(errors) => {
                claim_set.errors.extend(errors);
                claim_set.head_follows.push(false);
                claim_set.trains_as_one.push(false);
                (Vec::new(), false, outline)
            }
        }
    }

    /// Unties heads, and checks what all adapters come to.
    fn check(&self, claim_set: &mut ClaimSet, outline: &mut Outline<'_>) {
        claim_set.untie_head(outline);
        match claim_set.untie_stored_head(outline) {
            Ok(note) => {
                claim_set.skipped.extend(note.as_ref().map(Note::to_string));
                claim_set.notes.extend(note);
            }
            Err(error) => claim_set.errors.push(error),
        }
        claim_set.errors.extend(check_vocabulary(outline));
        claim_set.errors.extend(check_stored(outline, |target| claim_set.edits.contains_key(&target)));
        let is_decoded = |place| !self.keep_quantized || claim_set.edits.contains_key(&Target::Base(place));
        let dubious = check_dubious(outline, is_decoded);
        claim_set.errors.extend(dubious);
        if !self.keep_quantized {
            claim_set.errors.extend(check_encodings(outline));
        }
    }

    /// What the output consists of.
    fn lay_out(
        &self,
        outline: &Outline<'_>,
        edits: BTreeMap<Target, TensorEdits>,
        (of_original, form): (Option<&Weights>, OutForm),
    ) -> Result<OutputContents> {
        let files_before = self.base.catalogue.shards.len() + self.adapters.len();
        let originals = self.original.zip(of_original);
        let originals =
            originals.map(|(checkpoint, weights)| Originals { checkpoint, weights, files_before });
        let (keep_quantized, fresh_scales) = (self.keep_quantized, self.fresh_scales);
        let shards =
            OutputLayout { outline, edits, keep_quantized, originals, fresh_scales, form }.shards()?;
        let is_decoded = outline.weights.any() && !self.keep_quantized;
        let is_unexplained = is_decoded || outline.weights.stale().is_some();
        let index = match form.cut {
            ShardCut::AsBase => side_files::index(outline, &shards),
            ShardCut::Anew(_) => side_files::split_index(outline, &shards, keep_quantized),
            ShardCut::ChangedOnly(_) => Some(side_files::changed_index(outline, &shards)),
        };
        let (kept_index, index) = match index {
            None => (None, None),
            Some(OutIndex::Same(index)) => (Some(index), None),
            Some(OutIndex::Made(index)) => (None, Some(index)),
        };
        let config = config_file::config(outline, self.adapters, is_decoded, form.cast);
        let files: Vec<_> = index.into_iter().chain(config).collect();
        let is_left = |name: &str| {
            files.iter().any(|file| file.name == name)
                || self.sha256 && name == SUMS
                || is_unexplained && schemes::is_side_file(name)
        };
        let mut notes = Vec::new();
        let mut copied = self.copied(&mut notes)?;
        tokenizer::choose(self.tokenizer, outline, self.adapters, &mut copied, &mut notes)?;
        copied.retain(|file| !is_left(&file.name));
        if matches!(form.cut, ShardCut::ChangedOnly(_)) {
            // It is laid over the base, which has its own.
            copied.retain(|file| file.beside != Role::Base);
        }
        links::leave_out(self, &mut copied, &mut notes)?;
        copied.extend(kept_index);
        sort_copied(&mut copied);
        Error::all(check_names(&shards, &files, &copied, (self.sha256, self.keep_undo)))?;
        Ok(OutputContents { shards, files, copied, notes })
    }

    /// The files that are copied: those beside the base's shards, and the side files of adapters, of the last that has any.
    fn copied(&self, notes: &mut Vec<Note>) -> Result<Vec<CopiedFile>> {
        let by = |beside: Role| move |Entry { name, bytes, .. }: Entry| CopiedFile { name, bytes, beside };
        let shards = &self.base.catalogue.shards;
        let shards: HashSet<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        let is_shard = |name: &str| shards.contains(name);
        // A file that says all of a model by itself has nothing beside it.
        let SideFiles { copied, notes: of_files } = if self.base.catalogue.layout() != FileLayout::Library {
            SideFiles::default()
        } else {
            side_files(&self.base.location, is_shard)?
        };
        notes.extend(of_files);
        let mut all: Vec<CopiedFile> = copied.into_iter().map(by(Role::Base)).collect();
        for (i, adapter) in self.adapters.iter().enumerate() {
            let own = adapter.side_files()?;
            let Some(Entry { name, .. }) = own.first() else { continue };
            let (file, adapter) = (name.clone(), adapter.name.clone());
            notes.push(PlanNote::AdapterFileCopied { file, adapter }.into());
            all.retain(|file| !is_beside(&file.name));
            all.extend(own.into_iter().map(by(Role::Adapter(i as u32))));
        }
        sort_copied(&mut all);
        Ok(all)
    }

    /// Where the parameters that an adapter names are on disk, if its config is one that is merged.
    fn names<'o>(
        &'o self,
        adapter: &'o Adapter,
        name_tables: &NameTables<'o>,
    ) -> std::result::Result<Names<'o>, Vec<Error>> {
        let refused = check_config(adapter, self.ignored_fields);
        if !refused.is_empty() {
            return Err(refused);
        }
        adapter.names(name_tables).map_err(|error| vec![error])
    }

    /// What the user said of experts, each once.
    fn experts(&self) -> Vec<String> {
        let mut decisions: Vec<String> =
            self.adapters.iter().flat_map(|adapter| adapter.experts.decisions()).collect();
        decisions.sort_unstable();
        decisions.dedup();
        decisions
    }

    /// The files the plan reads: the base's shards, then each adapter's, as their [`crate::tensor::reference::FileId`]s count.
    fn inputs(&self, contents: &[Contents]) -> Vec<Input> {
        let shards = self.base.catalogue.shards.iter();
        let [of_base, of_original] = self.roles();
        let base = shards.map(|shard| Input {
            role: of_base,
            name: shard.name.clone(),
            identity: shard.identity.clone(),
        });
        let adapters = self.adapters.iter().zip(contents).enumerate();
        let adapters = adapters.map(|(i, (adapter, contents))| Input {
            role: Role::Adapter(i as u32),
            name: adapter.file.clone(),
            identity: Identity {
                bytes: adapter.source.len(),
                header: adapter.header_hash.clone(),
                content: contents.hash.clone(),
            },
        });
        let originals = self.original.iter().flat_map(|original| &original.catalogue.shards);
        let originals = originals.map(|shard| Input {
            role: of_original,
            name: shard.name.clone(),
            identity: shard.identity.clone(),
        });
        base.chain(adapters).chain(originals).collect()
    }
}

/// Lets every rule for the adapter's type claim.
fn run_claims(mut context: ClaimContext<'_>) -> (ClaimReport, Names<'_>, Outline<'_>) {
    let mut findings = Findings::new(&context);
    for claim in CLAIMS.iter().filter(|claim| reads(**claim, &context.adapter.kind)) {
        claim.claim(&mut context, &mut findings);
    }
    let report = findings.report(&context);
    let ClaimContext { outline, names, .. } = context;
    (report, names, outline)
}

/// Lets every rule for the adapter's type claim, and checks what they claimed; says whether they had nothing to refuse.
fn claim<'o>(
    adapter: &'o Adapter,
    names: Names<'o>,
    claim_set: &mut ClaimSet,
    outline: Outline<'o>,
) -> (Vec<ClaimedModule>, bool, Outline<'o>) {
    let note = |reading: &PathReading| {
        NameNote::Resolved { adapter: adapter.name.clone(), reading: reading.clone() }.into()
    };
    claim_set.notes.extend(names.readings().iter().map(note));
    let (report, names, outline) = run_claims(ClaimContext::new(adapter, outline, names));
    let is_sound = report.errors.is_empty();
    claim_set.errors.extend(report.errors);
    claim_set.notes.extend(report.notes);
    claim_set.head_follows.push(report.head_follows);
    claim_set.trains_as_one.push(report.trains_as_one);
    claim_set.skipped.extend(report.skipped.iter().map(|key| {
        format!("`{key}` of `{}` was skipped: it matches no base tensor (--allow-unmatched)", adapter.name)
    }));
    if is_sound {
        let promised = check_promises(adapter, &report.claimed, &names, &outline);
        claim_set.errors.extend(promised.errors);
        claim_set.notes.extend(promised.notes);
        claim_set.skipped.extend(promised.choices);
    }
    (report.claimed, is_sound, outline)
}

fn texts(decisions: &[PlanNote]) -> Vec<String> {
    decisions.iter().map(ToString::to_string).collect()
}

fn used(adapter: &Adapter) -> AdapterUse {
    AdapterUse {
        name: adapter.name.clone(),
        weight: adapter.weight.clone(),
        peft_type: adapter.kind.clone(),
        config: adapter.config_hash.clone(),
    }
}
