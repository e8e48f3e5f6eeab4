//! f16 through the x86 conversion instructions, the one place where intrinsics beat what the compiler makes.
//!
//! Both work on eight elements at a time, the rest goes through the portable body, and both round and treat NaN and
//! subnormals as it does: the instructions heed neither flush-to-zero nor denormals-are-zero.

use std::arch::x86_64::{
    __m128i, _MM_FROUND_TO_NEAREST_INT, _mm_add_epi16, _mm_and_si128, _mm_cmpeq_epi16, _mm_movemask_epi8,
    _mm_or_si128, _mm_set1_epi16, _mm_setzero_si128, _mm_srai_epi16, _mm_sub_epi16, _mm256_cvtph_ps,
    _mm256_cvtps_ph,
};

use bytemuck::cast;

use crate::kernels::convert;
use crate::kernels::convert::{F16_EXPONENT, RUN};
use crate::kernels::outcome::Narrowed;

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn widen_f16(bytes: &[u8], out: &mut [f32]) -> bool {
    let (codes, codes_tail) = bytes.as_chunks::<16>();
    let (outs, outs_tail) = out.as_chunks_mut::<8>();
    let mut carries = _mm_setzero_si128();
    for (codes, out) in codes.iter().zip(outs) {
        let codes: __m128i = cast(*codes);
        carries = _mm_or_si128(carries, carry(codes));
        *out = cast(_mm256_cvtph_ps(codes));
    }
    let tail_finite = convert::widen_f16(codes_tail, outs_tail);
    all_finite(carries) && tail_finite
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn narrow_f16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    let (values, values_tail) = values.as_chunks::<8>();
    let (codes, codes_tail) = bytes.as_chunks_mut::<16>();
    let mut carries = _mm_setzero_si128();
    let mut same = 0_u64;
    for (values, codes) in values.chunks(RUN).zip(codes.chunks_mut(RUN)) {
        let mut same_by_lane = _mm_setzero_si128();
        for (values, codes) in values.iter().zip(codes) {
            let old: __m128i = cast(*codes);
            let new = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(cast(*values));
            carries = _mm_or_si128(carries, carry(new));
            // A lane of the comparison is -1 where the codes agree; RUN rounds cannot overflow it.
            same_by_lane = _mm_sub_epi16(same_by_lane, _mm_cmpeq_epi16(old, new));
            *codes = cast(new);
        }
        same += cast::<__m128i, [u16; 8]>(same_by_lane).map(u64::from).iter().sum::<u64>();
    }
    let tail = convert::narrow_f16(values_tail, codes_tail);
    let changed = 8 * values.len() as u64 - same + tail.changed;
    Narrowed { finite: all_finite(carries) && tail.finite, changed }
}

/// Has the sign bit of each lane set where the code is infinite or NaN; see `convert.rs`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn carry(codes: __m128i) -> __m128i {
    _mm_add_epi16(_mm_and_si128(codes, _mm_set1_epi16(0x7fff)), _mm_set1_epi16(F16_EXPONENT as i16))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn all_finite(carries: __m128i) -> bool {
    _mm_movemask_epi8(_mm_srai_epi16::<15>(carries)) == 0
}
