//! What can be wrong with a file of `torch.save`.

use crate::formats::pytorch::{MAX_NAME_BYTES, MAX_PICKLE_BYTES};

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PytorchProblem {
    // The zip.
    #[error("its list of entries is not at its end, where a zip has it")]
    NoDirectory,
    #[error("its list of entries is broken at byte {at}")]
    Directory { at: u64 },
    #[error("it holds no `data.pkl`, which `torch.save` writes")]
    NoPickle,
    #[error("entry `{entry}` is compressed, which `torch.save` never does")]
    Compressed { entry: String },
    #[error("entry `{entry}` reaches beyond the file")]
    Entry { entry: String },
    #[error("its numbers are big-endian, little-endian ones are read")]
    BigEndian,

    // The form before it.
    #[error("it is a pickle, and does not begin as `torch.save` began files before torch 1.6")]
    NoMagic,
    #[error("it says version {found} of the form before torch 1.6, of which 1001 is read")]
    Version { found: i64 },
    #[error("its list of storages has `{key}` twice, or no tensor has it")]
    StorageKey { key: String },
    #[error("its storage `{key}` reaches beyond the file")]
    StorageCut { key: String },

    // The pickle.
    #[error("its pickle is {found} bytes long, at most {MAX_PICKLE_BYTES} are read")]
    TooLong { found: u64 },
    #[error("its pickle ends before it is whole")]
    End,
    #[error("its pickle has operation {found:#04x} at byte {at}, which no tensor needs and is not run")]
    Operation { found: u8, at: usize },
    #[error("its pickle asks for `{name}`, which is no part of a tensor and is not run")]
    Global { name: String },
    #[error("its pickle is broken at byte {at}")]
    Broken { at: usize },
    #[error("its pickle holds no dictionary of tensors")]
    NoTensors,

    // The tensors.
    #[error("`{name}` is there twice")]
    Twice { name: String },
    #[error("a tensor is under a key that is no text of at most {MAX_NAME_BYTES} bytes")]
    NoName,
    #[error("tensor `{name}` is in storage `{key}`, which the file does not hold")]
    NoStorage { name: String, key: String },
    #[error("tensor `{name}` reaches beyond its storage")]
    BeyondStorage { name: String },
    #[error("tensor `{name}` is of type `{found}`, which is not read")]
    Type { name: String, found: &'static str },
    #[error(
        "tensor `{name}` is a view whose rows do not follow each other: call `.contiguous()` before it is saved"
    )]
    Strided { name: String },
    #[error(
        "tensors `{first}` and `{second}` share some of their bytes: call `.clone()` on one before it is saved"
    )]
    Shared { first: String, second: String },
}
