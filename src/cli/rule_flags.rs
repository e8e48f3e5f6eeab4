//! Flags that say how adapters are read and merged where the files do not say, and that allow what is refused otherwise.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{ArgGroup, Args};

/// How it is merged, where the files do not say.
#[derive(Args)]
#[command(group = ArgGroup::new("kept").args(["keep_quantized", "base16", "gguf_template"]).multiple(true))]
pub(crate) struct RuleFlags {
    /// Keep a quantized base quantized
    ///
    /// By default every quantized weight that an adapter changes (FP8, INT8, packed integers, MXFP4, NVFP4, …) is decoded and
    /// written in 16 bit, with all of the delta. With this flag they are encoded again with the scales they had, and new ones where a
    /// value would not fit; all others are copied. Most of a small delta may be rounded away, which is measured and reported. An
    /// adapter on what cannot be encoded again (HQQ, AQLM, …) is refused.
    #[arg(long, conflicts_with = "dtype", help_heading = "Quantization")]
    pub(crate) keep_quantized: bool,

    /// Allow `--keep-quantized` to keep next to nothing of a delta
    ///
    /// By default a merge is an error that leaves less than 10 % of the delta in half of the weights that it encodes again: the
    /// result would be the base. With this flag it is reported.
    #[arg(long, requires = "kept", help_heading = "Quantization")]
    pub(crate) accept_loss: bool,

    /// Use a quantized base's 16-bit original, and quantize the sum anew
    ///
    /// What an adapter changes starts from the original's weights, so that a delta is not lost between two steps of 4 bits twice.
    /// It is quantized with the base's scheme, and with its scales where they take all values. All else stays as the base has it,
    /// as with `--keep-quantized`.
    ///
    /// Example: --base org/model-NVFP4 --base16 org/model
    #[arg(long, value_name = "DIR|NAME", conflicts_with = "dtype", help_heading = "Quantization")]
    pub(crate) base16: Option<PathBuf>,

    /// Set which scales are made for weights that are quantized again
    ///
    /// `keep` makes new ones only where a value does not fit the old; `fresh` makes all anew, by the rule of the scheme's own
    /// library. A scale that serves all of a tensor or a column stays.
    #[arg(
        long,
        value_name = "WHICH",
        value_parser = ["keep", "fresh"],
        default_value = "keep",
        requires = "kept",
        hide_possible_values = true,
        help_heading = "Quantization"
    )]
    pub(crate) scales: String,

    /// Use the 16-bit base as QLoRA training saw it
    ///
    /// An adapter that was trained with `load_in_4bit` or `load_in_8bit` of bitsandbytes is right on the weights that training saw:
    /// quantized and decoded again. With this flag the weights of all linear layers but heads are taken so while they are
    /// streamed, those that no adapter changes too, and the result is written in 16 bit.
    ///
    /// SCHEME is `nf4`, `fp4` or `int8`, and behind it with commas what training had: `double` (`bnb_4bit_use_double_quant`),
    /// `block=64`, `dtype=bf16` (what the model was loaded as; else that of each tensor), `skip=MODULE` (`llm_int8_skip_modules`).
    ///
    /// Example: --base-as nf4,double
    #[arg(long, value_name = "SCHEME", conflicts_with = "keep_quantized", help_heading = "Quantization")]
    pub(crate) base_as: Option<String>,

    /// Write the result as a file of llama.cpp
    ///
    /// Header, tokenizer, names and order of tensors are those of `--gguf-template`, a GGUF file of the same base in whatever type;
    /// all values are those of the base with its adapters.
    ///
    /// Example: --to gguf --gguf-template Llama-3.1-8B-Q8_0.gguf
    #[arg(
        long,
        value_name = "FORMAT",
        value_parser = ["gguf"],
        requires = "gguf_template",
        conflicts_with_all = ["dtype", "max_shard_size"],
        hide_possible_values = true,
        help_heading = "GGUF"
    )]
    pub(crate) to: Option<String>,

    /// Use this GGUF file's header and order of tensors for `--to gguf`
    #[arg(
        long,
        value_name = "FILE|NAME",
        requires = "to",
        conflicts_with_all = ["keep_quantized", "base16", "base_as"],
        help_heading = "GGUF"
    )]
    pub(crate) gguf_template: Option<PathBuf>,

    /// Set the type of weights for `--to gguf`
    ///
    /// `auto` is F16 for a base in F16, else BF16; `f16`, `bf16`, `f32` and `q8_0` are those types, and `template` takes for each tensor
    /// the type that it has in the template (without an importance matrix). Vectors are F32, as what the template has in F32.
    #[arg(long, value_name = "TYPE", requires = "to", help_heading = "GGUF")]
    pub(crate) gguf_type: Option<String>,

    #[command(flatten)]
    pub(crate) adapters: AdapterFlags,
}

