//! IEEE half floats. Values above 65504 overflow, which the caller hears of as a value that is not finite.

/// F16, rounded to nearest even.
pub(crate) struct F16;

crate::encodings::plain::plain!(F16, "f16", F16, 2, widen_f16, narrow_f16);
