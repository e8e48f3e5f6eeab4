//! Adapters of image models: one file of tensors, whose names begin with the component of the pipeline that they are for.
//!
//! [`keys`] knows what trainers call components and factors, [`file`] reads the file, [`own_tails`] what a factor is beside the others of its module,
//! [`scales`] what each module is multiplied by, and [`meet`] finds out which component a base is, as no file says which module a name like
//! `down_blocks_0_attentions_0` is; it spells the base's modules by their original names, too.

pub(crate) mod directories;
pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod meet;
pub(crate) mod own_tails;
pub(crate) mod scales;
