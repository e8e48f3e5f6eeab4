//! The types of blocks that ggml has, in the order of its numbers for them. A type of its own is a row here.

use crate::encodings::ggml::blocks::Ggml;
use crate::encodings::ggml::code_layout::{BitField, CodeLayout, IQ4, TWICE_E2M1};
use crate::encodings::ggml::open_block::OpenBlock;
use crate::encodings::ggml::{grid_blocks, new_k, new_simple, scales};
use crate::tensor::dtype::Dtype;

/// 32 values: `d`, 4 bits.
pub(crate) static Q4_0: Ggml = Ggml {
    name: "q4_0",
    dtype: Dtype::Q4_0,
    codes: CodeLayout::Whole { more: 8, ends: (-8, 7), fields: &[BitField::low(2, 4, 16)] },
    scales: scales::of_first,
    renew: Some(new_simple::q4_0),
};

/// 32 values: `d`, `m`, 4 bits.
pub(crate) static Q4_1: Ggml = Ggml {
    name: "q4_1",
    dtype: Dtype::Q4_1,
    codes: CodeLayout::Whole { more: 0, ends: (0, 15), fields: &[BitField::low(4, 4, 16)] },
    scales: scales::of_first_two,
    renew: Some(new_simple::q4_1),
};

/// 32 values: `d`, the fifth bits, 4 bits.
pub(crate) static Q5_0: Ggml = Ggml {
    name: "q5_0",
    dtype: Dtype::Q5_0,
    codes: CodeLayout::Whole {
        more: 16,
        ends: (-16, 15),
        fields: &[BitField::low(6, 4, 16), BitField::high(2, 1, 1, 4)],
    },
    scales: scales::of_first,
    renew: Some(new_simple::q5_0),
};

/// 32 values: `d`, `m`, the fifth bits, 4 bits.
pub(crate) static Q5_1: Ggml = Ggml {
    name: "q5_1",
    dtype: Dtype::Q5_1,
    codes: CodeLayout::Whole {
        more: 0,
        ends: (0, 31),
        fields: &[BitField::low(8, 4, 16), BitField::high(4, 1, 1, 4)],
    },
    scales: scales::of_first_two,
    renew: Some(new_simple::q5_1),
};

/// 32 values: `d`, bytes with a sign.
pub(crate) static Q8_0: Ggml = Ggml {
    name: "q8_0",
    dtype: Dtype::Q8_0,
    codes: CodeLayout::Whole { more: 0, ends: (i8::MIN, i8::MAX), fields: &[BitField::low(2, 8, 32)] },
    scales: scales::of_first,
    renew: Some(new_simple::q8_0),
};

/// 256 values: scales, 2 bits, `d`, `dmin`.
pub(crate) static Q2_K: Ggml = Ggml {
    name: "q2_k",
    dtype: Dtype::Q2_K,
    codes: CodeLayout::Whole { more: 0, ends: (0, 3), fields: &[BitField::low(16, 2, 32)] },
    scales: scales::of_q2_k,
    renew: Some(new_k::q2_k),
};

/// 256 values: the third bits, 2 bits, scales, `d`.
pub(crate) static Q3_K: Ggml = Ggml {
    name: "q3_k",
    dtype: Dtype::Q3_K,
    codes: CodeLayout::Whole {
        more: 4,
        ends: (-4, 3),
        fields: &[BitField::low(32, 2, 32), BitField::high(0, 1, 32, 2)],
    },
    scales: scales::of_q3_k,
    renew: Some(new_k::q3_k),
};

/// 256 values: `d`, `dmin`, scales, 4 bits.
pub(crate) static Q4_K: Ggml = Ggml {
    name: "q4_k",
    dtype: Dtype::Q4_K,
    codes: CodeLayout::Whole { more: 0, ends: (0, 15), fields: &[BitField::low(16, 4, 32)] },
    scales: scales::of_q4_k,
    renew: Some(new_k::q4_k),
};

/// 256 values: `d`, `dmin`, scales, the fifth bits, 4 bits.
pub(crate) static Q5_K: Ggml = Ggml {
    name: "q5_k",
    dtype: Dtype::Q5_K,
    codes: CodeLayout::Whole {
        more: 0,
        ends: (0, 31),
        fields: &[BitField::low(48, 4, 32), BitField::high(16, 1, 32, 4)],
    },
    scales: scales::of_q4_k,
    renew: Some(new_k::q5_k),
};

