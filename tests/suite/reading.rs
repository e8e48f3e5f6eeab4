//! A merge that is read tensor by tensor, and not written: each byte is that of the written merge.

#![expect(clippy::single_range_in_vec_init, reason = "one range of bytes is meant, not the numbers in it")]

use std::ops::Range;
use std::path::Path;

use shardfold::testing::TestHooks;
use shardfold::{Cancel, Code, ErrorKind, MergedReader, Request, RequestError};

use crate::golden::{cases, merged, request};
use crate::oracle::Case;
use crate::support::{contents, fixtures, quick_folder};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Up to three ranges below `end`, in order and apart.
    fn ranges(&mut self, end: u64) -> Vec<Range<u64>> {
        let mut ends: Vec<u64> = (0..6).map(|_| self.below(end + 1)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
    }
}

/// Those ranges of a tensor.
fn read(reader: &MergedReader, name: &str, ranges: &[Range<u64>]) -> shardfold::Result<Vec<u8>> {
    let mut bytes = vec![0xa5; ranges.iter().map(|range| (range.end - range.start) as usize).sum()];
    reader.read(name, ranges, &mut bytes, &Cancel::default())?;
    Ok(bytes)
}

/// A reader with the smallest tile buffers in which it can be merged.
fn with_smallest_tiles(request: &Request) -> MergedReader {
    for slab in 1.. {
        let hooks = TestHooks { forced: Some((slab * 4096, 1)), ..TestHooks::default() };
        match MergedReader::open(&Request { hooks, threads: Some(2), ..request.clone() }) {
            Err(error) if matches!(error.kind(), ErrorKind::Request(RequestError::Budget { .. })) => {}
            opened => return opened.unwrap(),
        }
    }
    unreachable!("there are buffers of every size")
}

#[test]
fn what_is_read_is_what_a_merge_writes() {
    let mut dice = Dice(7);
    for folder in cases() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let request = request(&folder, &Case::read(&folder));
        let (_, written) = merged(&request);
        let (reader, in_small_tiles) = (MergedReader::open(&request).unwrap(), with_smallest_tiles(&request));
        assert_eq!(reader.plan().tensors().count(), written.len(), "{name}");
        for (tensor, right) in &written {
            let found = reader.tensor(tensor).unwrap_or_else(|| panic!("{name}: {tensor}"));
            let axes: Vec<u64> = right.shape.iter().map(|axis| *axis as u64).collect();
            assert_eq!(found.shape.axes(), axes, "{name}: {tensor}");
            assert_eq!(found.dtype.to_string(), right.dtype.to_string(), "{name}: {tensor}");
            let whole = read(&reader, tensor, &[0..found.bytes]).unwrap();
            assert!(whole == right.raw, "{name}: {tensor} differs");
            let ranges = dice.ranges(found.bytes);
            let some = read(&in_small_tiles, tensor, &ranges).unwrap();
            let expected: Vec<u8> = ranges
                .iter()
                .flat_map(|range| &whole[range.start as usize..range.end as usize])
                .copied()
                .collect();
            assert!(some == expected, "{name}: {tensor} differs in {ranges:?}");
        }
    }
}

/// The demo, and its adapter.
fn demo() -> Request {
    let demo = fixtures().join("demo");
    Request {
        base: Some(demo.join("base").into()),
        adapters: vec![(demo.join("adapter").into(), 1f64.into())],
        ..Request::default()
    }
}

/// The error of reading it so.
fn refused(ranges: &[Range<u64>], bytes: usize) -> shardfold::Error {
    let reader = MergedReader::open(&demo()).unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    reader.read(name, ranges, &mut vec![0; bytes], &Cancel::default()).unwrap_err()
}

#[test]
fn what_cannot_be_read_is_refused() {
    let reader = MergedReader::open(&demo()).unwrap();
    let error = read(&reader, "model.nothing", &[]).unwrap_err();
    assert_eq!(error.to_string(), "the merged checkpoint has no tensor `model.nothing`");
    assert_eq!(error.exit_code(), Code::Usage);
    let bytes = reader.tensor("model.layers.0.mlp.up_proj.weight").expect("it is there").bytes;
    for (ranges, memory) in [
        (vec![0..bytes + 1], bytes + 1),
        (vec![0..4, 2..8], 10),
        (vec![0..4, 4..8], 8),
        (vec![4..8, 0..4], 8),
        (vec![0..4], 3),
        (vec![0..4], 5),
        (vec![Range { start: 4, end: 2 }], 0),
    ] {
        let error = refused(&ranges, memory as usize);
        let is_range = matches!(error.kind(), ErrorKind::Request(RequestError::NoSuchBytes { .. }));
        assert!(is_range, "{ranges:?} into {memory} bytes: {error:?}");
    }
}

#[test]
fn a_read_is_stopped_by_its_token_and_the_next_is_not() {
    let reader = MergedReader::open(&demo()).unwrap();
    for name in ["model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"] {
        let bytes = reader.tensor(name).expect("it is there").bytes;
        let cancel = Cancel::default();
        cancel.cancel();
        let error = reader.read(name, &[0..bytes], &mut vec![0; bytes as usize], &cancel).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
        read(&reader, name, &[0..bytes]).unwrap();
    }
}

#[test]
fn a_base_that_changed_is_noticed() {
    let work = quick_folder();
    let base = work.path().join("base");
    copy(&fixtures().join("demo/base"), &base);
    let reader = MergedReader::open(&Request { base: Some(base.clone().into()), ..demo() }).unwrap();
    let shard = base.join("model-00001-of-00003.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, bytes).unwrap();
    let error = read(&reader, "model.embed_tokens.weight", &[0..8]).unwrap_err();
    assert_eq!(error.exit_code(), Code::Io, "{error:?}");
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn the_metadata_is_that_of_the_header() {
    let reader = MergedReader::open(&demo()).unwrap();
    assert_eq!(reader.metadata(0).unwrap(), [("format".to_owned(), "pt".to_owned())]);
    assert_eq!(reader.metadata(99).unwrap(), []);
}
