//! `--combine` and the flags that belong to it.

use crate::cli::flags::CombineFlags;
use crate::cli::values::usage;
use crate::error::Result;
use crate::ops::combination::Combination;

const ACCEPTED: &str =
    "`linear`, `cat`, `svd`, `ties`, `magnitude_prune`, `dare_linear` or `dare_ties` is accepted";
/// PEFT's names of what it cuts to a rank behind it.
const WITH_SVD: &[&str] = &["ties_svd", "magnitude_prune_svd", "dare_linear_svd", "dare_ties_svd"];
const CUT: &str = "its result needs no rank here, and is not cut: it is accepted without `_svd`";
/// The highest rank that is left: the singular values of its factors are found in memory.
const RANK_MOST: u64 = 4096;

/// How deltas are combined, as the flags say.
///
/// # Errors
/// [`RequestError::Usage`](crate::error::request::RequestError::Usage) with the flag, the value and what is accepted.
pub(crate) fn combination(flags: &CombineFlags) -> Result<Option<Combination>> {
    let CombineFlags { combine, density, combine_seed: seed, rank } = flags;
    let found = match combine.as_deref() {
        None => None,
        Some("linear" | "cat") => Some(Combination::Sum),
        Some("svd") => Some(Combination::Truncated { rank: read_rank(rank.as_deref())? }),
        Some("dare_linear") => Some(Combination::Sampled {
            density: read_density(density.as_deref())?,
            seed: read_seed(seed.as_deref())?,
        }),
        Some("ties" | "magnitude_prune") => Some(Combination::Elected {
            density: read_density(density.as_deref())?,
            seed: None,
            by_majority: combine.as_deref() == Some("ties"),
        }),
        Some("dare_ties") => Some(Combination::Elected {
            density: read_density(density.as_deref())?,
            seed: Some(read_seed(seed.as_deref())?),
            by_majority: true,
        }),
        Some(other) => {
            let accepted = if WITH_SVD.contains(&other) { CUT } else { ACCEPTED };
            return Err(usage("--combine", other, accepted));
        }
    };
    let is_drawn =
        matches!(found, Some(Combination::Sampled { .. } | Combination::Elected { seed: Some(_), .. }));
    let has_density = is_drawn || matches!(found, Some(Combination::Elected { .. }));
    let is_cut = matches!(found, Some(Combination::Truncated { .. }));
    for (flag, value, has_place, accepted) in [
        (
            "--density",
            density,
            has_density,
            "it is accepted with `ties`, `magnitude_prune`, `dare_linear` and `dare_ties`",
        ),
        ("--combine-seed", seed, is_drawn, "it is accepted with `--combine dare_linear` and `dare_ties`"),
        ("--rank", rank, is_cut, "it is accepted with `--combine svd`"),
    ] {
        if let Some(value) = value.as_deref().filter(|_| !has_place) {
            return Err(usage(flag, value, accepted));
        }
    }
    Ok(found)
}

fn read_rank(text: Option<&str>) -> Result<u64> {
    let rank = text.and_then(|text| text.parse().ok()).filter(|rank| (1..=RANK_MOST).contains(rank));
    rank.ok_or_else(|| {
        usage("--rank", text.unwrap_or_default(), "`--combine svd` needs a whole number from 1 to 4096")
    })
}

fn read_density(text: Option<&str>) -> Result<f64> {
    let density = text.and_then(|text| text.parse().ok()).filter(|share: &f64| *share > 0.0 && *share <= 1.0);
    density.ok_or_else(|| {
        let accepted = "this `--combine` needs a number above 0 and no more than 1, such as 0.5";
        usage("--density", text.unwrap_or_default(), accepted)
    })
}

fn read_seed(text: Option<&str>) -> Result<u64> {
    let Some(text) = text else { return Ok(0) };
    text.parse().map_err(|_| {
        usage("--combine-seed", text, "a whole number from 0 to 18446744073709551615 is accepted")
    })
}
