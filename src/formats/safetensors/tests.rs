//! Tests of reading and building headers.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::Value;

use crate::formats::container::Room;
use crate::formats::json::parse_json_strict;
use crate::formats::safetensors::Header;
use crate::formats::safetensors::build::build_header;
use crate::formats::safetensors::problem::HeaderProblem;
use crate::formats::safetensors::read::{header_len, parse_header, parse_header_in};
use crate::formats::safetensors::testing::DTYPES;
use crate::formats::testing::chain;
use crate::tensor::dtype::{Dtype, bytes_of};

/// Every file of the table, with its verdict and, where it is refused, what we say. See `fixtures/hostile/README.md`.
const HOSTILE: &str = include_str!("../../../fixtures/hostile/safetensors.json");

/// Reads a whole file as the storage layer does.
fn read(file: &[u8]) -> Result<Header, HeaderProblem> {
    let mut first = [0; 8];
    let given = file.len().min(8);
    first[..given].copy_from_slice(&file[..given]);
    let len = header_len(first, file.len() as u64)? as usize;
    parse_header(&file[8..8 + len], file.len() as u64)
}

/// The header's length, if the file's first bytes say one that can be.
fn len_of(file: &[u8]) -> Option<usize> {
    header_len(*file.first_chunk()?, file.len() as u64).ok().map(|len| len as usize)
}

