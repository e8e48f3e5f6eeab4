//! The checks that every store passes, for authors of stores to call from their tests.

#![allow(clippy::unwrap_used, reason = "a check that fails panics")]

use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::storage::files::write_small;
use crate::storage::sink::Sink;
use crate::storage::store::{DirRename, Entry, EntryKind, Stat, Store};

/// Runs every check on stores that `make` makes, each of them empty.
///
/// ```
/// shardfold::testing::check_store(shardfold::Memory::new);
/// ```
///
/// # Panics
/// If the store does not do what [`Store`] promises.
pub fn check_store<S: Store>(make: impl Fn() -> S) {
    let checks: &[fn(&dyn Store)] = &[
        a_commit_shows_all_of_a_file_and_nothing_else_does,
        a_file_has_no_holes,
        an_empty_file_is_a_file,
        an_aborted_or_dropped_sink_leaves_nothing,
        a_read_past_the_end_is_an_error_that_says_where_the_end_is,
        names_that_lead_out_are_refused,
        the_last_commit_of_a_name_wins_and_a_reader_keeps_what_it_opened,
        a_length_that_was_not_kept_is_refused,
        a_file_goes_on_where_it_was_kept,
        a_patch_changes_a_file_where_it_stands,
        a_name_is_a_file_or_a_directory_or_nothing,
        what_is_directly_in_a_directory_is_listed_in_order,
        a_renamed_file_takes_the_place_of_another,
        a_directory_is_renamed_where_nothing_is,
        what_is_removed_is_gone_and_nothing_else,
        names_are_made_to_last,
        a_scratch_file_is_read_as_it_was_written_and_is_not_seen,
        a_lock_can_be_had_again_once_it_is_given_back,
    ];
    for check in checks {
        check(&make());
    }
}

/// Runs the checks on stores, each of them empty, in which files are only written once: nothing is renamed or changed, and a reader
/// need not keep what it opened.
///
/// # Panics
/// If the store does not do what [`Store`] promises of such files.
#[cfg(all(test, feature = "cloud"))]
pub(crate) fn check_write_once_store<S: Store>(make: impl Fn() -> S) {
    let checks: &[fn(&dyn Store)] = &[
        a_commit_shows_all_of_a_file_and_nothing_else_does,
        a_file_has_no_holes,
        an_empty_file_is_a_file,
        an_aborted_or_dropped_sink_leaves_nothing,
        a_read_past_the_end_is_an_error_that_says_where_the_end_is,
        names_that_lead_out_are_refused,
        a_length_that_was_not_kept_is_refused,
        a_file_goes_on_where_it_was_kept,
        a_name_is_a_file_or_a_directory_or_nothing,
        what_is_directly_in_a_directory_is_listed_in_order,
        what_is_removed_is_gone_and_nothing_else,
        names_are_made_to_last,
        a_scratch_file_is_read_as_it_was_written_and_is_not_seen,
        a_lock_can_be_had_again_once_it_is_given_back,
        nothing_is_changed_where_it_stands,
    ];
    for check in checks {
        let store = make();
        assert!(store.is_write_once());
        check(&store);
    }
}

#[cfg(all(test, feature = "cloud"))]
fn nothing_is_changed_where_it_stands(store: &dyn Store) {
    write_small(store, "dir/name", b"bytes").unwrap();
    assert!(store.patch("dir/name").is_err() && store.rename("dir/name", "dir/other").is_err());
    assert_eq!(store.rename_dir("dir", "other").unwrap(), DirRename::Unsupported);
    assert_eq!(
        (read(store, "dir/name").unwrap(), names(store, "")),
        (b"bytes".to_vec(), vec!["dir/".into()])
    );
}

