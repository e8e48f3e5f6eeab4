//! Quantized data that no encoding reads: which tensors it is, what stands beside it, and which schemes explain that.
//!
//! Names and element types tell, never a config. A tensor is auxiliary to another if a scheme knows it by its name and that
//! other is there and holds no plain numbers. Data is explained by the schemes that know **all** of what stands beside it:
//! an `.weight_scale_2` tells NVFP4 from FP8, and two scales of two schemes are explained by none.

use std::collections::{BTreeMap, HashSet};

use crate::checkpoint::catalogue::{BaseTensor, Catalogue};
use crate::checkpoint::stated::Stated;
use crate::encodings::scheme::Scheme;
use crate::encodings::schemes::AuxiliaryRows;
use crate::encodings::{runtime_scales, schemes};
use crate::tensor::dtype::Dtype;

/// Quantized data that no encoding reads.
#[derive(Clone, Debug)]
pub(crate) struct UnreadData {
    /// The schemes that explain it and all that stands beside it; none where no one scheme does.
    pub schemes: Vec<&'static Scheme>,
    /// Places of the tensors beside it.
    pub beside: Vec<usize>,
}

impl UnreadData {
    /// Whether nothing but its type speaks for data.
    pub(crate) fn is_bare(&self) -> bool {
        self.schemes.is_empty() && self.beside.is_empty()
    }

    /// Leaves those schemes that are stated, where any of them is.
    pub(crate) fn narrow(&mut self, stated: &[Stated]) {
        let is_stated = |scheme: &&&'static Scheme| {
            let mut all = stated.iter().flat_map(|stated| &stated.schemes);
            all.any(|other| schemes::is_same(other, scheme))
        };
        let narrowed: Vec<&'static Scheme> = self.schemes.iter().filter(is_stated).copied().collect();
        if !narrowed.is_empty() {
            self.schemes = narrowed;
        }
    }

    /// What it is called in messages.
    pub(crate) fn titles(&self) -> String {
        match self.schemes.as_slice() {
            [] => "a scheme that is not known".to_owned(),
            known => schemes::titles(known),
        }
    }
}

/// A tensor beside quantized data, and the schemes that know it there.
pub(crate) struct Beside {
    /// Its place.
    pub place: usize,
    /// The schemes.
    pub schemes: Vec<&'static Scheme>,
}

/// By the place of quantized data, what stands beside it.
pub(crate) fn company(catalogue: &Catalogue) -> BTreeMap<usize, Vec<Beside>> {
    let mut found: BTreeMap<usize, Vec<Beside>> = BTreeMap::new();
    let mut rows = AuxiliaryRows::of(catalogue.tensors.iter().map(|tensor| &*tensor.name));
    for place in 0..catalogue.tensors.len() {
        if let Some((data, schemes)) = data_of(catalogue, place, &mut rows) {
            found.entry(data).or_default().push(Beside { place, schemes });
        }
    }
    found
}

/// The data that a tensor belongs to, and the schemes by which it does.
fn data_of<'c>(
    catalogue: &'c Catalogue,
    place: usize,
    rows: &mut AuxiliaryRows<'c>,
) -> Option<(usize, Vec<&'static Scheme>)> {
    let mut found: Option<(usize, Vec<&'static Scheme>)> = None;
    for named in rows.data_of(&catalogue.tensors[place].name) {
        if let Some((data, schemes)) = &mut found {
            if named.is(&catalogue.tensors[*data].name) {
                schemes.push(named.scheme);
            }
            continue;
        }
        let data = catalogue.position(&named.name()).filter(|data| *data != place);
        let is_coded =
            |data: &usize| named.scheme.has_any_dtype || !is_plain(catalogue.tensors[*data].tensor.dtype);
        found = data.filter(is_coded).map(|data| (data, vec![named.scheme]));
    }
    found
}

/// Types of plain numbers, and of counts and masks.
fn is_plain(dtype: Dtype) -> bool {
    use Dtype::{BF16, BOOL, F16, F32, F64, I64};
    matches!(dtype, F64 | F32 | F16 | BF16 | I64 | BOOL)
}

/// The data that `is_read` does not hold for, by place.
pub(crate) fn unread(
    catalogue: &Catalogue,
    company: &BTreeMap<usize, Vec<Beside>>,
    is_read: impl Fn(usize) -> bool,
) -> BTreeMap<usize, UnreadData> {
    let mut found = BTreeMap::new();
    let auxiliary: HashSet<usize> = company.values().flatten().map(|beside| beside.place).collect();
    for (&data, beside) in company.iter().filter(|(data, _)| !is_read(**data) && !auxiliary.contains(data)) {
        let schemes = explained_by(catalogue, &catalogue.tensors[data], beside);
        found
            .insert(data, UnreadData { schemes, beside: beside.iter().map(|beside| beside.place).collect() });
    }
    for (place, tensor) in catalogue.tensors.iter().enumerate() {
        let is_other = || is_read(place) || auxiliary.contains(&place) || found.contains_key(&place);
        if is_data_by_itself(tensor) && !is_other() {
            let schemes = explained_by(catalogue, tensor, &[]);
            found.insert(place, UnreadData { schemes, beside: Vec::new() });
        }
    }
    found
}

/// The schemes that know data of such a name and type, and all that stands beside it.
fn explained_by(catalogue: &Catalogue, data: &BaseTensor, beside: &[Beside]) -> Vec<&'static Scheme> {
    let is_marked = |scheme: &Scheme| {
        let has =
            |mark: &&str| beside.iter().any(|other| catalogue.tensors[other.place].name.ends_with(mark));
        scheme.marks.is_empty() || scheme.marks.iter().any(has)
    };
    let knows =
        |scheme: &Scheme, beside: &Beside| beside.schemes.iter().any(|other| schemes::is_same(other, scheme));
    let fits = |scheme: &&'static Scheme| {
        (scheme.dtypes.is_empty() || scheme.dtypes.contains(&data.tensor.dtype))
            && is_marked(scheme)
            && beside.iter().all(|beside| knows(scheme, beside))
    };
    let named = match beside.first() {
        Some(first) => first.schemes.clone(),
        None => schemes::of_data_name(&data.name),
    };
    named.into_iter().filter(fits).collect()
}

/// Whether a tensor without anything beside it is quantized data all the same: floats of 8 bits and less, and whole numbers in
/// place of a weight.
fn is_data_by_itself(tensor: &BaseTensor) -> bool {
    use Dtype::{F8_E8M0, I8, I16, I32, U8, U16, U32};
    let dtype = tensor.tensor.dtype;
    if matches!(dtype, I8 | U8 | I16 | U16 | I32 | U32) {
        return tensor.name.ends_with(".weight") || !schemes::of_data_name(&tensor.name).is_empty();
    }
    dtype != F8_E8M0
        && dtype.bitsize() <= 8
        && dtype != Dtype::BOOL
        && !schemes::is_auxiliary(&tensor.name)
        && !runtime_scales::is_named(&tensor.name)
}
