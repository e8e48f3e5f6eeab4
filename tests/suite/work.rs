//! One merge of a test: a base, an adapter and an output in a folder of their own, and ways to damage them.

#![allow(dead_code, reason = "each file of the suite uses what it needs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use shardfold::Request;
use shardfold::testing::{Dtype, TestHooks};

use super::support::{
    Ran, command, copy_folder, f32s, fixtures, folder, quick_folder, ran, write_safetensors,
};

/// The module that small adapters of a test adapt.
pub const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// A base, an adapter and an output.
pub struct Work {
    /// The folder of all of them.
    pub folder: tempfile::TempDir,
    /// Folder of the base.
    pub base: PathBuf,
    /// Folder of the adapter.
    pub adapter: PathBuf,
    /// Where the result goes.
    pub output: PathBuf,
}

/// The same with the smallest tile buffers that some tiles fit, one at a time.
pub fn in_small_tiles(request: &Request) -> Request {
    let with = |slab| Request {
        hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
        threads: Some(1),
        ..request.clone()
    };
    let found = (1..=64).map(|n| with(n * 4096)).find(|request| shardfold::prepare(request).is_ok());
    found.expect("256 KiB are enough")
}

/// A tensor of a file that is being changed.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

impl Work {
    fn new() -> Work {
        Work::empty(folder())
    }

    fn empty(folder: tempfile::TempDir) -> Work {
        let at = |name| folder.path().join(name);
        let (base, adapter, output) = (at("base"), at("adapter"), at("output"));
        Work { folder, base, adapter, output }
    }

    /// The demo, the tiny model or a golden case, where nothing need last.
    pub fn quick(start: Option<&str>) -> Work {
        let made = match start {
            None => return Work::demo_in(Work::empty(quick_folder())),
            Some("tiny") => Work::tiny(Dtype::F32, 1.0),
            Some(golden) => Work::golden(golden),
        };
        let work = Work::empty(quick_folder());
        copy_folder(&made.base, &work.base);
        copy_folder(&made.adapter, &work.adapter);
        work
    }

    /// The demo: a small Llama in three shards, and an adapter of rank 8 on every linear layer.
    pub fn demo() -> Work {
        Work::demo_in(Work::new())
    }

    fn demo_in(work: Work) -> Work {
        copy_folder(&fixtures().join("demo/base"), &work.base);
        copy_folder(&fixtures().join("demo/adapter"), &work.adapter);
        work
    }

    /// A golden case: its base and its first adapter.
    pub fn golden(case: &str) -> Work {
        let work = Work::new();
        let from = fixtures().join("golden").join(case);
        copy_folder(&from.join("base"), &work.base);
        let adapter =
            ["adapter", "adapter-1"].map(|name| from.join(name)).into_iter().find(|path| path.exists());
        copy_folder(&adapter.expect("every case has an adapter"), &work.adapter);
        work
    }

    /// A tiny model of a real family: its base and its adapter.
    pub fn model(class: &str) -> Work {
        let work = Work::new();
        let from = fixtures().join("models").join(class);
        copy_folder(&from.join("base"), &work.base);
        copy_folder(&from.join("adapter"), &work.adapter);
        work
    }

    /// One shard with one tensor [4, 4] of ones, and an adapter of rank 1 whose delta is `delta` everywhere.
    pub fn tiny(dtype: Dtype, delta: f32) -> Work {
        let work = Work::new();
        fs::create_dir(&work.base).expect("a folder");
        let one: &[u8] = match dtype {
            Dtype::BF16 => &[0x80, 0x3f],
            Dtype::F16 => &[0x00, 0x3c],
            Dtype::F32 => &[0, 0, 0x80, 0x3f],
            _ => panic!("no ones of {dtype:?} here"),
        };
        let name = format!("{MODULE}.weight");
        write_safetensors(&work.base.join("model.safetensors"), &[(&name, dtype, &[4, 4], one.repeat(16))]);
        fs::write(
            work.base.join("config.json"),
            r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#,
        )
        .expect("a small file");
        work.adapt(1, 4, 4, 1.0, delta);
        work
    }

