//! How the values of a logical weight are stored: which bytes a rectangle of it takes, and the way to `f32` and back.
//!
//! One file per encoding and one row in [`ENCODINGS`]. An encoding knows bytes and values, no files and no threads. A
//! logical weight may be made of several tensors (its parts: codes and scales). Decoding is many to one: the parts of a
//! tile lie one behind the other and give one value each. Encoding is one to many: each part of the output is made on its
//! own from the same values, so that parts may stand in different shards, in any order, and none waits for another.

pub(crate) mod awq;
pub(crate) mod awq_tensors;
pub(crate) mod bf16;
pub(crate) mod bnb_4bit;
pub(crate) mod bnb_4bit_tensors;
pub(crate) mod bnb_int8;
pub(crate) mod codes;
pub(crate) mod codes_across;
pub(crate) mod ct_config;
pub(crate) mod ct_fp8;
pub(crate) mod ct_int8;
pub(crate) mod ct_mx;
pub(crate) mod ct_nvfp4;
pub(crate) mod ct_targets;
pub(crate) mod deepseek_fp4;
pub(crate) mod distant_codes;
pub(crate) mod encoding;
pub(crate) mod endings;
pub(crate) mod expert_stack;
pub(crate) mod f16;
pub(crate) mod f32;
pub(crate) mod fp8_block;
pub(crate) mod fp8_scaled;
pub(crate) mod ggml;
pub(crate) mod gptq;
pub(crate) mod gptq_tensors;
pub(crate) mod group_size;
pub(crate) mod hqq;
pub(crate) mod in_training;
pub(crate) mod in_training_4bit;
pub(crate) mod in_training_int8;
pub(crate) mod interleaved;
pub(crate) mod interleaved_codes;
#[cfg(test)]
mod listed;
pub(crate) mod logical;
pub(crate) mod mlx;
pub(crate) mod mlx_tensors;
pub(crate) mod modelopt;
pub(crate) mod modelopt_fp8;
pub(crate) mod modelopt_nvfp4;
pub(crate) mod mxfp4;
pub(crate) mod mxfp8;
pub(crate) mod number;
pub(crate) mod packed_config;
pub(crate) mod packed_int;
pub(crate) mod packed_layout;
pub(crate) mod packed_write;
pub(crate) mod paired_heads;
pub(crate) mod plain;
pub(crate) mod plus_one;
pub(crate) mod quanto;
pub(crate) mod requantize;
pub(crate) mod runtime_scales;
pub(crate) mod scale_grid;
pub(crate) mod scaled;
pub(crate) mod scheme;
pub(crate) mod schemes;
pub(crate) mod torchao;
pub(crate) mod transposed;
pub(crate) mod unsupported;
#[cfg(test)]
mod vectors;
pub(crate) mod window;
pub(crate) mod words;

use crate::encodings::encoding::Encoding;
use crate::encodings::logical::Logical;

use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

/// Every encoding there is.
pub(crate) static ENCODINGS: &[&dyn Encoding] = &[
    &bf16::Bf16,
    &f16::F16,
    &f32::F32,
    &fp8_block::Fp8Block,
    &packed_int::INT4,
    &packed_int::INT8,
    &packed_int::INT3,
    &mxfp4::Mxfp4,
    &ct_fp8::CT_FP8,
    &fp8_scaled::FP8_SCALED,
    &modelopt_fp8::MODELOPT_FP8,
    &ct_int8::CT_INT8,
    &bnb_int8::BNB_INT8,
    &gptq::GPTQ2,
    &gptq::GPTQ3,
    &gptq::GPTQ4,
    &gptq::GPTQ8,
    &awq::GEMM,
    &awq::GEMV,
    &bnb_4bit::NF4,
    &bnb_4bit::FP4,
    &mlx::AFFINE,
    &mlx::MXFP4,
    &mlx::MXFP8,
    &mlx::NVFP4,
    &ct_mx::CT_MXFP4,
    &ct_mx::CT_MXFP6,
    &ct_mx::CT_MXFP8,
    &mxfp8::MXFP8,
    &deepseek_fp4::DEEPSEEK_FP4,
    &ct_nvfp4::CT_NVFP4,
    &modelopt_nvfp4::MODELOPT_NVFP4,
    &gptq::GPTQ2_ACROSS,
    &gptq::GPTQ3_ACROSS,
    &gptq::GPTQ4_ACROSS,
    &gptq::GPTQ8_ACROSS,
    &awq::GEMM_ACROSS,
    &mxfp4::BY_OUTPUT,
    &transposed::Transposed,
    &interleaved::Interleaved,
    &paired_heads::PairedHeads,
    &plus_one::PlusOne,
    &expert_stack::ExpertStack,
    &in_training_4bit::NF4,
    &in_training_4bit::NF4_DOUBLE,
    &in_training_4bit::FP4,
    &in_training_4bit::FP4_DOUBLE,
    &in_training_int8::Int8InTraining,
    &hqq::HQQ,
    &hqq::WRITTEN,
    &quanto::INT8,
    &quanto::FLOAT8S,
    &quanto::PACKED_INT,
    &quanto::WRITTEN,
    &torchao::INT8,
    &torchao::INT8_REDUCED,
    &torchao::FLOAT8S,
    &ggml::types::Q4_0,
    &ggml::types::Q4_1,
    &ggml::types::Q5_0,
    &ggml::types::Q5_1,
    &ggml::types::Q8_0,
    &ggml::types::Q2_K,
    &ggml::types::Q3_K,
    &ggml::types::Q4_K,
    &ggml::types::Q5_K,
    &ggml::types::Q6_K,
    &ggml::types::IQ2_XXS,
    &ggml::types::IQ2_XS,
    &ggml::types::IQ3_XXS,
    &ggml::types::IQ1_S,
    &ggml::types::IQ4_NL,
    &ggml::types::IQ3_S,
    &ggml::types::IQ2_S,
    &ggml::types::IQ4_XS,
    &ggml::types::IQ1_M,
    &ggml::types::TQ1_0,
    &ggml::types::TQ2_0,
    &ggml::types::MXFP4,
    &ggml::types::NVFP4,
];

/// The encoding of that name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Encoding> {
    ENCODINGS.iter().copied().find(|encoding| encoding.name() == name)
}

/// A weight of that shape of which nothing is stored yet, in elements that need nothing else and are no plain numbers.
pub(crate) fn unwritten(dtype: Dtype, shape: &Shape) -> Option<Logical> {
    ENCODINGS.iter().find_map(|encoding| encoding.unwritten(dtype, shape))
}

/// The encoding of plain numbers of that element type.
pub(crate) fn plain(dtype: Dtype) -> Option<&'static dyn Encoding> {
    ENCODINGS.iter().copied().find(|encoding| encoding.plain() == Some(dtype))
}
