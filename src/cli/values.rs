//! Values of flags, read from what was typed.

use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::tensor::size::Size;

pub(crate) fn usage(flag: &'static str, value: &str, accepted: &'static str) -> Error {
    RequestError::Usage { flag, value: value.to_owned(), accepted }.into()
}

pub(crate) fn read_size(flag: &'static str, text: &str) -> Result<Size> {
    Size::typed(text).map_err(|accepted| usage(flag, text, accepted))
}
