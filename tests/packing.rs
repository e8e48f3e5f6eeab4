//! What a product really allocates, counted by an allocator that is this test binary's own.

#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use shardfold::testing::{Kernels, Matrix, packing_bytes};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are const thread-locals without destructors
// and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_product_allocates_at_most_once_and_no_more_than_said() {
    let kernels = Kernels::detect();
    for rank in [0, 1, 16, 64, 255, 256, 257, 600] {
        for (rows, cols) in [(0, 5), (5, 0), (1, 1), (8, 8), (17, 9), (128, 512), (63, 1024), (65, 1500)] {
            let (u, v) = (vec![1.0; rows * rank], vec![1.0; rank * cols]);
            let mut out = vec![0.0; rows * cols];
            let (calls, bytes) = (CALLS.get(), BYTES.get());
            kernels.product(Matrix::row_major(&u, rows, rank), Matrix::row_major(&v, rank, cols), &mut out);
            let (calls, bytes) = (CALLS.get() - calls, BYTES.get() - bytes);
            let bound = packing_bytes(rank, rows, cols);
            assert!(calls <= 1, "{calls} allocations for {rows} x {rank} x {cols}");
            assert!(bytes <= bound, "{bytes} bytes for {rows} x {rank} x {cols}, said {bound}");
            // The bound is not wasteful where it matters: padding of at most 15 rows and 15 columns.
            let padding = rank.min(256) * 30 * 4;
            assert!(kernels.name() == "scalar" || kernels.name() == "baseline" || bytes + padding >= bound);
        }
    }
}