/// The bytes of one row of the table.
fn file_of(case: &Value) -> Vec<u8> {
    if let Some(hex) = case["hex"].as_str() {
        return (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    }
    let header = case["header"].as_str().unwrap();
    let length = case["length"].as_u64().unwrap_or(header.len() as u64);
    let mut file = length.to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(0..case["data"].as_u64().unwrap() as u8);
    file
}

fn table() -> Vec<Value> {
    let Value::Array(cases) = parse_json_strict(HOSTILE.as_bytes()).unwrap() else {
        panic!("a list of cases")
    };
    cases
}

#[test]
fn hostile_files() {
    let mut wrong = Vec::new();
    let cases = table();
    for case in &cases {
        let found = match read(&file_of(case)) {
            Ok(header) => {
                assert_tiled(&header);
                Value::Null
            }
            Err(problem) => Value::String(chain(&problem)),
        };
        if found != case["refused"] {
            wrong.push(format!("{}\n  expected {}\n  found    {found}", case["name"], case["refused"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Every file that we accept is one that the Rust crate accepts.
#[test]
fn never_looser_than_the_crate() {
    for case in table() {
        let theirs = safetensors::SafeTensors::deserialize(&file_of(&case)).is_ok();
        assert_eq!(theirs, case["crate_accepts"].as_bool().unwrap(), "{}", case["name"]);
        assert!(theirs || !case["refused"].is_null(), "{}", case["name"]);
    }
}

#[test]
fn order_is_that_of_the_data() {
    let json = br#"{"z":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]},
        "__metadata__":{"format":"pt","a":""},
        "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a0":{"dtype":"U8","shape":[3,0],"data_offsets":[4,4]}}"#;
    let header = parse_header(json, json.len() as u64 + 8 + 5).unwrap();
    let names: Vec<_> = header.tensors.iter().map(|tensor| &*tensor.name).collect();
    assert_eq!(names, ["a", "b", "a0", "z"]);
    assert_eq!(header.metadata, [("format".into(), "pt".into()), ("a".into(), "".into())]);
    assert_eq!(header.tensors[2].shape.axes(), [3, 0]);
}

#[test]
fn lfs_pointers() {
    assert!(matches!(header_len(*b"version ", 130), Err(HeaderProblem::LfsPointer)));
}

#[test]
fn lengths_at_the_limits() {
    let at =
        |len: u64, file_len| header_len(len.to_le_bytes(), file_len).map_err(|problem| problem.to_string());
    assert_eq!(at(2, 10), Ok(2));
    assert_eq!(at(100_000_000, u64::MAX), Ok(100_000_000));
    assert_eq!(at(3, 10), Err("header ends at byte 11, the file has 10".into()));
    assert_eq!(
        at(104_857_600, u64::MAX),
        Err("header is 104857600 bytes long, at most 100000000 are accepted".into())
    );
    assert_eq!(
        parse_header(b"{}", u64::MAX).unwrap_err().to_string(),
        "header promises 10 bytes, the file has 18446744073709551615"
    );
    assert_eq!(parse_header(b"{}", 9).unwrap_err().to_string(), "header ends at byte 10, the file has 9");
}

#[test]
fn builds_as_the_crate_does() {
    let tensors: [(&str, Dtype, &[u64]); 3] =
        [("a\"\n", Dtype::BF16, &[2, 3]), ("", Dtype::F4, &[2]), ("é", Dtype::F64, &[])];
    let json = build_header(&tensors, &[("format", "pt")]).unwrap();
    let expected = concat!(
        r#"{"__metadata__":{"format":"pt"},"a\"\n":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"#,
        r#""":{"dtype":"F4","shape":[2],"data_offsets":[12,13]},"é":{"dtype":"F64","shape":[],"data_offsets":[13,21]}}"#,
    );
    assert_eq!(json.trim_end_matches(' '), expected);
    assert_eq!((json.len() % 8, json.len() - expected.len() < 8), (0, true));
    assert_eq!(build_header(&[], &[]).unwrap(), "{}      ");
}

#[test]
fn builds_nothing_that_cannot_be_read() {
    let half: u64 = 1 << 60;
    type Given<'a> = (&'a [(&'a str, Dtype, &'a [u64])], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Given<'_>; 6] = [
        (&[("a", Dtype::U8, &[1]), ("a", Dtype::U8, &[1])], &[], "`a` is there twice"),
        (&[("__metadata__", Dtype::U8, &[1])], &[], "`__metadata__` is there twice"),
        (&[], &[("k", "1"), ("k", "1")], "`k` is there twice in `__metadata__`"),
        (
            &[("a", Dtype::F4, &[3])],
            &[],
            "tensor `a` of shape [3] and dtype F4 takes 12 bits, which are no whole bytes",
        ),
        (
            &[("a", Dtype::U8, &[half, half])],
            &[],
            "tensor `a` of shape [1152921504606846976, 1152921504606846976] and dtype U8 takes more bits than 64 bits can \
             count",
        ),
        (
            &[("a", Dtype::F64, &[half])],
            &[],
            "tensor `a` of shape [1152921504606846976] and dtype F64 takes more bits than 64 bits can count",
        ),
    ];
    for (tensors, metadata, message) in cases {
        assert_eq!(build_header(tensors, metadata).unwrap_err().to_string(), message);
    }
}

/// What holds for every header that is accepted.
fn assert_tiled(header: &Header) {
    let mut at = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.start, at);
        at = tensor.end;
        assert_eq!(bytes_of(tensor.dtype, tensor.shape.elements()), Some(tensor.end - tensor.start));
    }
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        tensors in prop::collection::btree_map(".{0,12}", (prop::sample::select(&DTYPES[..]), prop::collection::vec(0u64..5, 0..4)), 0..9),
        metadata in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..4),
    ) {
        // Sub-byte types get an axis that makes whole bytes.
        let tensors: Vec<_> = tensors.into_iter().map(|(name, (dtype, mut shape))| {
            if dtype.bitsize() % 8 != 0 { shape.push(4) }
            (name, dtype, shape)
        }).collect();
        let given: Vec<_> = tensors.iter().map(|(name, dtype, shape)| (name.as_str(), *dtype, shape.as_slice())).collect();
        let pairs: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let json = build_header(&given, &pairs).unwrap();
        let data: u64 = given.iter().map(|(_, dtype, shape)| bytes_of(*dtype, shape.iter().product()).unwrap()).sum();

        let header = parse_header(json.as_bytes(), 8 + json.len() as u64 + data).unwrap();
        assert_tiled(&header);
        let read: Vec<_> = header.tensors.iter().map(|t| (&*t.name, t.dtype, t.shape.axes())).collect();
        prop_assert_eq!(read, given);
        let read: Vec<_> = header.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        prop_assert_eq!(read, pairs);

        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.resize(file.len() + data as usize, 0);
        prop_assert!(safetensors::SafeTensors::deserialize(&file).is_ok());
    }
}

/// Damages files and looks that nothing panics, and that what is still accepted holds and is accepted by the crate too.
#[test]
fn damaged_files_never_panic() {
    let files: Vec<_> = table().iter().map(file_of).filter(|file| file.len() > 8).collect();
    let odd_bytes =
        [b'"', b'{', b'}', b'[', b']', b',', b':', b'0', b'9', b'-', b'.', b'e', b'\\', b' ', 0, 0x80, 0xff];
    let mut state = 0x5eed_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut accepted, mut kinds) = (0, HashSet::new());
    for round in 0..20_000 {
        let mut file = files[round % files.len()].clone();
        // In every other round the header alone is damaged and its length put right, to get past the first checks.
        let end = if round % 2 == 0 { file.len() } else { len_of(&file).map_or(file.len(), |len| 8 + len) };
        let mut part: Vec<u8> = file.drain(..end).collect();
        let from = if round % 2 == 0 { 0 } else { 8 };
        for _ in 0..=random(3) {
            let at = from + random(part.len() - from);
            match random(4) {
                0 => part[at] = odd_bytes[random(odd_bytes.len())],
                1 => part[at] ^= 1 << random(8),
                2 if part.len() > from + 1 => drop(part.remove(at)),
                _ => part.insert(at, odd_bytes[random(odd_bytes.len())]),
            }
        }
        if from == 8 {
            let len = part.len() as u64 - 8;
            part[..8].copy_from_slice(&len.to_le_bytes());
        }
        part.append(&mut file);
        let file = part;
        match read(&file) {
            Ok(header) => {
                assert_tiled(&header);
                let theirs = safetensors::SafeTensors::deserialize(&file);
                assert!(theirs.is_ok(), "{:?}", String::from_utf8_lossy(&file));
                accepted += 1;
            }
            Err(problem) => drop(kinds.insert(std::mem::discriminant(&problem))),
        }
    }
    // The damage must be neither too great nor too dull to test much.
    assert!(
        accepted > 50 && kinds.len() > 15,
        "{accepted} were accepted, the rest was refused in {} ways",
        kinds.len()
    );
}

