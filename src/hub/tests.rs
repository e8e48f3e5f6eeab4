use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::hub::parse::RepoQuery;
use crate::hub::resolved::Resolved;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::memory::Memory;

const ONE: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "1122222222222222222222222222222222222222";

/// A cache of one repository, `org/name`, with these snapshots and refs.
fn cache(commits: &[&str], refs: &[(&str, &str)]) -> (Location, Hub) {
    let cache = Location::new(Memory::new()).join("cache");
    let home = cache.join("models--org--name");
    for commit in commits {
        write_small(&home, &format!("snapshots/{commit}/config.json"), b"{}").unwrap();
    }
    for (name, content) in refs {
        write_small(&home, &format!("refs/{name}"), content.as_bytes()).unwrap();
    }
    (cache.clone(), Hub::at(cache))
}

fn commit(hub: &Hub, typed: &str) -> Option<String> {
    hub.find(Path::new(typed)).unwrap().snapshot.map(|snapshot| snapshot.commit)
}

/// What is wrong, and the hint.
fn refused(hub: &Hub, typed: &str) -> (Error, String) {
    let error = hub.find(Path::new(typed)).unwrap_err();
    let hint = error.advice().unwrap_or_default().to_owned();
    (error, hint)
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_first_variable_that_is_set_says_where_the_cache_is() {
    let set = |text: &str| Some(OsString::from(text));
    let mut environment = HubEnvironment {
        hf_hub_cache: set("/a"),
        huggingface_hub_cache: set("/b"),
        hf_home: set("~/c"),
        xdg_cache_home: set("/d"),
        home: set("/e"),
        ..HubEnvironment::default()
    };
    let is = |environment: &HubEnvironment, path: &str| {
        assert_eq!(environment.cache(), Some(PathBuf::from(path)));
    };
    is(&environment, "/a");
    environment.hf_hub_cache = set("");
    is(&environment, "/b");
    environment.huggingface_hub_cache = None;
    is(&environment, "/e/c/hub");
    environment.hf_home = None;
    is(&environment, "/d/huggingface/hub");
    environment.xdg_cache_home = None;
    is(&environment, "/e/.cache/huggingface/hub");
    environment.home = None;
    assert_eq!(environment.cache(), None);
}

#[test]
fn where_the_hub_is_and_who_asks_are_read_as_its_own_tools_do() {
    let set = |text: &str| Some(OsString::from(text));
    let mut environment = HubEnvironment { home: set("/e"), ..HubEnvironment::default() };
    assert_eq!(environment.endpoint(), "https://huggingface.co");
    assert_eq!(environment.token_path(), Some(PathBuf::from("/e/.cache/huggingface/token")));
    assert!(environment.token().is_none() && environment.stall().is_none() && !environment.is_offline());
    environment.hf_home = set("/h");
    assert_eq!(environment.token_path(), Some(PathBuf::from("/h/token")));
    environment.hf_token_path = set("~/t");
    assert_eq!(environment.token_path(), Some(PathBuf::from("/e/t")));
    environment.hf_endpoint = set("http://mirror:8/");
    environment.hf_token = set(" hf_x\n");
    environment.hf_hub_download_timeout = set("30");
    assert_eq!(environment.endpoint(), "http://mirror:8");
    assert_eq!(environment.token().as_deref(), Some("hf_x"));
    assert_eq!(environment.stall(), Some(Duration::from_secs(30)));
    for (text, is_yes) in
        [("1", true), ("true", true), ("Yes", true), ("ON", true), ("0", false), ("", false)]
    {
        for offline in [
            HubEnvironment { hf_hub_offline: set(text), ..HubEnvironment::default() },
            HubEnvironment { transformers_offline: set(text), ..HubEnvironment::default() },
        ] {
            assert_eq!(offline.is_offline(), is_yes, "{text}");
        }
        let hidden = HubEnvironment { hf_hub_disable_implicit_token: set(text), ..environment.clone() };
        assert_eq!((hidden.token().is_none(), hidden.token_path().is_none()), (is_yes, is_yes), "{text}");
    }
}

#[test]
fn only_names_of_the_hub_are_looked_up() {
    for typed in [
        "name",
        "org/name",
        "a/B_1.5-x",
        "_a/b",
        "org/name@main",
        "org/name@refs/pr/1",
        "name@v1.0+x",
        "org/name/unet",
        "org/name/unet@v1",
    ] {
        assert!(RepoQuery::parse(typed).is_some(), "{typed}");
    }
    let long = "a".repeat(97);
    for typed in [
        "",
        ".",
        "..",
        "/org/name",
        "./name",
        "../name",
        "org/..",
        "org/.name",
        "org/name/",
        "a/b/c/d",
        "a/b/..",
        "a/b/",
        "a/b@v1/c@x",
        "~/name",
        "org//name",
        "a--b",
        "org/a--b",
        "-a",
        "a-",
        "a.",
        "org/a..b",
        "a b",
        "ü",
        "a\\b",
        "a\0",
        "@main",
        "a@",
        "a@/main",
        "a@main/",
        "a@../x",
        "a@x/../y",
        "a@.x",
        "a@-x",
        "a@x y",
        "a@b@c",
        &long,
    ] {
        assert!(RepoQuery::parse(typed).is_none(), "{typed}");
    }
}

#[test]
fn a_name_takes_main_else_the_only_snapshot() {
    let (folder, hub) = cache(&[ONE, OTHER], &[("main", OTHER), ("refs/pr/1", ONE)]);
    let place = hub.find(Path::new("org/name")).unwrap();
    assert_eq!(place.location.path(), folder.path().join("models--org--name/snapshots").join(OTHER));
    assert_eq!(place.name(), Some("org/name"));
    assert_eq!(commit(&hub, "org/name@refs/pr/1").as_deref(), Some(ONE));
    let (_folder, hub) = cache(&[ONE], &[]);
    assert_eq!(commit(&hub, "org/name").as_deref(), Some(ONE));
    let (_folder, hub) = cache(&[ONE, OTHER], &[]);
    let (error, hint) = refused(&hub, "org/name");
    assert!(cause(&error).contains("no `refs/main`") && cause(&error).contains(OTHER), "{error:?}");
    assert_eq!(hint, "`org/name@COMMIT` names one of them");
}

#[test]
fn a_revision_is_a_ref_or_the_beginning_of_one_commit() {
    let (_folder, hub) = cache(&[ONE, OTHER], &[("main", ONE), ("v1", &format!("{OTHER}\n")), ("112", ONE)]);
    assert!(matches!(
        refused(&hub, "org/name@main/x").0.kind(),
        ErrorKind::Request(RequestError::UnknownRevision { .. })
    ));
    for (revision, expected) in
        [("v1", OTHER), ("main", ONE), ("111", ONE), ("1122", OTHER), (ONE, ONE), ("112", ONE)]
    {
        assert_eq!(commit(&hub, &format!("org/name@{revision}")).as_deref(), Some(expected), "{revision}");
    }
    let (error, hint) = refused(&hub, "org/name@11");
    assert!(cause(&error).contains("`11` begins several commits"), "{error:?}");
    assert_eq!(hint, "`org/name@COMMIT` names one of them");
    let (error, hint) = refused(&hub, "org/name@v2");
    assert_eq!(
        error.to_string(),
        format!("revision `v2` of `org/name` is not cached (cached: `{ONE}`, `{OTHER}`)")
    );
    assert!(hint.starts_with("`hf download org/name --revision v2` fetches it"), "{hint}");
}

#[test]
fn what_is_not_there_is_said_with_what_to_run() {
    let (folder, hub) = cache(&[ONE], &[("main", OTHER)]);
    let (error, hint) = refused(&hub, "org/other");
    let at = folder.to_string();
    assert_eq!(
        error.to_string(),
        format!("`org/other` is neither a directory nor a model in the Hugging Face cache (`{at}`)")
    );
    assert_eq!(hint, "`hf download org/other` fetches it, if that is a repo id");
    assert_eq!(error.exit_code(), crate::error::exit::Code::NoInput);
    // A ref whose snapshot is gone is not taken for another one.
    let (error, _) = refused(&hub, "org/name");
    assert!(cause(&error).contains(&format!("it is commit `{OTHER}`, which is not in")), "{error:?}");
    let (_folder, hub) = cache(&[], &[("main", ONE)]);
    assert!(matches!(
        refused(&hub, "org/name").0.kind(),
        ErrorKind::Request(RequestError::UnknownModel { .. })
    ));
}

#[test]
fn hostile_refs_lead_nowhere() {
    let (folder, _) = cache(&[ONE], &[]);
    let outside = folder.path().join("outside");
    for content in [
        "",
        "\n",
        ".",
        "..",
        "../../../outside",
        outside.to_str().unwrap(),
        "1111/../..",
        "11\0",
        "main",
        "11 22",
        "é",
    ] {
        let (_folder, hub) = cache(&[ONE], &[("main", content)]);
        let (error, hint) = refused(&hub, "org/name");
        assert!(
            matches!(error.kind(), ErrorKind::Checkpoint(CheckpointError::Ref { .. })),
            "{content:?} gave {error:?}"
        );
        assert_eq!(error.exit_code(), crate::error::exit::Code::Data);
        assert_eq!(hint, "`hf download org/name` writes it again");
    }
    let (_folder, hub) = cache(&[ONE], &[("main", &"1".repeat(5000))]);
    assert!(matches!(
        refused(&hub, "org/name").0.kind(),
        ErrorKind::Storage(StorageError::TooLong { bytes: 5000, .. })
    ));
    let (_folder, hub) = cache(&[ONE, "..x", "not-a-commit"], &[]);
    assert_eq!(commit(&hub, "org/name").as_deref(), Some(ONE));
}

#[test]
fn a_path_that_exists_is_a_path() {
    let (_folder, hub) = cache(&[ONE], &[]);
    // Tests run in the directory of the package.
    let place = hub.find(Path::new("src/storage")).unwrap();
    assert!(place.snapshot.is_none());
    assert_eq!(place.location.path(), Path::new("src/storage"));
    let place = hub.find(Path::new("..")).unwrap();
    assert!(place.snapshot.is_none() && place.location.path() == Path::new(".."));
}

#[test]
fn a_path_that_is_not_there_is_said_with_what_is() {
    let (_folder, hub) = cache(&[ONE], &[]);
    for typed in ["/nowhere/at/all", "./org/name", "a/b/c/d", ""] {
        let (error, _) = refused(&hub, typed);
        assert!(
            matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { what: "directory", .. })),
            "{typed}"
        );
    }
    assert_eq!(refused(&hub, "./src/strage").1, "`./src` has no `strage`, but `storage`");
    // What could be a name of the hub is none if a directory of it is there.
    assert_eq!(refused(&hub, "src/strage").1, "`src` has no `strage`, but `storage`");
    assert_eq!(
        refused(&hub, "fixturs/x").1,
        "`fixtures` is there; `hf download fixturs/x` fetches it, if that is a repo id"
    );
    assert!(refused(&hub, "ftp://host/base").1.starts_with("of addresses only s3://"));
    #[cfg(not(feature = "cloud"))]
    assert!(refused(&hub, "s3://bucket/base").1.contains("the feature `cloud`"));
    // Without a cache every name is a path.
    let (error, _) = refused(&Hub::default(), "org/name");
    assert!(matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { .. })), "{error:?}");
}