/// Runs the checks of reading on a store that holds `files` and nothing else, and that cannot be changed. Of the files one has
/// more than a thousand bytes, and one lies in a directory.
///
/// # Panics
/// If the store does not do what [`Store`] promises of files that are only read.
pub fn check_read_store(store: &dyn Store, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        reads_as_it_is(store, name, bytes);
    }
    let (first, bytes) = files[0];
    let dirs: Vec<&str> = files.iter().filter_map(|(name, _)| Some(name.split_once('/')?.0)).collect();
    assert!(!dirs.is_empty() && files.iter().any(|(_, bytes)| bytes.len() > 1000), "files to check with");
    assert_eq!(store.stat(first).unwrap(), Some(Stat { kind: EntryKind::File, bytes: bytes.len() as u64 }));
    assert_eq!(store.stat(dirs[0]).unwrap().map(|stat| stat.kind), Some(EntryKind::Dir));
    assert_eq!(store.stat("").unwrap().map(|stat| stat.kind), Some(EntryKind::Dir));
    let mut top: Vec<String> =
        files.iter().filter(|(name, _)| !name.contains('/')).map(|(name, _)| (*name).to_owned()).collect();
    top.extend(dirs.iter().map(|dir| format!("{dir}/")));
    top.sort();
    top.dedup();
    let mut found = names(store, "");
    assert!(store.list("").unwrap().is_sorted_by(|a, b| a.name < b.name), "{found:?}");
    found.sort();
    assert_eq!(found, top);
    for nothing in ["nothing", "nothing/below", &format!("{first}/below")] {
        assert_eq!((read(store, nothing), store.stat(nothing).unwrap()), (None, None), "{nothing}");
        assert!(store.list(nothing).is_err(), "{nothing}");
    }
    for out in ["../name", "/name", "a/../../name", "."] {
        for error in [store.stat(out).err(), store.list(out).err(), store.open(out).err()] {
            assert!(
                matches!(error.unwrap().kind(), ErrorKind::Storage(StorageError::LeadsOut { .. })),
                "{out:?}"
            );
        }
    }
    let changes = [
        store.create("new", 1).err(),
        store.create(first, 1).err(),
        store.patch(first).err(),
        store.rename(first, "new").err(),
        store.remove(first).err(),
        store.remove_dir(dirs[0]).err(),
    ];
    assert!(changes.iter().all(Option::is_some), "{changes:?}");
    assert_eq!(store.rename_dir(dirs[0], "new").unwrap(), DirRename::Unsupported);
    assert!(!store.is_writable("") && names(store, "").len() == top.len());
    reads_as_it_is(store, first, bytes);
}

/// Reads a file whole, in parts, from its end, and past it.
fn reads_as_it_is(store: &dyn Store, name: &str, bytes: &[u8]) {
    assert!(read(store, name).unwrap() == bytes, "{name}");
    let source = store.open(name).unwrap();
    for step in [1 + bytes.len() / 2, 1 + bytes.len() / 7] {
        for (i, expected) in bytes.chunks(step).enumerate().collect::<Vec<_>>().into_iter().rev() {
            let mut part = vec![0; expected.len()];
            source.read_at(&mut part, (i * step) as u64).unwrap();
            assert!(part == expected, "{name}, part {i} of {step} bytes");
        }
    }
    let end = bytes.len() as u64;
    source.read_at(&mut [], end).unwrap();
    for (offset, expected) in
        [(end, end + 4), (end.saturating_sub(3), end.saturating_sub(3) + 4), (u64::MAX, u64::MAX)]
    {
        let error = source.read_at(&mut [0; 4], offset).unwrap_err();
        let ErrorKind::Storage(StorageError::Truncated { expected: wanted, found, .. }) = *error.kind()
        else {
            panic!("{error:?}");
        };
        assert_eq!((wanted, found), (expected, end), "{name}");
    }
    source.check_unchanged().unwrap();
}

fn read(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    let source = match store.open(name) {
        Ok(source) => source,
        Err(error) if matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { .. })) => {
            return None;
        }
        Err(error) => panic!("{error:?}"),
    };
    let mut bytes = vec![0; source.len() as usize];
    source.read_at(&mut bytes, 0).unwrap();
    source.done_before(source.len());
    Some(bytes)
}

/// The names in a directory; a `/` behind those of directories.
fn names(store: &dyn Store, dir: &str) -> Vec<String> {
    let shown = |Entry { name, kind, .. }: Entry| match kind {
        EntryKind::Dir => format!("{name}/"),
        _ => name,
    };
    store.list(dir).unwrap().into_iter().map(shown).collect()
}

