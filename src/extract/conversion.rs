//! An adapter of any method that adds, written as a plain LoRA of PEFT.

use regex::Regex;

use crate::checkpoint::catalogue::FileLayout;
use crate::checkpoint::discover::Checkpoint;
use crate::error::Result;
use crate::extract::extracted::Extracted;
use crate::extract::factored::{sketch_size, thread_bytes};
use crate::extract::factors::{FactoredModule, MatrixOf};
use crate::extract::parts::{begin_output, write};
use crate::extract::products::{are_products, product_bytes};
use crate::extract::selection::DifferenceSelection;
use crate::merge::deltas::{by_reason, open_deltas};
use crate::merge::request::Request;
use crate::merge::values::CheckpointValues;
use crate::model::heads::{is_head, is_lookup};
use crate::model::linear::is_stored_turned;
use crate::model::names::disk::Logicals;
use crate::model::names::name_tables::NameTables;
use crate::model::names::runtime::RuntimeNames;
use crate::plan::out_tensor::{Content, OutTensor, Plan};
use crate::report::event::Reporter;
use crate::storage::location::Location;
use crate::tensor::name::Name;

/// What is to be converted.
pub(crate) struct AdapterConversion {
    /// The rank of what is no product already; none if all is to be exact.
    pub(crate) rank: Option<usize>,
    /// Names of tensors that may be left out.
    pub(crate) skip: Vec<Regex>,
    /// Where the LoRA goes.
    pub(crate) output: Location,
}

/// Why a tensor is no part of a plain LoRA.
type NotPlain = &'static str;

impl AdapterConversion {
    /// Opens the one adapter of `request`, and names the tensors that are skipped.
    ///
    /// # Errors
    /// As [`open_deltas`].
    pub(crate) fn open(&self, request: &Request) -> Result<(CheckpointValues, Vec<Name>)> {
        let is_skipped = |name: &str| self.skip.iter().any(|pattern| pattern.is_match(name));
        let bytes = |plan: &Plan| plan.tensors().map(|tensor| self.thread_bytes(tensor)).max().unwrap_or(0);
        open_deltas(request, &is_skipped, &bytes)
    }

    /// What a thread takes that makes the factors of a tensor.
    fn thread_bytes(&self, tensor: &OutTensor) -> u64 {
        let (Some(size), Content::Compute { ops, .. }) =
            (sketch_size(&tensor.shape, self.rank.unwrap_or(1)), &tensor.content)
        else {
            return 0;
        };
        if are_products(ops, size) { product_bytes(ops, size) } else { thread_bytes(size) }
    }

    /// Writes what was opened as a LoRA.
    ///
    /// # Errors
    /// As [`by_reason`] for tensors that no plain LoRA adds to, and as [`write`].
    pub(crate) fn run(
        &self,
        (values, skipped): (&CheckpointValues, Vec<Name>),
        reporter: &mut dyn Reporter,
    ) -> Result<Extracted> {
        let fresh = begin_output(&self.output, values)?;
        let (base, weights) = &values.checkpoints[0];
        let disk = Logicals::of(&base.catalogue, weights);
        let name_tables = NameTables::new(&disk, &base.config);
        let names = RuntimeNames::new(&name_tables);
        let (mut modules, mut refused) = (Vec::new(), Vec::new());
        for (i, tensor) in values.tensors(0).iter().enumerate() {
            let position = weights.position(&base.catalogue, &tensor.name);
            // What the base has not, as a head that was untied, is called as the model calls it.
            let name = position.map_or_else(|| Some(tensor.name.to_string()), |place| names.parameter(place));
            match self.module(base, (i, tensor), name) {
                Ok(module) => modules.push(module),
                Err(why) => refused.push((tensor.name.clone(), why)),
            }
        }
        by_reason(&values.names[1], refused)?;
        let selection = DifferenceSelection { modules, skipped, ..DifferenceSelection::default() };
        write(values, selection, (fresh, &self.output), reporter)
    }

    /// The module of a tensor that the running model calls `name`.
    fn module(
        &self,
        base: &Checkpoint,
        (i, tensor): (usize, &OutTensor),
        name: Option<String>,
    ) -> std::result::Result<FactoredModule, NotPlain> {
        if base.catalogue.layout() == FileLayout::LlamaCpp {
            return Err("are those of a file of llama.cpp: name the checkpoint of transformers as the base");
        }
        let name = name.ok_or("are parts of a parameter that the model has fused")?;
        let path = name.strip_suffix(".weight").filter(|_| !is_lookup(&name));
        let path = path.ok_or("are no weights of linear layers or convolutions")?;
        let size = sketch_size(&tensor.shape, self.rank.unwrap_or(1));
        let size = size.ok_or("are no weights of linear layers or convolutions")?;
        let Content::Compute { ops, .. } = &tensor.content else { return Err("are replaced whole") };
        let of = if are_products(ops, size) {
            MatrixOf::Products(ops.iter().map(Clone::clone).collect())
        } else if self.rank.is_some() {
            MatrixOf::Values(vec![(0, i)])
        } else {
            return Err("get more than a product of two factors (`--rank R` looks for the best one)");
        };
        let [_, rest @ ..] = tensor.shape.axes() else { return Err("are no weights") };
        let axes = if rest.len() > 1 { rest.to_vec() } else { Vec::new() };
        let is_turned = axes.is_empty() && is_stored_turned(&base.config) && !is_head(&name);
        Ok(FactoredModule { path: path.to_owned(), of, size, axes, is_turned })
    }
}