#[test]
fn what_has_no_room_is_counted_and_not_kept() {
    let room = |bytes| Room { bytes, tensor_bytes: 1000 };
    let read = |json: &str, bytes| parse_header_in(json.as_bytes(), 8 + json.len() as u64, room(bytes));
    let entry = |name: &str, shape: &str| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,0]}}")
    };
    let tensors: Vec<String> = (0..50).map(|i| entry(&format!("tensor{i:02}"), "[0]")).collect();
    let fields: String = (0..50).map(|i| format!("\"field{i:02}\":0,")).collect();
    let pairs: Vec<String> = (0..50).map(|i| format!("\"key{i:02}\":\"v\"")).collect();
    // What each takes at least, by the sizes of what it becomes.
    for (json, least) in [
        (format!("{{{}}}", tensors.join(",")), 50 * 1000),
        (format!("{{{}}}", entry("a", &format!("[{}0]", "1,".repeat(1000)))), 1000 * 8 + 1000),
        (
            format!("{{\"a\":{{{fields}\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}}}"),
            50 * 24 + 1000,
        ),
        (format!("{{\"__metadata__\":{{{}}}}}", pairs.join(",")), 50 * 48),
    ] {
        let Err(HeaderProblem::NoRoom { needed }) = read(&json, 1) else { panic!("{json:.60}") };
        assert!(needed >= least && read(&json, needed).is_ok(), "{needed} for {json:.60}");
        let again = read(&json, needed - 1).unwrap_err();
        assert!(matches!(again, HeaderProblem::NoRoom { needed: same } if same == needed), "{json:.60}");
    }
}

/// Run by hand, with `--release --ignored`: the header of the largest checkpoints.
#[test]
#[ignore = "a measurement: `make exhaustive`"]
fn speed_of_92_000_tensors() {
    let names: Vec<_> = (0..92_000)
        .map(|i| format!("model.layers.{}.mlp.experts.{}.down_proj.weight_scale_inv", i / 1536, i % 1536))
        .collect();
    let tensors: Vec<_> =
        names.iter().map(|name| (name.as_str(), Dtype::BF16, &[7168u64, 2048][..])).collect();
    let json = build_header(&tensors, &[]).unwrap();
    let file_len = 8 + json.len() as u64 + 92_000 * 7168 * 2048 * 2;
    let start = std::time::Instant::now();
    let header = parse_header(json.as_bytes(), file_len).unwrap();
    println!("{} tensors, {} bytes: {:?}", header.tensors.len(), json.len(), start.elapsed());
}
