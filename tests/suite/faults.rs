//! Failing disks and signals: the right error, promptly, and never anything but whole files.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as Io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shardfold::StorageError;
use shardfold::testing::Clocks;
use shardfold::testing::Dtype;
use shardfold::testing::Kernels;
use shardfold::testing::TestHooks;
use shardfold::testing::{Extent, Failure, Faulty, Operation, write_small};
use shardfold::testing::{Milestone, Reached, Run, SharedInputs};
use shardfold::{Cancel, Code};
use shardfold::{Error, ErrorKind, Result};
use shardfold::{Memory, Source, Store};
use shardfold::{Prepared, Request, prepare};

use super::support::{Ran, contents, f32s, fixtures, ran, write_safetensors};
use super::work::{MODULE, Mounted, Work};

/// No test here waits longer than this.
const LONG: Duration = Duration::from_secs(60);

/// The demo's merge, planned, and its inputs in memory.
struct Demo {
    prepared: Prepared,
    inputs: Memory,
}

/// What a run came to: its result, what it left in the store, and how often it did what.
struct Ended {
    result: Result<()>,
    files: BTreeMap<String, Vec<u8>>,
    reads: u64,
    writes: u64,
    commits: u64,
}

impl Demo {
    fn new(workers: usize) -> Demo {
        let demo = fixtures().join("demo");
        let request = Request {
            base: Some(demo.join("base").into()),
            adapters: vec![(demo.join("adapter").into(), 1f64.into())],
            threads: Some(workers),
            // Small enough for several tiles a tensor.
            hooks: TestHooks { forced: Some((8192, 4)), ..TestHooks::default() },
            ..Request::default()
        };
        let prepared = prepare(&request).expect("the demo merges");
        let inputs = Memory::new();
        for input in &prepared.plan.inputs {
            let found = ["base", "adapter"].iter().map(|folder| demo.join(folder).join(&input.name));
            let bytes = found.filter_map(|path| fs::read(path).ok()).next().expect("an input");
            write_small(&inputs, &input.name, &bytes).expect("memory");
        }
        Demo { prepared, inputs }
    }

    /// Runs with failures in what is read and in what is written, and fails the test if that takes too long.
    fn run(self: &Arc<Demo>, failures: &[(Operation, u64, Failure)], unrecorded: Option<usize>) -> Ended {
        let (demo, failures) = (self.clone(), failures.to_vec());
        let (tell, told) = mpsc::channel();
        let what = format!("{failures:?}");
        thread::spawn(move || tell.send(demo.run_here(&failures, unrecorded)));
        told.recv_timeout(LONG).unwrap_or_else(|_| panic!("the run with {what} does not end"))
    }

    fn run_here(&self, failures: &[(Operation, u64, Failure)], unrecorded: Option<usize>) -> Ended {
        let with = |store: Memory, reading: bool| {
            let ours = |operation| matches!(operation, Operation::Open | Operation::Read) == reading;
            let failures = failures.iter().filter(|(operation, ..)| ours(*operation));
            failures.fold(Faulty::new(store), |store, &(op, n, failure)| store.failing(op, n, failure))
        };
        let (from, to) = (with(self.inputs.clone(), true), with(Memory::new(), false));
        let inputs = self.prepared.plan.inputs.iter();
        let sources: Vec<Box<dyn Source>> = inputs.map(|input| from.open(&input.name).unwrap()).collect();
        let run = Run {
            allow_noop: false,
            accept_loss: true,
            plan: &self.prepared.plan,
            schedule: &self.prepared.schedule,
            sources: &sources.iter().map(|source| source.as_ref()).collect::<Vec<_>>(),
            store: &to,
            kernels: Kernels::detect(),
            clocks: &Clocks::default(),
            cancel: &Cancel::default(),
            extent: &Extent::ALL,
            kept: &[],
            stride: u64::MAX,
            shared: SharedInputs::default(),
            undo: None,
        };
        let mut recorded = 0;
        let mut done = |milestone: Milestone| {
            let Reached::Shard(shard) = milestone.reached else { return Ok(()) };
            recorded += 1;
            match unrecorded == Some(recorded) {
                true => Err(Error::new(StorageError::Write { path: shard.name.into() })),
                false => Ok(()),
            }
        };
        let result = run.run(&mut done, &mut |_| {}).map(drop);
        let names = to.inner().names().into_iter();
        let files = names.map(|name| (name.clone(), to.inner().get(&name).unwrap().to_vec())).collect();
        let count = |operation| to.count(operation);
        Ended {
            result,
            files,
            reads: from.count(Operation::Read),
            writes: count(Operation::Write),
            commits: count(Operation::Commit),
        }
    }
}

