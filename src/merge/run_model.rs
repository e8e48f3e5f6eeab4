//! A whole run under every order of steps that the model checker tries: it ends, whatever fails and whenever it is cancelled,
//! says what failed, and its journal never claims what was not written before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::cancel::Cancel;
use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::formats::safetensors::build::build_header;
use crate::merge::hooks::TestHooks;
use crate::merge::prepare::{Prepared, prepare};
use crate::merge::request::Request;
use crate::pipeline::clock::Clocks;
use crate::pipeline::milestone::{Milestone, Reached};
use crate::pipeline::run::Run;
use crate::pipeline::shared::SharedInputs;
use crate::publish::journal::{Journal, JournalWork};
use crate::publish::kept::Earlier;
use crate::schedule::extent::Extent;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::memory::Memory;
use crate::storage::rules::part_name;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::storage::testing::faulty::Faulty;
use crate::storage::testing::script::{Failure, Operation};
use crate::tensor::dtype::Dtype;
use crate::threads::model::thread::refuse_after;
use crate::threads::model::{Timeouts, draw, explore};
use crate::threads::thread;

const WORKERS: usize = 2;
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const ATTENTION: &str = "model.layers.0.self_attn";
/// Columns of the tensor whose rows are longer than a tile, so that its norms are reduced in a pass of their own.
const WIDE: u64 = 4096;

/// Name, shape and value of each tensor of a file.
type Tensors<'t> = &'t [(&'t str, &'t [u64], f32)];

fn safetensors(tensors: Tensors<'_>) -> Vec<u8> {
    let entries: Vec<_> = tensors.iter().map(|(name, shape, _)| (*name, Dtype::F32, *shape)).collect();
    let header = build_header(&entries, &[("format", "pt")]).expect("a small header");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    for (_, shape, value) in tensors {
        let elements = shape.iter().product::<u64>();
        bytes.extend((0..elements).flat_map(|i| (value * (1 + i % 13) as f32).to_le_bytes()));
    }
    bytes
}

/// A merge of two shards, planned: a DoRA on a tensor of long rows and two of short ones, and a tensor that is copied.
struct Small {
    prepared: Prepared,
    inputs: Memory,
    /// The shards of an undisturbed run.
    whole: BTreeMap<String, Vec<u8>>,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
struct Trouble {
    read: Option<(u64, Failure)>,
    write: Option<(Operation, u64, Failure)>,
    /// A failing call of the journal's file.
    journal: Option<(Operation, u64)>,
    /// Steps of another thread before it cancels.
    cancel: Option<usize>,
    /// Threads that are had before one is refused.
    granted: Option<usize>,
}

/// What a run left.
struct Left {
    result: Result<()>,
    output: Memory,
    journal: Memory,
}

const EIO: Failure = Failure::Errno(5);

impl Small {
    /// With multiples of `b` in the factors B of the second shard.
    fn new(b: f32) -> Arc<Small> {
        let inputs = Memory::new();
        let put = |name: &str, bytes: &[u8]| write_small(&inputs, name, bytes).expect("memory");
        let [q, v, k] = ["q_proj", "v_proj", "k_proj"].map(|module| format!("{ATTENTION}.{module}"));
        let [q_weight, v_weight, k_weight] = [&q, &v, &k].map(|module| format!("{module}.weight"));
        put(&format!("base/{}", SHARDS[0]), &safetensors(&[(&q_weight, &[2, WIDE], 0.5)]));
        let second: Tensors<'_> =
            &[("model.norm.weight", &[64], 1.0), (&v_weight, &[16, 64], 0.25), (&k_weight, &[16, 64], 0.25)];
        put(&format!("base/{}", SHARDS[1]), &safetensors(second));
        let index = format!(
            r#"{{"weight_map": {{"{q_weight}": "{0}", "{v_weight}": "{1}", "{k_weight}": "{1}", "model.norm.weight": "{1}"}}}}"#,
            SHARDS[0], SHARDS[1]
        );
        put("base/model.safetensors.index.json", index.as_bytes());
        put("base/config.json", br#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#);
        let key = |module: &str, role: &str| format!("base_model.model.{module}.{role}");
        let factors = |module: &str, (rows, cols): (u64, u64), b: f32| {
            [
                (key(module, "lora_A.weight"), vec![1, cols], 0.5),
                (key(module, "lora_B.weight"), vec![rows, 1], b),
                (key(module, "lora_magnitude_vector"), vec![rows], 1.5),
            ]
        };
        let tensors =
            [factors(&q, (2, WIDE), 0.25), factors(&v, (16, 64), b), factors(&k, (16, 64), b)].concat();
        let tensors: Vec<_> =
            tensors.iter().map(|(key, shape, value)| (key.as_str(), shape.as_slice(), *value)).collect();
        put("adapter/adapter_model.safetensors", &safetensors(&tensors));
        let config = br#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": true,
            "target_modules": ["q_proj", "v_proj", "k_proj"]}"#;
        put("adapter/adapter_config.json", config);
        let at = Location::new(inputs.clone());
        let request = Request {
            base: Some(at.join("base").into()),
            adapters: vec![(at.join("adapter").into(), 1f64.into())],
            threads: Some(WORKERS),
            hooks: TestHooks { forced: Some((8192, 2)), ..TestHooks::default() },
            ..Request::default()
        };
        let prepared = prepare(&request).expect("it is planned");
        Arc::new(Small { prepared, inputs, whole: BTreeMap::new() })
    }

