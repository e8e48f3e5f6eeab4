//! Tiles of made-up plans: every byte once and in order, nothing larger than its slab or slot, no split above its budget.

use crate::error::request::RequestError;
use proptest::prelude::*;

use crate::encodings::logical::{Logical, LogicalFields};
use crate::formats::header_bytes::HeaderBytes;
use crate::kernels::exact::float_format::FloatFormat;
use crate::ops::DeltaKind;
use crate::ops::dora::Dora;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::{ClaimId, Op};
use crate::ops::placement::{Axis, Placement};
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor, Plan};
use crate::schedule::arithmetic::Arithmetic;
use crate::schedule::budget::Asked;
use crate::schedule::budget::split;
use crate::schedule::cut::MergedTensor;
use crate::schedule::extent::{Extent, OutPlace};
use crate::schedule::order::{Tiles, WalkStart};
use crate::schedule::reduces::Reduces;
use crate::schedule::region::Sharing;
use crate::schedule::requirement::Requirement;
use crate::schedule::tile::{MergeTile, Purpose, TileLayout, Work, region_bytes};
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape;

/// What one tensor of a made-up plan is: its sides, a rank (0 copies it), and whether it is stored transposed.
type Made = (u64, u64, u64, bool);

fn tensor_ref(file: u32, offset: u64, dtype: Dtype, axes: &[u64]) -> TensorRef {
    TensorRef { file: FileId(file), offset, dtype, shape: Shape::new(axes).expect("small") }
}

fn content(base: TensorRef, (out, input, rank, transposed): Made) -> Content {
    if rank == 0 {
        return Content::Copy { from: base, claim: None };
    }
    let placement = Placement::matrix(out, input, transposed);
    let view = Placement::view(&base.shape, std::iter::once(&placement)).expect("it covers the tensor");
    let a = Factor::along(1, tensor_ref(1, 0, Dtype::F32, &[rank, input]), 1, rank, input);
    let b = Factor::along(0, tensor_ref(1, 0, Dtype::BF16, &[out, rank]), rank, rank, 1);
    // Every second one must know something of its outputs first.
    let is_plain = rank % 2 == 0;
    let kind: DeltaKind = if is_plain { LowRank::ADDED.into() } else { Dora { is_transposed: true }.into() };
    let op = Op::new(kind, placement, vec![a, b], 1.0).counted_for(ClaimId(0));
    let start = Logical::plain(&base).expect("floats");
    Content::Compute { start, claim: None, ops: vec![op], view, form: None, fresh: false }
}

/// A stack of experts in one tensor, of which each has an adapter of its own rank, or none.
fn stack(ranks: &[u64], (out, input): (u64, u64), transposed: bool) -> Plan {
    let mut plan = plan(&[(ranks.len() as u64 * out, input, 1, false)]);
    let tensor = &mut plan.shards[0].tensors[0];
    let Content::Compute { start, ops, view, .. } = &mut tensor.content else {
        unreachable!("rank 1 merges")
    };
    let matrix = if transposed { [input, out] } else { [out, input] };
    let axes = [&[ranks.len() as u64], &matrix[..]].concat();
    tensor.shape = Shape::new(&axes).expect("small");
    let resized = TensorRef { shape: tensor.shape.clone(), ..start.parts()[0].clone() };
    *start = Logical::plain(&resized).expect("floats");
    let model = ops.pop().expect("one op");
    for (e, &rank) in ranks.iter().enumerate().filter(|(_, rank)| **rank > 0) {
        let placement =
            Placement { start: e as u64 * out * input, ..Placement::matrix(out, input, transposed) };
        let a = Factor::along(1, tensor_ref(1, 0, Dtype::F32, &[rank, input]), 1, rank, input);
        let b = Factor::along(0, tensor_ref(1, 0, Dtype::BF16, &[out, rank]), rank, rank, 1);
        ops.push(Op { placement, factors: [a, b].into(), kind: LowRank::ADDED.into(), ..model.clone() });
    }
    *view = Placement::view(&tensor.shape, ops.iter().map(|op| &op.placement)).expect("it covers the tensor");
    plan
}

