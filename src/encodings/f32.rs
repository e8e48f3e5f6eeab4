//! Single floats, as they are.

/// F32.
pub(super) struct F32;

super::plain::plain!(F32, "f32", F32, 4, widen_f32, narrow_f32);
