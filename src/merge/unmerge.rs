//! A merge that is taken back: from the directory that it made, and the adapters that it took.
//!
//! The plan is that of merging the same adapters into the merged checkpoint, inverted: headers and adapters are all that planning
//! looks at, and they are those of the merge. `shardfold.undo` puts right what arithmetic does not give, and has the hashes by
//! which the result is known for the base.

use std::sync::Arc;

use crate::checkpoint::tokenizer::TokenizerChoice;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::verify::VerifyError;
use crate::error::{Error, Result};
use crate::merge::request::Request;
use crate::note::run::RunNote;
use crate::plan::build::Planned;
use crate::plan::out_tensor::{AdapterUse, Input, Plan, Role};
use crate::plan::output_files::UNDO;
use crate::publish::difference::choices;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::location::Location;
use crate::storage::store::Store;
use crate::undo::file::UndoFile;

/// What the result was made with, where there was something by which it becomes the base's bytes.
const EXACT: &str = "the merge of the adapters is taken back, by `shardfold.undo`";
/// The same where there was nothing.
const BY_ARITHMETIC: &str = "the merge of the adapters is taken back, by arithmetic alone (--inexact)";

/// A merged directory that is to become its base.
pub(crate) struct MergedDir<'m> {
    dir: &'m Location,
    record: Provenance,
}

impl<'m> MergedDir<'m> {
    /// The merged directory `dir`, if `request` is to take its merge back.
    ///
    /// # Errors
    /// [`VerifyError::NoRecord`] and [`VerifyError::UnreadableRecord`]; [`RequestError::Required`] and [`RequestError::OtherAdapters`] for
    /// other adapters by their number; [`RequestError::Usage`] for a part.
    pub(crate) fn of(request: &Request, dir: &'m Location) -> Result<Option<MergedDir<'m>>> {
        if let (true, Some(part)) = (request.keep_undo || request.unmerge, request.part) {
            let accepted = "what undoes a merge is written, and used, by one process alone";
            return Err(RequestError::Usage { flag: "--part", value: part.to_string(), accepted }.into());
        }
        if !request.unmerge {
            return Ok(None);
        }
        let record = Provenance::read(dir)?.ok_or_else(|| no_record(dir))?;
        let merged = listed(&record.adapters);
        if request.adapters.is_empty() && !record.adapters.is_empty() {
            let error = Error::new(RequestError::Required { flag: "--adapter <DIR|NAME>" });
            return Err(error.hint(format!("`{}` has {merged} merged", dir.path().display())));
        }
        if request.adapters.len() != record.adapters.len() {
            let given = format!("{} adapters are", request.adapters.len());
            let error = Error::new(RequestError::OtherAdapters { path: dir.path(), merged, given });
            return Err(error.hint("give the same adapters in the same order"));
        }
        Ok(Some(MergedDir { dir, record }))
    }

    /// What is asked for, with the weights that the adapters were merged with. Files beside the weights stay as they are.
    pub(crate) fn request(&self, request: &Request) -> Request {
        let weights = self.record.adapters.iter().map(|adapter| adapter.weight.clone());
        let adapters = request.adapters.iter().map(|(origin, _)| origin.clone());
        Request {
            adapters: adapters.zip(weights).collect(),
            tokenizer: TokenizerChoice::Base,
            sha256: request.sha256 || self.record.checksums.is_some(),
            allow_noop: true,
            ..request.clone()
        }
    }

    /// The plan that takes back what `planned` would merge once more, and what puts its tiles right.
    ///
    /// # Errors
    /// [`VerifyError::OtherAdapter`] and [`VerifyError::OtherFlags`]; as [`Plan::inverse`] and [`UndoFile::open`];
    /// [`StorageError::Missing`] where there is no undo file.
    pub(crate) fn take_back(
        self,
        request: &Request,
        planned: Planned,
    ) -> Result<(Planned, Option<UndoFile>)> {
        let Planned { plan, notes, mut decisions, .. } = planned;
        self.check_same(&plan)?;
        let is_exact = self.dir.has_file(UNDO)?;
        if !is_exact && !request.inexact {
            let error = Error::new(StorageError::Missing { what: "undo file", path: self.dir.path_of(UNDO) });
            return Err(error.hint(
                "`merge --keep-undo` writes one; `--inexact` goes without, which leaves about one weight in a hundred off by a \
                 rounding",
            ));
        }
        let mut plan = plan.inverse(is_exact)?;
        let undo = UndoFile::open((self.dir, UNDO), (&plan, &self.record.plan), &request.cancel)?;
        plan.choices.push(match &undo {
            Some(undo) => format!("{EXACT} ({})", undo.hash),
            None => BY_ARITHMETIC.to_owned(),
        });
        if undo.is_none() {
            decisions.push(RunNote::InexactUndo { output: self.dir.to_string() }.into());
        }
        let digest = plan.digest();
        Ok((Planned { plan: Arc::new(plan), digest, notes, decisions }, undo))
    }

    /// Fails unless the adapters are those that were merged, with the same flags.
    fn check_same(&self, plan: &Plan) -> Result<()> {
        let mut errors = Vec::new();
        for (i, (merged, given)) in self.record.adapters.iter().zip(&plan.adapters).enumerate() {
            let other = |what, found: &str, expected: &str| {
                let (given, merged) = (given.name.clone(), merged.name.clone());
                let [found, expected] = [found, expected].map(str::to_owned);
                let error = VerifyError::OtherAdapter { given, merged, what, found, expected };
                Error::new(error).hint("give the adapters that were merged, in the same order")
            };
            if merged.config != given.config {
                errors.push(other("its config", &given.config, &merged.config));
            }
            let of = |inputs: &[Input]| {
                let own = inputs.iter().find(|input| input.role == Role::Adapter(i as u32));
                own.map(|input| input.identity.content.clone()).unwrap_or_default()
            };
            let (found, expected) = (of(&plan.inputs), of(&self.record.inputs));
            if found != expected {
                errors.push(other("its file", &found, &expected));
            }
        }
        Error::all(errors)?;
        let Some(difference) = choices(&self.record.choices, &plan.choices) else { return Ok(()) };
        let error = Error::new(VerifyError::OtherFlags { path: self.dir.path(), difference });
        Err(error.hint("repeat the flags of the merge"))
    }
}

fn no_record(dir: &Location) -> Error {
    let path = dir.path();
    match dir.has_file(PROVENANCE) {
        Ok(true) => VerifyError::UnreadableRecord { path }.into(),
        Ok(false) => VerifyError::NoRecord { path }.into(),
        Err(error) => error,
    }
}

/// Adapters with their weights, for a message.
fn listed(adapters: &[AdapterUse]) -> String {
    let each = adapters.iter().map(|adapter| format!("`{}` (weight {})", adapter.name, adapter.weight));
    each.collect::<Vec<_>>().join(", ")
}
