//! Element types, as safetensors names them.

pub use safetensors::Dtype;

/// Bytes that `elements` of `dtype` take, or `None` if that overflows or is no whole number of bytes.
///
/// Sub-byte types (`F4`, `F6_*`) are counted in elements, not in packed bytes.
pub(crate) fn bytes_of(dtype: Dtype, elements: u64) -> Option<u64> {
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// Whether an adapter's delta can be added to elements of this type as they are: plain floats up to 32 bits.
pub(crate) fn is_mergeable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_checked() {
        assert_eq!(bytes_of(Dtype::BF16, 3), Some(6));
        assert_eq!(bytes_of(Dtype::F4, 4), Some(2));
        assert_eq!(bytes_of(Dtype::F4, 3), None, "one and a half bytes");
        assert_eq!(bytes_of(Dtype::F64, u64::MAX / 8), None, "overflows");
    }
}
