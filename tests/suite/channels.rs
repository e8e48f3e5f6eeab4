//! Logs and products that cannot be written: the first stop nothing, the second are an error.

use std::fs::File;
use std::process::{Command, Stdio};

use super::support::{command, contents, ran};
use super::work::Work;

/// A disk that is full.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("a device of Linux").into()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let expected = Work::demo();
    expected.succeeds(&[]);
    let expected = contents(&expected.output);
    for channel in [full, closed] {
        for flags in [&[][..], &["--json"], &["--verbose"]] {
            let work = Work::demo();
            let status = work.command(flags).stdout(Stdio::null()).stderr(channel()).status().unwrap();
            assert_eq!(status.code(), Some(0), "{flags:?}");
            assert!(contents(&work.output) == expected);
        }
        // An error has its code all the same.
        let mut wrong = command(&["plan", "--base", "nowhere", "--adapter", "nowhere"]);
        assert_eq!(wrong.stderr(channel()).status().unwrap().code(), Some(66));
        let mut misuse = command(&["merge", "--no-such-flag"]);
        assert_eq!(misuse.stderr(channel()).status().unwrap().code(), Some(2));
    }
}

#[test]
fn a_product_that_cannot_be_written_is_an_error() {
    let work = Work::demo();
    let plan = |flags: &[&str]| {
        let mut command = command(&["plan"]);
        command.arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter).args(flags);
        command
    };
    let inspect = || {
        let mut command = command(&["inspect"]);
        command.arg(&work.base);
        command
    };
    for channel in [full, closed] {
        let commands: [Command; 5] =
            [plan(&[]), plan(&["--json"]), inspect(), command(&["--help"]), work.command(&["--json"])];
        for mut command in commands {
            let ran = ran(command.stdout(channel()).output().unwrap());
            assert_eq!(ran.code, 74, "{command:?}: {}", ran.err);
        }
        // What a merge tells on stdout is no product: OUTPUT is.
        let told = work.command(&[]).stdout(channel()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(told.code(), Some(0));
    }
}
