//! How a budget is split: what the process holds already, a margin, the page cache it is charged for, the workers'
//! scratch, tile buffers (slabs) and factor buffers (slots).

use crate::schedule::requirement::{BLOCK_COLS, BLOCK_ROWS};
use serde::Serialize;

use crate::error::budget::{BudgetNeed, BudgetPart};
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::kernels::fused::made::ProductScratch;
use crate::kernels::fused::tile::FusedScratch;
use crate::kernels::fused::vector::Real;
use crate::memory::pool::{PAGE, PoolLayout};
use crate::ops::formula::PRODUCTS_MOST;
use crate::plan::out_tensor::Plan;
use crate::tensor::size::{Size, flag_size, show_size};

use crate::schedule::repack::FactorLocations;
use crate::schedule::requirement::{Demand, Requirement};

/// Rows of a block that are reduced in the tile, at most: the results of each are kept while they are written.
pub(crate) const REDUCED_ROWS: usize = 1024;

/// Rows and columns of a block that formulas are evaluated on: it stays in the second-level cache, and what is packed of a
/// factor is used for many rows.
pub(crate) const FORMULA_ROWS: usize = 64;
pub(crate) const FORMULA_COLS: usize = 256;

const MIB: u64 = 1 << 20;
/// The product allocates its packing buffer at each call, aligned, and glibc's heap then holds several: a chunk that
/// was aligned and freed is too small for the next request. Measured at rank 256 with two workers: 55 MB resident where
/// every buffer is mapped on its own, 63 MB from the heap (mapping each costs a third of the speed).
const PACKING_COPIES: u64 = 8;
/// What else grows a little while it runs: code that is touched for the first time, stacks, allocator, channels.
const MARGIN: u64 = 3 * MIB;
/// The touched part of a thread's stack.
const STACK: u64 = MIB / 8;
/// What is read ahead, or the page cache that reading leaves between a read and its drop-behind.
const READ_LEAST: u64 = 2 * MIB;
const READ_MOST: u64 = 8 * MIB;
/// Write-back of more than this at once makes nothing faster.
const WINDOW_MOST: u64 = 8 * MIB;
/// Slabs beyond these sizes and this number make nothing faster.
const SLAB_MOST: u64 = 4 * MIB;
const SLABS_MOST: u64 = 16;
const SLABS_LEAST: u64 = 3;
/// Workers beyond this number are neither accepted nor chosen.
pub(crate) const WORKERS_MOST: usize = 64;
const SLAB_FINE: u64 = 256 << 10;
/// Gather buffers up to this size must have room, as codes would else be read as often as a matrix has tiles: a hundred
/// times.
const GATHER_WHOLE: u64 = 64 * MIB;
/// Windows of a cut that a test asks for: pieces of one or two pages.
const FORCED_WINDOW: usize = 16 << 10;
/// Slots let the reader go on to the next tensors while workers still need the factors of the last.
const SLOTS_MOST: u64 = 4;

/// What the caller wants and what is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The budget; none lets the schedule take what makes it fast.
    pub max_ram: Option<Size>,
    /// The most that a budget chosen here may be.
    pub ceiling: Option<u64>,
    /// Worker threads; none lets the schedule choose.
    pub workers: Option<usize>,
    /// CPUs there are.
    pub cpus: usize,
    /// Bytes resident now, the plan included.
    pub resident: u64,
    /// Bytes that the store of the output takes for what is on its way there.
    pub output_memory: u64,
    /// Bytes of a slab and number of slabs, for tests: the budget is not looked at then.
    pub forced: Option<(usize, usize)>,
}

/// One line of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetLine {
    /// What the bytes are for.
    pub what: &'static str,
    /// How many.
    pub bytes: u64,
}

/// A budget and what it is spent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// All of it.
    pub total: Size,
    /// What it is split into; never more than the total.
    pub lines: Vec<BudgetLine>,
    /// The smallest budget that would do, with one worker, as one would type it.
    pub smallest: u64,
    /// Tensors whose factors are read once for each row, as no factor buffer holds them: none at a budget of this size.
    pub factors_once_at: Option<u64>,
    /// Codes that are gathered are read for every tile, as no gather buffer holds them whole: once at a budget of this
    /// size.
    pub codes_once_at: Option<u64>,
}