/// 256 values: 4 bits, the two bits above them, scales, `d`.
pub(crate) static Q6_K: Ggml = Ggml {
    name: "q6_k",
    dtype: Dtype::Q6_K,
    codes: CodeLayout::Whole {
        more: 32,
        ends: (-32, 31),
        fields: &[BitField::low(0, 4, 64), BitField::high(128, 2, 32, 4)],
    },
    scales: scales::of_q6_k,
    renew: Some(new_k::q6_k),
};

/// A type whose codes are places in a grid.
const fn of_grid(name: &'static str, dtype: Dtype, read: fn(&[u8], &mut OpenBlock)) -> Ggml {
    Ggml { name, dtype, codes: CodeLayout::Grid(read), scales: |_, _| {}, renew: None }
}

/// 256 values of 2.06 bits.
pub(crate) static IQ2_XXS: Ggml = of_grid("iq2_xxs", Dtype::IQ2_XXS, grid_blocks::iq2_xxs);
/// 256 values of 2.31 bits.
pub(crate) static IQ2_XS: Ggml = of_grid("iq2_xs", Dtype::IQ2_XS, grid_blocks::iq2_xs);
/// 256 values of 3.06 bits.
pub(crate) static IQ3_XXS: Ggml = of_grid("iq3_xxs", Dtype::IQ3_XXS, grid_blocks::iq3_xxs);
/// 256 values of 1.56 bits.
pub(crate) static IQ1_S: Ggml = of_grid("iq1_s", Dtype::IQ1_S, grid_blocks::iq1_s);

/// 32 values: `d`, 4 bits, places in a table.
pub(crate) static IQ4_NL: Ggml = Ggml {
    name: "iq4_nl",
    dtype: Dtype::IQ4_NL,
    codes: CodeLayout::Table { table: &IQ4, fields: &[BitField::low(2, 4, 16)] },
    scales: scales::of_first,
    renew: Some(new_k::iq4_nl),
};

/// 256 values of 3.44 bits.
pub(crate) static IQ3_S: Ggml = of_grid("iq3_s", Dtype::IQ3_S, grid_blocks::iq3_s);
/// 256 values of 2.56 bits.
pub(crate) static IQ2_S: Ggml = of_grid("iq2_s", Dtype::IQ2_S, grid_blocks::iq2_s);

/// 256 values: `d`, scales, 4 bits, places in a table.
pub(crate) static IQ4_XS: Ggml = Ggml {
    name: "iq4_xs",
    dtype: Dtype::IQ4_XS,
    codes: CodeLayout::Table { table: &IQ4, fields: &[BitField::low(8, 4, 16)] },
    scales: scales::of_iq4_xs,
    renew: Some(new_k::iq4_xs),
};

/// 256 values of 1.75 bits.
pub(crate) static IQ1_M: Ggml = of_grid("iq1_m", Dtype::IQ1_M, grid_blocks::iq1_m);

/// 256 values: digits to the base of three, `d`.
pub(crate) static TQ1_0: Ggml = Ggml {
    name: "tq1_0",
    dtype: Dtype::TQ1_0,
    codes: CodeLayout::Trits,
    scales: scales::of_last,
    renew: Some(new_simple::ternary),
};

/// 256 values: 2 bits, `d`.
pub(crate) static TQ2_0: Ggml = Ggml {
    name: "tq2_0",
    dtype: Dtype::TQ2_0,
    codes: CodeLayout::Whole { more: 1, ends: (-1, 2), fields: &[BitField::low(0, 2, 32)] },
    scales: scales::of_last,
    renew: Some(new_simple::ternary),
};

/// 32 values: a power of two, 4 bits of E2M1.
pub(crate) static MXFP4: Ggml = Ggml {
    name: "gguf_mxfp4",
    dtype: Dtype::MXFP4,
    codes: CodeLayout::Table { table: &TWICE_E2M1, fields: &[BitField::low(1, 4, 16)] },
    scales: scales::of_mxfp4,
    renew: Some(new_simple::mxfp4),
};

/// 64 values: scales of E4M3, 4 bits of E2M1.
pub(crate) static NVFP4: Ggml = Ggml {
    name: "gguf_nvfp4",
    dtype: Dtype::NVFP4,
    codes: CodeLayout::Table { table: &TWICE_E2M1, fields: &[BitField::low(4, 4, 8)] },
    scales: scales::of_nvfp4,
    renew: Some(new_simple::nvfp4),
};
