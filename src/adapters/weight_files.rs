//! The files of an adapter's tensors, read as one, whatever its dialect calls them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::header::keep_header;
use crate::checkpoint::header_room::{HeaderOf, HeaderRoom};
use crate::checkpoint::identity::HeaderHash;
use crate::error::Result;
use crate::formats::container::{FileHeader, TensorEntry};
use crate::formats::header_bytes::HeaderBytes;
use crate::storage::chained::Chained;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::Opening;
use crate::adapters::evidence::Evidence;
use crate::adapters::expert_options::ExpertLayout;
use crate::adapters::options::Options;
use crate::adapters::parts::Grammar;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::tensors::{ReadKey, tensors};

/// The files of an adapter's tensors, read as one.
pub(crate) struct WeightFiles {
    /// The file that they are known by: that of all tensors, or the index.
    pub(crate) name: String,
    /// All of their names.
    pub(crate) files: Vec<String>,
    /// Their bytes, one file behind the other.
    pub(crate) source: Box<dyn Source>,
    /// The hash of their headers, likewise.
    pub(crate) header_hash: String,
    /// What the first of them says beside its tensors, as a header of none.
    pub(crate) like: HeaderBytes,
    /// Their tensors in the order of these bytes.
    pub(crate) tensors: Vec<TensorEntry>,
}

/// What a dialect reads of an adapter beside its tensors.
pub(crate) struct Described {
    /// The dialect.
    pub(crate) dialect: &'static str,
    /// The method's type, by PEFT's names.
    pub(crate) kind: String,
    /// All fields of its config, or those that PEFT would have for what it says.
    pub(crate) config: AdapterConfig,
    /// BLAKE3 of what that was read from, in hex.
    pub(crate) config_hash: String,
    /// What decides the meaning of its tensors.
    pub(crate) options: Options,
}

impl WeightFiles {
    /// Opens one file, for whose header there is that `room`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn single(home: &Location, name: &str, room: &HeaderRoom<'_>) -> Result<WeightFiles> {
        WeightFiles::open(home, name, vec![name.to_owned()], &[], room)
    }

    /// Opens files that are known by `name`. Of two copies of a tensor that counts which the index names.
    ///
    /// # Errors
    /// As [`Store::open`] and [`keep_header`].
    pub(crate) fn open(
        home: &Location,
        name: &str,
        files: Vec<String>,
        weight_map: &[(String, Arc<str>)],
        room: &HeaderRoom<'_>,
    ) -> Result<WeightFiles> {
        let listed: HashMap<&str, &str> =
            weight_map.iter().map(|(tensor, shard)| (tensor.as_str(), &**shard)).collect();
        let (mut sources, mut headers) = (Vec::new(), HeaderHash::default());
        let (mut tensors, mut start) = (Vec::<TensorEntry>::new(), 0);
        let mut said = None;
        for file in &files {
            let source = home.open(file)?;
            let FileHeader { bytes, like, tensors: mut own } =
                keep_header(source.as_ref(), &home.path_of(file), room, HeaderOf::Adapter)?;
            headers.add(&bytes);
            drop(bytes);
            said.get_or_insert(like);
            own.retain(|entry| listed.get(&*entry.name).is_none_or(|shard| shard == file));
            own.iter_mut().for_each(|entry| entry.offset += start);
            if tensors.is_empty() {
                tensors = own;
            } else {
                tensors.append(&mut own);
            }
            start += source.len();
            sources.push(source);
        }
        let source = match sources.len() {
            1 => sources.remove(0),
            _ => Box::new(Chained::new(sources)),
        };
        Ok(WeightFiles {
            name: name.to_owned(),
            files,
            source,
            header_hash: headers.finish(),
            like: said.unwrap_or_else(|| HeaderBytes::new(Vec::new())),
            tensors,
        })
    }

    /// The adapter that the files in `location` hold, whose keys `read_key` brings to paths of its method's grammar.
    pub(crate) fn into_adapter(
        self,
        location: Location,
        described: Described,
        opening: &Opening<'_>,
        read_key: impl Fn(&str) -> ReadKey,
    ) -> Adapter {
        let Described { dialect, kind, config, config_hash, options } = described;
        let (tensors, stripped) = tensors(self.tensors, opening.file, &Grammar::of(&kind), read_key);
        Adapter {
            name: config.adapter.clone(),
            dialect,
            kind,
            location,
            file: self.name,
            files: self.files,
            options,
            config,
            evidence: Evidence::default(),
            config_hash,
            header_hash: self.header_hash,
            tensors,
            stripped,
            weight: opening.weight.clone(),
            experts: ExpertLayout::default(),
            unmatched: Vec::new(),
            missing: Vec::new(),
            source: self.source,
            reordered: None,
            own_model: None,
            own_heads: None,
            stands_alone: false,
            components: None,
        }
    }
}