fn a_commit_shows_all_of_a_file_and_nothing_else_does(store: &dyn Store) {
    let mut sink = store.create("sub/folder/name", 6).unwrap();
    sink.write(b"abc").unwrap();
    sink.write(b"").unwrap();
    sink.write(b"def").unwrap();
    assert_eq!(read(store, "sub/folder/name"), None);
    sink.commit().unwrap();
    assert_eq!(read(store, "sub/folder/name").unwrap(), b"abcdef");
    assert_eq!(read(store, "sub/folder/other"), None);
    assert_eq!(read(store, "sub/folder/name/below"), None);
}

fn a_file_has_no_holes(store: &dyn Store) {
    let mut sinks = [store.create("name", 6).unwrap(), store.resume("name", 0, 6).unwrap()];
    for error in sinks.iter_mut().map(|sink| sink.skip(2).unwrap_err()) {
        let ErrorKind::Storage(StorageError::Write { path }) = error.kind() else { panic!("{error:?}") };
        assert!(path.ends_with("name"), "{error:?}");
    }
    sinks.into_iter().for_each(Sink::abort);
}

fn an_empty_file_is_a_file(store: &dyn Store) {
    store.create("empty", 0).unwrap().commit().unwrap();
    let source = store.open("empty").unwrap();
    assert!(source.is_empty());
    source.read_at(&mut [], 0).unwrap();
}

fn an_aborted_or_dropped_sink_leaves_nothing(store: &dyn Store) {
    for end in [|sink: Box<dyn Sink>| sink.abort(), drop] {
        let mut sink = store.create("name", 6).unwrap();
        sink.write(b"abc").unwrap();
        end(sink);
        assert_eq!(read(store, "name"), None);
    }
    write_small(store, "name", b"old").unwrap();
    store.create("name", 3).unwrap().abort();
    assert_eq!(read(store, "name").unwrap(), b"old");
}

fn a_read_past_the_end_is_an_error_that_says_where_the_end_is(store: &dyn Store) {
    write_small(store, "name", b"abcdef").unwrap();
    let source = store.open("name").unwrap();
    let mut buf = [0; 4];
    source.read_at(&mut buf, 2).unwrap();
    assert_eq!(&buf, b"cdef");
    source.read_at(&mut [], 6).unwrap();
    for (offset, expected) in [(3, 7), (6, 10), (100, 104), (u64::MAX, u64::MAX)] {
        let error = source.read_at(&mut buf, offset).unwrap_err();
        let ErrorKind::Storage(StorageError::Truncated { expected: end, found: 6, .. }) = *error.kind()
        else {
            panic!("{error:?}");
        };
        assert_eq!(end, expected);
    }
    // Saying it is done with everything, and more, spoils nothing.
    source.done_before(u64::MAX);
    source.read_at(&mut buf, 2).unwrap();
    assert_eq!(&buf, b"cdef");
}

fn names_that_lead_out_are_refused(store: &dyn Store) {
    write_small(store, "name", b"bytes").unwrap();
    for dir in ["../name", "/name", "a/../../name", "."] {
        let errors = [
            store.stat(dir).err(),
            store.list(dir).err(),
            store.remove_dir(dir).err(),
            store.sync(dir).err(),
        ];
        for error in errors {
            assert!(
                matches!(error.unwrap().kind(), ErrorKind::Storage(StorageError::LeadsOut { .. })),
                "{dir:?}"
            );
        }
    }
    for name in ["../name", "/name", "a/../../name", "", "."] {
        let errors = [
            store.open(name).err(),
            store.create(name, 1).err(),
            store.patch(name).err(),
            store.rename(name, "name").err(),
            store.rename("name", name).err(),
            store.rename_dir(name, "name").err(),
            store.rename_dir("name", name).err(),
            store.remove(name).err(),
        ];
        for error in errors {
            assert!(
                matches!(error.unwrap().kind(), ErrorKind::Storage(StorageError::LeadsOut { .. })),
                "{name:?}"
            );
        }
    }
}

fn the_last_commit_of_a_name_wins_and_a_reader_keeps_what_it_opened(store: &dyn Store) {
    let (mut first, mut second) = (store.create("name", 3).unwrap(), store.create("name", 4).unwrap());
    first.write(b"one").unwrap();
    second.write(b"more").unwrap();
    second.commit().unwrap();
    let source = store.open("name").unwrap();
    first.commit().unwrap();
    assert_eq!(read(store, "name").unwrap(), b"one");
    let mut bytes = [0; 4];
    source.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"more");
}

