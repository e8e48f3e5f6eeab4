//! A trainer's own models: what it calls modules, and of which families it has the rows of heads in another order.

use crate::model::family::Families;

/// The models of a trainer.
pub(crate) struct OwnModel {
    /// Whose they are.
    pub(crate) trainer: &'static str,
    /// What its modules are called, and what transformers calls them; `#` stands for a number.
    pub(crate) names: &'static [(&'static str, &'static str)],
    /// The families that it has, by transformers' model types, and whether rotary positions turn neighboring rows of queries and
    /// keys in its model, where transformers turns those of two halves.
    pub(crate) families: &'static [(&'static str, bool)],
}

impl OwnModel {
    /// What transformers calls a module.
    pub(crate) fn module(&self, own: &str) -> Option<String> {
        let is_number =
            |segment: &&str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        let numbers = own.split('.').filter(is_number);
        let segments = own.split('.').map(|segment| if is_number(&segment) { NUMBER } else { segment });
        let pattern = segments.collect::<Vec<_>>().join(".");
        let (_, theirs) = self.names.iter().find(|(name, _)| *name == pattern)?;
        Some(numbers.fold((*theirs).to_owned(), |name, number| name.replacen(NUMBER, number, 1)))
    }

    /// Whether rows are in another order in its model of one of those families; none if it has no such model.
    pub(crate) fn is_interleaved(&self, families: &Families) -> Option<bool> {
        self.families
            .iter()
            .find(|(family, _)| families.contains(family))
            .map(|(_, is_interleaved)| *is_interleaved)
    }

    /// The families that it has, for a message.
    pub(crate) fn listed(&self) -> String {
        self.families.iter().map(|(family, _)| *family).collect::<Vec<_>>().join(", ")
    }
}

const NUMBER: &str = "#";

#[cfg(test)]
mod tests {
    use crate::adapters::own_model::mistral::MISTRAL;
    use crate::adapters::own_model::torchtune::TORCHTUNE;

    #[test]
    fn modules_have_transformers_names() {
        for (model, own, theirs) in [
            (&TORCHTUNE, "layers.11.attn.output_proj", Some("model.layers.11.self_attn.o_proj")),
            (&TORCHTUNE, "output", Some("lm_head")),
            (&TORCHTUNE, "layers.0.mlp.w3", Some("model.layers.0.mlp.up_proj")),
            (&TORCHTUNE, "layers.x.mlp.w3", None),
            (&TORCHTUNE, "decoder.layers.0.mlp.w3", None),
            (
                &MISTRAL,
                "layers.3.feed_forward.experts.7.w2",
                Some("model.layers.3.block_sparse_moe.experts.7.w2"),
            ),
            (&MISTRAL, "layers.3.attention_norm", Some("model.layers.3.input_layernorm")),
        ] {
            assert_eq!(model.module(own).as_deref(), theirs, "{own}");
        }
    }
}
