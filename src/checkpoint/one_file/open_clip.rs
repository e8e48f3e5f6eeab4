//! What transformers calls the tensors of a text encoder of OpenCLIP.
//!
//! Source: diffusers `single_file_utils.py` (`convert_open_clip_checkpoint`). `text_projection` lies the other way around there, and
//! keeps its name.

const LAYER: &str = "transformer.resblocks.";
/// The projections of queries, keys and values, one behind the other.
const STACKED: [(&str, &str); 2] = [("attn.in_proj_weight", "weight"), ("attn.in_proj_bias", "bias")];

const IN_LAYER: &[(&str, &str)] = &[
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
];
const OUTSIDE: &[(&str, &str)] = &[
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
];

/// The number of a layer, and what stands behind it.
fn in_layer(name: &str) -> Option<(u32, &str)> {
    let (number, rest) = name.strip_prefix(LAYER)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The name of a tensor; nothing for one that transformers has in another form.
pub(crate) fn transformers(name: &str) -> Option<String> {
    if let Some((_, theirs)) = OUTSIDE.iter().find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_owned());
    }
    let (number, rest) = in_layer(name)?;
    let (module, leaf) = rest.rsplit_once('.')?;
    let (_, theirs) = IN_LAYER.iter().find(|(ours, _)| *ours == module)?;
    Some(format!("text_model.encoder.layers.{number}.{theirs}.{leaf}"))
}

/// The names of the three projections that a tensor is the rows of, if it is.
pub(crate) fn projections(name: &str) -> Option<[String; 3]> {
    let (number, rest) = in_layer(name)?;
    let (_, leaf) = STACKED.iter().find(|(ours, _)| *ours == rest)?;
    let of = |which| format!("text_model.encoder.layers.{number}.self_attn.{which}_proj.{leaf}");
    Some(["q", "k", "v"].map(of))
}
