//! Targets: the base tensor that an adapter's tensors are for, or the record of why there is none.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::locate::join;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::model::heads::is_head;
use crate::model::outline::Target;

impl ClaimContext<'_> {
    /// The tensor of a parameter, for something to be put in its place; what does not match is recorded.
    pub(crate) fn place(
        &mut self,
        findings: &mut Findings<'_>,
        tensors: &[usize],
        module: &str,
        parameter: &str,
    ) -> Option<Target> {
        if let Some(target) = self.lookup(module, parameter) {
            return Some(target);
        }
        let name = join(module, parameter);
        if let Some(why) = self.unreadable(module, parameter) {
            findings.refuse(ClaimError::Converted { parameter: name, why }.into());
            return None;
        }
        if let Some(error) = self.quantized_elsewhere(module, &name) {
            findings.refuse(error);
            return None;
        }
        if is_head(&name)
            && let Some(target) = self.outline.head_target(&name)
        {
            return target.map_err(|error| findings.refuse(error)).ok();
        }
        findings.unmatched(tensors, &name);
        None
    }

    /// The same, for its values to be changed: they must be plain numbers, or quantized data of a known encoding.
    pub(crate) fn target(
        &mut self,
        findings: &mut Findings<'_>,
        tensors: &[usize],
        module: &str,
        parameter: &str,
    ) -> Option<Target> {
        let target = self.place(findings, tensors, module, parameter)?;
        match self.unchangeable(target) {
            Some(error) => {
                findings.refuse(error);
                None
            }
            None => Some(target),
        }
    }

    /// Why a target's values cannot be changed, if they cannot.
    fn unchangeable(&self, target: Target) -> Option<Error> {
        let weight = self.outline.weight(target);
        if let Some(error) = self.quantized(target, &weight.name) {
            return Some(error);
        }
        if weight.is_known {
            return None;
        }
        let error =
            Error::new(ClaimError::TargetDtype { tensor: weight.name.to_string(), found: weight.dtype });
        Some(error.hint("only BF16, F16 and F32 tensors can be merged into"))
    }
}
