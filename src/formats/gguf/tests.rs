//! What is built is read; what is wrong is refused.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use crate::formats::container::{Container, ContainerProblem, FileBytes, FileHeader, Room};
use crate::formats::gguf::START_BYTES;
use crate::formats::gguf::container::Gguf;
use crate::formats::header_bytes::HeaderBytes;
use crate::tensor::dtype::Dtype;

fn read_in(file: &[u8], room: u64) -> Result<FileHeader, ContainerProblem> {
    let read = |offset: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&file[offset as usize..][..buf.len()]);
        Ok(())
    };
    let room = Room { bytes: room, tensor_bytes: 1 };
    Gguf.read(&FileBytes { len: file.len() as u64, read: &read }, room)
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(key).as_slice(), &kind.to_le_bytes(), value].concat()
}

fn info(name: &str, sizes: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((sizes.len() as u32).to_le_bytes());
    sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A file of these pairs and infos, with so many bytes of data.
fn file(pairs: &[Vec<u8>], infos: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = [b"GGUF".as_slice(), &3u32.to_le_bytes()].concat();
    bytes.extend((infos.len() as u64).to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    bytes.extend(pairs.concat());
    bytes.extend(infos.concat());
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn some_pairs() -> Vec<Vec<u8>> {
    let list = [8u32.to_le_bytes().as_slice(), &2u64.to_le_bytes(), &text("<s>"), &text("é")].concat();
    vec![
        pair("general.architecture", 8, &text("llama")),
        pair("general.file_type", 4, &15u32.to_le_bytes()),
        pair("tokenizer.ggml.tokens", 9, &list),
        pair("llama.rope.freq_base", 6, &10000f32.to_le_bytes()),
        pair("small", 1, &[0xff]),
        pair("flag", 7, &[1]),
    ]
}

#[test]
fn what_is_built_is_read_and_keeps_the_pairs() {
    let like = HeaderBytes::new(file(&some_pairs(), &[], 0));
    let tensors: [(&str, Dtype, &[u64]); 4] = [
        ("a", Dtype::Q4_K, &[3, 2]),
        ("b", Dtype::F32, &[5]),
        ("c", Dtype::BF16, &[2, 3, 4]),
        ("d", Dtype::F32, &[]),
    ];
    let built = Gguf.build(&like, &|key| key != "flag", &tensors).unwrap();
    // 6 blocks, then 20 bytes and 12 zeros, then 48 and 16, and 4.
    let whole = [&built[..], &[0; 864 + 32 + 64 + 4]].concat();
    let header = read_in(&whole, u64::MAX).unwrap();
    assert_eq!(header.bytes, built);
    let data = built.len() as u64;
    assert!(data.is_multiple_of(32));
    let found: Vec<_> = header
        .tensors
        .iter()
        .map(|t| (&*t.name, t.dtype, t.shape.axes().to_vec(), t.offset - data))
        .collect();
    let shapes = [(0, 0), (1, 864), (2, 896), (3, 960)].map(|(i, at): (usize, u64)| {
        let (name, dtype, axes) = tensors[i];
        (name, dtype, axes.to_vec(), at)
    });
    assert_eq!(found, shapes);
    let said = Gguf.metadata(&header.like).unwrap();
    let said: Vec<(&str, &str)> = said.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let kept = [
        ("general.architecture", "llama"),
        ("tokenizer.ggml.tokens", "[…]"),
        ("llama.rope.freq_base", "10000"),
        ("small", "-1"),
    ];
    assert_eq!(said, kept, "a file type is for readers to find out");
    assert!(String::from_utf8_lossy(&header.like).contains("<s>"));
    for padding in [1, 28] {
        assert!(read_in(&[&whole[..], &vec![0; padding]].concat(), u64::MAX).is_ok());
    }
    assert!(matches!(read_in(&[&whole[..], &[0; 29]].concat(), u64::MAX), Err(ContainerProblem::TooLong(_))));
    for len in [whole.len() - 1, built.len(), built.len() - 1, 60, 24, 23, 15, 7, 3] {
        let refused = read_in(&whole[..len], u64::MAX);
        assert!(matches!(refused, Err(ContainerProblem::NotWhole(_) | ContainerProblem::Broken(_))), "{len}");
    }
}

#[test]
fn a_file_without_tensors_and_other_alignments() {
    let empty = file(&some_pairs(), &[], 0);
    assert!(read_in(&empty, u64::MAX).unwrap().tensors.is_empty());
    let by_64 = pair("general.alignment", 4, &64u32.to_le_bytes());
    let like = HeaderBytes::new(file(&[by_64], &[], 0));
    let two: [(&str, Dtype, &[u64]); 2] = [("a", Dtype::F32, &[1]), ("b", Dtype::F32, &[1])];
    let built = Gguf.build(&like, &|_| true, &two).unwrap();
    assert_eq!((built.len() % 64, Gguf.alignment(&built).unwrap()), (0, 64));
    let header = read_in(&[&built[..], &[0; 68]].concat(), u64::MAX).unwrap();
    assert_eq!(header.tensors[1].offset, built.len() as u64 + 64);
}

#[test]
fn what_is_wrong_is_refused() {
    let good = || info("a", &[32, 2], 2, 0);
    let says = |file: Vec<u8>| match read_in(&file, u64::MAX).expect_err("refused") {
        ContainerProblem::NotWhole(cause)
        | ContainerProblem::Broken(cause)
        | ContainerProblem::TooLong(cause) => cause.to_string(),
        other => format!("{other:?}"),
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut file = file(&some_pairs(), &[good()], 36);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let many = u64::MAX.to_le_bytes();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (with(0, b"GGLM"), "it does not begin with `GGUF`"),
        (with(0, b"PK\x03\x04"), "Foreign(\"a zip file, as `torch.save` writes\")"),
        (with(4, &[0, 0, 0, 3]), "its numbers are big-endian, little-endian ones are read"),
        (with(4, &[1, 0, 0, 0]), "it is of version 1, 2 and 3 are read"),
        (with(8, &many), "it promises 18446744073709551615 tensors, more than fit the file"),
        (with(16, &many), "it promises 18446744073709551615 pairs, more than fit the file"),
        (with(START_BYTES, &many), "a key is 18446744073709551615 bytes long, at most 65535 are accepted"),
        (
            file(&[pair("k", 13, &[0; 8])], &[good()], 36),
            "value of `k` has type 13, which is unknown or a list in a list",
        ),
        (
            file(&[pair("k", 9, &[&9u32.to_le_bytes()[..], &[0; 8]].concat())], &[good()], 36),
            "value of `k` has type 9, which is unknown or a list in a list",
        ),
        (
            file(&[pair("k", 9, &[&4u32.to_le_bytes()[..], &many].concat())], &[good()], 36),
            "header goes on behind the end of the file",
        ),
        (file(&[pair("k", 7, &[1]), pair("k", 7, &[1])], &[good()], 36), "key `k` is there twice"),
        (
            file(&[pair("k", 8, &[&1u64.to_le_bytes()[..], &[0xff]].concat())], &[good()], 36),
            "a value at byte 45 is no UTF-8",
        ),
        (
            file(&[pair("general.alignment", 4, &24u32.to_le_bytes())], &[good()], 36),
            "`general.alignment` is 24, expected a power of two of at most 65536",
        ),
        (
            file(&[pair("general.alignment", 8, &text("x"))], &[good()], 36),
            "`general.alignment` is x, expected a power of two of at most 65536",
        ),
        (
            file(&[], &[info(&"n".repeat(513), &[32], 2, 0)], 36),
            "the name of a tensor is 513 bytes long, at most 512 are accepted",
        ),
        (file(&[], &[good(), info("a", &[32], 2, 64)], 128), "tensor `a` is there twice"),
        (file(&[], &[info("a", &[1; 5], 0, 0)], 36), "tensor `a` has 5 axes, at most 4 are accepted"),
        (file(&[], &[info("a", &[32], 4, 0)], 36), "tensor `a` has type 4, which is unknown"),
        (
            file(&[], &[info("a", &[33, 2], 2, 0)], 36),
            "tensor `a` of Q4_0 has rows of 33 values, expected a multiple of 32",
        ),
        (file(&[], &[info("a", &[1 << 40, 1 << 40], 0, 0)], 36), "size of tensor `a` overflows"),
        (file(&[], &[info("a", &[1 << 62], 0, 0)], 36), "size of tensor `a` overflows"),
        (file(&[], &[info("a", &[32], 2, 32)], 64), "data of tensor `a` begins at byte 32, expected 0"),
        (
            file(&[], &[good(), info("b", &[32], 2, 32)], 128),
            "data of tensor `b` begins at byte 32, expected 64",
        ),
        (file(&[], &[good()], 35), "header and the data of its tensors take 132 bytes, the file has 131"),
        (file(&[], &[good()], 65), "header and the data of its tensors take 160 bytes, the file has 161"),
    ];
    for (file, expected) in cases {
        let said = says(file);
        assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    }
    let lfs = b"version https://git-lfs.github.com/spec/v1\n".to_vec();
    assert!(matches!(read_in(&lfs, u64::MAX), Err(ContainerProblem::LfsPointer)));
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let whole = file(&some_pairs(), &[info("a", &[32, 2], 2, 0)], 36);
    let needs = |room: u64| match read_in(&whole, room) {
        Err(ContainerProblem::NoRoom(needed)) => Some(needed),
        other => other.map(|_| None).unwrap(),
    };
    let enough = (1..4096).find(|room| needs(*room).is_none()).unwrap();
    assert!(
        enough > 300 && (1..enough).all(|room| needs(room).is_some_and(|needed| needed > room)),
        "{enough}"
    );
    assert!(
        Gguf.build(&HeaderBytes::new(file(&[], &[], 0)), &|_| true, &[("a", Dtype::F8_E4M3, &[1])]).is_err()
    );
}
