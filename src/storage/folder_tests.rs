//! What only files of a file system can do wrong.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::storage::files::{copy_file, is_mount_point, write_small};
use crate::storage::io::settings::{IoMode, Unchanged};
use crate::storage::os;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refused(store: &Folder, name: &str) -> Error {
    store.open(name).err().expect("it should be refused")
}

#[test]
fn temporary_files_lie_beside_their_target_and_are_gone_after_drop() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    let long = "x".repeat(255);
    for name in ["name", &long] {
        let mut sink = store.create(name, 6).unwrap();
        sink.write(b"abc").unwrap();
        let temporary = names(folder.path());
        assert_eq!(temporary.len(), 1);
        assert!(temporary[0].starts_with(".") && temporary[0].ends_with(".tmp"), "{temporary:?}");
        drop(sink);
        assert!(names(folder.path()).is_empty());

        let mut sink = store.create(name, 3).unwrap();
        sink.write(b"abcd").unwrap_err();
        sink.commit().unwrap_err();
        assert!(names(folder.path()).is_empty());

        write_small(&store, name, b"abc").unwrap();
        assert_eq!(names(folder.path()), [name]);
        fs::remove_file(folder.path().join(name)).unwrap();
    }
}

#[test]
fn a_commit_that_cannot_be_shown_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("taken")).unwrap();
    let error = write_small(&Folder::new(folder.path()), "taken", b"abc").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })), "{error:?}");
    assert_eq!(names(folder.path()), ["taken"]);
    let error = write_small(&Folder::new(folder.path().join("taken")), "a\u{0}b", b"abc").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::LeadsOut { .. })), "{error:?}");
}

#[test]
fn a_length_changed_behind_our_back_is_found_at_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Folder::new(folder.path()).create("name", 3).unwrap();
    sink.write(b"abc").unwrap();
    let temporary = folder.path().join(&names(folder.path())[0]);
    fs::OpenOptions::new().write(true).open(temporary).unwrap().set_len(2).unwrap();
    let error = sink.commit().unwrap_err();
    assert_eq!(format!("{error:?}").matches("3 bytes were announced, 2 are there").count(), 1, "{error:?}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_file_cut_after_it_was_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    write_small(&store, "name", &[7; 10_000]).unwrap();
    let source = store.open("name").unwrap();
    fs::OpenOptions::new().write(true).open(folder.path().join("name")).unwrap().set_len(5_000).unwrap();
    let mut buf = vec![0; 8_000];
    source.read_at(&mut buf[..5_000], 0).unwrap();
    for offset in [0, 2_000] {
        let error = source.read_at(&mut buf, offset).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Storage(StorageError::Truncated { expected: 10_000, found: 5_000, .. })
            ),
            "{error:?}"
        );
    }
}

#[test]
fn symlinks_are_followed_and_a_commit_replaces_the_link_only() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("blob"), "bytes").unwrap();
    symlink(elsewhere.path().join("blob"), folder.path().join("name")).unwrap();
    symlink("nowhere", folder.path().join("dangling")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    let store = Folder::new(folder.path());
    let mut bytes = [0; 5];
    store.open("name").unwrap().read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes");
    for (name, leads) in [("dangling", "nowhere"), ("loop", "loop")] {
        let error = refused(&store, name);
        assert!(
            matches!(error.kind(), ErrorKind::Storage(StorageError::BrokenLink { target, .. }) if target == Path::new(leads)),
            "{error:?}"
        );
    }

    write_small(&store, "name", b"other").unwrap();
    assert_eq!(fs::read(elsewhere.path().join("blob")).unwrap(), b"bytes");
    assert_eq!(fs::read(folder.path().join("name")).unwrap(), b"other");
}

