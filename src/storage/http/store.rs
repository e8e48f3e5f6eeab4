//! [`HttpStore`]: a store of files that somebody listed, read by ranges. Nothing in it can be changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::storage::http::client::HttpClient;
use crate::storage::http::file::{HttpFile, HttpFileInfo};
use crate::storage::io::settings::IoSettings;
use crate::storage::remote::fetch::Fetch;
use crate::storage::remote::listed::Listed;
use crate::storage::remote::read_only::read_only;
use crate::storage::remote::reads::RemoteReads;
use crate::storage::remote::source::RemoteSource;
use crate::storage::rules;
use crate::storage::sink::{Patch, Sink};
use crate::storage::source::Source;
use crate::storage::store::{DirRename, Entry, Stat, Store};

/// Files by name.
pub(crate) struct HttpStore {
    files: Listed<(usize, Arc<dyn Fetch>)>,
    reads: Arc<RemoteReads>,
    /// What messages call it, and the server that it is on.
    path: PathBuf,
    server: &'static str,
}

impl HttpStore {
    /// The files of a list, by name, which `client` reads.
    pub(crate) fn new(
        client: &Arc<HttpClient>,
        files: Vec<(String, HttpFileInfo)>,
        (path, server): (PathBuf, &'static str),
    ) -> HttpStore {
        let files = files.into_iter().enumerate().map(|(number, (name, info))| {
            let bytes = info.bytes;
            let file: Arc<dyn Fetch> = Arc::new(HttpFile::new(client.clone(), info));
            (name, bytes, (number, file))
        });
        let reads = Arc::new(RemoteReads::new(client.cancel.clone()));
        HttpStore { files: Listed::new(files), reads, path, server }
    }

    fn refused<T>(&self, name: &str) -> Result<T> {
        rules::check_dir(name)?;
        Err(read_only(self.path_of(name)))
    }
}

impl Store for HttpStore {
    fn open(&self, name: &str) -> Result<Box<dyn Source>> {
        rules::check_name(name)?;
        let Some((number, file)) = self.files.get(name) else {
            return Err(rules::missing("file", &self.path_of(name)));
        };
        Ok(Box::new(RemoteSource::new(file.clone(), *number, self.reads.clone())))
    }

    fn stat(&self, dir: &str) -> Result<Option<Stat>> {
        rules::check_dir(dir)?;
        Ok(self.files.stat(dir))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>> {
        rules::check_dir(dir)?;
        self.files.list(dir).ok_or_else(|| rules::missing("directory", &self.path_of(dir)))
    }

    fn create(&self, name: &str, _len: u64) -> Result<Box<dyn Sink>> {
        self.refused(name)
    }

    fn patch(&self, name: &str) -> Result<Box<dyn Patch>> {
        self.refused(name)
    }

    fn rename(&self, from: &str, _to: &str) -> Result<()> {
        self.refused(from)
    }

    fn rename_dir(&self, _from: &str, _to: &str) -> Result<DirRename> {
        Ok(DirRename::Unsupported)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.refused(name)
    }

    fn remove_dir(&self, dir: &str) -> Result<()> {
        self.refused(dir)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        rules::check_dir(dir)
    }

    fn is_writable(&self, _dir: &str) -> bool {
        false
    }

    fn network(&self, _dir: &str) -> Option<&'static str> {
        Some(self.server)
    }

    fn use_io(&self, settings: IoSettings) {
        self.reads.use_io(settings);
    }

    fn path_of(&self, dir: &str) -> PathBuf {
        if dir.is_empty() { self.path.clone() } else { self.path.join(Path::new(dir)) }
    }
}