fn a_length_that_was_not_kept_is_refused(store: &dyn Store) {
    let mut sink = store.create("short", 6).unwrap();
    sink.write(b"abc").unwrap();
    let error = sink.commit().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })), "{error:?}");

    let mut sink = store.create("long", 2).unwrap();
    sink.write(b"abc").unwrap_err();
    sink.write(b"a").unwrap_err();
    let error = sink.commit().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })), "{error:?}");
    assert_eq!((read(store, "short"), read(store, "long")), (None, None));
}

fn a_file_goes_on_where_it_was_kept(store: &dyn Store) {
    let mut sink = store.resume("dir/name", 0, 6).unwrap();
    sink.write(b"abc").unwrap();
    let is_kept = sink.keep().unwrap();
    sink.write(b"x").unwrap();
    drop(sink);
    assert_eq!(read(store, "dir/name"), None, "what is kept is not seen");
    assert!(store.resume("dir/other", 1, 6).is_err(), "nothing was kept of it");
    // From any byte that was kept, and from none.
    for kept in [3, 2, 0] {
        if kept > 0 && !is_kept {
            continue;
        }
        let mut sink = store.resume("dir/name", kept, 6).unwrap();
        sink.write(&b"abcdef"[kept as usize..]).unwrap();
        if kept == 3 {
            assert!(sink.write(b"g").is_err(), "more than was announced");
            continue;
        }
        sink.keep().unwrap();
        sink.commit().unwrap();
        assert_eq!(read(store, "dir/name").unwrap(), b"abcdef", "behind {kept}");
        assert_eq!(names(store, "dir"), ["name"], "behind {kept}");
        if kept > 0 {
            let mut sink = store.resume("dir/name", 0, 6).unwrap();
            sink.write(b"ab").unwrap();
            sink.keep().unwrap();
        }
    }
    store.resume("dir/name", 0, 6).unwrap().abort();
    assert_eq!(names(store, "dir"), ["name"], "an aborted one is not kept");
}

fn a_patch_changes_a_file_where_it_stands(store: &dyn Store) {
    assert!(matches!(
        store.patch("name").err().unwrap().kind(),
        ErrorKind::Storage(StorageError::Missing { .. })
    ));
    write_small(store, "name", b"abcdef").unwrap();
    let mut patch = store.patch("name").unwrap();
    patch.write_at(b"CD", 2).unwrap();
    patch.write_at(b"gh", 6).unwrap();
    patch.sync().unwrap();
    assert_eq!(read(store, "name").unwrap(), b"abCDefgh");
}

fn a_name_is_a_file_or_a_directory_or_nothing(store: &dyn Store) {
    write_small(store, "a/b/name", b"bytes").unwrap();
    let stat = store.stat("a/b/name").unwrap().unwrap();
    assert_eq!((stat.kind, stat.bytes), (EntryKind::File, 5));
    for dir in ["", "a", "a/b"] {
        let stat = store.stat(dir).unwrap().unwrap();
        assert_eq!((stat.kind, stat.bytes), (EntryKind::Dir, 0), "{dir:?}");
    }
    for absent in ["b", "a/b/nam", "a/b/name2", "a/b/name/below"] {
        assert_eq!(store.stat(absent).unwrap(), None, "{absent:?}");
    }
}

fn what_is_directly_in_a_directory_is_listed_in_order(store: &dyn Store) {
    for name in ["b", "a/x", "a/y/z", "a.b", "a/y/x"] {
        write_small(store, name, name.as_bytes()).unwrap();
    }
    assert_eq!(names(store, ""), ["a/", "a.b", "b"]);
    assert_eq!(names(store, "a"), ["x", "y/"]);
    assert_eq!(names(store, "a/y"), ["x", "z"]);
    assert_eq!(store.list("a/y").unwrap()[0].bytes, 5);
    for absent in ["c", "a/y/x"] {
        let error = store.list(absent).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { .. })),
            "{absent:?} gave {error:?}"
        );
    }
}

