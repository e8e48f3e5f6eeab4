//! The checkpoint folder: shards as transformers cuts and names them, the index, the configs.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::{Request, Shape};
use super::values::Source;
use super::{Model, Result, Tensor, file};

/// Beside `base/`, and written last: says that the base is whole, and what was asked for.
const IDENTITY: &str = "base.request.json";
/// Shards of the published mixture of experts.
const MOE_SHARDS: u64 = 163;

/// What was written, or found.
pub(super) struct Base {
    pub(super) folder: PathBuf,
    pub(super) shards: usize,
    /// Bytes of tensor data.
    pub(super) bytes: u64,
    /// The same base was there already.
    pub(super) kept: bool,
}

/// Writes `OUT/base`, unless the same request made it before; a base of another request is refused, never replaced.
pub(super) fn write(model: &Model, request: &Request) -> Result<Base> {
    let bytes = model.tensors.iter().map(Tensor::bytes).sum();
    let shards = split(&model.tensors, shard_bytes(request, bytes));
    let folder = request.out.join("base");
    let made = |kept| Base { folder: folder.clone(), shards: shards.len(), bytes, kept };
    let identity = request.out.join(IDENTITY);
    match fs::read_to_string(&identity) {
        Ok(known) if known == request.base_identity() => return Ok(made(true)),
        Ok(known) => return Err(format!("{} was made by another request: {known}", folder.display()).into()),
        Err(_) if folder.exists() => {
            return Err(format!("{} is unfinished or not ours: remove it first", folder.display()).into());
        }
        Err(_) => {
            fs::create_dir_all(&request.out)?;
            check_space(&request.out, if request.sparse { 0 } else { bytes })?;
            fs::create_dir(&folder)?;
        }
    }
    write_shards(&folder, &shards, request)?;
    write_json(&folder.join("config.json"), &model.config)?;
    if let Some(config) = &model.generation_config {
        write_json(&folder.join("generation_config.json"), config)?;
    }
    fs::write(identity, request.base_identity())?;
    Ok(made(false))
}

/// Refuses what would fill the disk.
fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    let file_system = rustix::fs::statvfs(folder)?;
    let free = file_system.f_bavail * file_system.f_frsize;
    if free < bytes {
        let (free, needed) = (free as f64 / 1e9, bytes as f64 / 1e9);
        return Err(format!("{} has {free:.1} GB free, the base needs {needed:.1}", folder.display()).into());
    }
    Ok(())
}

/// The largest shard: as asked, else transformers' former default, else what gives the published number of shards.
fn shard_bytes(request: &Request, total: u64) -> u64 {
    let default = match request.shape {
        Shape::Moe | Shape::MoeTiny => total / MOE_SHARDS + total / MOE_SHARDS / 200,
        _ => 5_000_000_000,
    };
    request.shard_size.map_or(default, |size| size.as_u64())
}

/// Fills shards in module order as `huggingface_hub` does: a tensor larger than a shard gets one to itself.
fn split(tensors: &[Tensor], limit: u64) -> Vec<Vec<&Tensor>> {
    let (mut shards, mut current, mut held) = (Vec::new(), Vec::new(), 0);
    for tensor in tensors {
        let bytes = tensor.bytes();
        if bytes > limit {
            shards.push(vec![tensor]);
            continue;
        }
        if held + bytes > limit {
            shards.push(std::mem::take(&mut current));
            held = 0;
        }
        current.push(tensor);
        held += bytes;
    }
    if !current.is_empty() {
        shards.push(current);
    }
    shards
}

/// Writes the shard files and, if there are several, their index.
fn write_shards(folder: &Path, shards: &[Vec<&Tensor>], request: &Request) -> Result<()> {
    let mut source = Source::new(request.seed);
    let mut files = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let path = folder.join(&name);
        let source = if request.sparse { None } else { Some(&mut source) };
        file::write(&path, shard, source).map_err(|error| format!("{}: {error}", path.display()))?;
        files.extend(shard.iter().map(|&tensor| (tensor, name.clone())));
    }
    if shards.len() > 1 {
        write_json(&folder.join("model.safetensors.index.json"), &index(files))?;
    }
    Ok(())
}

/// The index, its names sorted.
fn index(mut files: Vec<(&Tensor, String)>) -> Value {
    let parameters: usize = files.iter().map(|(tensor, _)| tensor.shape.iter().product::<usize>()).sum();
    let bytes: u64 = files.iter().map(|(tensor, _)| tensor.bytes()).sum();
    files.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let map: Map<_, _> = files.into_iter().map(|(tensor, name)| (tensor.name.clone(), name.into())).collect();
    json!({ "metadata": { "total_parameters": parameters, "total_size": bytes }, "weight_map": map })
}

/// JSON with an indent of two and a final newline, as transformers writes it.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)? + "\n")?;
    Ok(())
}
