//! A tiny merge in a folder of its own, in one of the ways of publishing, through a store that fails where it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use shardfold::testing::{Dtype, Faulty, TestHooks};
use shardfold::{Cancel, Folder, Location, Prepared, Reporter, Request, Result, Store, Style, Summary};
use shardfold::{Terminal, choose, prepare};

use super::support::{contents, f32s, quick_folder, write_safetensors};
use super::work::MODULE;

/// The ways of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Staged beside an output that is not there, and renamed.
    Renamed,
    /// Staged inside an output that is the root of a volume, and moved into place.
    IntoPlace,
    /// Staged beside, where no directory can be renamed, and moved into an output that is not there.
    FromBeside,
    /// Written once under final names, where nothing is renamed.
    Once,
}

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A base in two shards, an adapter, and what merging them gives.
pub struct Trial {
    folder: tempfile::TempDir,
    way: Way,
    /// Whether files can be locked.
    is_locked: bool,
    /// What the output and the journals of outputs lie in.
    pub store: Faulty<Folder>,
    /// The merge, with inputs that do not fail.
    prepared: Option<Prepared>,
    /// The files of base and adapter.
    inputs: Files,
    /// The files of an undisturbed result.
    pub whole: Files,
}

/// How one run differs from another.
#[derive(Clone)]
pub struct Variant {
    /// Where journals of outputs lie.
    pub state: Option<Location>,
    /// What stops it.
    pub cancel: Cancel,
    /// The digest that the result must have.
    pub expected: Option<String>,
}

impl Trial {
    /// Makes the inputs and merges them once.
    pub fn new(way: Way) -> Trial {
        Trial::with(way, true)
    }

    /// The same where nothing can be locked.
    pub fn unlocked(way: Way) -> Trial {
        Trial::with(way, false)
    }

    fn with(way: Way, is_locked: bool) -> Trial {
        let folder = quick_folder();
        let store = Faulty::new(Folder::new(folder.path()));
        let (inputs, whole) = (Files::new(), Files::new());
        let mut trial = Trial { folder, way, is_locked, store, prepared: None, inputs, whole };
        trial.make_inputs();
        trial.inputs = trial.inputs_now();
        let usual = trial.variant(&trial.store);
        trial.prepared = Some(trial.prepare(&Folder::new(trial.at("")), &usual).expect("it plans"));
        trial.reset();
        trial.succeeds();
        trial.whole = trial.output().expect("it is there");
        assert!(trial.whole.contains_key("shardfold.json") && trial.whole.len() == 6);
        trial
    }

