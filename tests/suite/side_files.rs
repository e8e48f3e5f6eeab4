//! What lies beside the weights: all of it is in the result or accounted for, and nothing of it changes meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use shardfold::testing::Dtype;
use shardfold::{Cancel, Code, Location, Prepared, Request, Style, Terminal, choose, prepare};

use super::support::{contents, f32s, ran, write_safetensors};
use super::work::{MODULE, Work};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file")).expect("a folder");
    fs::write(path, text).expect("a small file");
}

fn says(work: &Work, code: i32, texts: &[&str]) {
    let ran = work.merge(&[]);
    assert_eq!(ran.code, code, "{}", ran.err);
    for text in texts {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
    assert!(code == 0 || !work.output.exists() && !work.partial().exists());
}

#[test]
fn broken_links_are_named_together_before_anything_is_written() {
    let work = Work::demo();
    for name in ["generation_config.json", "2_Dense/config.json"] {
        let link = work.base.join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&link);
        symlink("../blobs/gone", link).unwrap();
    }
    let broken = "is a broken link: nothing is at its target `../blobs/gone`";
    says(&work, 66, &["generation_config.json", "2_Dense/config.json", broken]);
    // What is not needed may be gone: the card is written again, and copies of the weights are left out.
    let work = Work::demo();
    for name in ["README.md", "pytorch_model.bin", "model.fp16.safetensors"] {
        symlink("gone", work.base.join(name)).unwrap();
    }
    says(&work, 0, &[]);
    // A shard, with what else is broken.
    let work = Work::demo();
    for name in ["config.json", "model-00002-of-00003.safetensors"] {
        fs::remove_file(work.base.join(name)).unwrap();
        symlink(name, work.base.join(name)).unwrap();
    }
    says(
        &work,
        66,
        &["base/config.json` is a broken link", "base/model-00002-of-00003.safetensors` is a broken link"],
    );
    // An index, without which one shard would be the checkpoint, and the adapter's files.
    let work = Work::demo();
    fs::remove_file(work.base.join("model.safetensors.index.json")).unwrap();
    symlink("gone", work.base.join("model.safetensors.index.json")).unwrap();
    says(&work, 66, &["model.safetensors.index.json` is a broken link"]);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let work = Work::demo();
        fs::remove_file(work.adapter.join(name)).unwrap();
        symlink("gone", work.adapter.join(name)).unwrap();
        says(&work, 66, &["is a broken link: nothing is at its target `gone`"]);
    }
}

#[test]
fn weights_of_other_modules_are_carried_over_and_what_is_left_out_is_reported() {
    let work = Work::demo();
    for name in ["2_Dense/model.safetensors", "mm_projector.bin", "spk_dict.pt", "a/b/c/d/e/f.json"] {
        write(&work.base.join(name), name);
    }
    write(&work.base.join("lost+found/#12"), "of fsck");
    write(&work.base.join("pytorch_model.bin"), "the same weights");
    write(&work.base.join("earlier/shardfold.json"), "{}");
    write(&work.base.join("earlier/model.safetensors"), "a result");
    symlink("/usr", work.base.join("elsewhere")).unwrap();
    says(
        &work,
        0,
        &[
            "note: `2_Dense/model.safetensors` and 2 more hold weights of other modules; copied as they are",
            "note: `pytorch_model.bin` is not copied: the weights in another format",
            "note: `elsewhere` is not copied: a link to a directory elsewhere",
            "note: `earlier/` is not copied: the result of a merge",
            "note: `lost+found/` is not copied",
        ],
    );
    let found = contents(&work.output);
    for name in ["2_Dense/model.safetensors", "mm_projector.bin", "spk_dict.pt", "a/b/c/d/e/f.json"] {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(name.as_bytes()), "{name}");
    }
    assert!(!found.keys().any(|name| name.starts_with("earlier") || name.starts_with("elsewhere")));
}

#[test]
fn side_files_that_git_lfs_has_not_fetched_are_refused() {
    let work = Work::demo();
    write(&work.base.join("tokenizer.json"), "version https://git-lfs.github.com/spec/v1\noid sha256:1\n");
    says(&work, 65, &["tokenizer.json` is a git-lfs pointer"]);
}

fn planned(work: &Work) -> Prepared {
    let request = Request {
        base: Some(work.base.clone().into()),
        adapters: vec![(work.adapter.clone().into(), 1f64.into())],
        ..Request::default()
    };
    prepare(&request).expect("it merges")
}

