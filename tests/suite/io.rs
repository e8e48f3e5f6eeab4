//! The ways of reading and writing files, and what a run tells of its time.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::support::{Ran, contents, ran, run};
use super::work::{Mounted, Work};

#[test]
fn every_way_gives_the_same_files_and_is_named() {
    let work = Work::demo();
    let first = work.succeeds(&["--io", "buffered"]);
    assert!(first.err.contains(", buffered I/O (--io)\n"), "{}", first.err);
    let expected = contents(&work.output);
    for io in ["auto", "direct", "dontcache"] {
        let output = work.folder.path().join(io);
        let merged = work.merge_into(&output, &["--io", io, "--slab", "4096", "--depth", "1", "--json"]);
        assert_eq!(merged.code, 0, "{}", merged.err);
        let summary: Value = serde_json::from_str(&merged.out).expect("a document");
        assert!(io == "auto" || summary["io"]["mode"] == io, "{summary}");
        assert!(contents(&output) == expected, "{io} gives other files");
    }
    let refused = work.merge(&["--io", "mmap"]);
    assert!(refused.code == 2 && refused.err.contains("--io"), "{}", refused.err);
}

#[test]
fn a_file_system_without_direct_io_is_served_and_said_to_the_curious() {
    let work = Work::demo();
    let place = work.folder.path().join("ramfs");
    fs::create_dir(&place).expect("a folder");
    let Some(_mounted) = Mounted::ramfs(&place) else {
        eprintln!("skipped: a file system cannot be mounted here");
        return;
    };
    for (i, (flags, is_said)) in
        [(&[][..], false), (&["-v"], true), (&["--json"], true)].into_iter().enumerate()
    {
        let merged = work.merge_into(
            &place.join(i.to_string()),
            &[&["--io", "direct", "--slab", "4096", "--depth", "1"], flags].concat(),
        );
        assert_eq!(merged.code, 0, "{}", merged.err);
        assert_eq!(merged.err.contains("refuses direct I/O"), is_said, "{flags:?}: {}", merged.err);
    }
    work.succeeds(&[]);
    let of = |folder| contents(folder).into_iter().filter(|(name, _)| name.ends_with(".safetensors"));
    assert!(of(&place.join("0")).eq(of(&work.output)));
}

#[test]
fn a_run_tells_what_its_threads_did() {
    let work = Work::demo();
    let ran = work.succeeds(&["-v", "--threads", "2"]);
    for stage in ["\nreader     ", "\nwriter     ", "\nworker     ", "\nlimit      "] {
        assert!(ran.out.contains(stage), "no `{stage}` in\n{}", ran.out);
    }
    let ran = work.merge_into(&work.folder.path().join("again"), &[]);
    assert!(!ran.out.contains("\nreader "), "{}", ran.out);
}

#[test]
fn a_profile_is_a_page_of_its_own_with_its_data_beside_it() {
    let work = Work::demo();
    let page = work.folder.path().join("profiles/merge.html");
    work.succeeds(&["--threads", "2", "--profile", page.to_str().expect("UTF-8")]);
    let html = fs::read_to_string(&page).expect("a page");
    for other in ["http:", "https:", "src=", "href=", "@DATA@"] {
        assert!(!html.contains(other), "the page refers to something by `{other}`");
    }
    let data = html.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let inside: Value = serde_json::from_str(data.expect("data").0).expect("JSON");
    let beside: Value =
        serde_json::from_str(&fs::read_to_string(page.with_extension("json")).expect("a file"))
            .expect("JSON");
    assert_eq!(inside, beside);
    let stages: Vec<_> = beside["threads"].as_array().expect("a list").iter().map(|t| &t["stage"]).collect();
    assert_eq!(stages, ["reader", "writer", "worker", "worker"]);
    let pieces = beside["threads"][0]["pieces"].as_array().expect("a list");
    assert!(!pieces.is_empty() && pieces.iter().all(|piece| piece.as_array().is_some_and(|p| p.len() == 6)));
}

#[test]
fn a_probe_estimates_the_time_and_leaves_nothing() {
    let work = Work::demo();
    let output = work.output.to_str().expect("UTF-8");
    let before = contents(work.folder.path());
    let probed = |flags: &[&str]| -> Ran {
        let mut command: Command = super::support::command(&["plan", "--probe"]);
        command.arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter).args(flags);
        ran(command.output().expect("the binary starts"))
    };
    let plan: Value = serde_json::from_str(&probed(&["--json", "--output", output]).out).expect("a document");
    let [least, most] = [0, 1].map(|i| plan["seconds"][i].as_f64().expect("seconds"));
    assert!(0.0 < least && least <= most, "{plan}");
    assert!(plan["probe"]["written_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{plan}");
    let text = probed(&[]).out;
    assert!(text.contains("\nprobe      ") && text.contains("name OUTPUT to probe it"), "{text}");
    assert!(contents(work.folder.path()) == before);
    assert_eq!(run(&["merge", "--probe"]).code, 2, "it is a flag of `plan`");
}

#[test]
fn a_merge_that_is_thrown_away_is_counted_like_any_other() {
    let work = Work::demo();
    let thrown = work.merge(&["--discard", "--json"]);
    assert!(thrown.code == 0 && !work.output.exists(), "{}", thrown.err);
    let merged = work.succeeds(&["--json"]);
    let [thrown, merged]: [Value; 2] =
        [thrown, merged].map(|ran| serde_json::from_str(&ran.out).expect("a document"));
    assert_eq!((&thrown["state"], &thrown["applied"]), (&"discarded".into(), &merged["applied"]));
    assert_eq!(thrown["read_bytes"], merged["read_bytes"]);
}
