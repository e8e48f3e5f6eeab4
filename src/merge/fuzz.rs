//! Everything that reads bytes of a file, as functions that must return whatever they are given: a fuzzer calls them.

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::options::options;
use crate::adapters::peft::python_regex::PythonPattern;
use crate::adapters::peft::selection::Selection;
use crate::checkpoint::catalogue::BaseTensor;
use crate::checkpoint::config::Config;
use crate::checkpoint::llama_cpp::LlamaCpp;
use crate::checkpoint::plain_lists::PlainModules;
use crate::formats::container::{Container, FileBytes, FileHeader, Room, TensorEntry};
use crate::formats::gguf::container::Gguf;
use crate::formats::index::parse_index;
use crate::formats::json::{parse_json_as_python, parse_json_as_written};
use crate::formats::json_edit::JsonEdit;
use crate::formats::pytorch::container::Pytorch;
use crate::formats::safetensors::read::{header_len, parse_header};
use crate::publish::journal::{HeadLine, JOURNAL, JournalWork};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::memory::Memory;
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::FileId;

/// A function that reads the bytes of a file.
pub type FuzzTarget = fn(&[u8]);

/// Each by name, with the part of the fixtures that it begins with.
pub const FUZZ_TARGETS: &[(&str, FuzzTarget)] = &[
    ("header", header),
    ("gguf", gguf),
    ("pytorch", pytorch),
    ("index", index),
    ("model-config", model_config),
    ("adapter-config", adapter_config),
    ("journal", journal),
    ("provenance", provenance),
    ("pattern", pattern),
];

/// A path as models have them, and one that is long.
const MODULES: [&str; 2] =
    ["model.layers.11.self_attn.q_proj", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"];

fn header(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first_chunk() else { return };
    let len = header_len(*first, bytes.len() as u64).unwrap_or(rest.len() as u64) as usize;
    let Ok(header) = parse_header(&rest[..len.min(rest.len())], bytes.len() as u64) else { return };
    let mut at = 0;
    for tensor in header.tensors {
        assert!(tensor.start == at && tensor.end >= at, "tensors tile the data");
        at = tensor.end;
    }
    assert!(at <= bytes.len() as u64, "no tensor is longer than its file");
}

/// The header of a file whose tensors lie inside, if it is one.
fn header_in(container: &dyn Container, bytes: &[u8]) -> Option<FileHeader> {
    let read = |offset: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    };
    let file = FileBytes { len: bytes.len() as u64, read: &read };
    let header = container.read(&file, Room { bytes: 1 << 20, tensor_bytes: 64 }).ok()?;
    let end = |tensor: &TensorEntry| Some(tensor.offset + bytes_of(tensor.dtype, tensor.shape.elements())?);
    assert!(
        header.tensors.iter().all(|tensor| end(tensor).is_some_and(|end| end <= file.len)),
        "tensors lie inside"
    );
    Some(header)
}

/// A zip, and the pickle in it, whose program makes tensors.
fn pytorch(bytes: &[u8]) {
    let _ = header_in(&Pytorch(".bin"), bytes);
}

/// The header of a GGUF file, the model that it is of, and the names that its tensors have there.
fn gguf(bytes: &[u8]) {
    let Some(header) = header_in(&Gguf, bytes) else { return };
    let said = Gguf.metadata(&header.like).unwrap_or_default();
    let Ok(Some(model)) = LlamaCpp::of(said) else { return };
    for tensor in header.tensors {
        let (name, tensor) = tensor.in_file(FileId(0));
        let _ = model.read(&BaseTensor { name, tensor });
    }
}

fn index(bytes: &[u8]) {
    let Ok(index) = parse_index(bytes, u64::MAX) else { return };
    let is_outside = |name: &str| name.starts_with('/') || name.split('/').any(|part| part == "..");
    assert!(!index.weight_map.iter().any(|(_, shard)| is_outside(shard)), "no shard lies elsewhere");
}

fn model_config(bytes: &[u8]) {
    let Ok(config) = Config::parse(bytes) else { return };
    let _ = (config.library(), config.classes(), config.family(), config.dtype(), config.tie_flags());
    let _ = (config.main_text_config(), config.inner_classes());
    for (_, quantization) in config.quantizations() {
        let plain = PlainModules::of(quantization);
        MODULES.iter().for_each(|module| _ = plain.has(module));
    }
    let mut edit = JsonEdit::new(config.as_text());
    edit.set(&["tie_word_embeddings"], &false.into());
    edit.set(&["text_config", "vocab_size"], &7.into());
    assert!(parse_json_as_python(edit.text().as_bytes()).is_ok(), "an edited config is one");
}

fn adapter_config(bytes: &[u8]) {
    let Ok(value) = parse_json_as_written(bytes) else { return };
    let Some(fields) = value.as_object() else { return };
    let config = AdapterConfig::new("adapter".to_owned(), fields.clone());
    let _ = options(&config);
    let selection = Selection::of(&config);
    MODULES.iter().for_each(|module| _ = selection.selects(module));
}

/// A directory with that one file.
fn holding(name: &str, bytes: &[u8]) -> Option<Location> {
    let dir = Location::new(Memory::new());
    write_small(&dir, name, bytes).ok().map(|()| dir)
}

fn journal(bytes: &[u8]) {
    let Some(dir) = holding(JOURNAL, bytes) else { return };
    let _ = (HeadLine::read(&dir), JournalWork::read(&dir));
}

fn provenance(bytes: &[u8]) {
    let Some(dir) = holding(PROVENANCE, bytes) else { return };
    let _ = Provenance::read(&dir).map(|found| found.map(|record| record.sum().bytes));
}

fn pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(pattern) = PythonPattern::full(&text) else { return };
    MODULES.iter().for_each(|module| drop(pattern.is_match(module)));
}