/// How a plan is run here.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Worker threads.
    pub workers: usize,
    /// How the pool is cut.
    pub cut: PoolLayout,
    /// Bytes that may be read before they are asked for.
    pub read_window_bytes: usize,
    /// Bytes written before their write-back is waited for.
    pub window_bytes: usize,
    /// Bytes of the gather buffer, in which the reader holds what it picks short runs out of.
    pub gather_bytes: usize,
    /// What a worker has of its own.
    pub scratch: ScratchSizes,
    /// What the memory is spent on.
    pub budget: Budget,
    /// Where factors are read that were repacked for this run; at first all are where the plan says.
    pub(crate) locations: FactorLocations,
}

/// What a worker has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchSizes {
    /// Elements of a block.
    pub block: usize,
    /// Scratch buffers of a block's size for deltas.
    pub deltas: usize,
    /// Whether an output is of another type than what it starts from.
    pub casts: bool,
    /// The most that the ranks of the products on one element add up to.
    pub ranks: usize,
    /// The greatest rank of a product in a formula that is evaluated in f32; none if no formula is.
    pub singles: Option<usize>,
    /// The same for formulas that are evaluated in f64.
    pub doubles: Option<usize>,
}

impl Schedule {
    /// Bytes that the run will take, but for the windows of I/O.
    pub(crate) fn growth_bytes(&self) -> u64 {
        (self.cut.bytes() + self.gather_bytes + self.workers * self.scratch.bytes()) as u64
    }
}

impl ScratchSizes {
    fn of(requirement: &Requirement<'_>) -> ScratchSizes {
        let block = requirement.block.amount.max(BLOCK_ROWS * BLOCK_COLS);
        let Requirement { deltas, casts, ranks, singles, doubles, .. } = *requirement;
        ScratchSizes { block, deltas: deltas.max(1), casts, ranks, singles, doubles }
    }

    /// Bytes of it: running values, what the tensor started from, what that is in the output's type, the deltas, and what
    /// the fused kernel has.
    fn bytes(self) -> usize {
        let blocks = (2 + usize::from(self.casts) + self.deltas) * self.block * size_of::<f32>();
        let formulas = formula_bytes::<f32>(self.singles) + formula_bytes::<f64>(self.doubles);
        blocks + FusedScratch::bytes(self.ranks) + formulas
    }
}

/// Bytes of what formulas are evaluated on: running values, their bounds, and products of that rank.
fn formula_bytes<T: Real>(rank: Option<usize>) -> usize {
    let Some(rank) = rank else { return 0 };
    let numbers = 2 * FORMULA_ROWS * FORMULA_COLS * size_of::<T>();
    numbers + PRODUCTS_MOST * ProductScratch::<T>::bytes(rank, FORMULA_ROWS, FORMULA_COLS)
}

/// A window with which direct I/O has two huge pages each way, and the budget from which on it is had.
const WINDOW_HUGE: u64 = 2 * MIB;
const WINDOW_HUGE_FROM: u64 = 28 * MIB;

/// Bytes that the hash of a tensor takes until the record is written.
const TENSOR_HASH: u64 = 80;

/// What does not depend on the budget.
struct Fixed<'p> {
    requirement: Requirement<'p>,
    resident: u64,
    output_memory: u64,
    per_worker: u64,
    counter_slack: u64,
}