fn a_renamed_file_takes_the_place_of_another(store: &dyn Store) {
    write_small(store, "from/name", b"new").unwrap();
    write_small(store, "to/name", b"old").unwrap();
    store.rename("from/name", "to/name").unwrap();
    store.rename("to/name", "else/where").unwrap();
    assert_eq!((read(store, "else/where").unwrap(), read(store, "from/name")), (b"new".to_vec(), None));
    assert!(store.rename("from/name", "else/where").is_err());
    assert_eq!(read(store, "else/where").unwrap(), b"new");
}

fn a_directory_is_renamed_where_nothing_is(store: &dyn Store) {
    write_small(store, "from/a", b"a").unwrap();
    write_small(store, "from/sub/b", b"b").unwrap();
    write_small(store, "from2", b"not below it").unwrap();
    write_small(store, "taken/c", b"c").unwrap();
    for taken in ["taken", "from2"] {
        assert_eq!(store.rename_dir("from", taken).unwrap(), DirRename::Taken, "{taken}");
    }
    match store.rename_dir("from", "to").unwrap() {
        DirRename::Done => assert_eq!(names(store, ""), ["from2", "taken/", "to/"]),
        ended => assert_eq!((ended, names(store, "").len()), (DirRename::Unsupported, 3)),
    }
    if store.stat("to").unwrap().is_some() {
        assert_eq!(
            (names(store, "to"), names(store, "to/sub")),
            (vec!["a".into(), "sub/".into()], vec!["b".into()])
        );
        assert!(store.rename_dir("from", "other").is_err(), "nothing is there any more");
    }
    assert_eq!(names(store, "taken"), ["c"]);
}

fn what_is_removed_is_gone_and_nothing_else(store: &dyn Store) {
    for name in ["a/x", "a/y/z", "ab", "b/x"] {
        write_small(store, name, b"bytes").unwrap();
    }
    store.remove("b/x").unwrap();
    store.remove("b/x").unwrap();
    store.remove_dir("a").unwrap();
    store.remove_dir("a").unwrap();
    assert_eq!((store.stat("a").unwrap(), store.stat("b/x").unwrap()), (None, None));
    assert_eq!(read(store, "ab").unwrap(), b"bytes");
}

fn names_are_made_to_last(store: &dyn Store) {
    write_small(store, "a/b/name", b"bytes").unwrap();
    for dir in ["", "a", "a/b"] {
        store.sync(dir).unwrap();
    }
}

fn a_scratch_file_is_read_as_it_was_written_and_is_not_seen(store: &dyn Store) {
    write_small(store, "dir/name", b"bytes").unwrap();
    let scratch = store.scratch("dir", 10).unwrap();
    assert_eq!(names(store, "dir"), ["name"]);
    scratch.write_at(b"cd", 8).unwrap();
    scratch.write_at(b"ab", 0).unwrap();
    scratch.settle().unwrap();
    let mut found = [1; 10];
    scratch.read_at(&mut found, 0).unwrap();
    assert_eq!((&found, scratch.len()), (b"ab\0\0\0\0\0\0cd", 10));
    assert!(scratch.read_at(&mut found, 1).is_err(), "past the end");
}

