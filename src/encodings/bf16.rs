//! Brain floats: the high half of an `f32`.

/// BF16, rounded to nearest even.
pub(crate) struct Bf16;

crate::encodings::plain::plain!(Bf16, "bf16", BF16, 2, widen_bf16, narrow_bf16);
