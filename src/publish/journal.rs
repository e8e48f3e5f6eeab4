//! The journal of a staging directory: whose it is, and what of it lasts. A JSON object a line, each line synced.
//!
//! The first line names the plan by its digest, the second what is merged and the base's shards by their times; each further
//! one is a milestone. A line that is cut short is not there, nor is anything behind it. The file is locked while a process
//! writes the output; on network file systems the lock is a courtesy only, and unique temporary names keep files whole.

use serde::{Deserialize, Serialize};

use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::pipeline::milestone::Milestone;
use crate::plan::output_files::WORK;
use crate::publish::probe::unique;
use crate::publish::provenance::Provenance;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::sink::Patch;
use crate::storage::source::Source;
use crate::storage::store::{Lock, Store};
use crate::storage::times::FileTimes;

/// Its file name.
pub(crate) const JOURNAL: &str = WORK;
/// The first line is far shorter.
const MOST_HEAD_BYTES: u64 = 4096;
/// Bytes that are read at a time, and the most that one line may have: a shard of 100,000 tensors has two thirds of it.
const LINE_STEP: u64 = 256 << 10;
const MOST_LINE_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct JournalHead {
    shardfold: String,
    plan: String,
    /// Which run began it: where locks cannot be trusted, another may have begun it again.
    #[serde(default)]
    run: String,
    /// Whether nothing was at the output.
    #[serde(default, skip_serializing_if = "is_false")]
    is_new: bool,
    /// How many parts make the output, if several do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a journal says of its plan.
pub(crate) enum HeadLine {
    /// There is no journal.
    Absent,
    /// There is one without a whole first line: whoever began it did not get to write anything.
    Torn,
    /// The digest of its plan.
    Plan(String),
    /// A first line that is not ours.
    Unknown,
}

impl HeadLine {
    /// What the journal in `dir` says.
    ///
    /// # Errors
    /// As [`Location::read_start`].
    pub(crate) fn read(dir: &Location) -> Result<HeadLine> {
        let Some(start) = dir.read_start(JOURNAL, MOST_HEAD_BYTES)? else { return Ok(HeadLine::Absent) };
        let Some(end) = start.bytes.iter().position(|&byte| byte == b'\n') else {
            return Ok(if start.is_whole { HeadLine::Torn } else { HeadLine::Unknown });
        };
        let head = serde_json::from_slice::<JournalHead>(&start.bytes[..end]);
        Ok(head.map_or(HeadLine::Unknown, |head| HeadLine::Plan(head.plan)))
    }
}

/// Whether a name is that of a journal that was about to be made.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let rest = name.strip_prefix('.').and_then(|name| name.strip_prefix(JOURNAL));
    rest.is_some_and(|rest| rest.ends_with(".tmp"))
}

/// A shard of the base as it was when its merge began. Equal samples do not tell that nothing between them changed: its times do,
/// or what the store calls all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseStamp {
    name: String,
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl BaseStamp {
    /// Of the shard `name`; none where nobody tells when it changed, nor what it is.
    pub(crate) fn of(name: &str, source: &dyn Source) -> Option<BaseStamp> {
        let content = source.content_id();
        let times = source.times().map(|FileTimes { written, changed, .. }| (written, changed));
        // What has a name for its bytes needs no times.
        let (written, changed) = times.or_else(|| content.is_some().then_some(((0, 0), (0, 0))))?;
        Some(BaseStamp { name: name.to_owned(), bytes: source.len(), written, changed, content })
    }
}

#[derive(Serialize, Deserialize)]
struct MergeLine {
    base: Option<Vec<BaseStamp>>,
    #[serde(default)]
    merge: Option<Provenance>,
}

/// What a journal says of the work behind its first line.
#[derive(Default)]
pub(crate) struct JournalWork {
    /// The shards of the base; none if nobody could tell when they changed.
    pub(crate) base: Option<Vec<BaseStamp>>,
    /// What is merged, for whoever finds it.
    pub(crate) merge: Option<Provenance>,
    /// What is on disk for good.
    pub(crate) milestones: Vec<Milestone>,
    /// Whether nothing was at the output, so that its directory goes with what is in it. Its first line has this.
    pub(crate) is_new: bool,
    /// How many parts make the output, if several do. Its first line has this, too.
    pub(crate) parts: Option<u32>,
}

/// How many parts make the output whose journal is in `dir`; none where it is made in one, or nothing tells.
///
/// # Errors
/// As [`Location::read_start`].
pub(crate) fn parts_of(dir: &Location) -> Result<Option<u32>> {
    Ok(head(dir)?.and_then(|head| head.parts))
}

/// Whether the journal in `dir` is of so many parts of the plan with this digest.
///
/// # Errors
/// As [`Location::read_start`].
pub(crate) fn is_of_parts(dir: &Location, digest: &str, count: u32) -> Result<bool> {
    Ok(head(dir)?.is_some_and(|head| head.plan == digest && head.parts == Some(count)))
}

/// Whether the journal in `dir` says that nothing was at its output.
///
/// # Errors
/// As [`Location::read_start`].
pub(crate) fn is_of_new_output(dir: &Location) -> Result<bool> {
    Ok(head(dir)?.is_some_and(|head| head.is_new))
}