    /// A merge with the result that it is to have.
    fn whole() -> Arc<Small> {
        let small = Small::new(0.25);
        let told = Arc::new(Mutex::new(BTreeMap::new()));
        let (once, tell) = (small.clone(), told.clone());
        explore(Timeouts::Never, 1, move || {
            let left = once.run(&Trouble::default(), (&Memory::new(), &Memory::new()));
            left.result.expect("it runs");
            *tell.lock().expect("one thread") = files(&left.output);
        });
        let whole = told.lock().expect("one thread").clone();
        assert_eq!(whole.keys().collect::<Vec<_>>(), SHARDS.iter().collect::<Vec<_>>());
        let small = Arc::into_inner(small).expect("the check is over");
        Arc::new(Small { whole, ..small })
    }

    /// Runs into `output`, behind what `journal` says is there, with a milestone for each tile that may have one.
    fn run(&self, trouble: &Trouble, (output, journal): (&Memory, &Memory)) -> Left {
        let failing = |store: &Memory, failure: Option<(Operation, u64, Failure)>| {
            let store = Faulty::new(store.clone());
            failure.into_iter().fold(store, |store, (op, n, failure)| store.failing(op, n, failure))
        };
        let from = failing(&self.inputs, trouble.read.map(|(n, failure)| (Operation::Read, n, failure)));
        let to = failing(output, trouble.write);
        let noted = failing(journal, trouble.journal.map(|(op, n)| (op, n, EIO)));
        let opened: Vec<Box<dyn Source>> = self
            .prepared
            .plan
            .inputs
            .iter()
            .map(|input| {
                let dir = if input.name.starts_with("adapter") { "adapter" } else { "base" };
                from.open(&format!("{dir}/{}", input.name)).expect("an input")
            })
            .collect();
        let journal_dir = Location::new(noted);
        let kept = self.kept((output, journal));
        let cancel = Cancel::default();
        let result = thread::scope(|scope| {
            if let Some(steps) = trouble.cancel {
                let cancel = &cancel;
                scope.spawn(move || {
                    (0..steps).for_each(|_| shuttle::thread::yield_now());
                    cancel.cancel();
                });
            }
            refuse_after(trouble.granted);
            let result = self.run_with(&opened, (&to, &journal_dir), (&kept, &cancel));
            refuse_after(None);
            result
        });
        Left { result, output: output.clone(), journal: journal.clone() }
    }

    /// What an earlier run left, as the next one looks for it: no byte that was claimed may be lost.
    fn kept(&self, (output, journal): (&Memory, &Memory)) -> Vec<Milestone> {
        let earlier = Earlier {
            plan: &self.prepared.plan,
            digest: &self.prepared.digest,
            base: Some(&[]),
            is_base_older: &|_| Ok(false),
            trusts_journal: false,
            parts: None,
            cancel: &Cancel::default(),
        };
        let [output, journal] = [output, journal].map(|store| Location::new(store.clone()));
        let kept = earlier.find((&output, &journal), &mut |_| {}).expect("memory");
        assert!(kept.lost.is_none(), "what the journal claims is not there");
        kept.milestones
    }

