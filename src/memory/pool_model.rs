//! The pool under every order of steps that the model checker tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::pool::{Lease, PAGE, PoolLayout, PoolMemory};
use crate::threads::atomic::AtomicBool;
use crate::threads::channel::unbounded;
use crate::threads::model::{Timeouts, draw, explore};
use crate::threads::thread;

/// Two pieces, lent by one thread and given back by two others, in any order.
const LAYOUT: PoolLayout = PoolLayout { slab_bytes: PAGE, slabs: 2, slot_bytes: 0, slots: 0 };
const LEASES: u8 = 6;

#[test]
fn pieces_come_back_and_are_lent_to_one_at_a_time() {
    // Whoever waits is woken by the lease that comes back, not by a timeout.
    explore(Timeouts::Never, 2000, || {
        let mut memory = PoolMemory::new(LAYOUT).expect("small");
        let pool = memory.pool();
        let out = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (send, receive) = unbounded::<(u8, Lease<'_, '_>)>();
            for _ in 0..2 {
                let (receive, out) = (receive.clone(), &out);
                scope.spawn(move || {
                    while let Ok((mark, lease)) = receive.recv() {
                        assert!(lease.iter().all(|&byte| byte == mark), "a piece was lent twice");
                        out.fetch_sub(1, Ordering::SeqCst);
                        drop(lease);
                    }
                });
            }
            drop(receive);
            for mark in 1..=LEASES {
                let mut lease = pool.slabs.lease(|| false).expect("never stopped");
                assert!(out.fetch_add(1, Ordering::SeqCst) < LAYOUT.slabs, "more was lent than there is");
                assert!(pool.held() <= LAYOUT.bytes() as u64, "{} bytes are held", pool.held());
                lease.fill(mark);
                send.send((mark, lease)).expect("the others listen");
            }
        });
        assert_eq!(pool.held(), 0, "a lease did not come back");
    });
}

#[test]
fn a_wait_for_memory_ends_when_all_is_stopped() {
    explore(Timeouts::Fire, 2000, || {
        let mut memory = PoolMemory::new(LAYOUT).expect("small");
        let pool = memory.pool();
        let stop = Arc::new(AtomicBool::new(false));
        let mut kept = Vec::new();
        thread::scope(|scope| {
            let raise = stop.clone();
            scope.spawn(move || {
                (0..draw(20)).for_each(|_| shuttle::thread::yield_now());
                raise.store(true, Ordering::Release);
            });
            // Nothing comes back: without the stop this would wait for ever.
            while let Some(lease) = pool.slabs.lease(|| stop.load(Ordering::Acquire)) {
                kept.push(lease);
            }
        });
        assert!(kept.len() <= LAYOUT.slabs);
        drop(kept);
        assert_eq!(pool.held(), 0);
    });
}
