//! WaveFT: entries of a matrix that is added to a linear layer, each spread over its neighbors by a wavelet, or as it is
//! ([`Sparse`](crate::ops::sparse::Sparse)).
//!
//! Source: Bilican et al. 2025 (arXiv:2505.12532). PEFT: `waveft/layer.py`, `WaveFTLayer.get_delta_weight` (peft-methods.md 6.2): `waveft_spectrum [n]`, at the first `n`
//! places of torch's random permutation of all elements, which `random_loc_seed` tells. It is not saved.

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

/// Entries that wavelets spread.
pub(crate) struct WaveFt;

const SPECTRUM: Tail = Tail::bare(".waveft_spectrum");

const FIELDS: &[(&str, Field)] = &[
    // The spectrum has as many values as there are.
    ("n_frequency", Field::Fine),
    ("n_frequency_pattern", Field::Fine),
    ("proportional_parameters", Field::Fine),
    ("scaling", Field::Fine),
    ("random_loc_seed", Field::Fine),
    ("wavelet_family", Field::Fine),
    ("use_idwt", Field::Flag),
    ("fan_in_fan_out", Field::Flag),
    ("init_weights", Field::Fine),
    ("bias", Field::Only(&["none", "all", "waveft_only"], "is none of `none`, `all`, `waveft_only`")),
];

impl Claim for WaveFt {
    fn peft_types(&self) -> &'static [&'static str] {
        &["WAVEFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let spectra = findings.take(context, SPECTRUM);
        let wavelet = match wavelet(context) {
            Ok(wavelet) => wavelet,
            Err(error) => return findings.refuse(error),
        };
        for (module, spectrum) in spectra {
            if let Err(error) = claim_module(context, findings, (module, spectrum), wavelet) {
                findings.refuse(error);
            }
        }
    }
}

/// The wavelet that spreads entries, if one does.
fn wavelet(context: &ClaimContext<'_>) -> Result<Option<&'static str>> {
    match context.adapter.word("use_idwt")? {
        "true" => context.adapter.word("wavelet_family").map(Some),
        _ => Ok(None),
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (module, spectrum): (&str, usize),
    wavelet: Option<&str>,
) -> Result<()> {
    let Some(layer) = SpectrumLayer::find(context, findings, module, spectrum, "PEFT's WaveFT")? else {
        return Ok(());
    };
    let size = [layer.size.0, layer.size.1];
    let recipe = Permuted { seed: layer.seed, size, wavelet: wavelet.map(str::to_owned) }.into();
    let entries = SparseEntries { recipe, sources: vec![spectrum], size: layer.size };
    let op = entries.op(context, layer.scale, layer.is_transposed)?;
    let key = context.tensor(spectrum).key.clone();
    findings.claim(ClaimedModule::change("waveft", module, [key], layer.target, vec![op]));
    Ok(())
}