/// Fails every `operation` in turn, in every one of the ways, and checks how the run ends.
fn fails_cleanly(operation: Operation, ways: &[Failure], is_right: fn(&ErrorKind) -> bool) {
    for workers in [1, 3] {
        let demo = Arc::new(Demo::new(workers));
        let whole = demo.run(&[], None);
        assert!(whole.result.is_ok() && whole.files.len() == 3, "{:?}", whole.result);
        let count = match operation {
            Operation::Read => whole.reads,
            Operation::Write => whole.writes,
            Operation::Commit => whole.commits,
            _ => 3,
        };
        assert!(count >= 3, "{count} of {operation:?}");
        for n in 1..=count {
            // The ways take turns; all of them are had on the first and the last, where most is special.
            let all = n == 1 || n == count;
            for (_, &way) in ways.iter().enumerate().filter(|(i, _)| all || n as usize % ways.len() == *i) {
                let ended = demo.run(&[(operation, n, way)], None);
                let what = format!("{operation:?} {n} of {count} with {way:?}, {workers} workers");
                let error = ended.result.expect_err(&what);
                assert!(is_right(error.kind()), "{what}: {error:?}");
                assert_eq!(error.exit_code(), Code::Io, "{what}: {error:?}");
                for (name, bytes) in &ended.files {
                    assert!(*bytes == whole.files[name], "{what}: `{name}` is not whole");
                }
                assert!(ended.files.len() < 3, "{what}: everything is there");
            }
        }
    }
}

const EIO: Failure = Failure::Errno(5);
const EACCES: Failure = Failure::Errno(13);

#[test]
fn every_read_may_fail() {
    let is_right = |kind: &ErrorKind| {
        matches!(
            kind,
            ErrorKind::Storage(StorageError::Read { .. })
                | ErrorKind::Storage(StorageError::Truncated { .. })
        )
    };
    fails_cleanly(Operation::Read, &[EIO, EACCES, Failure::Short], is_right);
}

#[test]
fn every_write_may_fail() {
    let is_right = |kind: &ErrorKind| {
        matches!(
            kind,
            ErrorKind::Storage(StorageError::Write { .. })
                | ErrorKind::Storage(StorageError::DiskFull { .. })
        )
    };
    fails_cleanly(Operation::Write, &[EIO, Failure::Kind(Io::StorageFull), Failure::Short], is_right);
}

#[test]
fn every_file_may_fail_to_begin_or_to_last() {
    let is_right = |kind: &ErrorKind| {
        matches!(
            kind,
            ErrorKind::Storage(StorageError::Write { .. })
                | ErrorKind::Storage(StorageError::DiskFull { .. })
        )
    };
    fails_cleanly(Operation::Commit, &[EIO, Failure::Kind(Io::StorageFull)], is_right);
    fails_cleanly(Operation::Create, &[EACCES, Failure::Kind(Io::StorageFull)], is_right);
}

#[test]
fn a_shard_that_cannot_be_recorded_ends_the_run() {
    let demo = Arc::new(Demo::new(2));
    for nth in 1..=3 {
        let ended = demo.run(&[], Some(nth));
        assert!(matches!(ended.result.unwrap_err().kind(), ErrorKind::Storage(StorageError::Write { .. })));
        assert_eq!(ended.files.len(), nth, "nothing after it was committed");
    }
}

#[test]
fn of_two_failures_one_is_told() {
    let demo = Arc::new(Demo::new(3));
    let both = [(Operation::Read, 40, EIO), (Operation::Write, 10, Failure::Kind(Io::StorageFull))];
    let error = demo.run(&both, None).result.unwrap_err();
    assert_eq!(error.exit_code(), Code::Io, "{error:?}");
}

/// Runs of it take some seconds, in a shard that comes after a small one.
const SLOW: &[&str] = &["--slab", "8KiB", "--depth", "1", "--threads", "1", "--scalar"];

