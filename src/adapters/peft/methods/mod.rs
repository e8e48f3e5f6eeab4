//! Options of single methods, typed: one file for each method that has any, one row in
//! [`MethodOptions`](method_options::MethodOptions).
//!
//! They are read once, when an adapter is opened. A claim sees these and never the config, so that another format can give
//! them too. What is wrong with a method's own fields is a [`Problem`](crate::adapters::problem::Problem) in their place: the
//! claim refuses it where the option would decide something.

pub(crate) mod bdlora;
pub(crate) mod ia3;
pub(crate) mod lora;
pub(crate) mod method_options;
pub(crate) mod oft;
pub(crate) mod settings;
pub(crate) mod tokens;
