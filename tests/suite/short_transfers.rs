//! Reads and writes that move less than was asked for, and calls that are interrupted: the result is that of an undisturbed run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{contents, folder, ran};
use super::work::Work;

/// The library that cuts transfers short, built into `dir`; none where there is no C compiler, or nothing can be loaded so.
fn library(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/short_transfers.c");
    let library = dir.join("short_transfers.so");
    let mut build = Command::new("cc");
    build.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let is_built = cfg!(all(target_os = "linux", target_env = "gnu")) && build.status().ok()?.success();
    is_built.then_some(library)
}

#[test]
fn transfers_that_are_cut_short_give_the_same_result() {
    let built = folder();
    let Some(library) = library(built.path()) else {
        eprintln!("skipped: no library for short transfers can be built here");
        return;
    };
    let work = Work::demo();
    work.succeeds(&[]);
    let expected = contents(&work.output);
    let (told, state) = (built.path().join("told"), built.path().join("state"));
    let mut all = [0, 0];
    for io in ["buffered", "parallel", "direct"] {
        for way in ["renamed", "moved into place", "written once"] {
            fs::remove_dir_all(&work.output).unwrap();
            if way == "moved into place" {
                fs::create_dir_all(work.output.join("lost+found")).unwrap();
            }
            let refused = if way == "written once" { &["--refuse-renames"][..] } else { &[] };
            let mut merge =
                work.command(&[&["--io", io, "--slab", "16KiB", "--depth", "4"], refused].concat());
            merge.env("XDG_STATE_HOME", &state).env("LD_PRELOAD", &library).env("SHORT_TRANSFERS", &told);
            let ran = ran(merge.output().unwrap());
            assert_eq!(ran.code, 0, "{io}, {way}: {}", ran.err);
            assert!(contents(&work.output) == expected, "{io}, {way}: another result");
            let counts = fs::read_to_string(&told).unwrap();
            let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
            let [cut, interrupted] = counts[..] else { panic!("{counts:?}") };
            assert!(cut > 100, "{io}, {way}: {cut} transfers are few");
            assert!(interrupted > 5, "{io}, {way}: {interrupted} other calls are few");
            all = [all[0] + cut, all[1] + interrupted];
        }
    }
    println!("{} transfers were cut short or interrupted, and {} other calls interrupted", all[0], all[1]);
}