fn plan(made: &[Made]) -> Plan {
    let mut shard = OutShard {
        name: "s".into(),
        header: OutHeader::Made(HeaderBytes::new(vec![0; 10])),
        tensors: Vec::new(),
        bytes: 10,
    };
    for (i, &(out, input, rank, transposed)) in made.iter().enumerate() {
        let axes = if transposed { [input, out] } else { [out, input] };
        let base = tensor_ref(0, shard.bytes, Dtype::BF16, &axes);
        let bytes = base.bytes();
        shard.tensors.push(OutTensor {
            name: format!("t{i}").into(),
            shape: base.shape.clone(),
            dtype: Dtype::BF16,
            encoding: "bf16".into(),
            part: 0,
            offset: shard.bytes,
            bytes,
            content: content(base, (out, input, rank, transposed)),
        });
        shard.bytes += bytes;
    }
    Plan { shards: vec![shard], ..Plan::default() }
}

/// Checks every tile of a plan under a cut; returns how many there are.
fn check_tiles(plan: &Plan, asked: &Asked) -> usize {
    let schedule = split(plan, asked).expect("large enough");
    let shard = &plan.shards[0];
    let (mut next, mut count) = (10, 0);
    let mut reduced: Option<u64> = None;
    for tile in
        Tiles::new((plan, &Extent::ALL), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false))
    {
        assert_eq!((tile.seq, tile.at), (count, next));
        count += 1;
        match tile.work {
            Work::Header => assert_eq!(next, 10, "the header comes first"),
            Work::Share { .. } => panic!("nothing is shared"),
            Work::Copy { offset, bytes, .. } => {
                assert!(bytes <= schedule.cut.slab_bytes as u64);
                assert_eq!(offset, next, "copied bytes keep their place");
                next += bytes;
            }
            Work::Merge(tile) => {
                let MergeTile { tensor, merged, purpose, rect, band, layout } = tile;
                let out = &shard.tensors[tensor];
                assert!(TileLayout::bytes(&merged, &rect) <= schedule.cut.slab_bytes);
                assert_eq!(layout, TileLayout::new(&merged, &rect, Vec::new()));
                assert!(region_bytes(&merged, &band, Sharing::Band) <= schedule.cut.slot_bytes);
                let first = rect.rows.start * merged.view.cols + rect.cols.start;
                match purpose {
                    Purpose::Write => {
                        assert_eq!(out.offset + 2 * first, next, "bytes go out in order");
                        assert!(
                            rect.height() == 1 || rect.width() == merged.view.cols,
                            "whole rows, or a piece of one"
                        );
                        assert!(band.cols.start <= rect.cols.start && rect.cols.end <= band.cols.end);
                        assert!(band.rows.start <= rect.rows.start && rect.rows.end <= band.rows.end);
                        assert_eq!(
                            reduced.take(),
                            None,
                            "the reduction is whole before the first byte is written"
                        );
                        next += 2 * rect.elements();
                    }
                    Purpose::Reduce { is_last, .. } => {
                        let at = reduced.get_or_insert(0);
                        assert_eq!(*at, first, "in order");
                        *at += rect.elements();
                        assert_eq!(is_last, *at == out.shape.elements());
                        if is_last {
                            reduced = None;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(next, shard.bytes, "every byte is written");
    count as usize
}

fn asked(forced: Option<(usize, usize)>, max_ram: Option<u64>) -> Asked {
    Asked {
        max_ram: max_ram.map(Into::into),
        ceiling: None,
        workers: None,
        cpus: 2,
        resident: 4 << 20,
        output_memory: 0,
        forced,
    }
}

proptest! {
    #[test]
    fn tiles_write_every_byte_once_and_in_order(
        made in proptest::collection::vec((1u64..70, 1u64..900, 0u64..5, any::<bool>()), 1..6),
    ) {
        let plan = plan(&made);
        let small = check_tiles(&plan, &asked(Some((8192, 1)), None));
        let large = check_tiles(&plan, &asked(None, Some(1 << 30)));
        prop_assert!(small >= large);
    }

    #[test]
    fn tiles_of_experts_fit_wherever_their_factors_begin(
        ranks in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..80], 1..12),
        sides in (1u64..40, 1u64..40), transposed: bool, forced: bool,
    ) {
        let plan = stack(&ranks, sides, transposed);
        let asked = if forced { asked(Some((16384, 1)), None) } else { asked(None, Some(64 << 20)) };
        check_tiles(&plan, &asked);
    }

    #[test]
    fn a_split_never_exceeds_its_budget_and_the_smallest_does(
        rank in 1u64..600, side in 1u64..20_000, max_ram in 1u64 << 20..1 << 31, cpus in 1usize..129,
    ) {
        let plan = plan(&[(side, side, rank, false), (7, 9, 0, false)]);
        let asked = Asked { cpus, ..asked(None, Some(max_ram)) };
        let smallest = match split(&plan, &asked) {
            Ok(schedule) => {
                let spent: u64 = schedule.budget.lines.iter().map(|line| line.bytes).sum();
                prop_assert!(spent <= max_ram);
                prop_assert!(schedule.cut.slab_bytes >= Requirement::of(&plan).tile.amount);
                schedule.budget.smallest
            }
            Err(error) => match error.kind() {
                crate::error::kind::ErrorKind::Request(RequestError::Budget { needed, .. }) => *needed,
                other => panic!("{other:?}"),
            },
        };
        let least = Asked { max_ram: Some(smallest.into()), workers: Some(1), ..asked };
        prop_assert!(split(&plan, &least).is_ok(), "what is called the smallest is enough");
    }
}

#[test]
fn chosen_places_are_walked_and_nothing_else_whatever_the_tiles() {
    let plan = plan(&[(40, 300, 2, false), (30, 20, 0, false), (3, 9000, 2, false), (50, 100, 3, false)]);
    let place = |tensor, start, end| OutPlace { shard: 0, tensor, start, end };
    let places =
        [place(0, 3, 9), place(0, 12, 13), place(0, 39, 40), place(1, 100, 900), place(1, 1000, 1200)];
    let places = [&places[..], &[place(2, 1, 2), place(3, 0, 2), place(3, 48, 50)]].concat();
    let extent = Extent::of(&plan, places.clone());
    let span = |place: &OutPlace| {
        let tensor = &plan.shards[0].tensors[place.tensor];
        let before = |end| MergedTensor::of(tensor).map_or(end, |merged| merged.bytes_of_rows(end));
        tensor.offset + before(place.start)..tensor.offset + before(place.end)
    };
    let expected: Vec<u64> = places.iter().flat_map(span).collect();
    assert_eq!(extent.output_bytes(&plan), expected.len() as u64);
    for slab in [8192, 16_384, 1 << 20] {
        let schedule = split(&plan, &asked(Some((slab, 2)), None)).expect("enough");
        let mut walked = Vec::new();
        for (tile, seq) in
            Tiles::new((&plan, &extent), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false))
                .zip(0..)
        {
            assert_eq!(tile.seq, seq);
            walked.extend(tile.at..tile.at + tile.work.out_bytes());
        }
        assert_eq!(walked, expected, "{slab}");
    }
    let none = Extent::of(&plan, Vec::new());
    let schedule = split(&plan, &asked(None, None)).expect("enough");
    assert!(
        Tiles::new((&plan, &none), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false))
            .next()
            .is_none()
    );
}

#[test]
fn a_row_longer_than_a_slab_is_cut() {
    let plan = plan(&[(3, 9000, 2, false)]);
    let schedule = split(&plan, &asked(Some((8192, 1)), None)).expect("enough");
    let rows: Vec<_> =
        Tiles::new((&plan, &Extent::ALL), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false))
            .filter_map(|tile| match tile.work {
                Work::Merge(MergeTile { rect, .. }) => Some((rect.rows.start, rect.cols)),
                _ => None,
            })
            .collect();
    assert!(rows.len() > 6 && rows.iter().all(|(_, cols)| cols.end - cols.start < 4097));
}