#[test]
fn what_is_no_file_is_refused_without_blocking() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    fs::create_dir(folder.path().join("folder")).unwrap();
    symlink("/dev/zero", folder.path().join("device")).unwrap();
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status();
    for name in ["folder", "device", "pipe"] {
        if name == "pipe" && !made.as_ref().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no mkfifo here");
            continue;
        }
        let error = refused(&store, name);
        assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Unreadable { .. })), "{error:?}");
        assert!(format!("{error:?}").contains("not a file"), "{error:?}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_not_taken_for_absent() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    write_small(&store, "file", b"bytes").unwrap();
    symlink("nowhere", folder.path().join("dangling")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    for absent in ["file/below", &"x".repeat(300)] {
        assert_eq!(store.stat(absent).unwrap(), None, "{absent}");
    }
    for broken in ["dangling", "loop"] {
        assert_eq!(store.stat(broken).unwrap().unwrap().kind, EntryKind::Dangling, "{broken}");
    }
    let kinds: Vec<EntryKind> = store.list("").unwrap().iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Dangling, EntryKind::File, EntryKind::Dangling]);
    assert!(matches!(
        store.list("file").unwrap_err().kind(),
        ErrorKind::Storage(StorageError::Missing { what: "directory", .. })
    ));
    // A path that is no text of the system cannot be looked at.
    let unfit = Folder::new(folder.path().join("a\0b"));
    assert!(matches!(
        unfit.stat("name").unwrap_err().kind(),
        ErrorKind::Storage(StorageError::Unreadable { .. })
    ));
    assert!(matches!(
        unfit.list("").unwrap_err().kind(),
        ErrorKind::Storage(StorageError::Unreadable { .. })
    ));
}

#[test]
fn bytes_are_right_across_the_pieces_of_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0u32..300_000).flat_map(u32::to_le_bytes).collect();
    for name in IoMode::names() {
        let store = Folder::new(folder.path());
        let mode = IoMode::find(name).unwrap();
        store.use_io(IoSettings {
            mode,
            read_bytes: 64 << 10,
            write_bytes: 64 << 10,
            ..IoSettings::default()
        });
        for piece in [1 << 20, 65_536, 40_000, 1_200_000] {
            let mut sink = store.create("name", bytes.len() as u64).unwrap();
            for part in bytes.chunks(piece) {
                sink.write(part).unwrap();
            }
            sink.commit().unwrap();
            assert!(fs::read(folder.path().join("name")).unwrap() == bytes, "{name}, pieces of {piece}");
        }
        // Kept inside a block, and between two.
        for kept in [500_003, 524_288] {
            let mut sink = store.resume("kept", 0, bytes.len() as u64).unwrap();
            sink.write(&bytes[..600_000]).unwrap();
            assert!(sink.keep().unwrap());
            drop(sink);
            let mut sink = store.resume("kept", kept as u64, bytes.len() as u64).unwrap();
            sink.write(&bytes[kept..]).unwrap();
            sink.commit().unwrap();
            assert!(fs::read(folder.path().join("kept")).unwrap() == bytes, "{name}, kept {kept}");
        }
        let from = store.open("name").unwrap();
        copy_file(&*from, &store, "copy", &mut vec![0; 99_999], &crate::cancel::Cancel::default()).unwrap();
        assert!(fs::read(folder.path().join("copy")).unwrap() == bytes, "{name}");
    }
}

#[test]
fn a_file_that_passes_the_cache_leaves_nothing_of_it_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    let mode = IoMode::find("direct").unwrap();
    store.use_io(IoSettings { mode, read_bytes: 64 << 10, write_bytes: 64 << 10, ..IoSettings::default() });
    let bytes = vec![7; 1_000_001];
    write_small(&store, "name", &bytes).unwrap();
    let source = store.open("name").unwrap();
    let mut found = vec![0; bytes.len()];
    found.chunks_mut(100_000).zip(0..).for_each(|(buf, i)| source.read_at(buf, i * 100_000).unwrap());
    assert!(found == bytes);
    if store.refused_io().is_some() {
        eprintln!("skipped: no direct I/O in {}", folder.path().display());
        return;
    }
    let cached = cached_pages(&folder.path().join("name"));
    assert!(cached.is_none_or(|pages| pages <= 1), "{cached:?} pages are in the cache");
}

#[test]
fn a_file_that_is_written_once_is_on_its_way_before_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::new(folder.path());
    store.use_io(IoSettings { write_bytes: 64 << 10, ..IoSettings::default() });
    let bytes = vec![7; 8 << 20];
    let mut sink = store.write_once("name", bytes.len() as u64).unwrap();
    bytes.chunks(10_000).for_each(|piece| sink.write(piece).unwrap());
    // What is on the disk was dropped from the cache.
    let cached = cached_pages(&folder.path().join("name"));
    assert!(store.is_in_memory("") || cached.is_none_or(|pages| pages < 1024), "{cached:?} of 2048 pages");
    sink.commit().unwrap();
    assert!(std::fs::read(folder.path().join("name")).unwrap() == bytes);
}