    fn make_inputs(&self) {
        let (base, adapter) = (self.at("base"), self.at("adapter"));
        fs::create_dir(&base).expect("a folder");
        fs::create_dir(&adapter).expect("a folder");
        let [first, second] = [1, 2].map(|i| format!("model-{i:05}-of-00002.safetensors"));
        let (name, ones) = (format!("{MODULE}.weight"), |count| f32s(std::iter::repeat_n(1.0, count)));
        write_safetensors(&base.join(&first), &[("model.norm.weight", Dtype::F32, &[32], ones(32))]);
        write_safetensors(&base.join(&second), &[(&name, Dtype::F32, &[64, 32], ones(64 * 32))]);
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": first, &name: second}});
        fs::write(base.join("model.safetensors.index.json"), index.to_string()).expect("a small file");
        let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"});
        fs::write(base.join("config.json"), config.to_string()).expect("a small file");
        let key = |role| format!("base_model.model.{MODULE}.{role}.weight");
        let factors: [(&str, Dtype, &[u64], Vec<u8>); 2] = [
            (&key("lora_A"), Dtype::F32, &[1, 32], ones(32)),
            (&key("lora_B"), Dtype::F32, &[64, 1], ones(64)),
        ];
        write_safetensors(&adapter.join("adapter_model.safetensors"), &factors);
        let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]});
        fs::write(adapter.join("adapter_config.json"), config.to_string()).expect("a small file");
    }

    /// The path of what has that name in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A store of the folder that counts by itself.
    pub fn other_store(&self) -> Faulty<Folder> {
        Faulty::new(Folder::new(self.folder.path()))
    }

    /// Makes everything as it was before the first merge.
    pub fn reset(&self) {
        for name in ["output", "output.partial", "state"] {
            remove(&self.at(name));
        }
        if self.way == Way::IntoPlace {
            fs::create_dir_all(self.at("output/lost+found")).expect("a folder");
        }
    }

    /// The usual run, with journals in `store`.
    pub fn variant(&self, store: &Faulty<Folder>) -> Variant {
        let state = Some(Location::new(store.clone()).join("state"));
        Variant { state, cancel: Cancel::default(), expected: None }
    }

    /// Plans with the inputs in `store`.
    pub fn prepare(&self, store: &(impl Store + Clone + 'static), variant: &Variant) -> Result<Prepared> {
        let work = Location::new(store.clone());
        let request = Request {
            base: Some(work.join("base").into()),
            adapters: vec![(work.join("adapter").into(), 1f64.into())],
            threads: Some(1),
            hooks: TestHooks { forced: Some((4096, 2)), stride: Some(32), ..TestHooks::default() },
            state: variant.state.clone(),
            expected: variant.expected.clone(),
            cancel: variant.cancel.clone(),
            ..Request::default()
        };
        prepare(&request)
    }

    /// Plans with another weight of the adapter, and without a place for journals.
    pub fn prepare_scaled(&self, weight: f64) -> Result<Prepared> {
        let work = Location::of_path(self.at(""));
        prepare(&Request {
            base: Some(work.join("base").into()),
            adapters: vec![(work.join("adapter").into(), weight.into())],
            ..Request::default()
        })
    }

    /// Merges `prepared` into the output in `store`, and tells `reporter`.
    pub fn merge_telling(
        &self,
        prepared: &Prepared,
        store: &Faulty<Folder>,
        reporter: &mut dyn Reporter,
    ) -> Result<Summary> {
        let store = match self.way {
            Way::Once => store.clone().refusing_renames(),
            Way::FromBeside => store.clone().refusing_dir_renames(),
            Way::Renamed | Way::IntoPlace => store.clone(),
        };
        let store = if self.is_locked { store } else { store.refusing_locks() };
        prepared.merge(&Location::new(store).join("output"), reporter)
    }

    /// Merges as `variant` has it, with an output in `store`.
    pub fn merge_as(&self, store: &Faulty<Folder>, variant: &Variant) -> Result<Summary> {
        let prepared = self.prepare(&Folder::new(self.at("")), variant)?;
        self.merge_telling(&prepared, store, quiet().as_mut())
    }

    /// Merges as the trial's store has it.
    pub fn merge(&self) -> Result<Summary> {
        let prepared = self.prepared.as_ref().expect("it is planned");
        self.merge_telling(prepared, &self.store, quiet().as_mut())
    }

    /// Merges without failures, and sees that the result is that of an undisturbed run.
    pub fn succeeds(&self) -> Summary {
        self.store.rearm(None);
        let summary = self.merge().unwrap_or_else(|error| panic!("{error:?}"));
        // Without locks nobody knows whether a run still needs what it left.
        let is_right =
            if self.is_locked { self.output().as_ref() == Some(&self.whole) } else { self.is_whole() };
        assert!(self.whole.is_empty() || is_right, "another result");
        for left in ["output.partial", "output/.shardfold.partial"] {
            assert!(!self.is_locked || !self.at(left).exists(), "{left} is there");
        }
        summary
    }

    /// The files of the output; none if there is no such directory.
    pub fn output(&self) -> Option<Files> {
        self.at("output").exists().then(|| contents(&self.at("output")))
    }

    /// Whether the output is as it was before the first merge.
    pub fn is_untouched(&self) -> bool {
        match self.way {
            Way::IntoPlace => self.output().is_some_and(|files| files.is_empty()),
            Way::Renamed | Way::FromBeside | Way::Once => self.output().is_none(),
        }
    }

    /// Whether the output is that of an undisturbed run, but for what a move that has ended or a run without locks left.
    pub fn is_whole(&self) -> bool {
        let files = self.output().unwrap_or_default().into_iter();
        files.filter(|(name, _)| !name.starts_with(".shardfold.partial")).eq(self.whole.clone())
    }

    /// Whether nobody takes the output for a result: it is not there or, where a result is made or moved in its place, has no record.
    pub fn is_none_yet(&self) -> bool {
        match self.way {
            Way::Renamed => self.is_untouched(),
            Way::IntoPlace | Way::FromBeside | Way::Once => !self.at("output/shardfold.json").exists(),
        }
    }

    /// Whether the inputs are what they were.
    pub fn has_its_inputs(&self) -> bool {
        self.inputs_now() == self.inputs
    }

    fn inputs_now(&self) -> Files {
        let files = ["base", "adapter"].map(|dir| (dir, contents(&self.at(dir))));
        let named = files.into_iter().flat_map(|(dir, files)| {
            files.into_iter().map(move |(name, bytes)| (format!("{dir}/{name}"), bytes))
        });
        named.collect()
    }
}

/// Nobody who is told.
pub fn quiet() -> Box<dyn Reporter> {
    choose(Style::Quiet, Terminal::default(), &Cancel::default())
}

/// Removes what is there, if anything is.
fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("it can be removed");
    } else if path.exists() {
        fs::remove_file(path).expect("it can be removed");
    }
}