    fn run_with(
        &self,
        opened: &[Box<dyn Source>],
        (to, journal_dir): (&Faulty<Memory>, &Location),
        (kept, cancel): (&[Milestone], &Cancel),
    ) -> Result<()> {
        let work =
            JournalWork { base: Some(Vec::new()), milestones: kept.to_vec(), ..JournalWork::default() };
        let mut journal = Journal::begin(journal_dir, &self.prepared.digest, &work)?;
        let run = Run {
            plan: &self.prepared.plan,
            schedule: &self.prepared.schedule,
            sources: &opened.iter().map(|source| source.as_ref()).collect::<Vec<_>>(),
            store: to,
            kernels: self.prepared.kernels,
            clocks: &Clocks::default(),
            cancel,
            allow_noop: false,
            accept_loss: true,
            extent: &Extent::ALL,
            kept,
            stride: 1,
            shared: SharedInputs::default(),
            undo: None,
        };
        let mut record = |milestone: Milestone| {
            self.check_claim(&milestone, to.inner());
            journal.append(&milestone)
        };
        let most = self.prepared.schedule.cut.bytes() as u64;
        let mut tick = |now: &crate::pipeline::progress::Snapshot| {
            assert!(now.held_bytes <= most, "{} bytes of {most} are lent", now.held_bytes);
        };
        run.run(&mut record, &mut tick).map(drop)
    }

    /// Fails if `output` lacks what a milestone says is kept there.
    fn check_claim(&self, milestone: &Milestone, output: &Memory) {
        let (name, at, bytes) = match &milestone.reached {
            Reached::Shard(done) => (&done.name, done.name.clone(), done.bytes),
            Reached::Part(part) => (&part.name, part_name(&part.name), part.bytes),
        };
        // The first run says what is whole.
        let Some(whole) = self.whole.get(name) else { return };
        // What was a part may have become the shard since.
        let there = output.get(&at).or_else(|| output.get(name)).unwrap_or_default();
        let is_there = there.get(..bytes as usize).is_some_and(|there| *there == whole[..bytes as usize]);
        assert!(is_there, "{bytes} bytes of `{name}` are claimed and not there");
    }