// The picture of `schedule::cut`.
#[test]
fn whole_rows_or_pieces_of_one() {
    let cut = |rows: u64, cols: u64| {
        let plan = plan(&[(rows, cols, 2, false)]);
        let schedule = split(&plan, &asked(Some((8192, 1)), None)).expect("enough");
        assert_eq!(schedule.cut.slot_bytes, 4096);
        let rects =
            Tiles::new((&plan, &Extent::ALL), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false))
                .filter_map(|tile| match tile.work {
                    Work::Merge(MergeTile { rect, .. }) => Some((rect.rows, rect.cols)),
                    _ => None,
                });
        rects.collect::<Vec<_>>()
    };
    assert_eq!(cut(24, 400), [(0..10, 0..400), (10..20, 0..400), (20..24, 0..400)]);
    assert_eq!(cut(2, 600), [(0..1, 0..512), (0..1, 512..600), (1..2, 0..512), (1..2, 512..600)]);
}

/// A decoded tensor of MXFP4: experts × inputs × outputs.
fn quantized(experts: u64, inputs: u64, outputs: u64) -> Plan {
    let mut plan = plan(&[(1, 1, 0, false)]);
    let shape = Shape::new(&[experts, inputs, outputs]).expect("small");
    let stored = |axes: &[u64]| tensor_ref(0, 0, Dtype::U8, axes);
    let parts = vec![stored(&[experts, outputs, inputs / 32, 16]), stored(&[experts, outputs, inputs / 32])];
    let start = LogicalFields {
        encoding: "mxfp4".into(),
        shape: shape.clone(),
        block: (32, 1),
        parts,
        constants: Vec::new(),
    };
    let view = crate::tensor::rect::View { rows: experts * inputs, cols: outputs };
    let bytes = 2 * shape.elements();
    let content = Content::Compute {
        start: start.into(),
        claim: None,
        ops: Vec::new(),
        view,
        form: None,
        fresh: false,
    };
    let (name, dtype, encoding) = ("t".into(), Dtype::BF16, "bf16".into());
    plan.shards[0].tensors =
        vec![OutTensor { name, shape, dtype, encoding, part: 0, offset: 10, bytes, content }];
    plan.shards[0].bytes = 10 + bytes;
    plan
}

