//! What an adapter saved a second time for a head that is tied to the embedding: checked to be the same, and left aside.
//!
//! With `ensure_weight_tying` PEFT trains one set of factors and saves it twice, for the head turned round
//! (`lora_A = lora_embedding_Bᵀ`), and then merges it twice (peft-methods.md 2.7, a defect). Modules that are saved whole and
//! are equal at both ends are one tensor too. The head follows the embedding, applied once.

use crate::adapters::Claiming;
use crate::error::{Error, ErrorKind, Result};

use super::{Block, Method};

/// Copies for a tied head.
pub(super) struct TiedCopy;

impl Method for TiedCopy {
    fn name(&self) -> &'static str {
        "tied_copy"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let Some((head, embedding)) = ends(claiming) else { return };
        let must_be_equal = claiming.adapter.config.is_set("ensure_weight_tying");
        for (of_head, of_embedding, is_turned) in [
            ("weight", "weight", false),
            ("base_layer.weight", "base_layer.weight", false),
            ("lora_A.weight", "lora_embedding_B", true),
            ("lora_B.weight", "lora_embedding_A", true),
        ] {
            let (first, second) = (format!("{embedding}.{of_embedding}"), format!("{head}.{of_head}"));
            let (Some(first), Some(second)) = (claiming.at_path(&first), claiming.at_path(&second)) else {
                continue;
            };
            if is_turned && !must_be_equal {
                continue;
            }
            let equal = match is_turned {
                true => claiming.are_transposed(first, second),
                false => claiming.are_equal(first, second),
            };
            if let Err(error) = settle(claiming, equal, first, second, must_be_equal) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, _: &mut Block<'_>) {
        unreachable!("a copy that is left aside makes no op")
    }
}

/// The module paths of the tied head and of the embedding, as the adapter spells them.
fn ends(claiming: &Claiming<'_>) -> Option<(String, String)> {
    let head = claiming.outline.head.as_ref()?;
    let source = &claiming.outline.base.catalogue.tensors[head.source].name;
    let stem = |name: &str| name.strip_suffix(".weight").map(str::to_owned);
    Some((stem(&head.head)?, stem(source)?))
}

fn settle(
    claiming: &mut Claiming<'_>,
    equal: Result<bool>,
    first: usize,
    second: usize,
    must_be_equal: bool,
) -> Result<()> {
    if equal? {
        claiming
            .ignore(second, "the head is tied to the embedding, whose copy of the same values is used once");
        claiming.head_follows();
    } else if must_be_equal {
        let (adapter, key) = (claiming.adapter.name.clone(), claiming.tensor(second).key.clone());
        let expected = claiming.tensor(first).key.clone();
        return Err(Error::new(ErrorKind::Untied { adapter, key, expected })
            .hint("`ensure_weight_tying` is set, so both ends were trained as one: the adapter is damaged"));
    }
    Ok(())
}