    /// Replaces the adapter by one on `MODULE`, `a` everywhere in its A and `b` in its B.
    pub fn adapt(&self, rank: u64, out: u64, input: u64, a: f32, b: f32) {
        fs::create_dir_all(&self.adapter).expect("a folder");
        let value = |value, n| f32s(std::iter::repeat_n(value, n as usize));
        let key = |role| format!("base_model.model.{MODULE}.{role}.weight");
        write_safetensors(
            &self.adapter.join("adapter_model.safetensors"),
            &[
                (&key("lora_A"), Dtype::F32, &[rank, input], value(a, rank * input)),
                (&key("lora_B"), Dtype::F32, &[out, rank], value(b, out * rank)),
            ],
        );
        let config =
            json!({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]});
        fs::write(self.adapter.join("adapter_config.json"), config.to_string()).expect("a small file");
    }

    /// Replaces the base by one shard of f32 tensors.
    pub fn rebase(&self, tensors: &[(&str, &[u64], Vec<f32>)]) {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape, data)| (*name, Dtype::F32, *shape, f32s(data.clone())))
            .collect();
        write_safetensors(&self.base.join("model.safetensors"), &tensors);
    }

    /// Replaces the adapter by one with this config and these f32 tensors, by what follows the prefix in their keys.
    pub fn adapt_by(&self, config: &Value, tensors: &[(&str, &[u64], Vec<f32>)]) {
        fs::create_dir_all(&self.adapter).expect("a folder");
        let keys: Vec<String> = tensors.iter().map(|(key, _, _)| format!("base_model.model.{key}")).collect();
        let tensors: Vec<_> = keys
            .iter()
            .zip(tensors)
            .map(|(key, (_, shape, data))| (key.as_str(), Dtype::F32, *shape, f32s(data.clone())))
            .collect();
        write_safetensors(&self.weights(), &tensors);
        fs::write(self.adapter.join("adapter_config.json"), config.to_string()).expect("a small file");
    }

    /// The shard of the base with this number.
    pub fn shard(&self, number: u32) -> PathBuf {
        self.base.join(format!("model-{number:05}-of-00003.safetensors"))
    }

    /// The adapter's tensors.
    pub fn weights(&self) -> PathBuf {
        self.adapter.join("adapter_model.safetensors")
    }

    /// Sets a field of the adapter's config.
    pub fn configure(&self, field: &str, value: Value) {
        edit_json(&self.adapter.join("adapter_config.json"), |fields| {
            fields.insert(field.to_owned(), value);
        });
    }

    /// The command that merges into the output.
    pub fn command(&self, flags: &[&str]) -> Command {
        self.command_into(&self.output, flags)
    }

    /// The command that merges into another output.
    pub fn command_into(&self, output: &Path, flags: &[&str]) -> Command {
        let mut command = command(&["merge"]);
        command.arg("--base").arg(&self.base).arg("--adapter").arg(&self.adapter);
        command.arg("--output").arg(output).args(flags);
        command
    }

    /// Merges.
    pub fn merge(&self, flags: &[&str]) -> Ran {
        ran(self.command(flags).output().expect("the binary starts"))
    }

    /// Merges with a weight for the adapter.
    pub fn merge_scaled(&self, weight: &str) -> Ran {
        let mut command = command(&["merge"]);
        command.arg("--base").arg(&self.base).arg("--scaled-adapter").arg(&self.adapter).arg(weight);
        ran(command.arg("--output").arg(&self.output).output().expect("the binary starts"))
    }

    /// The values of an f32 tensor of the result, which has one shard.
    pub fn merged(&self, name: &str) -> Vec<f32> {
        let mut values = Vec::new();
        edit(&self.output.join("model.safetensors"), |tensors| {
            let tensor = tensors.iter().find(|tensor| tensor.name == name).expect("a tensor of that name");
            values =
                tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        });
        values
    }

    /// Merges into another output.
    pub fn merge_into(&self, output: &Path, flags: &[&str]) -> Ran {
        ran(self.command_into(output, flags).output().expect("the binary starts"))
    }

    /// Merges and expects that to work.
    pub fn succeeds(&self, flags: &[&str]) -> Ran {
        let ran = self.merge(flags);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran
    }

    /// Where the result is made before it is seen.
    pub fn partial(&self) -> PathBuf {
        self.folder.path().join("output.partial")
    }
}

/// Changes the tensors of a file. Offsets are computed again, names and types are written as they are given.
pub fn edit(path: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let (header, data) = read(path);
    let header: Map<String, Value> = serde_json::from_str(&header).expect("a header");
    let mut tensors = Vec::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let offset = |i: usize| entry["data_offsets"][i].as_u64().expect("an offset") as usize;
        tensors.push(Tensor {
            name: name.clone(),
            dtype: entry["dtype"].as_str().expect("a dtype").to_owned(),
            shape: entry["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).collect(),
            data: data[offset(0)..offset(1)].to_vec(),
        });
    }
    tensors.sort_by_key(|tensor| header[&tensor.name]["data_offsets"][0].as_u64());
    change(&mut tensors);
    write(path, tensors);
}

/// Writes a file of these tensors, whose names and types may be any.
pub fn write(path: &Path, tensors: Vec<Tensor>) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let offsets = [data.len(), data.len() + tensor.data.len()];
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
        entries.push(format!("{}:{entry}", Value::from(tensor.name)));
        data.extend(tensor.data);
    }
    write_file(path, &format!("{{{}}}", entries.join(",")), &data);
}

/// Changes the text of a file's header and nothing else.
pub fn edit_header(path: &Path, change: impl FnOnce(String) -> String) {
    let (header, data) = read(path);
    write_file(path, &change(header), &data);
}

fn read(path: &Path) -> (String, Vec<u8>) {
    let bytes = fs::read(path).expect("a file to read");
    let len = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (String::from_utf8(bytes[8..8 + len].to_vec()).expect("UTF-8"), bytes[8 + len..].to_vec())
}

fn write_file(path: &Path, header: &str, data: &[u8]) {
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
    fs::write(path, bytes).expect("a small file");
}

/// Changes a JSON object in a file.
pub fn edit_json(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let text = fs::read_to_string(path).expect("a file to read");
    let mut fields: Map<String, Value> = serde_json::from_str(&text).expect("an object");
    change(&mut fields);
    fs::write(path, Value::Object(fields).to_string()).expect("a small file");
}

/// A tmpfs that goes when dropped, or none where none can be mounted.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one of so many bytes at the folder `at`.
    pub fn tmpfs(at: &Path, bytes: u64) -> Option<Mounted> {
        Mounted::new("tmpfs", &format!("size={bytes}"), at)
    }

    /// Mounts one that has no direct I/O.
    pub fn ramfs(at: &Path) -> Option<Mounted> {
        Mounted::new("ramfs", "rw", at)
    }

    fn new(kind: &str, options: &str, at: &Path) -> Option<Mounted> {
        let mount = Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What cannot be unmounted is left to whoever runs the tests.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
