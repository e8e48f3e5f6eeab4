//! One set of checks that every store passes.

use crate::error::kind::ErrorKind;
use crate::storage::Store;
use crate::storage::faulty::{Failure, Faulty, Operation};
use crate::storage::files::write_small;
use crate::storage::folder::Folder;
use crate::storage::memory::Memory;

/// Runs `check` over an empty store of each kind.
fn each_store(check: impl Fn(&dyn Store)) {
    let folder = tempfile::tempdir().unwrap();
    check(&Folder::open(folder.path()).unwrap());
    check(&Folder::new(folder.path().join("made/when/needed")).keeping_cache(true).write_step(1));
    check(&Memory::new());
    check(&Faulty::new(Memory::new()));
}

fn read(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    let source = match store.source(name) {
        Ok(source) => source,
        Err(error) if matches!(error.kind(), ErrorKind::Missing { .. }) => return None,
        Err(error) => panic!("{error:?}"),
    };
    let mut bytes = vec![0; source.len() as usize];
    source.read_at(&mut bytes, 0).unwrap();
    source.done_before(source.len());
    Some(bytes)
}

#[test]
fn what_is_not_committed_is_not_seen_and_a_commit_shows_it_whole() {
    each_store(|store| {
        let mut sink = store.sink("sub/folder/name", 6).unwrap();
        sink.write(b"abc").unwrap();
        sink.write(b"").unwrap();
        sink.write(b"def").unwrap();
        assert_eq!(read(store, "sub/folder/name"), None);
        sink.commit().unwrap();
        assert_eq!(read(store, "sub/folder/name").unwrap(), b"abcdef");
        assert_eq!(read(store, "sub/folder/other"), None);
        assert_eq!(read(store, "sub/folder/name/below"), None);
    });
}

#[test]
fn an_empty_file_is_a_file() {
    each_store(|store| {
        store.sink("empty", 0).unwrap().commit().unwrap();
        let source = store.source("empty").unwrap();
        assert!(source.is_empty());
        source.read_at(&mut [], 0).unwrap();
    });
}

#[test]
fn an_aborted_or_dropped_sink_leaves_nothing() {
    each_store(|store| {
        for end in [|sink: Box<dyn crate::storage::Sink>| sink.abort(), drop] {
            let mut sink = store.sink("name", 6).unwrap();
            sink.write(b"abc").unwrap();
            end(sink);
            assert_eq!(read(store, "name"), None);
        }
        write_small(store, "name", b"old").unwrap();
        store.sink("name", 3).unwrap().abort();
        assert_eq!(read(store, "name").unwrap(), b"old");
    });
}

#[test]
fn a_read_past_the_end_is_an_error_that_says_where_the_end_is() {
    each_store(|store| {
        write_small(store, "name", b"abcdef").unwrap();
        let source = store.source("name").unwrap();
        let mut buf = [0; 4];
        source.read_at(&mut buf, 2).unwrap();
        assert_eq!(&buf, b"cdef");
        source.read_at(&mut [], 6).unwrap();
        for (offset, expected) in [(3, 7), (6, 10), (100, 104), (u64::MAX, u64::MAX)] {
            let error = source.read_at(&mut buf, offset).unwrap_err();
            let ErrorKind::Truncated { expected: end, found: 6, .. } = *error.kind() else {
                panic!("{error:?}");
            };
            assert_eq!(end, expected);
        }
        // Saying it is done with everything, and more, spoils nothing.
        source.done_before(u64::MAX);
        source.read_at(&mut buf, 2).unwrap();
        assert_eq!(&buf, b"cdef");
    });
}

#[test]
fn names_that_lead_out_are_refused() {
    each_store(|store| {
        for name in ["../name", "/name", "a/../../name", "", "."] {
            let errors = [store.source(name).err(), store.sink(name, 1).err()];
            for error in errors {
                assert!(matches!(error.unwrap().kind(), ErrorKind::LeadsOut { .. }), "{name:?}");
            }
        }
    });
}

#[test]
fn the_last_commit_of_a_name_wins_and_a_reader_keeps_what_it_opened() {
    each_store(|store| {
        let (mut first, mut second) = (store.sink("name", 3).unwrap(), store.sink("name", 4).unwrap());
        first.write(b"one").unwrap();
        second.write(b"more").unwrap();
        second.commit().unwrap();
        let source = store.source("name").unwrap();
        first.commit().unwrap();
        assert_eq!(read(store, "name").unwrap(), b"one");
        let mut bytes = [0; 4];
        source.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"more");
    });
}

#[test]
fn a_length_that_was_not_kept_is_refused() {
    each_store(|store| {
        let mut sink = store.sink("short", 6).unwrap();
        sink.write(b"abc").unwrap();
        let error = sink.commit().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Write { .. }), "{error:?}");

        let mut sink = store.sink("long", 2).unwrap();
        sink.write(b"abc").unwrap_err();
        sink.write(b"a").unwrap_err();
        let error = sink.commit().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Write { .. }), "{error:?}");
        assert_eq!((read(store, "short"), read(store, "long")), (None, None));
    });
}

#[test]
fn failures_come_where_they_were_ordered() {
    let full = Failure::Kind(std::io::ErrorKind::StorageFull);
    for (operation, nth) in [(Operation::Begin, 2), (Operation::Write, 2), (Operation::Commit, 2)].into_iter()
    {
        let store = Faulty::new(Memory::new()).failing(operation, nth, full);
        write_small(&store, "a", b"bytes").unwrap();
        let error = write_small(&store, "b", b"bytes").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DiskFull { .. }), "{error:?}");
        write_small(&store, "c", b"bytes").unwrap();
        assert_eq!(store.inner().names(), ["a", "c"], "{operation:?}");
    }

    let store = Faulty::new(Memory::new())
        .failing(Operation::Open, 2, Failure::Kind(std::io::ErrorKind::NotFound))
        .failing(Operation::Read, 2, Failure::Errno(rustix::io::Errno::IO.raw_os_error()))
        .failing(Operation::Read, 3, Failure::Short)
        .failing(Operation::Write, 2, Failure::Short);
    write_small(&store, "a", b"bytes").unwrap();
    let mut sink = store.sink("b", 5).unwrap();
    sink.write(b"bytes").unwrap_err();
    sink.write(b"bytes").unwrap_err();
    sink.commit().unwrap_err();
    let source = store.source("a").unwrap();
    assert!(matches!(store.source("a").err().unwrap().kind(), ErrorKind::Missing { .. }));
    let mut buf = [0; 4];
    source.read_at(&mut buf, 0).unwrap();
    assert!(matches!(source.read_at(&mut buf, 1).unwrap_err().kind(), ErrorKind::Read { offset: 1, .. }));
    let error = source.read_at(&mut buf, 1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Truncated { expected: 5, found: 3, .. }), "{error:?}");
    source.read_at(&mut buf, 1).unwrap();
    assert_eq!((store.count(Operation::Read), store.count(Operation::Open)), (4, 2));
}
