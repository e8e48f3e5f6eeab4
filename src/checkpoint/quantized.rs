//! The roles of a checkpoint's tensors: quantized data of a logical weight, auxiliary to it, or plain numbers.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::encodings;
use crate::encodings::ENCODINGS;
use crate::encodings::encoding::WrittenOrder;
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::{runtime_scales, schemes};
use crate::error::Error;
use crate::error::checkpoint::CheckpointError;
use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::tensor::dtype::{Dtype, is_mergeable};
use crate::tensor::name::Name;

use crate::checkpoint::catalogue::{BaseTensor, Catalogue};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::plain_lists::PlainModules;
use crate::checkpoint::small_tensors::Peek;
use crate::checkpoint::stated::{Shown, Stated, contradiction, in_config};
use crate::checkpoint::unread::{Beside, UnreadData, company, unread};
use crate::note::input::InputNote;

/// A weight that is stored as quantized data.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedWeight {
    /// What it is called as plain numbers, where that is not what the data is called.
    pub name: Option<Name>,
    /// What it is made of; the quantized data is its first part.
    pub logical: Logical,
    /// What it is written as where it is decoded; none for what the config says.
    pub written_as: Option<Dtype>,
    /// The order in which its values are taken, where its codes are stored in another than that of the model and stay codes.
    pub order: Option<WrittenOrder>,
}

impl QuantizedWeight {
    /// Whether it says by itself how it is stored, so that it may stay so where others are decoded.
    pub(crate) fn stands_alone(&self) -> bool {
        self.name.is_none() && scheme_of(self).iter().any(|scheme| scheme.stands_alone)
    }
}

/// What a tensor is, where it is not plain numbers.
#[derive(Clone, Debug)]
pub(crate) enum TensorRole {
    /// The quantized data of a weight.
    Quantized(QuantizedWeight),
    /// What the values of a weight need beside its data: scales, zero points.
    Auxiliary {
        /// Place of the data among the tensors.
        of: usize,
        /// Which part of the weight it is.
        part: usize,
    },
    /// Something else that only a quantized weight needs, such as the scale of its inputs.
    Unused,
}

/// The tensors of a checkpoint that are no plain numbers, as far as an encoding knows them.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// By place; empty if all tensors are plain.
    roles: Vec<Option<TensorRole>>,
    /// Places of data whose weight has another name than it.
    renamed: HashMap<String, usize>,
    /// Data that no encoding reads, by place.
    unread: BTreeMap<usize, UnreadData>,
    /// Places of what stands beside unread data.
    beside_unread: HashSet<usize>,
    /// Why weights that can be decoded are not to be trusted, by place of their data.
    dubious: BTreeMap<usize, QuantizedProblem>,
    /// What is reported of descriptions of a quantization that no tensor bears out.
    stale: Option<InputNote>,
    /// Whether the weights are plain numbers on disk, and are taken as training saw them.
    is_in_training: bool,
}

impl Weights {
    /// Asks every encoding about every tensor that is not plain; what is wrong with auxiliary tensors is returned beside.
    pub(crate) fn of(base: &Checkpoint) -> (Weights, Vec<Error>) {
        let (mut weights, mut errors) = (Weights::default(), Vec::new());
        let (catalogue, quantization) = (&base.catalogue, base.quantization());
        let peek = Peek::new(base);
        let find = |name: &str| catalogue.find(name).map(|tensor| tensor.tensor.clone());
        let read = |tensor: &_| peek.read(tensor);
        let said = |tensor: &_, key: &_| peek.said(tensor, key);
        let targets = OnceCell::new();
        let unused: Vec<Vec<&Auxiliary>> =
            ENCODINGS.iter().map(|encoding| unused_rows(catalogue, encoding.scheme())).collect();
        let company = company(catalogue);
        // Codes may be stored as any type; what stands beside them tells them from plain numbers then.
        let is_data = |(i, tensor): &(usize, &BaseTensor)| {
            let is_coded = !is_mergeable(tensor.tensor.dtype) || company.contains_key(i);
            is_coded && !schemes::is_auxiliary(&tensor.name)
        };
        for (i, tensor) in catalogue.tensors.iter().enumerate().filter(is_data) {
            let candidate = Candidate {
                name: &tensor.name,
                tensor: &tensor.tensor,
                quantization,
                find: &find,
                targets: &targets,
                read: &read,
                said: &said,
            };
            for (encoding, unused) in ENCODINGS.iter().zip(&unused) {
                match encoding.detect(&candidate) {
                    Ok(None) => continue,
                    Ok(Some(weight)) => {
                        errors.extend(weights.add(catalogue, i, weight, unused).err());
                    }
                    Err(error) => errors.push(error),
                }
                break;
            }
        }
        if !errors.is_empty() {
            // Data that is not understood would be reported again, as unknown.
            return (weights, errors);
        }
        weights.doubt_others_beside(catalogue, &company);
        weights.find_unread(catalogue, &company);
        if weights.any() {
            // Where nothing is described, no description goes.
            if !weights.stand_alone() {
                weights.set_runtime_scales(catalogue);
            }
            weights.doubt_listed(base);
        }
        errors.extend(weights.compare_with_stated(base));
        (weights, errors)
    }

