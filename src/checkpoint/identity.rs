//! What tells one state of a file from another: its length, its header, and samples of its data.
//!
//! A shard may be 50 GB, so its identity must not cost reading it; but two checkpoints of one architecture have equal
//! headers. Samples spread over the data tell them apart: training moves nearly every weight.

use crate::error::Result;
use crate::storage::source::Source;
use serde::{Deserialize, Serialize};

const SAMPLES: u64 = 16;
const SAMPLE_BYTES: u64 = 4096;

/// BLAKE3 of the bytes of files before their data.
#[derive(Default)]
pub(crate) struct HeaderHash(blake3::Hasher);

impl HeaderHash {
    /// Adds those of the next file.
    pub(crate) fn add(&mut self, header: &[u8]) {
        self.0.update(header);
    }

    /// The hash in hex.
    pub(crate) fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// BLAKE3 of the bytes of a file before its data, in hex.
pub(crate) fn header_hash(header: &[u8]) -> String {
    let mut hash = HeaderHash::default();
    hash.add(header);
    hash.finish()
}

/// BLAKE3 of evenly spread samples of everything from `data_start` on, in hex.
///
/// # Errors
/// As [`Source::read_at`].
pub(crate) fn sampled(source: &dyn Source, data_start: u64) -> Result<String> {
    let data = source.len() - data_start;
    let mut hasher = blake3::Hasher::new();
    let mut buf = [0; SAMPLE_BYTES as usize];
    let span = data.saturating_sub(SAMPLE_BYTES);
    let mut last = None;
    for i in 0..SAMPLES {
        let at = data_start + (span as u128 * i as u128 / (SAMPLES - 1) as u128) as u64;
        if last == Some(at) {
            continue;
        }
        last = Some(at);
        let piece = &mut buf[..SAMPLE_BYTES.min(source.len() - at) as usize];
        source.read_at(piece, at)?;
        hasher.update(piece);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// What tells one state of a file from another, without a path or a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the header (its length included).
    pub header: String,
    /// BLAKE3 of the content: of all of it for an adapter, of evenly spread samples for a shard of the base. What a store calls
    /// the bytes of such a shard, where no other bytes have that name: `sha256:` and the SHA-256 of all of them, for one.
    pub content: String,
}