/// A merge with much to do: one tensor with 2048 rows and columns.
fn slow() -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    fs::remove_file(work.base.join("model.safetensors")).unwrap();
    let (n, rank) = (2048, 32);
    let values = |count: u64| f32s((0..count).map(|i| (i % 251) as f32 / 64.0));
    let [first, second] = [1, 2].map(|i| format!("model-{i:05}-of-00002.safetensors"));
    let target = format!("{MODULE}.weight");
    write_safetensors(&work.base.join(&first), &[("model.norm.weight", Dtype::F32, &[64], values(64))]);
    write_safetensors(&work.base.join(&second), &[(&target, Dtype::F32, &[n, n], values(n * n))]);
    let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": first, target: second}});
    fs::write(work.base.join("model.safetensors.index.json"), index.to_string()).unwrap();
    work.adapt(rank, n, n, 0.01, 0.01);
    work
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the first shard is in the journal and the second has begun, and sends the signal.
fn interrupt(mut child: Child, partial: &Path, signal: Signal) -> Ran {
    let deadline = Instant::now() + LONG;
    // An earlier run may have left it, so it must be newer than this one.
    let (open, now) = (partial.join(".model-00002-of-00002.safetensors.part"), SystemTime::now());
    let has_begun =
        || fs::metadata(&open).and_then(|metadata| metadata.modified()).is_ok_and(|written| written > now);
    while !has_begun() {
        assert!(child.try_wait().unwrap().is_none(), "the merge ended before it was interrupted");
        assert!(Instant::now() < deadline, "the merge does not begin");
        thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    ran(child.wait_with_output().unwrap())
}

/// What a run that was cut off leaves: no output, a journal of this plan, and no shard but whole ones.
fn left_in_order(work: &Work, finished: &BTreeMap<String, Vec<u8>>) {
    assert!(!work.output.exists());
    let journal = fs::read_to_string(work.partial().join("shardfold.journal")).unwrap();
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let record: Value = serde_json::from_slice(&finished["shardfold.json"]).unwrap();
    assert_eq!(lines[0]["plan"], record["plan"]);
    // The record has names beside, too.
    let mut recorded = record["shards"][0].clone();
    for section in recorded["sections"].as_array_mut().unwrap() {
        section.as_object_mut().unwrap().remove("tensor");
    }
    assert_eq!(lines[2]["shard"], recorded);
    for (name, bytes) in contents(&work.partial()) {
        if name.ends_with(".safetensors") {
            assert!(bytes == finished[&name], "`{name}` is not whole");
        }
    }
}

#[test]
fn signals_stop_a_merge_and_the_same_command_finishes_it() {
    let work = slow();
    let other = work.folder.path().join("other");
    assert_eq!(work.merge_into(&other, &[]).code, 0);
    let finished = contents(&other);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::XCPU] {
        let sent = Instant::now();
        let ran = interrupt(start(work.command(SLOW)), &work.partial(), signal);
        assert_eq!(ran.code, 75, "{signal:?}: {}", ran.err);
        assert!(
            ran.err.contains("error: interrupted\nhint: OUTPUT was not created; run the same")
                && ran.out.is_empty(),
            "{}",
            ran.err
        );
        assert!(sent.elapsed() < LONG);
        left_in_order(&work, &finished);
        let temporary = contents(&work.partial()).into_keys().find(|name| name.ends_with(".tmp"));
        assert_eq!(temporary, None, "a clean stop leaves no half file");
    }
    work.succeeds(SLOW);
    assert!(contents(&work.output) == finished);
    assert!(!work.partial().exists());
}

#[test]
fn a_merge_that_was_killed_can_be_run_again() {
    let work = slow();
    let other = work.folder.path().join("other");
    assert_eq!(work.merge_into(&other, &[]).code, 0);
    let finished = contents(&other);
    let ran = interrupt(start(work.command(SLOW)), &work.partial(), Signal::KILL);
    assert_eq!(ran.code, -1, "{}", ran.err);
    left_in_order(&work, &finished);
    work.succeeds(&[]);
    assert!(contents(&work.output) == finished);
    assert!(!work.partial().exists());
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_of_the_write() {
    let work = Work::demo();
    let merge = work.command(&[]);
    let mut limited = Command::new("sh");
    // 100 blocks of 512 or 1024 bytes: a shard has 120 KB.
    limited.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\""]).arg(merge.get_program()).args(merge.get_args());
    let ran = ran(limited.output().unwrap());
    assert_eq!(ran.code, 74, "{}", ran.err);
    assert!(
        ran.err.contains("model-00001-of-00003.safetensors") && ran.err.contains("File too large"),
        "{}",
        ran.err
    );
    assert!(!work.output.exists());
    // Without the limit the same command works, whatever was left.
    work.succeeds(&[]);
    assert!(!work.partial().exists());
}

#[test]
fn a_disk_that_is_too_small_is_found_out_before_anything_is_written() {
    let work = Work::demo();
    let disk = work.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&disk, 200 << 10) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    for output in [disk.clone(), disk.join("output")] {
        let ran = work.merge_into(&output, &[]);
        assert_eq!(ran.code, 74, "{}", ran.err);
        for text in ["disk` has room for ", " KiB, the result needs 313 KiB"] {
            assert!(ran.err.contains(text), "no `{text}` in {}", ran.err);
        }
        let left = contents(&disk).into_keys().filter(|name| name.ends_with(".safetensors"));
        assert_eq!(left.count(), 0);
    }
    assert!(!disk.join("output").exists());
}

#[test]
fn a_cancelled_merge_stops_while_it_is_planned() {
    let demo = fixtures().join("demo");
    let request = Request {
        base: Some(demo.join("base").into()),
        adapters: vec![(demo.join("adapter").into(), 1f64.into())],
        ..Request::default()
    };
    assert!(prepare(&request).is_ok(), "it plans unless it is cancelled");
    request.cancel.cancel();
    let error = prepare(&request).err().expect("it is cancelled");
    assert_eq!(error.exit_code(), Code::Stopped);
}