/// How adapters are read, where the files do not say or a rule would refuse.
#[derive(Args)]
pub(crate) struct AdapterFlags {
    /// Set the order of experts in an adapter's fused `lora_B`
    ///
    /// `rank-major` is PEFT's, `expert-major` (`grouped_by_expert`) Megatron-Bridge's, and Unsloth's until September 2026.
    /// Needed only where an adapter does not say.
    #[arg(
        long,
        value_name = "ORDER",
        value_parser = packings(),
        hide_possible_values = true,
        help_heading = "Experts"
    )]
    pub(crate) expert_packing: Option<String>,

    /// Set which axis of the experts an adapter's fused `lora_A` is on
    ///
    /// For a fused parameter of shape [experts, d1, d2]: `d1` is what PEFT up to 0.18 wrote, `d2` what later versions write.
    /// Needed only for square parameters where the adapter does not say.
    #[arg(
        long,
        value_name = "AXIS",
        value_parser = ["d1", "d2"],
        hide_possible_values = true,
        help_heading = "Experts"
    )]
    pub(crate) expert_lora_a_axis: Option<String>,

    /// Ignore a field of adapter_config.json; repeatable
    ///
    /// For fields that shardfold does not know and that you know do not change the merge. Fields that it knows to change it
    /// cannot be ignored.
    #[arg(long, value_name = "NAME", help_heading = "Escape hatches")]
    pub(crate) ignore_field: Vec<String>,

    /// Skip adapter tensors that match no base tensor; repeatable
    ///
    /// A regular expression that is searched for in their keys. Every skipped key is reported and recorded. Tensors that
    /// match a base tensor are merged all the same, and an expression that matches every key is refused.
    ///
    /// Example: --allow-unmatched 'model\.mtp\.'
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) allow_unmatched: Vec<String>,

    /// Allow what an adapter promises to be missing; repeatable
    ///
    /// By default a module that `target_modules`, `target_parameters`, `modules_to_save`, token indices, `bias` or the task of an
    /// adapter's config promise must have its tensors. A regular expression that is searched for in the names of what is
    /// missing. Everything that is allowed is reported and recorded, and an expression that matches everything is refused.
    ///
    /// Example: --allow-missing 'layers\.3\.mlp\.'
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) allow_missing: Vec<String>,

    /// Allow a file with weights beside an adapter to be left out; repeatable
    ///
    /// Trainers save modules that they train whole in files of their own (`non_lora_trainables.bin`), which are not merged.
    /// By default such a file is an error. With its name here the result is made without it, which is reported and recorded.
    ///
    /// Example: --allow-unmerged-file non_lora_trainables.bin
    #[arg(long, value_name = "NAME", help_heading = "Escape hatches")]
    pub(crate) allow_unmerged_file: Vec<String>,

    /// Allow a base of another class than the adapter was trained on
    ///
    /// By default an adapter whose config names a class of another family than the base's is an error, even if all shapes
    /// fit. With this flag it is reported and recorded.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) allow_other_base: bool,

    /// Allow side files to be copied that are links to elsewhere
    ///
    /// By default a link is followed inside the directory of the base or the adapter, and from a snapshot of the Hugging Face
    /// cache to its `blobs`. Side files that are links to anything else are reported and not copied, and a config.json that is
    /// one is an error: the result may be uploaded. Shards are read wherever they lie.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) follow_links: bool,

    /// Allow adapters that have no effect
    ///
    /// By default an adapter whose deltas are all zero (`lora_B` as before training) is an error, and so is one that leaves
    /// every weight as it was. With this flag it is reported and recorded.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) allow_noop: bool,
}

/// The orders of experts, also as `lora_B_layout` has them.
fn packings() -> PossibleValuesParser {
    let expert_major = PossibleValue::new("expert-major").aliases(["grouped_by_expert", "grouped-by-expert"]);
    PossibleValuesParser::new([PossibleValue::new("rank-major").alias("rank_major"), expert_major])
}