impl<'p> Fixed<'p> {
    fn of(plan: &'p Plan, asked: &Asked) -> Fixed<'p> {
        let requirement = Requirement::of(plan);
        let widest = requirement.block.amount.max(BLOCK_COLS);
        let packing =
            crate::kernels::product::packing_bytes(requirement.rank.amount, BLOCK_ROWS, widest) as u64;
        // The kernel may hold back so many pages of the count on each CPU (platform: Linux 6.2 and later).
        let counter_slack = (asked.cpus * (2 * asked.cpus).max(32) * PAGE) as u64;
        Fixed {
            resident: asked.resident + TENSOR_HASH * plan.tensors().count() as u64,
            output_memory: asked.output_memory,
            per_worker: PACKING_COPIES * packing + ScratchSizes::of(&requirement).bytes() as u64 + STACK,
            counter_slack,
            requirement,
        }
    }

    /// Bytes of the smallest slab.
    fn slab_least(&self) -> u64 {
        page(self.requirement.tile.amount as u64).max(64 << 10)
    }

    /// Bytes of the smallest pool.
    fn pool_least(&self) -> u64 {
        SLABS_LEAST * self.slab_least()
            + page(self.requirement.factors.amount as u64)
            + page(gather_least(&self.requirement))
    }

    /// What the kernel's counters and small growth may take of `total`.
    fn margin(&self, total: u64) -> u64 {
        MARGIN + self.counter_slack.min(total / 16)
    }

    /// Results of reductions: of the tensor that is written, and of the next.
    fn reductions(&self) -> u64 {
        2 * self.requirement.reduction.amount as u64
    }

    /// What is not the pool's in a budget of `total`.
    fn spent(&self, total: u64, workers: u64) -> u64 {
        self.resident
            + self.output_memory
            + self.margin(total)
            + cache(total)
            + self.reductions()
            + workers * self.per_worker
    }

    /// The parts of the smallest budget, `total`: the largest with the tensor that it is so large for.
    fn parts(&self, total: u64, workers: u64) -> BudgetNeed {
        let Requirement { tile, factors, rank, block, reduction, gather_rows, gather_full, .. } =
            &self.requirement;
        let is_block = block.amount > BLOCK_ROWS * BLOCK_COLS;
        let widest = if is_block { block } else { rank };
        let gather = if gather_least(&self.requirement) == gather_full.amount as u64 {
            gather_full
        } else {
            gather_rows
        };
        let workers_are = if workers == 1 { "worker" } else { "workers" };
        let rows = [
            (Some(workers), workers_are, workers * self.per_worker, widest),
            (Some(SLABS_LEAST), "tile buffers", SLABS_LEAST * self.slab_least(), tile),
            (None, "factor buffers", page(factors.amount as u64), factors),
            (None, "reduction state", self.reductions(), reduction),
            (None, "gather buffers", page(gather_least(&self.requirement)), gather),
            (None, "margin and page cache", self.margin(total) + cache(total), &Demand::default()),
        ];
        let part = |(count, what, bytes, demand): (Option<u64>, &'static str, u64, &Demand<'_>)| {
            let tensor = (demand.amount > 0).then(|| demand.of.to_string());
            BudgetPart { what, count, bytes, tensor }
        };
        let all: u64 = rows.iter().map(|(_, _, bytes, _)| bytes).sum();
        let largest = part(rows.into_iter().max_by_key(|(_, _, bytes, _)| *bytes).expect("there are rows"));
        BudgetNeed::Merge { baseline: self.resident, rest: all - largest.bytes, largest }
    }

    /// The smallest budget for so many workers: what is spent beside the pool grows with the budget, but slower than it.
    fn smallest(&self, workers: u64) -> u64 {
        let (mut total, mut needed) = (0, self.spent(0, workers) + self.pool_least());
        while total < needed {
            total = needed;
            needed = self.spent(total, workers) + self.pool_least();
        }
        total
    }

    /// A budget as one would type it that is enough for so many workers: what is resident differs from run to run.
    fn enough(&self, workers: u64) -> u64 {
        let mut total = (self.smallest(workers) + MIB).next_multiple_of(MIB);
        // The page cache grows by steps, so that a little more may need a little more.
        while self.spent(total, workers) + self.pool_least() + MIB > total {
            total += MIB;
        }
        total
    }
}

fn page(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE as u64)
}

/// Bytes between write-back's start and its end, for a budget.
fn window(total: u64) -> u64 {
    let least = if total >= WINDOW_HUGE_FROM { WINDOW_HUGE } else { MIB / 2 };
    (total / 20).clamp(least, WINDOW_MOST) / (MIB / 2) * (MIB / 2)
}

/// Bytes that are read ahead, for a budget: as many as are on their way to the disk, as it gives each side its share by that.
fn read_window(total: u64) -> u64 {
    (2 * window(total)).clamp(READ_LEAST, READ_MOST)
}

