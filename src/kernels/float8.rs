//! Numbers of eight bits: E4M3, whose codes are weights, and E8M0, whose codes are scales.
//!
//! - **E4M3** (`F8_E4M3`, the kind called `fn`): sign, four bits of exponent, three of mantissa, as in IEEE 754 but for the
//!   largest exponent, which holds numbers too. The largest is 448; 0x7f and 0xff are NaN; there is no infinity.
//! - **E8M0** (`F8_E8M0`): the power of two 2^(code − 127), without sign or zero. 0xff is NaN.

/// The value of every E4M3 code. A NaN is quiet and keeps sign and mantissa.
pub(crate) static E4M3: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = e4m3_to_f32(code as u8);
        code += 1;
    }
    values
};

const fn e4m3_to_f32(code: u8) -> f32 {
    let exponent = (code >> 3) & 0x0f;
    let mantissa = (code & 0x07) as f32;
    let magnitude = match (exponent, code & 0x07) {
        (15, 7) => f32::from_bits(0x7ff0_0000),
        (0, _) => mantissa * power_of_two(-9),
        (_, _) => (8.0 + mantissa) * power_of_two(exponent as i32 - 10),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// 2 to the power of a normal f32's exponent.
pub(crate) const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The least integer that is not below the base 2 logarithm of `value`, from its bits: what a computed logarithm can miss
/// beside a power of two. Nothing unless `value` is positive and finite.
///
/// From −149 for the smallest subnormal to 128, which is one more than E8M0 can hold.
///
/// ```
/// use shardfold::testing::ceil_log2;
///
/// assert_eq!(ceil_log2(4.0), Some(2));
/// assert_eq!(ceil_log2(4.0_f32.next_up()), Some(3));
/// assert_eq!(ceil_log2(0.0), None);
/// ```
pub fn ceil_log2(value: f32) -> Option<i32> {
    if !(value > 0.0 && value.is_finite()) {
        return None;
    }
    let bits = value.to_bits();
    let (exponent, mantissa) = ((bits >> 23) as i32, bits & 0x007f_ffff);
    Some(match exponent {
        0 => (32 - (mantissa - 1).leading_zeros() as i32) - 149,
        _ => exponent - 127 + i32::from(mantissa != 0),
    })
}
