//! [`RuntimeNames`]: what the running model calls the tensors of a checkpoint, as it is loaded today.

use std::rc::Rc;

use crate::model::names::disk::Disk;
use crate::model::names::name_table::NameTable;
use crate::model::names::name_tables::NameTables;
use crate::model::names::param_slice::StoredSlice;

/// The names after all rules of the checkpoint's class.
pub(crate) struct RuntimeNames<'a> {
    disk: &'a dyn Disk,
    table: Rc<NameTable<'a>>,
}

impl<'a> RuntimeNames<'a> {
    /// Those of the likeliest class.
    pub(crate) fn new(name_tables: &NameTables<'a>) -> RuntimeNames<'a> {
        let table = name_tables.list().iter().position(|table| table.is_all).unwrap_or(0);
        RuntimeNames { disk: name_tables.disk, table: name_tables.get(table) }
    }

    /// The parameter that the tensor at a place is, all of it and as it is stored; none for one of which the model has a part, or that is
    /// a part of something.
    pub(crate) fn parameter(&self, place: usize) -> Option<String> {
        let (stored, shape) = self.disk.weight(place)?;
        let renamed = self.table.rules().apply(&stored);
        if renamed.converted.is_some() {
            return None;
        }
        let parameter = self.table.parameter(&renamed.name)?;
        let [StoredSlice { tensor, slice }] = parameter.slices.as_slice() else { return None };
        let is_itself = *tensor == place && slice.is_whole(shape.axes()) && parameter.shape == shape.axes();
        is_itself.then(|| renamed.name.into_owned())
    }
}