impl JournalWork {
    /// What the journal in `dir` says, as far as its lines are whole.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Source::read_at`].
    pub(crate) fn read(dir: &Location) -> Result<JournalWork> {
        let mut work = JournalWork::default();
        if !dir.has_file(JOURNAL)? {
            return Ok(work);
        }
        let source = dir.open(JOURNAL)?;
        let mut lines = JournalLines { source: source.as_ref(), at: 0, text: Vec::new(), seen: 0 };
        let head = lines.next()?.and_then(|line| serde_json::from_slice::<JournalHead>(&line).ok());
        (work.is_new, work.parts) = head.map_or((false, None), |head| (head.is_new, head.parts));
        let Some(line) = lines.next()? else { return Ok(work) };
        let Ok(MergeLine { base, merge }) = serde_json::from_slice(&line) else { return Ok(work) };
        (work.base, work.merge) = (base, merge);
        while let Some(line) = lines.next()? {
            let Ok(milestone) = serde_json::from_slice(&line) else { break };
            work.milestones.push(milestone);
        }
        Ok(work)
    }
}

/// The whole lines of a file.
struct JournalLines<'s> {
    source: &'s dyn Source,
    /// Bytes that were read.
    at: u64,
    /// Those of them that are not handed out.
    text: Vec<u8>,
    /// Bytes of these that hold no end of a line.
    seen: usize,
}

impl JournalLines<'_> {
    /// The next; none if it has no end.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.text[self.seen..].iter().position(|&byte| byte == b'\n') {
                let end = self.seen + end;
                self.seen = 0;
                let rest = self.text.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.text, rest);
                line.pop();
                return Ok(Some(line));
            }
            let step = (self.source.len() - self.at).min(LINE_STEP);
            if step == 0 || self.text.len() as u64 > MOST_LINE_BYTES {
                return Ok(None);
            }
            let old = self.text.len();
            self.seen = old;
            self.text.resize(old + step as usize, 0);
            self.source.read_at(&mut self.text[old..], self.at)?;
            self.at += step;
        }
    }
}

/// A journal that this process writes.
pub(crate) struct Journal {
    dir: Location,
    file: Box<dyn Patch>,
    /// Bytes written.
    len: u64,
    lock: Lock,
    run: String,
}

impl Journal {
    /// Begins the journal of `dir` again with what is known already, and locks it.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`](crate::error::output::OutputError::OutputInUse) if another process writes it; as [`write_small`].
    pub(crate) fn begin(dir: &Location, digest: &str, work: &JournalWork) -> Result<Journal> {
        if dir.has_file(JOURNAL)? {
            dir.lock(JOURNAL)?;
        }
        let run = unique();
        let text = text(digest, &run, work);
        write_small(dir, JOURNAL, text.as_bytes())?;
        let lock = dir.lock(JOURNAL)?;
        Ok(Journal { dir: dir.clone(), file: dir.patch(JOURNAL)?, len: text.len() as u64, lock, run })
    }

    /// Adds a line that lasts.
    ///
    /// # Errors
    /// As [`Patch::write_at`] and [`Patch::sync`].
    pub(crate) fn append(&mut self, entry: &impl Serialize) -> Result<()> {
        let text = line(entry);
        self.file.write_at(text.as_bytes(), self.len)?;
        self.len += text.len() as u64;
        self.file.sync()
    }

    /// Whether it is still there as this run began it.
    ///
    /// # Errors
    /// As [`Location::read_start`].
    pub(crate) fn is_there(&self) -> Result<bool> {
        Ok(head(&self.dir)?.is_some_and(|head| head.run == self.run))
    }

    /// Removes it, if it is still the one that this run began.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`] if another run began it again; as [`Store::remove`].
    pub(crate) fn remove(self) -> Result<()> {
        if !self.is_there()? {
            return Err(Error::new(OutputError::OutputInUse { path: self.dir.path() }));
        }
        let Journal { dir, file, lock, .. } = self;
        // Some file systems remove no file that is open, and others keep it under another name.
        drop((file, lock));
        dir.remove(JOURNAL)
    }
}

/// Writes the journal of a directory that several processes work in, none of which holds it: its lines say whose it is.
///
/// # Errors
/// As [`write_small`].
pub(crate) fn write_shared(dir: &Location, digest: &str, work: &JournalWork) -> Result<()> {
    write_small(dir, JOURNAL, text(digest, &unique(), work).as_bytes())
}

/// The lines of a journal that is begun.
fn text(digest: &str, run: &str, work: &JournalWork) -> String {
    let (shardfold, plan, run) = (env!("CARGO_PKG_VERSION").to_owned(), digest.to_owned(), run.to_owned());
    let mut text = line(&JournalHead { shardfold, plan, run, is_new: work.is_new, parts: work.parts });
    text.push_str(&line(&MergeLine { base: work.base.clone(), merge: work.merge.clone() }));
    work.milestones.iter().for_each(|milestone| text.push_str(&line(milestone)));
    text
}

/// The first line of the journal in `dir`, if it is whole and ours.
fn head(dir: &Location) -> Result<Option<JournalHead>> {
    let start = dir.read_start(JOURNAL, MOST_HEAD_BYTES)?.map(|start| start.bytes).unwrap_or_default();
    let end = start.iter().position(|&byte| byte == b'\n');
    Ok(end.and_then(|end| serde_json::from_slice(&start[..end]).ok()))
}

fn line(entry: &impl Serialize) -> String {
    let mut text = serde_json::to_string(entry).expect("strings and numbers");
    text.push('\n');
    text
}
