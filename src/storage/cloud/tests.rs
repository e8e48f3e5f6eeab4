//! Buckets in memory, as stores.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{Error as CloudError, ObjectStore};

use crate::cancel::Cancel;
use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::storage::cloud::client::NoAnswer;
use crate::storage::cloud::store::CloudStore;
use crate::storage::cloud::upload::{PART_LEAST, PartCut};
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};
use crate::storage::testing::bucket::bucket_of;
use crate::storage::testing::conformance::check_write_once_store;

fn empty() -> CloudStore {
    bucket_of(Arc::new(InMemory::new()), &Cancel::default()).unwrap()
}

#[test]
fn a_bucket_is_a_store_that_is_written_once() {
    check_write_once_store(empty);
    check_write_once_store(|| {
        let all = Location::new(empty());
        write_small(&all, "some/whereelse", b"").unwrap();
        all.join("some/where")
    });
}

#[test]
fn parts_are_as_many_and_as_large_as_stores_and_memory_take() {
    let cut = |len| PartCut::of(len).map(|cut| (cut.bytes >> 20, cut.in_flight));
    assert_eq!((cut(0), cut(1), cut(80_000 << 20)), (Some((8, 2)), Some((8, 2)), Some((8, 2))));
    assert_eq!(cut((80_000 << 20) + 1), Some((9, 1)));
    assert_eq!((cut(120_000 << 20), cut((120_000 << 20) + 1)), (Some((12, 1)), Some((13, 0))));
    assert_eq!(
        (cut(240_000 << 20), cut((240_000 << 20) + 1), cut(u64::MAX >> 20)),
        (Some((24, 0)), None, None)
    );
    for len in [1, 80_000 << 20, 100_000 << 20, 240_000 << 20] {
        let cut = PartCut::of(len).unwrap();
        assert!(
            len.div_ceil(cut.bytes) <= 10_000 && (cut.in_flight + 1) * cut.bytes <= 3 * PART_LEAST,
            "{len}"
        );
    }
}

/// Bytes none of which is like that of another part at the same place.
fn bytes_of(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn a_file_of_parts_is_seen_when_all_of_it_is_there() {
    let store = empty();
    let part = PART_LEAST as usize;
    for len in [part - 1, part, part + 1, 3 * part, 4 * part + 17] {
        let (bytes, name) = (bytes_of(len), format!("dir/{len}"));
        for is_whole in [false, true] {
            let mut sink = store.create(&name, len as u64).unwrap();
            // Neither pieces that fit parts, nor such as are parts.
            for piece in bytes[..if is_whole { len } else { len - 1 }].chunks(3_000_001) {
                sink.write(piece).unwrap();
            }
            assert_eq!(store.stat(&name).unwrap(), None);
            if is_whole {
                sink.commit().unwrap();
            } else {
                drop(sink);
                assert_eq!(
                    store.stat("dir").unwrap().is_some(),
                    len > part - 1,
                    "what is not whole leaves nothing"
                );
            }
        }
        let source = store.open(&name).unwrap();
        let mut found = vec![0; len];
        source.read_at(&mut found, 0).unwrap();
        assert!(found == bytes, "{len}");
        let mut end = [0; 5];
        source.read_at(&mut end, len as u64 - 5).unwrap();
        assert_eq!(end, bytes[len - 5..]);
    }
    let error = store.create("large", (240_000 << 20) + 1).err().unwrap();
    assert_eq!(error.exit_code(), Code::Io, "{error:?}");
}

#[test]
fn what_changes_while_it_is_read_is_an_error() {
    let store = empty();
    for change in ["other", "longer"] {
        write_small(&store, "name", b"bytes").unwrap();
        let source = store.open("name").unwrap();
        source.check_unchanged().unwrap();
        write_small(&store, "name", change.as_bytes()).unwrap();
        let mut buf = [0; 5];
        for error in [source.check_unchanged(), source.read_at(&mut buf, 0)] {
            let error = error.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Changed { .. })), "{error:?}");
        }
        // Whoever opens it again has what it is now, though it was read before.
        let source = store.open("name").unwrap();
        source.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf, change.as_bytes()[..5]);
        store.remove("name").unwrap();
        assert!(source.check_unchanged().is_err());
    }
}

#[test]
fn times_are_those_of_the_same_bytes_and_of_no_clock() {
    let store = empty();
    let times = || store.open("name").unwrap().times().unwrap();
    write_small(&store, "name", b"bytes").unwrap();
    let (first, again) = (times(), times());
    assert_eq!((first.written, first.changed), (again.written, again.changed));
    assert_ne!(first.clock, again.clock, "which of two is older nobody can tell");
    write_small(&store, "name", b"bytes").unwrap();
    assert_ne!(times().changed, first.changed, "written again within a second");
    assert_eq!(store.open("name").unwrap().content_id(), None);
}

#[test]
fn an_object_and_what_is_below_it_are_one_name() {
    let store = empty();
    for name in ["a", "a/b", "a.b"] {
        write_small(&store, name, name.as_bytes()).unwrap();
    }
    let found: Vec<_> = store.list("").unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
    assert_eq!(found, [("a".to_owned(), EntryKind::File), ("a.b".to_owned(), EntryKind::File)]);
    assert_eq!(store.stat("a").unwrap().unwrap().kind, EntryKind::File);
    let all = Location::new(store);
    assert!(all.join("a/b").lies_in(&all.join("a")) && !all.join("a.b").lies_in(&all.join("a")));
}

