use crate::error::Result;
use crate::formats::container::{Container, ContainerProblem, FileBytes, FileHeader, Room};
use crate::formats::pytorch::container::Pytorch;
use crate::formats::safetensors::container::Safetensors;
use crate::tensor::dtype::bytes_of;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../fixtures/pytorch/", $name, ".bin"))
    };
}

const WHOLE: &[u8] = file!("all-linear");
const GOLDEN: &[u8] = include_bytes!("../../../fixtures/golden/all-linear/adapter/adapter_model.safetensors");

fn read_by(
    container: &dyn Container,
    file: &[u8],
    room: Room,
) -> std::result::Result<FileHeader, ContainerProblem> {
    let read = |offset: u64, buf: &mut [u8]| -> Result<()> {
        let bytes = file.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.expect("it asks for what is there"));
        Ok(())
    };
    container.read(&FileBytes { len: file.len() as u64, read: &read }, room)
}

fn read(file: &[u8]) -> std::result::Result<FileHeader, ContainerProblem> {
    read_by(&Pytorch(".bin"), file, Room::ENDLESS)
}

/// Names, types, shapes and bytes of all tensors, by name.
fn tensors(header: &FileHeader, file: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let bytes = |entry: &crate::formats::container::TensorEntry| {
        let len = bytes_of(entry.dtype, entry.shape.elements()).expect("small") as usize;
        file[entry.offset as usize..][..len].to_vec()
    };
    let mut found: Vec<_> = header
        .tensors
        .iter()
        .map(|entry| (entry.name.to_string(), format!("{:?} {}", entry.dtype, entry.shape), bytes(entry)))
        .collect();
    found.sort();
    found
}

#[test]
fn tensors_are_those_of_the_file_that_it_was_made_of() {
    let golden = read_by(&Safetensors, GOLDEN, Room::ENDLESS).expect("a golden file");
    let right = tensors(&golden, GOLDEN);
    assert!(right.len() > 10);
    for file in [WHOLE, file!("nested"), file!("legacy"), file!("legacy-nested"), file!("state")] {
        let header = read(file).expect("it follows the rules");
        assert!(tensors(&header, file) == right);
        assert!(header.tensors.is_sorted_by_key(|entry| entry.offset));
    }
}

#[test]
fn whatever_is_no_dictionary_of_whole_tensors_is_refused() {
    let strided = "is a view whose rows do not follow each other";
    for (file, says) in [
        (&file!("strided")[..], strided),
        (file!("shared"), "share some of their bytes"),
        (file!("type"), "is of type `complex128`, which is not read"),
        (file!("evil"), "asks for `posix.system`, which is no part of a tensor and is not run"),
        (file!("list"), "holds no dictionary of tensors"),
        (file!("plain-pickle"), "does not begin as `torch.save` began files before torch 1.6"),
        (file!("legacy-big-endian"), "big-endian"),
        (file!("legacy-version"), "says version 1002"),
        (file!("legacy-cut"), "reaches beyond the file"),
        (file!("legacy-cut-pickle"), "ends before it is whole"),
        (file!("legacy-long"), "reaches beyond the file"),
        (file!("legacy-twice"), "twice, or no tensor has it"),
        (file!("legacy-evil"), "asks for `posix.system`, which is no part of a tensor and is not run"),
        (file!("deflated"), "is compressed"),
        (file!("big-endian"), "big-endian"),
        (file!("no-pickle"), "no `data.pkl`"),
        (file!("no-storage"), "in storage `0`, which the file does not hold"),
        (file!("short-storage"), "reaches beyond its storage"),
        (file!("operation"), "has operation 0x69 at byte"),
        (file!("cut-pickle"), "ends before it is whole"),
        (file!("cut"), "its list of entries is not at its end"),
    ] {
        match read(file) {
            Err(ContainerProblem::Broken(cause) | ContainerProblem::NotWhole(cause)) => {
                assert!(cause.to_string().contains(says), "{cause}, not {says}");
            }
            other => panic!("{says}: {other:?}"),
        }
    }
    assert!(matches!(read(b"GGUF\x03\0\0\0"), Err(ContainerProblem::Foreign("a GGUF file"))));
}

#[test]
fn what_it_takes_is_counted_before_it_is_kept() {
    for file in [WHOLE, file!("legacy")] {
        let needed =
            |room: u64| match read_by(&Pytorch(".bin"), file, Room { bytes: room, tensor_bytes: 200 }) {
                Ok(_) => None,
                Err(ContainerProblem::NoRoom(needed)) => Some(needed),
                Err(other) => panic!("{other:?}"),
            };
        let mut room = 0;
        let mut steps = 0;
        while let Some(more) = needed(room) {
            assert!(more > room && more < 1 << 20, "{more} of {room}");
            room = more;
            steps += 1;
        }
        assert!((2..2000).contains(&steps) && room > file.len() as u64, "{steps} steps to {room}");
    }
}

#[test]
fn no_damage_is_more_than_an_error() {
    for whole in [WHOLE, file!("legacy")] {
        let (mut broken, mut state) = (0, 88172645463325252_u64);
        let mut random = |end: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % end
        };
        for _ in 0..3000 {
            let mut file = whole.to_vec();
            for _ in 0..=random(4) {
                let at = random(file.len());
                file[at] = random(256) as u8;
            }
            if random(8) == 0 {
                file.truncate(random(file.len()));
            }
            let room = Room { bytes: 1 << 20, tensor_bytes: 100 };
            broken += usize::from(read_by(&Pytorch(".bin"), &file, room).is_err());
        }
        assert!(broken > 300, "{broken} of 3000");
    }
}
