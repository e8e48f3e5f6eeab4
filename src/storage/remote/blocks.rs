//! [`Blocks`]: small pieces of files that were fetched, so that small reads beside each other (a header, scales beside codes)
//! are one request, and a small file is fetched once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::storage::remote::fetch::Fetch;

/// Bytes of a block. A small file is one.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
/// Blocks of larger files that are kept: the one that was used last stays longest.
const BLOCKS_MOST: usize = 16;
/// Bytes of small files that are kept for good; further ones count as blocks of larger files.
const SMALL_FILES_MOST: usize = 1 << 20;

/// Which block: the file, as whoever keeps it counts, and the block in it.
type BlockKey = (usize, u64);

/// Blocks that were fetched.
#[derive(Default)]
pub(crate) struct Blocks {
    kept: Mutex<KeptBlocks>,
}

#[derive(Default)]
struct KeptBlocks {
    small_files: Vec<(BlockKey, Arc<[u8]>)>,
    small_bytes: usize,
    /// The one that was used last at the end.
    recent: VecDeque<(BlockKey, Arc<[u8]>)>,
}

impl Blocks {
    /// Fills `buf` from blocks of `file`, which has the number `number`.
    ///
    /// # Errors
    /// As [`Fetch::fetch`].
    pub(crate) fn read(
        &self,
        (file, number): (&dyn Fetch, usize),
        mut buf: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        let mut at = offset;
        while !buf.is_empty() {
            let index = at / BLOCK_BYTES as u64;
            let block = self.block((file, number), index)?;
            let from = &block[(at - index * BLOCK_BYTES as u64) as usize..];
            let count = from.len().min(buf.len());
            let (now, rest) = buf.split_at_mut(count);
            now.copy_from_slice(&from[..count]);
            (buf, at) = (rest, at + count as u64);
        }
        Ok(())
    }

    fn block(&self, (file, number): (&dyn Fetch, usize), index: u64) -> Result<Arc<[u8]>> {
        let key = (number, index);
        if let Some(block) = self.kept().find(key) {
            return Ok(block);
        }
        let start = index * BLOCK_BYTES as u64;
        let mut bytes = vec![0; (file.len() - start).min(BLOCK_BYTES as u64) as usize];
        // Not under the lock: others read other blocks meanwhile.
        file.fetch(&mut bytes, start)?;
        let block: Arc<[u8]> = bytes.into();
        self.kept().add(key, &block, file.len() <= BLOCK_BYTES as u64);
        Ok(block)
    }

    fn kept(&self) -> MutexGuard<'_, KeptBlocks> {
        // Each change is one step, so it is right even if another thread panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptBlocks {
    fn find(&mut self, key: BlockKey) -> Option<Arc<[u8]>> {
        if let Some((_, block)) = self.small_files.iter().find(|(own, _)| *own == key) {
            return Some(block.clone());
        }
        let place = self.recent.iter().position(|(own, _)| *own == key)?;
        let found = self.recent.remove(place)?;
        self.recent.push_back(found.clone());
        Some(found.1)
    }

    fn add(&mut self, key: BlockKey, block: &Arc<[u8]>, is_whole_file: bool) {
        if is_whole_file && self.small_bytes + block.len() <= SMALL_FILES_MOST {
            self.small_bytes += block.len();
            self.small_files.push((key, block.clone()));
            return;
        }
        if self.recent.len() == BLOCKS_MOST {
            self.recent.pop_front();
        }
        self.recent.push_back((key, block.clone()));
    }
}
