//! One way in which an adapter's paths are read, in use: the parameters of the running model that it was trained on, and what
//! the adapter calls them.

use std::borrow::Cow;

use crate::model::names::disk::Disk;
use crate::model::names::interpretation::NameMapping;
use crate::model::names::lookup::Names;
use crate::model::names::name_table::{NameTable, each_own_name};

/// A set of names, and how an adapter's paths become such names.
pub(crate) struct Reading<'n> {
    disk: &'n dyn Disk,
    name_table: &'n NameTable<'n>,
    mapping: &'n NameMapping,
}

impl Names<'_> {
    /// Those in use: one, but for adapters that mix.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = Reading<'_>> {
        let of = |(name_table, mapping)| Reading { disk: self.disk(), name_table, mapping };
        self.interpretations().map(of)
    }

    /// Whether the checkpoint has a module or a parameter that the adapter calls `path`, in whatever form.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.in_use().any(|reading| reading.name_table.fits(&reading.read(path)).is_some())
    }
}

impl Reading<'_> {
    /// The model's name of what the adapter calls `path`.
    pub(crate) fn read<'p>(&self, path: &'p str) -> Cow<'p, str> {
        self.mapping.read(path, self.name_table.rules())
    }

    /// What the adapter calls a name of the model; none if the model that it was trained on has no such parameter.
    pub(crate) fn spelt<'p>(&self, name: &'p str) -> Option<Cow<'p, str>> {
        self.mapping.spelt(name)
    }

    /// Calls `then` with every parameter of the model by its name, and the number of its axes; one that is stored as several
    /// tensors comes once for each.
    pub(crate) fn each_parameter(&self, then: impl FnMut(&str, usize)) {
        each_own_name(self.disk, self.name_table.rules(), then);
    }
}
