//! The threads that write behind and read ahead, under every order of steps that the model checker tries. The files are real.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::storage::io::block::{BLOCK, PieceLayout};
use crate::storage::io::read_ahead::ReadAhead;
use crate::storage::io::way::{FileWriter, Refusal};
use crate::storage::io::write_behind::WriteBehind;
use crate::threads::model::{Timeouts, draw, explore};

/// Pieces of one block.
const CUT: PieceLayout = PieceLayout { count: 8, bytes: BLOCK };

/// A directory in memory where the system has one: nothing here need last.
fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory"))
}

/// Bytes of which no two blocks are alike.
fn content(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|i| (i / BLOCK * 31 + i) as u8).collect()
}

fn two_ways_to(path: &Path) -> (Arc<File>, File) {
    let open = || File::options().read(true).write(true).open(path).expect("it is there");
    (Arc::new(open()), open())
}

#[test]
fn what_is_finished_is_in_the_file() {
    let (folder, content) = (folder(), Arc::new(content(13)));
    let path = folder.path().join("f");
    explore(Timeouts::Never, 600, move || {
        let file = File::create(&path).expect("a new file");
        file.set_len(content.len() as u64 + 5).expect("room");
        let (cached, direct) = two_ways_to(&path);
        let mut writer = WriteBehind::begin(&cached, direct, CUT, &Refusal::default()).expect("threads");
        // A milestone, and the end: what was written up to then is in the file, whoever wrote it when.
        for (bytes, from) in [(&content[..9 * BLOCK + 7], 0), (&content[9 * BLOCK + 7..], 9 * BLOCK + 7)] {
            writer.write(bytes).and_then(|()| writer.finish()).expect("it writes");
            let there = std::fs::read(&path).expect("it is there");
            let end = from + bytes.len();
            assert!(there[..end] == content[..end], "not all of {end} bytes are there");
        }
    });
}

#[test]
fn a_write_that_fails_is_told_and_all_threads_end() {
    let folder = folder();
    let path = folder.path().join("f");
    explore(Timeouts::Never, 600, move || {
        let cached = Arc::new(File::create(&path).expect("a new file"));
        // One that is open for reading only stands for a disk that fails.
        let direct = File::open(&path).expect("it is there");
        let mut writer = WriteBehind::begin(&cached, direct, CUT, &Refusal::default()).expect("threads");
        let pieces = 1 + draw(10);
        let written = (0..pieces).try_for_each(|_| writer.write(&[7; BLOCK]));
        assert!(written.and_then(|()| writer.finish()).is_err(), "{pieces} pieces were lost without a word");
    });
}

#[test]
fn what_is_read_ahead_is_what_the_file_holds() {
    let (folder, content) = (folder(), Arc::new(content(40)));
    let path = folder.path().join("f");
    std::fs::write(&path, &*content).expect("room");
    explore(Timeouts::Never, 600, move || {
        let file = Arc::new(File::open(&path).expect("it is there"));
        let ahead =
            ReadAhead::new(8 * BLOCK as u64, |file: &Arc<File>| Ok(file.clone()), &Refusal::default());
        let mut at = 0;
        for _ in 0..8 {
            let mut bytes = vec![0; 1 + draw(3 * BLOCK)];
            // Where the stream does not go on the caller reads the file itself.
            let some = ahead.read(&file, &mut bytes, at as u64).unwrap_or(0);
            assert!(bytes[..some] == content[at..at + some], "other bytes at {at}");
            at = if draw(3) == 0 { draw(30 * BLOCK) } else { (at + some).min(30 * BLOCK) };
        }
    });
}
