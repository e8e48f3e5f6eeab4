//! Single floats, as they are.

/// F32.
pub(crate) struct F32;

crate::encodings::plain::plain!(F32, "f32", F32, 4, widen_f32, narrow_f32);