proptest! {
    #[test]
    fn tiles_of_codes_stay_in_their_matrix_and_their_slab(
        experts in 1u64..4, blocks in 1u64..5, outputs in 1u64..900, slab in 1usize..9,
    ) {
        let plan = quantized(experts, 32 * blocks, outputs);
        let asked = asked(Some((slab * 4096, 1)), None);
        check_tiles(&plan, &asked);
        let schedule = split(&plan, &asked).expect("large enough");
        for tile in Tiles::new((&plan, &Extent::ALL), &schedule, WalkStart::default(), Box::new(|_, _, _, _| false)) {
            let Work::Merge(MergeTile { rect, .. }) = tile.work else { continue };
            let of = |row: u64| row / (32 * blocks);
            prop_assert_eq!(of(rect.rows.start), of(rect.rows.end - 1));
        }
    }
}

/// Experts `[count, inputs, outputs]` in BF16, some of which a pair of factors changes.
fn of_experts(count: u64, inputs: u64, outputs: u64, rank: u64, changed: &[u64]) -> Plan {
    let mut plan = quantized(count, 32, outputs);
    let shape = Shape::new(&[count, inputs, outputs]).expect("small");
    let base = TensorRef { file: FileId(0), offset: 10, dtype: Dtype::BF16, shape: shape.clone() };
    let op = |(i, expert): (usize, &u64)| {
        let a = Factor::along(1, tensor_ref(1, 0, Dtype::F32, &[rank, inputs]), 1, rank, inputs);
        let b = Factor::along(0, tensor_ref(1, 0, Dtype::F32, &[outputs, rank]), rank, rank, 1);
        let axes = [Axis { count: outputs, stride: 1 }, Axis { count: inputs, stride: outputs }].into();
        let placement = Placement { start: expert * inputs * outputs, axes };
        Op::new(LowRank::ADDED, placement, vec![a, b], 1.0).counted_for(ClaimId(i as u32))
    };
    let ops = changed.iter().enumerate().map(op).collect();
    let out = &mut plan.shards[0].tensors[0];
    (out.bytes, out.shape) = (2 * shape.elements(), shape);
    let view = crate::tensor::rect::View { rows: count * inputs, cols: outputs };
    out.content = Content::Compute {
        start: Logical::plain(&base).expect("floats"),
        claim: None,
        ops,
        view,
        form: None,
        fresh: false,
    };
    plan.shards[0].bytes = 10 + plan.shards[0].tensors[0].bytes;
    plan
}

proptest! {
    #[test]
    fn a_tile_has_room_for_factors_that_the_first_has_not(
        inputs in 1u64..50, outputs in 1u64..90, rank in 1u64..9, changed in 1u64..64, more in 0usize..4,
    ) {
        let changed: Vec<u64> = (0..6).filter(|expert| changed >> expert & 1 == 1).collect();
        let plan = of_experts(6, inputs, outputs, rank, &changed);
        let least = Requirement::of(&plan).tile.amount.next_multiple_of(4096);
        check_tiles(&plan, &asked(Some((least + more * 4096, 1)), None));
    }
}

