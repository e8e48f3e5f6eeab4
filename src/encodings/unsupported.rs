//! Schemes of quantization that are known and not read: what tells them, so that they can be refused by name.
//!
//! A scheme that becomes readable leaves this table for a file of its own.

use crate::encodings::scheme::{ANY_ENDING, Auxiliary, Scheme};

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];
/// Data of GPTQ and AWQ.
const QWEIGHT: &[&str] = &[".qweight"];
/// Data of quanto: of one tensor, and of one tensor inside another.
const QUANTO: &[&str] = &["._data", "._data._data"];

/// All of them.
pub(crate) static SCHEMES: &[Scheme] = &[
    Scheme {
        title: "GPTQ",
        methods: &["gptq"],
        data: QWEIGHT,
        auxiliary: &[
            Auxiliary { ending: ".qzeros", data: QWEIGHT },
            Auxiliary { ending: ".g_idx", data: QWEIGHT },
            Auxiliary { ending: ".scales", data: QWEIGHT },
        ],
        side_files: &["quantize_config.json"],
        builds: &["-gptq", "-int4"],
        ..Scheme::NONE
    },
    Scheme {
        title: "AWQ",
        methods: &["awq"],
        data: QWEIGHT,
        auxiliary: &[
            Auxiliary { ending: ".qzeros", data: QWEIGHT },
            Auxiliary { ending: ".scales", data: QWEIGHT },
        ],
        plain_lists: &["modules_to_not_convert"],
        side_files: &["quant_config.json"],
        builds: &["-awq"],
        ..Scheme::NONE
    },
    Scheme {
        title: "bitsandbytes of 8 bits",
        auxiliary: &[
            Auxiliary { ending: ".SCB", data: WEIGHT },
            Auxiliary { ending: ".weight_format", data: WEIGHT },
        ],
        plain_lists: &["llm_int8_skip_modules"],
        builds: &["-bnb-8bit"],
        ..Scheme::NONE
    },
    Scheme {
        title: "bitsandbytes",
        methods: &["bitsandbytes"],
        has_any_dtype: true,
        auxiliary: &[
            Auxiliary { ending: ".absmax", data: &[""] },
            Auxiliary { ending: ".quant_map", data: &[""] },
            Auxiliary { ending: ".nested_absmax", data: &[""] },
            Auxiliary { ending: ".nested_quant_map", data: &[""] },
            Auxiliary { ending: ".quant_state.bitsandbytes__nf4", data: &[""] },
            Auxiliary { ending: ".quant_state.bitsandbytes__fp4", data: &[""] },
        ],
        plain_lists: &["llm_int8_skip_modules"],
        builds: &["-bnb-4bit", "-4bit"],
        ..Scheme::NONE
    },
    Scheme {
        title: "HQQ",
        methods: &["hqq"],
        data: &[".W_q"],
        has_any_dtype: true,
        // A dozen scalars stand beside its codes.
        auxiliary: &[Auxiliary { ending: ANY_ENDING, data: &[".W_q"] }],
        plain_lists: &["skip_modules"],
        ..Scheme::NONE
    },
    Scheme {
        title: "ModelOpt FP8 or NVFP4",
        methods: &["modelopt"],
        auxiliary: &[
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: ".weight_scale_2", data: WEIGHT },
            Auxiliary { ending: ".pre_quant_scale", data: WEIGHT },
        ],
        unused: &[Auxiliary { ending: ".input_scale", data: WEIGHT }],
        plain_lists: &["ignore", "exclude_modules"],
        side_files: &["hf_quant_config.json"],
        ..Scheme::NONE
    },
    Scheme {
        title: "compressed-tensors FP8, INT8 or NVFP4",
        methods: &["compressed-tensors"],
        auxiliary: &[
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: ".weight_zero_point", data: WEIGHT },
            Auxiliary { ending: ".weight_global_scale", data: &[".weight_packed", ".weight"] },
        ],
        unused: &[
            Auxiliary { ending: ".input_global_scale", data: &[".weight_packed", ".weight"] },
            Auxiliary { ending: ".input_scale", data: WEIGHT },
        ],
        plain_lists: &["ignore"],
        ..Scheme::NONE
    },
    Scheme {
        title: "FP8 with a scale for each tensor or channel",
        methods: &["fbgemm_fp8", "fp8"],
        auxiliary: &[
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: "_scale", data: &[""] },
            // As Mistral's own files call it.
            Auxiliary { ending: ".qscale_weight", data: WEIGHT },
        ],
        unused: &[Auxiliary { ending: ".qscale_act", data: WEIGHT }],
        plain_lists: &["modules_to_not_convert", "ignored_layers"],
        ..Scheme::NONE
    },
    Scheme {
        title: "torchao",
        methods: &["torchao"],
        data: &["_weight_qdata"],
        auxiliary: &[
            Auxiliary { ending: "_weight_scale", data: &["_weight_qdata"] },
            Auxiliary { ending: "_weight_zero_point", data: &["_weight_qdata"] },
        ],
        plain_lists: &["modules_to_not_convert"],
        ..Scheme::NONE
    },
    Scheme {
        title: "quanto",
        methods: &["quanto"],
        data: QUANTO,
        auxiliary: &[
            Auxiliary { ending: "._scale", data: QUANTO },
            Auxiliary { ending: "._shift", data: &["._data._data"] },
        ],
        unused: &[
            Auxiliary { ending: ".input_scale", data: &[".weight._data", ".weight._data._data"] },
            Auxiliary { ending: ".output_scale", data: &[".weight._data", ".weight._data._data"] },
        ],
        plain_lists: &["modules_to_not_convert"],
        ..Scheme::NONE
    },
    Scheme {
        title: "MLX",
        auxiliary: &[
            Auxiliary { ending: ".scales", data: WEIGHT },
            Auxiliary { ending: ".biases", data: WEIGHT },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "ComfyUI's FP8",
        auxiliary: &[Auxiliary { ending: ".comfy_quant", data: WEIGHT }],
        ..Scheme::NONE
    },
];