/// The page cache between a write, or a read, and its drop-behind; or as much memory where I/O passes the cache.
fn cache(total: u64) -> u64 {
    read_window(total) + 2 * window(total)
}

/// Splits the budget for `plan`.
///
/// # Errors
/// [`RequestError::Budget`] with the smallest budget that would do.
pub(crate) fn split(plan: &Plan, asked: &Asked) -> Result<Schedule> {
    let fixed = Fixed::of(plan, asked);
    let wanted = asked.workers.unwrap_or(asked.cpus).clamp(1, WORKERS_MOST) as u64;
    if let Some((slab_bytes, slabs)) = asked.forced {
        return forced(&fixed, wanted, slab_bytes, slabs);
    }
    let total = asked.max_ram.clone().unwrap_or_else(|| comfortable(&fixed, wanted, asked.ceiling).into());
    let least = if asked.workers.is_some() { wanted } else { 1 };
    let fits = (least..=wanted).rev().find_map(|workers| divide(&fixed, &total, workers));
    fits.ok_or_else(|| too_small(&fixed, &total, least))
}

/// Why `total` is not enough for so many workers, and how much would be.
fn too_small(fixed: &Fixed<'_>, total: &Size, workers: u64) -> Error {
    let needed = fixed.smallest(workers);
    let error = Error::new(RequestError::Budget {
        budget: total.clone(),
        needed: fixed.enough(workers),
        what: fixed.parts(needed, workers),
    });
    match fixed.smallest(1) {
        one if one < needed => error.hint(format!("`--threads 1` needs {}", show_size(fixed.enough(1)))),
        _ => error.hint(format!("`--max-ram {}` is enough", flag_size(fixed.enough(1)))),
    }
}

/// What makes it fast and no more, below the ceiling.
fn comfortable(fixed: &Fixed<'_>, workers: u64, ceiling: Option<u64>) -> u64 {
    let slab = SLAB_MOST.max(page(fixed.requirement.tile.amount as u64));
    let pool = SLABS_MOST * slab
        + SLOTS_MOST * page(fixed.requirement.factors_full as u64)
        + page(fixed.requirement.gather_full.amount as u64);
    let rest = fixed.resident
        + fixed.output_memory
        + MARGIN
        + READ_MOST
        + fixed.counter_slack
        + 2 * WINDOW_MOST
        + fixed.reductions()
        + workers * fixed.per_worker;
    (rest + pool).min(ceiling.unwrap_or(u64::MAX))
}

/// The split of `total` among `workers`, if it is enough.
fn divide(fixed: &Fixed<'_>, budget: &Size, workers: u64) -> Option<Schedule> {
    let total = budget.bytes();
    let pool = total.checked_sub(fixed.spent(total, workers))?;
    let slab_least = fixed.slab_least();
    let Requirement { factors, factors_once, factors_full, .. } = fixed.requirement;
    let [least, once, full] = [factors.amount, factors_once, factors_full].map(|bytes| page(bytes as u64));
    let gather = gather(&fixed.requirement, pool.checked_sub(SLABS_LEAST * slab_least + least)?)?;
    let pool = pool - gather;
    let for_slots = pool.checked_sub(SLABS_LEAST * slab_least)?;
    let whole_pages = |bytes: u64| bytes / PAGE as u64 * PAGE as u64;
    // As many slots as leave most of the pool to the slabs, with the factors of some rows, or of all if there is much room;
    // else one, as large as can be.
    let (slot, slots) = match least {
        0 => (0, 0),
        _ if once <= for_slots => {
            let slot = whole_pages(for_slots / 4).clamp(once, full);
            (slot, (for_slots.min(pool / 2) / slot).clamp(1, SLOTS_MOST))
        }
        _ if least <= for_slots => (whole_pages(for_slots), 1),
        _ => return None,
    };
    let for_slabs = pool - slot * slots;
    let full_gather = page(fixed.requirement.gather_full.amount as u64);
    let even = for_slabs / 12 / PAGE as u64 * PAGE as u64;
    let slab = even
        .clamp(SLAB_FINE, SLAB_MOST)
        .max(slab_least)
        .min(for_slabs / SLABS_LEAST / PAGE as u64 * PAGE as u64);
    let slabs = (for_slabs / slab).clamp(SLABS_LEAST, SLABS_MOST);
    let cut = PoolLayout {
        slab_bytes: slab as usize,
        slabs: slabs as usize,
        slot_bytes: slot as usize,
        slots: slots as usize,
    };
    let lines = lines(fixed, total, workers, gather, &cut);
    debug_assert!(lines.iter().map(|line| line.bytes).sum::<u64>() <= total);
    let budget = Budget {
        total: budget.clone(),
        lines,
        smallest: fixed.enough(1),
        factors_once_at: (slot < once).then(|| total + (once - slot)),
        codes_once_at: (gather < full_gather).then(|| total + (full_gather - gather)),
    };
    Some(Schedule {
        workers: workers as usize,
        cut,
        read_window_bytes: read_window(total) as usize,
        window_bytes: window(total) as usize,
        gather_bytes: gather as usize,
        scratch: ScratchSizes::of(&fixed.requirement),
        budget,
        locations: FactorLocations::default(),
    })
}