#[test]
fn codes_are_read_once_unless_that_needs_very_much() {
    // One expert: 8.1 MiB of codes and scales; then a hundred times as much.
    for (inputs, outputs, is_once) in [(2880, 5760, true), (28_800, 57_600, false)] {
        let plan = quantized(2, inputs, outputs);
        let requirement = Requirement::of(&plan);
        assert_eq!(requirement.gather_full.amount as u64, outputs * (inputs / 2 + inputs / 32));
        let smallest = match split(&plan, &asked(None, Some(1 << 20))) {
            Err(error) => match error.kind() {
                crate::error::kind::ErrorKind::Request(RequestError::Budget { needed, .. }) => *needed,
                other => panic!("{other:?}"),
            },
            Ok(_) => panic!("a MiB is not enough"),
        };
        let least = Asked { workers: Some(1), ..asked(None, Some(smallest)) };
        let schedule = split(&plan, &least).expect("it is enough");
        assert_eq!(schedule.budget.codes_once_at.is_none(), is_once);
        assert!(schedule.gather_bytes >= requirement.gather_rows.amount);
        let once = schedule.budget.codes_once_at.map(|total| asked(None, Some(total + (64 << 20))));
        let schedule = split(&plan, &once.unwrap_or(least)).expect("it is enough");
        assert!(schedule.gather_bytes >= requirement.gather_full.amount);
    }
}

#[test]
fn a_budget_that_is_too_small_names_the_largest_part_and_its_tensor() {
    for (tensors, part) in [
        (&[(64, 64, 4000, false), (64, 20_000, 16, false)], "1 worker (11 MiB, for `t0`)"),
        (&[(64, 2_000_000, 64, false), (64, 64, 1, false)], "factor buffers (488 MiB, for `t0`)"),
    ] {
        let error = split(&plan(tensors), &asked(None, Some(5 << 20))).expect_err("not enough");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains(" and the rest ("), "no {part} in: {text}");
    }
}

#[test]
fn what_a_message_calls_enough_is_a_whole_number_of_mib_with_room_for_another_run() {
    let plan = plan(&[(64, 64, 16, false)]);
    let error = split(&plan, &asked(None, Some(1 << 20))).expect_err("not enough");
    let crate::error::kind::ErrorKind::Request(RequestError::Budget { needed, .. }) = error.kind() else {
        panic!("{error:?}")
    };
    assert_eq!(needed % (1 << 20), 0);
    // More may be resident in the next run.
    let asked = asked(None, Some(*needed));
    let more = Asked { resident: asked.resident + (1 << 19), workers: Some(1), ..asked };
    let schedule = split(&plan, &more).expect("it is enough");
    assert_eq!(schedule.budget.smallest % (1 << 20), 0);
}

/// A tensor of 6 × 8 in bf16 with one op of that rank: LoRA if it is even, DoRA if it is odd.
fn tensor(rank: u64, transposed: bool) -> OutTensor {
    plan(&[(6, 8, rank, transposed)]).shards.remove(0).tensors.remove(0)
}

fn arithmetic(tensor: &OutTensor) -> Arithmetic {
    MergedTensor::of(tensor).expect("it is merged").arithmetic()
}

#[test]
fn arithmetic_follows_from_deltas_and_encodings() {
    use Arithmetic::{Formulas, Fused, Pinned};
    assert_eq!(arithmetic(&tensor(2, false)), Fused(FloatFormat::BF16));
    assert_eq!(arithmetic(&tensor(2, true)), Fused(FloatFormat::BF16));
    assert_eq!(arithmetic(&tensor(3, false)), Pinned, "a norm is no sum of products");
    let in_encoding = |name: &'static str| OutTensor { encoding: name.into(), ..tensor(2, false) };
    assert_eq!(
        arithmetic(&in_encoding("f32")),
        Formulas(FloatFormat::F32),
        "its bytes are not where they were"
    );
    assert_eq!(arithmetic(&in_encoding("f16")), Fused(FloatFormat::F16), "decoded values are added to");
    let merged = tensor(2, false);
    let reduction = MergedTensor::of(&merged).expect("it is merged").reduction(Reduces::Op(0));
    assert_eq!(reduction.arithmetic(), Pinned, "nothing is encoded");
}

#[test]
fn what_is_not_dense_or_not_changed_is_not_merged_in_place() {
    let mut spread = tensor(2, false);
    let Content::Compute { ops, .. } = &mut spread.content else { unreachable!("rank 2 merges") };
    ops[0].placement.axes = [Axis { count: 6, stride: 8 }, Axis { count: 4, stride: 2 }].into();
    assert_eq!(arithmetic(&spread), Arithmetic::Formulas(FloatFormat::BF16), "every second column");
    let mut decoded = tensor(2, false);
    let Content::Compute { ops, .. } = &mut decoded.content else { unreachable!("rank 2 merges") };
    ops.clear();
    assert_eq!(arithmetic(&decoded), Arithmetic::Pinned, "it is decoded and no more");
}