    /// What holds of every run, whatever went wrong in it: claims are true, shards are whole, and the next run finishes.
    fn check_left(&self, left: &Left, trouble: &Trouble) {
        let journal = Location::new(left.journal.clone());
        let claimed = JournalWork::read(&journal).expect("memory").milestones;
        claimed.iter().for_each(|milestone| self.check_claim(milestone, &left.output));
        for (name, bytes) in files(&left.output) {
            assert!(self.whole[&name] == bytes, "{trouble:?}: `{name}` is not whole");
        }
        let after = self.run(&Trouble::default(), (&left.output, &left.journal));
        assert!(after.result.is_ok(), "after {trouble:?}: {:?}", after.result);
        assert!(files(&after.output) == self.whole, "after {trouble:?}: other bytes");
    }
}

/// The shards that are shown.
fn files(store: &Memory) -> BTreeMap<String, Vec<u8>> {
    let names = store.names().into_iter().filter(|name| SHARDS.contains(&name.as_str()));
    names.map(|name| (name.clone(), store.get(&name).expect("it is there").to_vec())).collect()
}

/// Tries `orders` orders, each with trouble of its own, and holds the results against `is_right`. Trouble that never stopped a
/// run showed nothing.
fn check(
    timeouts: Timeouts,
    orders: usize,
    trouble: fn() -> Trouble,
    is_right: fn(&Trouble, &Result<()>) -> bool,
) {
    let (small, stopped) = (Small::whole(), Arc::new(AtomicUsize::new(0)));
    let count = stopped.clone();
    explore(timeouts, orders, move || {
        let trouble = trouble();
        let left = small.run(&trouble, (&Memory::new(), &Memory::new()));
        assert!(is_right(&trouble, &left.result), "{trouble:?}: {:?}", left.result);
        count.fetch_add(usize::from(left.result.is_err()), Ordering::Relaxed);
        small.check_left(&left, &trouble);
    });
    let stopped = stopped.load(Ordering::Relaxed);
    println!("{stopped} of {orders} runs were stopped");
    assert!(stopped > orders / 8, "only {stopped} of {orders} runs were stopped");
}

fn code(result: &Result<()>) -> Option<Code> {
    result.as_ref().err().map(Error::exit_code)
}

/// A failure that this run may or may not come to.
fn any_nth(end: usize) -> u64 {
    1 + draw(end) as u64
}

fn is_reading(error: &ErrorKind) -> bool {
    use crate::error::storage::StorageError::{Read, Truncated};
    matches!(error, ErrorKind::Storage(Read { .. } | Truncated { .. }))
}

fn is_writing(error: &ErrorKind) -> bool {
    use crate::error::storage::StorageError::{DiskFull, Write};
    matches!(error, ErrorKind::Storage(Write { .. } | DiskFull { .. }))
}

#[test]
fn a_run_needs_no_timeout_and_no_order() {
    let small = Small::whole();
    explore(Timeouts::Never, 200, move || {
        let left = small.run(&Trouble::default(), (&Memory::new(), &Memory::new()));
        assert!(left.result.is_ok() && files(&left.output) == small.whole, "{:?}", left.result);
    });
}

#[test]
fn a_reader_that_fails_ends_all_others() {
    let trouble = || Trouble { read: Some((any_nth(30), EIO)), ..Trouble::default() };
    check(Timeouts::Fire, 200, trouble, |_, result| {
        result.as_ref().err().is_none_or(|error| is_reading(error.kind()))
    });
}

#[test]
fn a_writer_that_fails_ends_all_others() {
    let trouble = || {
        let operations = [Operation::Create, Operation::Write, Operation::Sync, Operation::Commit];
        let ways = [EIO, Failure::Short, Failure::Errno(28)];
        Trouble { write: Some((operations[draw(4)], any_nth(8), ways[draw(3)])), ..Trouble::default() }
    };
    check(Timeouts::Fire, 300, trouble, |_, result| {
        result.as_ref().err().is_none_or(|error| is_writing(error.kind()))
    });
}

#[test]
fn a_milestone_that_cannot_be_recorded_ends_all_others() {
    let trouble = || {
        let operation = [Operation::Write, Operation::Sync][draw(2)];
        Trouble { journal: Some((operation, any_nth(6))), ..Trouble::default() }
    };
    check(Timeouts::Fire, 200, trouble, |_, result| {
        result.as_ref().err().is_none_or(|error| is_writing(error.kind()))
    });
}

#[test]
fn of_two_that_fail_one_is_told_and_nothing_that_follows_from_it() {
    let trouble = || Trouble {
        read: Some((any_nth(12), EIO)),
        write: Some((Operation::Write, any_nth(6), EIO)),
        ..Trouble::default()
    };
    check(Timeouts::Fire, 300, trouble, |_, result| {
        let is_either = |error: &Error| is_reading(error.kind()) || is_writing(error.kind());
        result.as_ref().err().is_none_or(is_either)
    });
}

#[test]
fn a_cancel_at_any_point_ends_all() {
    let trouble = || Trouble { cancel: Some(draw(400)), ..Trouble::default() };
    check(Timeouts::Fire, 400, trouble, |_, result| matches!(code(result), None | Some(Code::Stopped)));
}

#[test]
fn fewer_threads_do_the_work_or_all_end() {
    let trouble = || Trouble { granted: Some(draw(4)), ..Trouble::default() };
    check(Timeouts::Fire, 200, trouble, |trouble, result| match result {
        // A second worker is not needed.
        Ok(()) => trouble.granted == Some(3),
        Err(error) => {
            matches!(error.kind(), ErrorKind::Run(RunError::NoThread { .. })) && trouble.granted < Some(3)
        }
    });
}

#[test]
fn a_worker_that_fails_ends_all_others_and_the_first_in_order_is_told() {
    let small = Small::new(2.5e37);
    explore(Timeouts::Fire, 200, move || {
        let left = small.run(&Trouble::default(), (&Memory::new(), &Memory::new()));
        let told = left.result.as_ref().map_err(Error::kind);
        // Both tensors fail, and the second is made beside the first.
        let Err(ErrorKind::Run(RunError::NonFiniteResult { tensor })) = told else { panic!("{told:?}") };
        assert_eq!(*tensor, format!("{ATTENTION}.v_proj.weight"));
        assert!(files(&left.output).len() < SHARDS.len(), "all is there");
    });
}