#[test]
fn a_signal_ends_every_wait() {
    let wait = Duration::from_secs(60);
    let slow = ThrottleConfig {
        wait_get_per_call: wait,
        wait_put_per_call: wait,
        wait_list_per_call: wait,
        wait_delete_per_call: wait,
        wait_list_with_delimiter_per_call: wait,
        ..ThrottleConfig::default()
    };
    let waits: [fn(&CloudStore) -> crate::error::Result<()>; 6] = [
        |store| store.open("name").map(drop),
        |store| store.stat("name").map(drop),
        |store| store.list("").map(drop),
        |store| store.remove("name"),
        |store| write_small(store, "name", b"bytes"),
        |store| {
            let mut sink = store.create("name", 5 * PART_LEAST)?;
            (0..5).try_for_each(|_| sink.write(&vec![1; PART_LEAST as usize]))?;
            sink.commit()
        },
    ];
    for (i, waiting) in waits.into_iter().enumerate() {
        let cancel = Cancel::default();
        let objects = ThrottledStore::new(InMemory::new(), slow);
        let store = bucket_of(Arc::new(objects), &cancel).unwrap();
        let (error, took) = thread::scope(|scope| {
            let waiter = scope.spawn(|| (waiting(&store).unwrap_err(), Instant::now()));
            thread::sleep(Duration::from_millis(150));
            cancel.cancel();
            let cancelled = Instant::now();
            let (error, ended) = waiter.join().unwrap();
            (error, ended.saturating_duration_since(cancelled))
        });
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{i}: {error:?}");
        assert!(took < Duration::from_secs(2), "{i}: {took:?}");
    }
}

#[test]
fn what_a_run_made_is_removed_when_it_should_stop() {
    let cancel = Cancel::default();
    let store = bucket_of(Arc::new(InMemory::new()), &cancel).unwrap();
    write_small(&store, "name", b"bytes").unwrap();
    cancel.cancel();
    store.remove("name").unwrap();
    store.remove("name").unwrap();
    // Nobody waits for ever to throw away what is slow, be it many files.
    let wait = Duration::from_secs(60);
    let slow = ThrottleConfig { wait_delete_per_call: wait, ..ThrottleConfig::default() };
    let store = bucket_of(Arc::new(ThrottledStore::new(InMemory::new(), slow)), &cancel).unwrap();
    let started = Instant::now();
    for _ in 0..5 {
        assert!(matches!(store.remove("name").unwrap_err().kind(), ErrorKind::Stopped));
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn the_status_of_a_list_is_told_by_its_words() {
    let store = empty();
    let told = |text: &str| {
        let error = CloudError::Generic { store: "S3", source: text.into() };
        let path = store.path_of("a");
        let answer = store.client().wait(async { Err::<(), _>(error) });
        store.client().unreadable("directory", &path, answer.err().unwrap())
    };
    let status = "Server returned non-2xx status code:";
    assert_eq!(
        told(&format!("{status} 404 Not Found: <Code>NoSuchBucket</Code>")).exit_code(),
        Code::NoInput
    );
    assert_eq!(
        told(&format!("{status} 403 Forbidden: <Code>AccessDenied</Code>")).advice(),
        Some("give credentials")
    );
    let other = told(&format!("{status} 500 Internal Server Error"));
    assert_eq!((other.exit_code(), other.advice()), (Code::Io, None));
}

#[test]
fn refusals_say_what_helps() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let root = "s3://bucket".into();
    let client = crate::storage::cloud::client::CloudClient::new(
        objects,
        root,
        "give credentials",
        Default::default(),
    )
    .unwrap();
    let source = || "403 <Error>\n  AccessDenied</Error>".into();
    let path = client.path_of("a/b");
    let denied = NoAnswer::Refused(CloudError::PermissionDenied { path: "a/b".to_owned(), source: source() });
    let error = client.unreadable("file", &path, denied);
    assert_eq!((error.exit_code(), error.advice()), (Code::Io, Some("give credentials")));
    let machine = "error sending request for url (http://169.254.169.254/latest/api/token)".into();
    let error = client.unreadable(
        "file",
        &path,
        NoAnswer::Refused(CloudError::Generic { store: "S3", source: machine }),
    );
    assert_eq!(error.advice(), Some("give credentials"));
    let missing = |_| NoAnswer::Refused(CloudError::NotFound { path: "a/b".to_owned(), source: source() });
    let error = client.unreadable("file", &path, missing(0));
    assert_eq!(
        (error.exit_code(), error.to_string()),
        (Code::NoInput, "no file at `s3://bucket/a/b`".to_owned())
    );
    let error = client.unwritable(&path, missing(1));
    assert!(error.exit_code() == Code::Io && error.advice().unwrap().contains("bucket"), "{error:?}");
    assert!(!format!("{error:?}").contains('\n'));
    assert!(client.key("a/../b").is_err() && client.key("a").unwrap() == Key::from("a"));
}
