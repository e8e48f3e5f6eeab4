//! The type in which a result's floats are written where a flag says it (`--dtype`): the one place that decides it.

use crate::checkpoint::catalogue::FileLayout;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::plan::planner::Planner;
use crate::tensor::dtype::{Dtype, is_mergeable};

/// The flag that asks for it.
const FLAG: &str = "--dtype";
/// What it accepts, and what the types are called.
const NAMED: &[(&str, Dtype)] = &[("bf16", Dtype::BF16), ("f16", Dtype::F16), ("f32", Dtype::F32)];

/// The type that all plain floats of a result are written in, if one is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CastType(Option<Dtype>);

impl CastType {
    /// The type of an output tensor that would be of this one otherwise. Whole numbers stay, and so do floats that no sum is
    /// rounded to: F64, whose values f32 does not hold, and those of 8 bits, which say little without a scale.
    pub(crate) fn of(self, dtype: Dtype) -> Dtype {
        self.0.filter(|_| is_mergeable(dtype)).unwrap_or(dtype)
    }

    /// The type that is asked for.
    pub(crate) fn asked(self) -> Option<Dtype> {
        self.0
    }
}

impl Planner<'_> {
    /// The type that is asked for, if one is.
    ///
    /// # Errors
    /// [`RequestError::Usage`] for no type, and where something else decides types.
    pub(crate) fn cast_type(&self) -> Result<CastType> {
        let Some(text) = self.dtype else { return Ok(CastType::default()) };
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, dtype)| *dtype);
        let refused = |accepted| -> Error {
            RequestError::Usage { flag: FLAG, value: text.to_owned(), accepted }.into()
        };
        match named {
            None => Err(refused("`bf16`, `f16` or `f32` is accepted")),
            Some(_) if self.types.is_some() => {
                Err(refused("the types of a file of llama.cpp are set by `--gguf-type`"))
            }
            Some(_) if self.base.catalogue.layout() == FileLayout::LlamaCpp => {
                Err(refused("the base is a GGUF file, whose tensors keep the types that they have"))
            }
            Some(_) if self.keep_quantized => Err(refused(
                "with `--keep-quantized` or `--base16` weights keep the types that they are stored in",
            )),
            Some(dtype) => Ok(CastType(Some(dtype))),
        }
    }
}
