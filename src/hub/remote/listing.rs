//! What is in a commit: the files that the hub lists, page by page.

use serde::Deserialize;
use ureq::http::Uri;

use crate::storage::http::answer::Answer;
use crate::storage::http::url::redirected;
use crate::storage::rules;

/// Bytes of one page at the most. One of a thousand files has a third of a million.
pub(crate) const MOST_PAGE_BYTES: u64 = 8 << 20;
/// Files of a repository at the most: the hub itself advises against more.
pub(crate) const MOST_FILES: usize = 100_000;

/// One file or directory of a page.
#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    /// The hash that git has of the file; of one in LFS, of the pointer to it.
    #[serde(default)]
    oid: String,
    lfs: Option<LfsEntry>,
}

#[derive(Deserialize)]
struct LfsEntry {
    /// SHA-256 of the content.
    oid: String,
    size: u64,
}

/// A file of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    /// Its name in the repository.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// The hash by which the hub keeps it, with the function's name in front.
    pub(crate) content_id: Option<String>,
}

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingProblem {
    #[error("its list of files is no JSON that the hub gives")]
    Json(#[from] serde_json::Error),
    #[error("its list of files names `{0}`, which escapes the repository")]
    LeadsOut(String),
    #[error("it lists more than {MOST_FILES} files")]
    Many,
    #[error("its list of files goes on elsewhere")]
    Elsewhere,
}

/// Adds the files of a page.
///
/// # Errors
/// [`ListingProblem`].
pub(crate) fn add_page(files: &mut Vec<ListedFile>, page: &[u8]) -> Result<(), ListingProblem> {
    let entries: Vec<TreeEntry> = serde_json::from_slice(page)?;
    for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
        if !rules::is_inside(&entry.path) {
            return Err(ListingProblem::LeadsOut(entry.path.escape_default().to_string()));
        }
        if files.len() == MOST_FILES {
            return Err(ListingProblem::Many);
        }
        let (bytes, content_id) = match entry.lfs {
            Some(lfs) => (lfs.size, content_id("sha256", 64, &lfs.oid)),
            None => (entry.size, content_id("git", 40, &entry.oid)),
        };
        files.push(ListedFile { name: entry.path, bytes, content_id });
    }
    Ok(())
}

/// A hash with the name of its function, if it has as many digits as that gives.
fn content_id(function: &str, digits: usize, hash: &str) -> Option<String> {
    let is_hash = hash.len() == digits && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("{function}:{}", hash.to_ascii_lowercase()))
}

/// Where the page behind that of `answer` is, by its `Link` header; none behind the last.
///
/// # Errors
/// [`ListingProblem::Elsewhere`].
pub(crate) fn next_page(answer: &Answer) -> Result<Option<Uri>, ListingProblem> {
    let Some(target) = answer.header("link").and_then(next_of) else { return Ok(None) };
    let next = redirected(&answer.url, target).map_err(|_| ListingProblem::Elsewhere)?;
    if next.authority() != answer.url.authority() {
        return Err(ListingProblem::Elsewhere);
    }
    Ok(Some(next))
}

/// The target of `<target>; rel="next"` among the links of a header.
fn next_of(links: &str) -> Option<&str> {
    links.split(',').find_map(|link| {
        let (target, about) = link.trim().strip_prefix('<')?.split_once('>')?;
        about.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_files_with_lengths_and_hashes() {
        let (oid, sha) = ("a".repeat(40), "B".repeat(64));
        let page = format!(
            r#"[{{"type":"directory","path":"sub","oid":"{oid}","size":0}},
                {{"type":"file","path":"sub/a","oid":"{oid}","size":7}},
                {{"type":"file","path":"b","oid":"{oid}","size":135,"lfs":{{"oid":"{sha}","size":9000000000,"pointerSize":135}}}},
                {{"type":"file","path":"c","oid":"?","size":1}}]"#
        );
        let mut files = Vec::new();
        add_page(&mut files, page.as_bytes()).unwrap();
        let file = |name: &str, bytes, content_id: Option<String>| ListedFile {
            name: name.to_owned(),
            bytes,
            content_id,
        };
        assert_eq!(
            files,
            [
                file("sub/a", 7, Some(format!("git:{oid}"))),
                file("b", 9_000_000_000, Some(format!("sha256:{}", sha.to_lowercase()))),
                file("c", 1, None),
            ]
        );
    }

    #[test]
    fn a_hostile_page_is_refused() {
        let refused = |page: &str| add_page(&mut Vec::new(), page.as_bytes()).unwrap_err().to_string();
        for name in ["../a", "/a", "a//b", "a/../../b", "."] {
            let text = refused(&format!(r#"[{{"type":"file","path":"{name}","size":1}}]"#));
            assert!(text.contains("escapes the repository"), "{text}");
        }
        for page in ["", "{}", "[1]", r#"[{"type":"file","path":"a","size":-1}]"#, r#"[{"path":"a"}]"#] {
            assert_eq!(refused(page), "its list of files is no JSON that the hub gives", "{page}");
        }
        let many = vec![r#"{"type":"file","path":"a"}"#; MOST_FILES + 1].join(",");
        assert!(refused(&format!("[{many}]")).contains("more than 100000 files"));
    }

    #[test]
    fn the_next_page_is_the_link_that_says_so() {
        assert_eq!(next_of("<https://h/a?cursor=x>; rel=\"next\""), Some("https://h/a?cursor=x"));
        assert_eq!(next_of("<https://h/0>; rel=\"prev\", <https://h/2>; rel=\"next\""), Some("https://h/2"));
        for none in ["", "<https://h/0>; rel=\"prev\"", "https://h/2; rel=\"next\"", "<"] {
            assert_eq!(next_of(none), None, "{none}");
        }
    }
}
