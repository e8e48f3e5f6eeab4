//! Models whose modules are called on disk as they are when running.

use crate::checkpoint::Config;

use super::Family;

/// Plain names, linear layers as `[out, in]`.
pub(super) struct Plain;

impl Family for Plain {
    fn name(&self) -> &'static str {
        "plain names"
    }

    fn recognises(&self, _: &Config) -> bool {
        true
    }

    fn name_on_disk(&self, module: &str, parameter: &str) -> String {
        join(module, parameter)
    }

    fn stores_linear_transposed(&self) -> bool {
        false
    }
}

/// A parameter's name: its module's path, a dot, and its own; its own alone at the top.
pub(super) fn join(module: &str, parameter: &str) -> String {
    if module.is_empty() { parameter.to_owned() } else { format!("{module}.{parameter}") }
}