    /// Doubts weights beside which tensors of another scheme stand: two scales, or a scale that their inputs are multiplied by.
    fn doubt_others_beside(&mut self, catalogue: &Catalogue, company: &BTreeMap<usize, Vec<Beside>>) {
        for (&data, beside) in company {
            // What stands beside data that says by itself how it is stored is of no scheme; it stays where that stays.
            if !matches!(self.get(data), Some(TensorRole::Quantized(weight)) if !weight.stands_alone()) {
                continue;
            }
            for other in beside {
                if self.roles[other.place].is_none() {
                    let name = catalogue.tensors[other.place].name.to_string();
                    let titles = schemes::titles(&other.schemes);
                    self.dubious.insert(data, QuantizedProblem::OtherBeside { name, titles });
                    self.roles[other.place] = Some(TensorRole::Unused);
                }
            }
        }
    }

    fn find_unread(&mut self, catalogue: &Catalogue, company: &BTreeMap<usize, Vec<Beside>>) {
        let found = unread(catalogue, company, |place| self.get(place).is_some());
        self.beside_unread = found.values().flat_map(|data| &data.beside).copied().collect();
        self.unread = found;
    }

    /// Finds the scales of caches and inputs that stand beside no data: they go where the data's description goes.
    fn set_runtime_scales(&mut self, catalogue: &Catalogue) {
        for (i, tensor) in catalogue.tensors.iter().enumerate() {
            if self.roles[i].is_none() && runtime_scales::is_scale(&tensor.name, &tensor.tensor) {
                self.roles[i] = Some(TensorRole::Unused);
            }
        }
    }

    /// Doubts quantized weights that a list leaves plain: one of the two is of another checkpoint.
    fn doubt_listed(&mut self, base: &Checkpoint) {
        let Some(quantization) = base.quantization() else { return };
        let plain = PlainModules::of(quantization);
        let listed = self.quantized().filter(|(place, weight)| {
            let name = weight.name.as_deref().unwrap_or(&base.catalogue.tensors[*place].name);
            plain.has(name.strip_suffix(".weight").unwrap_or(name))
        });
        let listed: Vec<usize> = listed.map(|(place, _)| place).collect();
        self.dubious.extend(listed.into_iter().map(|place| (place, QuantizedProblem::ListedPlain)));
    }

    /// Why weights that can be decoded are not to be trusted, by place of their data.
    pub(crate) fn dubious(&self) -> impl Iterator<Item = (usize, &QuantizedProblem)> {
        self.dubious.iter().map(|(place, why)| (*place, why))
    }

    fn quantized(&self) -> impl Iterator<Item = (usize, &QuantizedWeight)> {
        self.roles.iter().enumerate().filter_map(|(i, role)| match role {
            Some(TensorRole::Quantized(weight)) => Some((i, weight)),
            _ => None,
        })
    }

