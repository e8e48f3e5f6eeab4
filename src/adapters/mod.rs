//! Adapters: a PEFT folder's config and tensors, and the methods that turn its tensors into ops.
//!
//! [`Adapter`] is a folder as it is; [`keys`] is the grammar of its tensors' names. A [`Method`] claims the tensors it
//! knows, through a [`Claiming`] that also finds the base tensors they mean, and later applies its ops to tiles. One file
//! per method and one row in [`METHODS`].

pub(crate) mod claim;
pub(crate) mod foreign;
pub(crate) mod peft;
pub(crate) mod scan;