#[test]
fn inputs_that_change_while_they_are_read_give_no_output() {
    for name in [
        "base/model-00002-of-00003.safetensors",
        "base/generation_config.json",
        "adapter/adapter_model.safetensors",
    ] {
        let rewrite = |path: &Path| fs::write(path, fs::read(path).unwrap()).unwrap();
        let replace = |path: &Path| {
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        for change in [rewrite, replace, |path: &Path| fs::remove_file(path).unwrap()] {
            let work = Work::demo();
            std::thread::sleep(std::time::Duration::from_millis(20));
            let prepared = planned(&work);
            change(&work.folder.path().join(name));
            let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
            let error = prepared.merge(&Location::of_path(&work.output), reporter.as_mut()).unwrap_err();
            assert_eq!(error.exit_code(), Code::Io, "{name}: {error:?}");
            let leaf = name.rsplit('/').next().unwrap();
            assert!(error.to_string().contains(&format!("{leaf}` changed while it was read")), "{error}");
            assert!(!work.output.exists() && !work.partial().exists(), "{name}");
        }
    }
}

#[test]
fn more_shards_than_files_may_be_open() {
    let work = Work::tiny(Dtype::F32, 1.0);
    fs::remove_file(work.base.join("model.safetensors")).unwrap();
    let (count, mut map) = (90, serde_json::Map::new());
    for i in 0..count {
        let shard = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        let name = if i == 0 { format!("{MODULE}.weight") } else { format!("extra.{i}") };
        write_safetensors(&work.base.join(&shard), &[(&name, Dtype::F32, &[4, 4], f32s([i as f32; 16]))]);
        map.insert(name, shard.into());
    }
    write(
        &work.base.join("model.safetensors.index.json"),
        &json!({"metadata": {}, "weight_map": map}).to_string(),
    );
    let merge = work.command(&[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(merge.get_program()).args(merge.get_args());
    let ran = ran(limited.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let found = contents(&work.output);
    for i in 1..count {
        let name = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        assert!(found[&name] == fs::read(work.base.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn the_tokenizer_is_the_adapters_where_it_says_other_things() {
    let tokens = |tokens: &str| format!(r#"{{"model": {{"vocab": {{{tokens}}}}}}}"#);
    let of = |base: &str, adapter: &str, template: Option<&str>, flags: &[&str]| {
        let work = Work::demo();
        write(&work.base.join("tokenizer.json"), base);
        write(&work.base.join("vocab.json"), "the base's");
        write(&work.base.join("chat_template.jinja"), "the base's");
        write(&work.adapter.join("tokenizer.json"), adapter);
        if let Some(template) = template {
            write(&work.adapter.join("chat_template.jinja"), template);
        }
        let ran = work.succeeds(flags);
        let files = contents(&work.output);
        let text = |name: &str| files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (text("tokenizer.json").unwrap(), text("vocab.json"), text("chat_template.jinja").unwrap(), ran.err)
    };
    let base = tokens(r#""a": 0, "b": 1"#);
    let same = tokens(r#""b": 1, "a": 0"#);
    let other = tokens(r#""a": 0, "c": 1"#);
    // The same vocabulary in other words, and no template of its own: the base's.
    let (tokenizer, vocab, template, said) = of(&base, &same, None, &[]);
    assert!(
        tokenizer == base && vocab.is_some() && template == "the base's" && !said.contains("tokenizer"),
        "{said}"
    );
    // Another vocabulary: all of the adapter's, but the base's template where it has none.
    let (tokenizer, vocab, template, said) = of(&base, &other, None, &[]);
    assert!(tokenizer == other && vocab.is_none() && template == "the base's");
    assert!(
        said.contains("note: the tokenizer is that of `adapter`: its vocabulary is not the base's"),
        "{said}"
    );
    let (tokenizer, _, template, said) = of(&base, &same, Some("another"), &[]);
    assert!(tokenizer == same && template == "another");
    assert!(said.contains("its chat template is not the base's"), "{said}");
    // As it is asked for.
    let (tokenizer, ..) = of(&base, &other, None, &["--tokenizer", "base"]);
    assert_eq!(tokenizer, base);
    let (tokenizer, .., said) = of(&base, &same, None, &["--tokenizer", "adapter"]);
    assert!(tokenizer == same && said.contains("as `--tokenizer` says"), "{said}");
    // Tokens that the embedding has no rows for.
    let grown = tokens(r#""a": 0, "b": 1, "c": 4000000"#);
    let (tokenizer, .., said) = of(&base, &grown, None, &[]);
    assert!(tokenizer == base && said.contains("has tokens beyond the"), "{said}");
    let ran = Work::demo().merge(&["--tokenizer", "adapter"]);
    assert!(ran.code == 2 && ran.err.contains("no adapter has a tokenizer"), "{}", ran.err);
}

#[test]
fn a_thousand_side_files_are_synced_together() {
    let work = Work::demo();
    for i in 0..1000 {
        write(&work.base.join(format!("many/{}/{i}.txt", i % 7)), &i.to_string());
    }
    work.succeeds(&[]);
    let (base, found) = (contents(&work.base), contents(&work.output));
    assert!(
        base.iter().filter(|(name, _)| name.starts_with("many/")).all(|(name, text)| found[name] == *text)
    );
    assert!(!found.keys().any(|name| name.ends_with(".tmp")));
}