#[test]
fn a_folder_of_a_snapshot_is_asked_for_behind_its_name() {
    let (folder, hub) = cache(&[ONE], &[]);
    let snapshot = folder.path().join("models--org--name/snapshots").join(ONE);
    write_small(&folder, &format!("models--org--name/snapshots/{ONE}/unet/config.json"), b"{}").unwrap();
    let place = hub.find(Path::new("org/name/unet@11")).unwrap();
    assert_eq!(place.location.path(), snapshot.join("unet"));
    assert_eq!((place.name(), place.label().as_deref()), (Some("org/name"), Some("org/name/unet")));
    let whole = hub.find(Path::new("org/name@11")).unwrap();
    assert_eq!(whole.within("unet"), format!("org/name/unet@{ONE}"));
    assert_eq!(hub.find(Path::new("org/name")).unwrap().within("unet"), "org/name/unet");
    assert_eq!(Resolved::from(Location::of_path("x")).within("unet"), "x/unet");
    let (error, hint) = refused(&hub, "org/name/vae");
    assert!(
        cause(&error).ends_with(&format!("has no directory `{}` either", snapshot.join("vae").display()))
    );
    assert!(hint.starts_with("`hf download org/name`"), "{hint}");
}

#[test]
fn errors_of_a_snapshot_say_how_to_fetch_the_rest() {
    let (_folder, hub) = cache(&[ONE], &[]);
    let place = hub.find(Path::new("org/name@11")).unwrap();
    let missing = || Error::new(StorageError::Missing { what: "file", path: "x".into() });
    let several = Error::all(vec![missing().hint("look"), ErrorKind::Stopped.into()]).unwrap_err();
    let hints: Vec<_> = place.explain(several).each().iter().map(|e| e.advice().map(str::to_owned)).collect();
    let cure = format!("`hf download org/name --revision {ONE}` fetches what a snapshot lacks");
    assert_eq!(hints, [Some(format!("look; {cure}")), None]);
    assert_eq!(Resolved::from(Location::of_path("x")).explain(missing()).advice(), None);
}
