//! FourierFT: few frequencies of a matrix that is added to a linear layer ([`Fourier`]).
//!
//! PEFT: `fourierft/layer.py`, `FourierFTLayer.get_delta_weight` (peft-methods.md 6.1): `fourierft_spectrum [n]`, at the first `n` places of torch's random
//! permutation of all elements, which `random_loc_seed` tells. It is not saved.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::sparse_entries::SparseEntries;
use crate::adapters::claim::spectrum::SpectrumLayer;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::permuted::Permuted;
use crate::ops::factor::{Factor, FactorReach};
use crate::ops::fourier::Fourier;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// Few frequencies.
pub(crate) struct FourierFt;

const SPECTRUM: Tail = Tail::bare(".fourierft_spectrum");

const FIELDS: &[(&str, Field)] = &[
    // The spectrum has as many values as there are.
    ("n_frequency", Field::Fine),
    ("n_frequency_pattern", Field::Fine),
    ("scaling", Field::Fine),
    ("random_loc_seed", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "fourier_only"], "is none of `none`, `all`, `fourier_only`")),
];

impl Claim for FourierFt {
    fn peft_types(&self) -> &'static [&'static str] {
        &["FOURIERFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for (module, spectrum) in findings.take(context, SPECTRUM) {
            if let Err(error) = claim_module(context, findings, module, spectrum) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    spectrum: usize,
) -> Result<()> {
    let Some(layer) = SpectrumLayer::find(context, findings, module, spectrum, "PEFT's FourierFT")? else {
        return Ok(());
    };
    let SpectrumLayer { target, size: (out, input), is_transposed, seed, scale } = layer;
    let recipe = Permuted { seed, size: [out, input], wavelet: None }.into();
    let entries = SparseEntries { recipe, sources: vec![spectrum], size: (out, input) };
    let (factor, width) = entries.factor(context, |made, _| Factor::whole(made))?;
    let kind = Fourier { size: [out as usize, input as usize], width: width as usize, is_transposed };
    let factor = Factor { reach: FactorReach::Prepared(kind.prepared_len()), ..factor };
    let op = Op::new(kind, Placement::matrix(out, input, is_transposed), [factor].as_slice(), scale as f32);
    let key = context.tensor(spectrum).key.clone();
    findings.claim(ClaimedModule::change("fourierft", module, [key], target, vec![op]));
    Ok(())
}
