//! Schemes of quantization that are known and not read: what tells them, so that they can be refused by name.
//!
//! A scheme that becomes readable leaves this table for a file of its own.

use crate::encodings::modelopt::SIDE_FILE;
use crate::encodings::scaled::FLOAT8;
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::tensor::dtype::Dtype;

/// Data that is called as the weight is.
const WEIGHT: &[&str] = &[".weight"];
/// Data of the schemes that pack codes as GPTQ does.
const QWEIGHT: &[&str] = &[".qweight"];
/// Data of packed codes.
const PACKED: &[&str] = &[".weight_packed"];
/// Data that stands in another basis than the weight.
const TURNED: &[&str] = &[".weight", ".weight_packed", ".qweight"];
/// What the names of scales of inputs end with, whose data is a weight of that name.
const INPUTS: &[Auxiliary] = &[
    Auxiliary { ending: ".input_scale", data: WEIGHT },
    Auxiliary { ending: ".input_zero_point", data: WEIGHT },
    Auxiliary { ending: ".output_scale", data: WEIGHT },
];

/// All of them.
pub(crate) static SCHEMES: &[Scheme] = &[
    Scheme {
        title: "AutoRound",
        methods: &["auto-round", "intel/auto-round"],
        dtypes: &[Dtype::I32],
        data: QWEIGHT,
        auxiliary: &[
            Auxiliary { ending: ".qzeros", data: QWEIGHT },
            Auxiliary { ending: ".g_idx", data: QWEIGHT },
            Auxiliary { ending: ".scales", data: QWEIGHT },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "GPTQ or AWQ in the layout of Marlin",
        methods: &["marlin", "gptq_marlin", "awq_marlin"],
        ..Scheme::NONE
    },
    Scheme {
        title: "a scheme in another basis (AWQ or SVDQuant of ModelOpt, SmoothQuant)",
        methods: &["modelopt"],
        algorithms: &[
            "W4A16_AWQ",
            "W4A8_AWQ",
            "NVFP4_AWQ",
            "NVFP4_SVD",
            "NVFP4_SVDQUANT",
            "W8A8_SQ_PER_CHANNEL",
        ],
        auxiliary: &[
            Auxiliary { ending: ".pre_quant_scale", data: TURNED },
            Auxiliary { ending: ".smooth_scale", data: TURNED },
            Auxiliary { ending: ".smoothing_factor", data: TURNED },
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: ".weight_scale_2", data: WEIGHT },
            Auxiliary { ending: ".svdquant_lora_a", data: WEIGHT },
            Auxiliary { ending: ".svdquant_lora_b", data: WEIGHT },
        ],
        marks: &[".pre_quant_scale", ".smooth_scale", ".smoothing_factor"],
        unused: INPUTS,
        side_files: &[SIDE_FILE],
        ..Scheme::NONE
    },
    Scheme {
        title: "compressed-tensors with sparse or other packed codes",
        methods: &["compressed-tensors"],
        data: &[".compressed", ".weight_packed"],
        auxiliary: &[
            Auxiliary { ending: ".bitmask", data: &[".compressed"] },
            Auxiliary { ending: ".row_offsets", data: &[".compressed"] },
            Auxiliary { ending: ".shape", data: &[".compressed"] },
            Auxiliary { ending: ".meta", data: PACKED },
            Auxiliary { ending: ".scale_packed", data: PACKED },
        ],
        plain_lists: &["ignore"],
        ..Scheme::NONE
    },
    Scheme {
        title: "FP8 with a scale for each token and channel",
        methods: &["ptpc_fp8"],
        dtypes: FLOAT8,
        auxiliary: &[Auxiliary { ending: ".weight_scale", data: WEIGHT }],
        ..Scheme::NONE
    },
    Scheme {
        title: "ComfyUI's FP8 or NVFP4",
        auxiliary: &[
            Auxiliary { ending: ".comfy_quant", data: WEIGHT },
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: ".weight_scale_2", data: WEIGHT },
            // Of older files, which have no mark.
            Auxiliary { ending: ".scale_weight", data: WEIGHT },
        ],
        marks: &[".comfy_quant", ".scale_weight"],
        unused: &[
            Auxiliary { ending: ".input_scale", data: WEIGHT },
            Auxiliary { ending: ".scale_input", data: WEIGHT },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "EETQ",
        methods: &["eetq"],
        dtypes: &[Dtype::I8],
        auxiliary: &[Auxiliary { ending: ".weight_scales", data: WEIGHT }],
        ..Scheme::NONE
    },
    Scheme {
        title: "BitNet",
        methods: &["bitnet"],
        dtypes: &[Dtype::U8],
        is_online: true,
        auxiliary: &[Auxiliary { ending: ".weight_scale", data: WEIGHT }],
        plain_lists: &["modules_to_not_convert"],
        ..Scheme::NONE
    },
    Scheme {
        title: "Quark",
        methods: &["quark"],
        dtypes: &[Dtype::U8, Dtype::I8, Dtype::I32, Dtype::F8_E4M3, Dtype::F8_E4M3FNUZ],
        auxiliary: &[
            Auxiliary { ending: ".weight_scale", data: WEIGHT },
            Auxiliary { ending: ".weight_zero_point", data: WEIGHT },
        ],
        unused: INPUTS,
        plain_lists: &["exclude"],
        ..Scheme::NONE
    },
    Scheme {
        title: "AQLM",
        methods: &["aqlm"],
        data: &[".codes"],
        auxiliary: &[
            Auxiliary { ending: ".codebooks", data: &[".codes"] },
            Auxiliary { ending: ".scales", data: &[".codes"] },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "VPTQ",
        methods: &["vptq"],
        data: &[".indices"],
        auxiliary: &[
            Auxiliary { ending: ".centroids.weight", data: &[".indices"] },
            Auxiliary { ending: ".res_centroids.weight", data: &[".indices"] },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "SpQR",
        methods: &["spqr"],
        data: &[".dense_weights"],
        auxiliary: &[
            Auxiliary { ending: ".col_vals", data: &[".dense_weights"] },
            Auxiliary { ending: ".row_offsets", data: &[".dense_weights"] },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "HIGGS",
        methods: &["higgs"],
        has_any_dtype: true,
        auxiliary: &[
            Auxiliary { ending: ".tables2", data: WEIGHT },
            Auxiliary { ending: ".tables", data: WEIGHT },
        ],
        ..Scheme::NONE
    },
    Scheme {
        title: "FP-Quant",
        methods: &["fp_quant"],
        data: QWEIGHT,
        auxiliary: &[
            Auxiliary { ending: ".scales", data: QWEIGHT },
            Auxiliary { ending: ".act_global_scale", data: QWEIGHT },
            Auxiliary { ending: ".weight_global_scale", data: QWEIGHT },
            Auxiliary { ending: ".forward_hadamard_matrix", data: QWEIGHT },
            Auxiliary { ending: ".backward_hadamard_matrix", data: QWEIGHT },
        ],
        marks: &[".forward_hadamard_matrix"],
        ..Scheme::NONE
    },
    Scheme { title: "SINQ", methods: &["sinq"], ..Scheme::NONE },
    Scheme { title: "four-over-six", methods: &["fouroversix"], ..Scheme::NONE },
];
