//! The one block of memory that tiles and factors live in, and the leases it is lent by.
//!
//! A single anonymous map is cut into equal tile buffers (slabs) and equal factor buffers (slots). Only the reader takes leases, in
//! the order of the schedule; whoever drops one gives it back. So nobody can wait for memory in a circle: every lease that
//! is out belongs to work that goes on without the reader.

use std::time::Duration;

use memmap2::MmapMut;

use crate::error::budget::BudgetNeed;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::threads::atomic::{AtomicU64, Ordering};
use crate::threads::channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Sizes are multiples of this, so that direct I/O stays possible.
pub(crate) const PAGE: usize = 4096;

/// How the pool is cut: tile buffers (slabs) and factor buffers (slots).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLayout {
    /// Bytes of a slab, a multiple of [`PAGE`].
    pub slab_bytes: usize,
    /// Number of slabs.
    pub slabs: usize,
    /// Bytes of a factor slot, a multiple of [`PAGE`]; zero if no op needs one.
    pub slot_bytes: usize,
    /// Number of factor slots.
    pub slots: usize,
}

impl PoolLayout {
    /// Bytes of the whole pool.
    pub fn bytes(&self) -> usize {
        self.slab_bytes * self.slabs + self.slot_bytes * self.slots
    }
}

/// The map behind a [`Pool`].
pub(crate) struct PoolMemory {
    map: Option<MmapMut>,
    layout: PoolLayout,
}

impl PoolMemory {
    /// Maps memory for `layout`. Nothing is resident before it is touched.
    ///
    /// # Errors
    /// [`RequestError::Budget`] when the system refuses the map.
    pub(crate) fn new(layout: PoolLayout) -> Result<PoolMemory> {
        let bytes = layout.bytes();
        let map = match bytes {
            0 => None,
            _ => Some(MmapMut::map_anon(bytes).map_err(|cause| {
                let what = BudgetNeed::Unmapped;
                Error::new(RequestError::Budget { budget: (bytes as u64).into(), needed: bytes as u64, what })
                    .because(cause)
            })?),
        };
        Ok(PoolMemory { map, layout })
    }

    /// The pool over this memory.
    pub(crate) fn pool(&mut self) -> Pool<'_> {
        let bytes: &mut [u8] = self.map.as_deref_mut().unwrap_or_default();
        let (slabs, slots) = bytes.split_at_mut(self.layout.slab_bytes * self.layout.slabs);
        Pool {
            slabs: BufferPool::new(slabs, self.layout.slab_bytes),
            slots: BufferPool::new(slots, self.layout.slot_bytes),
        }
    }
}

/// Slabs for tiles and slots for factors.
pub(crate) struct Pool<'m> {
    /// For tiles.
    pub slabs: BufferPool<'m>,
    /// For factors that several tiles share.
    pub slots: BufferPool<'m>,
}

impl Pool<'_> {
    /// Bytes that are lent now.
    pub(crate) fn held(&self) -> u64 {
        self.slabs.held() + self.slots.held()
    }
}

/// Equal pieces of memory that are lent and given back.
pub(crate) struct BufferPool<'m> {
    piece_bytes: usize,
    held: AtomicU64,
    give: Sender<&'m mut [u8]>,
    take: Receiver<&'m mut [u8]>,
}

impl<'m> BufferPool<'m> {
    fn new(bytes: &'m mut [u8], piece_bytes: usize) -> BufferPool<'m> {
        let pieces = bytes.len().checked_div(piece_bytes).unwrap_or(0);
        let (give, take) = bounded(pieces.max(1));
        for piece in bytes.chunks_exact_mut(piece_bytes.max(1)).take(pieces) {
            give.send(piece).expect("the pool holds as many pieces as it was made for");
        }
        BufferPool { piece_bytes, held: AtomicU64::new(0), give, take }
    }

    /// Waits for a piece; `None` once `stopped` says so.
    ///
    /// # Panics
    /// If the pool was made without pieces: the schedule never asks for one then.
    pub(crate) fn lease(&self, stopped: impl Fn() -> bool) -> Option<Lease<'_, 'm>> {
        assert!(self.piece_bytes > 0, "the schedule made no pieces of this kind");
        loop {
            if stopped() {
                return None;
            }
            match self.take.recv_timeout(Duration::from_millis(50)) {
                Ok(bytes) => {
                    self.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    return Some(Lease { bytes: Some(bytes), pool: self });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the pool holds a sender itself"),
            }
        }
    }

    /// Bytes that are lent now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// A piece of memory, given back when dropped.
pub(crate) struct Lease<'s, 'm> {
    bytes: Option<&'m mut [u8]>,
    pool: &'s BufferPool<'m>,
}

impl std::ops::Deref for Lease<'_, '_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().expect("held until dropped")
    }
}

impl std::ops::DerefMut for Lease<'_, '_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().expect("held until dropped")
    }
}

impl Drop for Lease<'_, '_> {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.pool.held.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            self.pool.give.send(bytes).expect("the pool has room for all its pieces");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn leases_never_exceed_the_pool() {
        let layout = PoolLayout { slab_bytes: PAGE, slabs: 3, slot_bytes: 2 * PAGE, slots: 1 };
        let mut memory = PoolMemory::new(layout).expect("small");
        let pool = memory.pool();
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (send, receive) = bounded::<Lease<'_, '_>>(8);
            scope.spawn(move || receive.iter().for_each(drop));
            for i in 0..200u8 {
                let mut lease = pool.slabs.lease(|| false).expect("never stopped");
                lease.fill(i);
                most.fetch_max(pool.held(), Ordering::Relaxed);
                send.send(lease).expect("the other side listens");
            }
        });
        assert_eq!(pool.held(), 0);
        assert!(most.into_inner() <= 3 * PAGE as u64);
        let slot = pool.slots.lease(|| false).expect("free");
        assert_eq!((slot.len(), pool.held()), (2 * PAGE, 2 * PAGE as u64));
    }

    #[test]
    fn a_wait_ends_when_stopped() {
        let layout = PoolLayout { slab_bytes: PAGE, slabs: 1, slot_bytes: 0, slots: 0 };
        let mut memory = PoolMemory::new(layout).expect("small");
        let pool = memory.pool();
        let stop = AtomicBool::new(false);
        let _first = pool.slabs.lease(|| false).expect("free");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.slabs.lease(|| stop.load(Ordering::Relaxed)).is_none());
            stop.store(true, Ordering::Relaxed);
            assert!(waiting.join().expect("no panic"));
        });
    }
}