    /// Holds what is said of the quantization against the tensors.
    fn compare_with_stated(&mut self, base: &Checkpoint) -> Option<Error> {
        let all: Vec<Stated> =
            in_config(&base.config).into_iter().chain(base.stated.iter().cloned()).collect();
        // A base may be quantized in its cache alone, which scales bear out.
        let is_one = |name: &str| {
            schemes::is_auxiliary(name) || schemes::is_data(name) || runtime_scales::is_named(name)
        };
        let has_scales = || base.catalogue.tensors.iter().any(|tensor| is_one(&tensor.name));
        if !self.any() && self.unread.is_empty() && !all.is_empty() && !has_scales() {
            return self.set_stale(&all);
        }
        self.unread.values_mut().for_each(|data| data.narrow(&all));
        let read: Vec<(usize, Vec<&'static Scheme>)> =
            self.quantized().map(|(i, weight)| (i, scheme_of(weight))).collect();
        let read = read.iter().map(|(i, schemes)| (*i, schemes.as_slice()));
        let unread = self.unread.iter().map(|(i, data)| (*i, data.schemes.as_slice()));
        let mut shown: Vec<Shown<'_>> = read.chain(unread).collect();
        shown.sort_unstable_by_key(|(place, _)| *place);
        all.iter().find_map(|stated| contradiction(stated, &base.catalogue, &shown))
    }

    /// Notes that nothing bears a description out, unless it alone changes what plain weights mean.
    fn set_stale(&mut self, all: &[Stated]) -> Option<Error> {
        let is_online = |stated: &&Stated| stated.schemes.iter().any(|scheme| scheme.is_online);
        if let Some(stated) = all.iter().find(is_online) {
            return Some(CheckpointError::Online { stated: stated.named() }.into());
        }
        let stated: Vec<String> = all.iter().map(Stated::named).collect();
        self.stale = (!stated.is_empty()).then_some(InputNote::QuantizationDropped { stated });
        None
    }

    fn add(
        &mut self,
        catalogue: &Catalogue,
        data: usize,
        weight: Detected,
        unused: &[&Auxiliary],
    ) -> Result<(), Error> {
        let Detected { name, logical, auxiliary } = weight;
        let called = &catalogue.tensors[data].name;
        if *name != **called {
            let other = catalogue.position(&name).or_else(|| self.renamed.insert(name.clone(), data));
            if let Some(other) = other {
                let second = catalogue.tensors[other].name.to_string();
                let why = QuantizedProblem::Twice { first: called.to_string(), second };
                return Err(ClaimError::Quantized { tensor: name, why }.into());
            }
        }
        // A place in a file belongs to one tensor, so it finds an auxiliary tensor again without its name.
        self.roles.resize(catalogue.tensors.len(), None);
        for (part, tensor) in logical.parts().iter().enumerate().skip(1) {
            if let Some(i) = catalogue.at(tensor) {
                self.roles[i] = Some(TensorRole::Auxiliary { of: data, part });
            }
        }
        let named =
            unused.iter().flat_map(|row| row.names(called)).filter_map(|name| catalogue.position(&name));
        let detected = auxiliary.iter().filter_map(|tensor| catalogue.at(tensor));
        for i in named.chain(detected) {
            self.roles[i] = Some(TensorRole::Unused);
        }
        let name = (*name != **called).then(|| name.into());
        self.roles[data] =
            Some(TensorRole::Quantized(QuantizedWeight { name, logical, written_as: None, order: None }));
        Ok(())
    }

    /// Data of a scheme that is not read, if a tensor is that.
    pub(crate) fn unread(&self, i: usize) -> Option<&UnreadData> {
        self.unread.get(&i)
    }

    /// Whether a tensor stands beside data that is not read, and means nothing without it.
    pub(crate) fn is_beside_unread(&self, i: usize) -> bool {
        self.beside_unread.contains(&i)
    }

    /// What is reported where the base says that it is quantized and no tensor is.
    pub(crate) fn stale(&self) -> Option<&InputNote> {
        self.stale.as_ref()
    }

    /// What is reported where weights stand in another basis than those of the model that they were made from.
    pub(crate) fn turned(&self) -> Option<InputNote> {
        let turned = |(_, weight): (usize, &QuantizedWeight)| {
            scheme_of(weight).into_iter().find(|scheme| scheme.is_turned)
        };
        let scheme = self.quantized().find_map(turned)?;
        Some(InputNote::OtherBasis { titles: scheme.title.to_owned() })
    }

    /// What a tensor is, if it is not plain.
    pub(crate) fn get(&self, i: usize) -> Option<&TensorRole> {
        self.roles.get(i)?.as_ref()
    }

    /// The place of the tensor of that name, or of the data of the weight of that name.
    pub(crate) fn position(&self, catalogue: &Catalogue, name: &str) -> Option<usize> {
        catalogue.position(name).or_else(|| self.renamed.get(name).copied())
    }

    /// Takes every weight in the order of its bytes, as it is written where its codes stay codes.
    pub(crate) fn keep_as_stored(&mut self) {
        for role in &mut self.roles {
            let Some(TensorRole::Quantized(weight)) = role else { continue };
            let encoding = encodings::find(weight.logical.encoding());
            if let Some((order, written)) = encoding.and_then(|encoding| encoding.across(&weight.logical)) {
                (weight.logical, weight.order) = (written, Some(order));
            }
        }
    }

    /// Takes a weight of plain numbers as training saw it; it is written as what it is.
    pub(crate) fn see_in_training(&mut self, catalogue: &Catalogue, place: usize, logical: Logical) {
        let written_as = Some(catalogue.tensors[place].tensor.dtype);
        self.is_in_training = true;
        self.roles.resize(catalogue.tensors.len(), None);
        self.roles[place] =
            Some(TensorRole::Quantized(QuantizedWeight { name: None, logical, written_as, order: None }));
    }

    /// Whether every quantized weight says by itself how it is stored.
    pub(crate) fn stand_alone(&self) -> bool {
        self.quantized().all(|(_, weight)| weight.stands_alone())
    }

    /// Keys of headers that list others, which describe quantized data.
    pub(crate) fn header_keys(&self) -> Vec<&'static str> {
        self.quantized()
            .flat_map(|(_, weight)| scheme_of(weight))
            .flat_map(|scheme| scheme.header_keys)
            .copied()
            .collect()
    }

    /// Whether any tensor is quantized data on disk.
    pub(crate) fn any(&self) -> bool {
        !self.roles.is_empty() && !self.is_in_training
    }
}

/// What only runtimes need of a scheme's tensors, as far as a checkpoint has names that end so.
fn unused_rows(catalogue: &Catalogue, scheme: Option<&'static Scheme>) -> Vec<&'static Auxiliary> {
    let rows = scheme.into_iter().flat_map(|scheme| scheme.unused);
    rows.filter(|row| catalogue.may_have(row.ending)).collect()
}

/// The scheme of a weight's encoding.
fn scheme_of(weight: &QuantizedWeight) -> Vec<&'static Scheme> {
    encodings::find(weight.logical.encoding()).and_then(|encoding| encoding.scheme()).into_iter().collect()
}