/// What `total` is spent on, line by line.
fn lines(fixed: &Fixed<'_>, total: u64, workers: u64, gather: u64, cut: &PoolLayout) -> Vec<BudgetLine> {
    let lines = [
        ("baseline RSS: code, headers, plan", fixed.resident),
        ("margin: stacks, allocator, the kernel's counters", fixed.margin(total)),
        ("I/O: read and write windows", cache(total)),
        ("output: parts on their way", fixed.output_memory),
        ("workers: scratch and packing buffers", workers * fixed.per_worker),
        ("reduction state", fixed.reductions()),
        ("gather buffers", gather),
        ("factor buffers", (cut.slot_bytes * cut.slots) as u64),
        ("tile buffers", (cut.slab_bytes * cut.slabs) as u64),
    ];
    let lines = lines.into_iter().filter(|(_, bytes)| *bytes > 0);
    lines.map(|(what, bytes)| BudgetLine { what, bytes }).collect()
}

/// The least for gather buffers: all that is needed to read codes once, unless that is very much.
fn gather_least(requirement: &Requirement<'_>) -> u64 {
    let full = requirement.gather_full.amount as u64;
    if full <= GATHER_WHOLE { full } else { requirement.gather_rows.amount as u64 }
}

/// Bytes for gather buffers out of `most`: all that is needed to read codes once, else as much as makes reads long enough,
/// for then they are read for every tile, and larger tiles are of more use.
fn gather(requirement: &Requirement<'_>, most: u64) -> Option<u64> {
    let (least, full) = (page(gather_least(requirement)), page(requirement.gather_full.amount as u64));
    if full <= most {
        return Some(full);
    }
    (least <= most).then(|| (most / 4 / PAGE as u64 * PAGE as u64).clamp(least, least.max(MIB)))
}

/// A cut that a test asks for, with the smallest factor buffers, and gather buffers of one stored row.
fn forced(fixed: &Fixed<'_>, workers: u64, slab_bytes: usize, slabs: usize) -> Result<Schedule> {
    if slab_bytes < fixed.requirement.tile.amount || !slab_bytes.is_multiple_of(PAGE) || slabs == 0 {
        let (budget, needed) = ((slab_bytes as u64).into(), page(fixed.requirement.tile.amount as u64));
        let what = BudgetNeed::Tile { tensor: fixed.requirement.tile.of.to_string() };
        return Err(RequestError::Budget { budget, needed, what }.into());
    }
    let slot_bytes = page(fixed.requirement.factors.amount as u64) as usize;
    let cut = PoolLayout { slab_bytes, slabs, slot_bytes, slots: usize::from(slot_bytes > 0) };
    let budget = Budget {
        total: (cut.bytes() as u64).into(),
        lines: Vec::new(),
        smallest: fixed.enough(1),
        factors_once_at: None,
        codes_once_at: None,
    };
    Ok(Schedule {
        workers: workers as usize,
        cut,
        read_window_bytes: FORCED_WINDOW,
        window_bytes: FORCED_WINDOW,
        gather_bytes: fixed.requirement.gather_rows.amount,
        scratch: ScratchSizes::of(&fixed.requirement),
        budget,
        locations: FactorLocations::default(),
    })
}