fn a_lock_can_be_had_again_once_it_is_given_back(store: &dyn Store) {
    let lock = store.lock("dir").unwrap();
    if lock.is_held() {
        assert!(matches!(
            store.lock("dir").err().unwrap().kind(),
            ErrorKind::Output(OutputError::OutputInUse { .. })
        ));
    }
    drop(lock);
    assert_eq!(store.lock("dir").unwrap().is_held(), store.lock("other").unwrap().is_held());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::ErrorKind as Io;

    use super::*;
    use crate::storage::folder::Folder;
    use crate::storage::io::settings::{IoMode, IoSettings};
    use crate::storage::location::Location;
    use crate::storage::memory::Memory;
    use crate::storage::testing::faulty::Faulty;
    use crate::storage::testing::script::{Failure, Operation};

    #[test]
    fn a_folder_is_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let made = Cell::new(0);
        let fresh = || {
            made.set(made.get() + 1);
            let path = folder.path().join(format!("{}/above", made.get()));
            std::fs::create_dir_all(&path).unwrap();
            Folder::new(path)
        };
        check_store(fresh);
        check_store(|| fresh().keeping_cache(true).write_step(1));
        check_store(|| Location::of_path(fresh().path()));
        for name in IoMode::names() {
            check_store(|| {
                let store = fresh();
                let mode = IoMode::find(name).unwrap();
                store.use_io(IoSettings { mode, read_bytes: 1, write_bytes: 1, ..IoSettings::default() });
                store
            });
        }
    }

    #[test]
    fn memory_is_a_store_and_so_is_what_is_below_a_name() {
        check_store(Memory::new);
        check_store(|| {
            let all = Location::new(Memory::new());
            write_small(&all, "some/where/.keep", b"").unwrap();
            write_small(&all, "some/whereelse", b"").unwrap();
            all.remove("some/where/.keep").unwrap();
            all.join("some/where")
        });
    }

    #[test]
    fn a_faulty_store_without_faults_is_a_store() {
        check_store(|| Faulty::new(Memory::new()));
    }

    #[test]
    fn failures_come_where_they_were_ordered() {
        let full = Failure::Kind(Io::StorageFull);
        for (operation, nth) in
            [(Operation::Create, 2), (Operation::Write, 2), (Operation::Commit, 2)].into_iter()
        {
            let store = Faulty::new(Memory::new()).failing(operation, nth, full);
            write_small(&store, "a", b"bytes").unwrap();
            let error = write_small(&store, "b", b"bytes").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })), "{error:?}");
            write_small(&store, "c", b"bytes").unwrap();
            assert_eq!(store.inner().names(), ["a", "c"], "{operation:?}");
        }

        let store = Faulty::new(Memory::new())
            .failing(Operation::Open, 2, Failure::Kind(Io::NotFound))
            .failing(Operation::Read, 2, Failure::Errno(rustix::io::Errno::IO.raw_os_error()))
            .failing(Operation::Read, 3, Failure::Short)
            .failing(Operation::Write, 2, Failure::Short);
        write_small(&store, "a", b"bytes").unwrap();
        let mut sink = store.create("b", 5).unwrap();
        sink.write(b"bytes").unwrap_err();
        sink.write(b"bytes").unwrap_err();
        sink.commit().unwrap_err();
        let source = store.open("a").unwrap();
        assert!(matches!(
            store.open("a").err().unwrap().kind(),
            ErrorKind::Storage(StorageError::Missing { .. })
        ));
        let mut buf = [0; 4];
        source.read_at(&mut buf, 0).unwrap();
        assert!(matches!(
            source.read_at(&mut buf, 1).unwrap_err().kind(),
            ErrorKind::Storage(StorageError::Read { offset: 1, .. })
        ));
        let error = source.read_at(&mut buf, 1).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Storage(StorageError::Truncated { expected: 5, found: 3, .. })),
            "{error:?}"
        );
        source.read_at(&mut buf, 1).unwrap();
        assert_eq!((store.count(Operation::Read), store.count(Operation::Open)), (4, 2));
    }

    #[test]
    fn every_other_call_fails_where_it_was_ordered() {
        let eio = Failure::Errno(rustix::io::Errno::IO.raw_os_error());
        type Call = fn(&dyn Store) -> crate::error::Result<()>;
        let calls: [(Operation, Call); 9] = [
            (Operation::Stat, |store| store.stat("name").map(drop)),
            (Operation::List, |store| store.list("").map(drop)),
            (Operation::Rename, |store| store.rename("name", "name")),
            (Operation::Rename, |store| store.rename_dir("dir", "dir").map(drop)),
            (Operation::Remove, |store| store.remove("absent")),
            (Operation::Remove, |store| store.remove_dir("absent")),
            (Operation::Sync, |store| store.sync("")),
            (Operation::Write, |store| store.patch("name")?.write_at(b"b", 0)),
            (Operation::Sync, |store| store.patch("name")?.sync()),
        ];
        for (operation, call) in calls {
            let inner = Memory::new();
            write_small(&inner, "name", b"bytes").unwrap();
            write_small(&inner, "dir/name", b"bytes").unwrap();
            let store = Faulty::new(inner).failing(operation, 2, eio);
            call(&store).unwrap();
            let error = call(&store).unwrap_err();
            let is_right = matches!(
                error.kind(),
                ErrorKind::Storage(StorageError::Read { .. })
                    | ErrorKind::Storage(StorageError::Write { .. })
            );
            assert!(is_right && store.count(operation) == 2, "{operation:?}: {error:?}");
            call(&store).unwrap();
        }
    }
}
