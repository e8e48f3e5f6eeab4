//! Values of flags, read from what was typed.

use crate::error::Result;
use crate::error::request::RequestError;
use crate::tensor::size::Size;

pub(crate) fn usage(flag: &str, value: &str, accepted: impl Into<String>) -> crate::error::Error {
    RequestError::Usage { flag: flag.to_owned(), value: value.to_owned(), accepted: accepted.into() }.into()
}

pub(crate) fn read_size(flag: &str, text: &str) -> Result<Size> {
    Size::typed(text).map_err(|accepted| usage(flag, text, accepted))
}