/// Pages of a file that are in the page cache, as util-linux tells; none where it is not there.
fn cached_pages(path: &Path) -> Option<u64> {
    let output = Command::new("fincore").args(["-n", "-o", "PAGES"]).arg(path).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[test]
fn bytes_that_are_in_another_file_are_right_whether_they_are_shared_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let base: Vec<u8> = (0u32..100_000).flat_map(u32::to_le_bytes).collect();
    for name in IoMode::names() {
        let store = Folder::new(folder.path());
        let mode = IoMode::find(name).unwrap();
        let settings =
            IoSettings { mode, read_bytes: 64 << 10, write_bytes: 64 << 10, unchanged: Unchanged::Share };
        store.use_io(settings);
        write_small(&store, "base", &base).unwrap();
        let source = store.open("base").unwrap();
        // In step with the base, one byte off, changed in between.
        for (before, same) in [(0, 0..400_000), (5, 5..300_001), (4096, 0..100_000), (3, 4..200_000)] {
            let mut sink = store.create("new", (before + same.len() + 7) as u64).unwrap();
            sink.write(&vec![9; before]).unwrap();
            for (i, piece) in base[same.clone()].chunks(70_000).enumerate() {
                sink.write_same(piece, &*source, (same.start + i * 70_000) as u64).unwrap();
            }
            sink.write(&[9; 7]).unwrap();
            sink.commit().unwrap();
            let right = [&vec![9; before][..], &base[same.clone()], &[9; 7]].concat();
            assert!(fs::read(folder.path().join("new")).unwrap() == right, "{name}, {before} and {same:?}");
        }
    }
}

#[test]
fn bytes_are_appended_from_another_file_whether_they_are_shared_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let base: Vec<u8> = (0u32..100_000).flat_map(u32::to_le_bytes).collect();
    for (name, unchanged) in IoMode::names()
        .flat_map(|name| [Unchanged::Share, Unchanged::Copy, Unchanged::Link].map(|kind| (name, kind)))
    {
        let store = Folder::new(folder.path());
        let mode = IoMode::find(name).unwrap();
        store.use_io(IoSettings { mode, read_bytes: 64 << 10, write_bytes: 64 << 10, unchanged });
        write_small(&store, "base", &base).unwrap();
        let source = store.open("base").unwrap();
        for (before, same) in
            [(0, 0..400_000), (5, 5..300_001), (4096, 0..100_000), (3, 4..200_000), (0, 0..9)]
        {
            let mut sink = store.create("new", (before + same.len() + 7) as u64).unwrap();
            sink.write(&vec![9; before]).unwrap();
            let (start, bytes) = (same.start as u64, same.len() as u64);
            sink.append_from(&*source, start, bytes, &Cancel::default()).unwrap();
            sink.write(&[9; 7]).unwrap();
            sink.commit().unwrap();
            let right = [&vec![9; before][..], &base[same.clone()], &[9; 7]].concat();
            assert!(fs::read(folder.path().join("new")).unwrap() == right, "{name}, {unchanged:?}, {before}");
        }
        let cancelled = Cancel::default();
        cancelled.cancel();
        let mut sink = store.create("new", 400_000).unwrap();
        let stopped = sink.append_from(&*source, 3, 100_000, &cancelled).unwrap_err();
        assert!(matches!(stopped.kind(), ErrorKind::Stopped), "{stopped:?}");
    }
}

#[test]
fn all_of_a_file_becomes_a_second_name_of_it_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let node = |name: &str| fs::metadata(at(name)).unwrap().ino();
    let append = |unchanged, begin: fn(&Folder) -> Box<dyn Sink>| {
        let store = Folder::new(folder.path());
        store.use_io(IoSettings { unchanged, ..IoSettings::default() });
        write_small(&store, "base", &[7; 9000]).unwrap();
        let source = store.open("base").unwrap();
        let sharing = store.sharing("", &*source);
        let mut sink = begin(&store);
        sink.append_from(&*source, 0, 9000, &Cancel::default()).unwrap();
        sink.commit().unwrap();
        assert_eq!(fs::read(at("new")).unwrap(), [7; 9000]);
        (sharing, node("new") == node("base"))
    };
    for begin in [(|store| store.create("new", 9000).unwrap()) as fn(&Folder) -> Box<dyn Sink>, |store| {
        store.resume("new", 0, 9000).unwrap()
    }] {
        let (sharing, is_linked) = append(Unchanged::Link, begin);
        assert_eq!(is_linked, sharing.files);
        assert!(is_linked, "the file systems of tests have links");
        assert!(!append(Unchanged::Share, begin).1);
        let (sharing, is_linked) = append(Unchanged::Copy, begin);
        assert!(!is_linked && sharing == Sharing::default());
    }
    assert_eq!(names(folder.path()), ["base", "new"], "nothing else is left");
    // More than the file is no link, and less is none.
    let store = Folder::new(folder.path());
    store.use_io(IoSettings { unchanged: Unchanged::Link, ..IoSettings::default() });
    let source = store.open("base").unwrap();
    for (bytes, more) in [(9000, 1), (8999, 0)] {
        let mut sink = store.create("new", bytes + more).unwrap();
        sink.append_from(&*source, 0, bytes, &Cancel::default()).unwrap();
        sink.write(&vec![1; more as usize]).unwrap();
        sink.commit().unwrap();
        assert_ne!(node("new"), node("base"));
    }
}

#[test]
fn more_than_the_disk_holds_is_refused_before_the_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let error = Folder::new(folder.path()).create("name", 1 << 60).err().unwrap();
    let ErrorKind::Storage(StorageError::DiskFull { needed, free, .. }) = error.kind() else {
        panic!("{error:?}")
    };
    assert!(*needed == 1 << 60 && *free < *needed);
    assert!(names(folder.path()).is_empty());
}

/// A file system of 1 MiB in memory, unmounted when dropped; `None` where that cannot be had.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "shardfold-test"]).arg(folder.path());
        let is_mounted =
            mount.output().is_ok_and(|output| output.status.success()) && is_mount_point(folder.path());
        if !is_mounted {
            eprintln!("skipped: cannot mount a small file system here");
        }
        is_mounted.then_some(Small(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_with_its_numbers() {
    let Some(small) = Small::mount() else { return };
    let store = Folder::new(small.0.path());
    let is_full = |error: &Error| matches!(error.kind(), ErrorKind::Storage(StorageError::DiskFull { free, .. }) if *free <= 1 << 20);

    let error = store.create("whole", 2 << 20).err().unwrap();
    assert!(is_full(&error), "{error:?}");

    // What is reserved is gone for others, and comes back with the sink.
    let first = store.create("first", 700_000).unwrap();
    let error = store.create("second", 700_000).err().unwrap();
    assert!(is_full(&error), "{error:?}");
    first.abort();
    write_small(&store, "second", &[1; 700_000]).unwrap();

    // A reservation that fails does so with the number that we take for a full disk.
    let file = fs::File::create(small.0.path().join("file")).unwrap();
    assert_eq!(os::reserve(&file, 2 << 20).unwrap_err().kind(), io::ErrorKind::StorageFull);
    drop(file);
    fs::remove_file(small.0.path().join("file")).unwrap();

    // Room that vanishes under an unreserved file: the write says so, and the temporary file goes.
    let mut sink = store.create("third", 300_000).unwrap();
    let temporary = names(small.0.path()).into_iter().find(|name| name.starts_with(".third")).unwrap();
    let cut = fs::OpenOptions::new().write(true).open(small.0.path().join(temporary)).unwrap();
    cut.set_len(0).unwrap();
    let rest = crate::storage::files::free_bytes(small.0.path()).unwrap();
    fs::write(small.0.path().join("filler"), vec![0; rest as usize]).unwrap();
    let error = sink.write(&[1; 300_000]).unwrap_err();
    assert!(is_full(&error), "{error:?}");
    sink.commit().unwrap_err();
    assert_eq!(names(small.0.path()), ["filler", "second"]);
}

#[test]
fn what_lies_in_memory_is_known() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(small) = Small::mount() {
        assert!(Folder::new(small.0.path()).is_in_memory("not/yet/there"));
    }
    let on_disk = !os::is_in_memory(folder.path());
    assert_eq!(on_disk, !Folder::new(folder.path()).is_in_memory("a/b"));
}

#[test]
fn a_lock_that_is_let_go_in_a_moment_is_waited_for_and_another_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Folder::new(dir.path());
    let held = File::open(dir.path()).unwrap();
    held.lock().unwrap();
    let error = store.lock("").err().expect("it is held");
    assert!(matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. })), "{error:?}");
    let letting_go = thread::spawn(move || {
        thread::sleep(BETWEEN_LOOKS * 2);
        drop(held);
    });
    assert!(store.lock("").is_ok());
    letting_go.join().unwrap();
}
