//! A hub on this machine: it lists repositories, sends on to a second port for large files, and fails as it is told to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use shardfold::testing::git_blob_name;

/// Files of more bytes are kept as the hub keeps large files, on the second port.
pub const LFS_FROM: u64 = 1500;
/// Files of a page of a list.
const PAGE: usize = 2;
/// Bytes that are sent at a time.
const STEP: usize = 64 << 10;

/// What the server does wrong.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Of a hundred requests about so many fail in one way or another, drawn from this seed.
    pub percent: Option<(u64, u64)>,
    /// What happens to each request for bytes.
    pub bytes: BytesFault,
    /// The status of every request to the first port, with an error code.
    pub refusal: Option<(u16, &'static str)>,
    /// Requests that a signed address serves.
    pub signed_uses: Option<u64>,
    /// Requests for bytes that are answered `429`, with so many seconds to wait.
    pub busy: Option<(u64, u64)>,
    /// Requests for bytes whose answers stop soon, while the connection stays.
    pub stalls: u64,
}

/// What happens to the answer of a request for bytes.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum BytesFault {
    /// Nothing.
    #[default]
    None,
    /// It is the whole file.
    Whole,
    /// Its Content-Range is that of other bytes.
    OtherRange,
    /// It announces one byte too few.
    OtherLength,
    /// It ends behind so many bytes.
    EndsAfter(usize),
    /// It stops behind so many bytes, and the connection stays.
    StallsAfter(usize),
    /// It comes in small pieces.
    Slow,
    /// The byte at this place of each file with that in its path is another.
    OtherByte(&'static str, u64),
    /// It is this status.
    Status(u16),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether it came to the second port.
    pub is_second: bool,
    pub path: String,
    /// The first byte and the last.
    pub range: Option<(u64, u64)>,
    pub token: Option<String>,
}

struct State {
    /// Directories of the repositories, by name, and by commit.
    repositories: Mutex<BTreeMap<String, BTreeMap<String, PathBuf>>>,
    /// Commits of revisions, by name and revision.
    revisions: Mutex<BTreeMap<(String, String), String>>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    requests: AtomicU64,
    busy: AtomicU64,
    stalled: AtomicU64,
    /// Uses of each signature that was given out.
    signatures: Mutex<Vec<u64>>,
    is_over: AtomicBool,
    second: String,
}

/// The hub.
pub struct LoopbackHub {
    state: Arc<State>,
    first: String,
}

impl LoopbackHub {
    pub fn new() -> LoopbackHub {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (first, second) = (listen(), listen());
        let address =
            |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            repositories: Mutex::default(),
            revisions: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            requests: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            signatures: Mutex::default(),
            is_over: AtomicBool::new(false),
            second: address(&second),
        });
        let hub = LoopbackHub { state: state.clone(), first: address(&first) };
        for (listener, is_second) in [(first, false), (second, true)] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if state.is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let state = state.clone();
                    thread::spawn(move || drop(serve(&state, stream, is_second)));
                }
            });
        }
        hub
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.first
    }

    /// Adds a commit, to which `main` leads from now on.
    pub fn add(&self, name: &str, commit: &str, dir: &Path) {
        let mut repositories = self.state.repositories.lock().unwrap();
        repositories.entry(name.to_owned()).or_default().insert(commit.to_owned(), dir.to_owned());
        self.set_revision(name, "main", commit);
    }

    pub fn set_revision(&self, name: &str, revision: &str, commit: &str) {
        let key = (name.to_owned(), revision.to_owned());
        self.state.revisions.lock().unwrap().insert(key, commit.to_owned());
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = faults;
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for LoopbackHub {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        for address in [&self.first, &self.state.second] {
            let _ = TcpStream::connect(address.trim_start_matches("http://"));
        }
    }
}

/// Answers the requests of one connection.
fn serve(state: &State, stream: TcpStream, is_second: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || state.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut range, mut token) = (None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            match name.to_ascii_lowercase().as_str() {
                "range" => range = value.trim().strip_prefix("bytes=").and_then(numbers),
                "authorization" => token = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let seen = Seen { is_second, path, range, token };
        state.seen.lock().unwrap().push(seen.clone());
        let mut stream = &stream;
        if !answer(state, &mut stream, &seen)? {
            return stream.shutdown(Shutdown::Both);
        }
    }
}

fn numbers(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Answers one request; `false` where the connection ends with it.
fn answer(state: &State, stream: &mut impl Write, seen: &Seen) -> std::io::Result<bool> {
    let faults = *state.faults.lock().unwrap();
    let nth = state.requests.fetch_add(1, Ordering::Relaxed);
    let mut fault = faults.bytes;
    if let Some((percent, seed)) = faults.percent {
        let drawn = mixed(seed.wrapping_add(nth));
        if drawn % 100 < percent {
            match drawn / 100 % 4 {
                0 => return status(stream, 503, &[], b""),
                1 => return status(stream, 500, &[], b"an error"),
                2 => return Ok(false),
                _ => fault = BytesFault::EndsAfter(20_000),
            }
        }
    }
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    if seen.is_second {
        let signature: usize = query.strip_prefix("Signature=").and_then(|text| text.parse().ok()).unwrap();
        let mut signatures = state.signatures.lock().unwrap();
        signatures[signature] += 1;
        if faults.signed_uses.is_some_and(|uses| signatures[signature] > uses) {
            return status(stream, 403, &[], b"expired");
        }
        drop(signatures);
        let file = path.strip_prefix("/blob").map(|path| PathBuf::from(decoded(path))).unwrap();
        return bytes(state, stream, (&file, seen.range), (faults, fault));
    }
    if let Some((code, text)) = faults.refusal {
        return status(stream, code, &[("X-Error-Code", text.to_owned())], b"");
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return about(state, stream, rest, query);
    }
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(5, '/').collect();
    let [org, name, "resolve", commit, file] = parts[..] else { return status(stream, 404, &[], b"") };
    let found = directory(state, &format!("{org}/{name}"), commit).map(|dir| dir.join(decoded(file)));
    let Some(file) = found.filter(|file| file.is_file()) else {
        return status(stream, 404, &[("X-Error-Code", "EntryNotFound".to_owned())], b"");
    };
    if fs::metadata(&file)?.len() < LFS_FROM {
        return bytes(state, stream, (&file, seen.range), (faults, fault));
    }
    let mut signatures = state.signatures.lock().unwrap();
    signatures.push(0);
    let path = file.to_str().unwrap().replace('%', "%25").replace(' ', "%20");
    let to = format!("{}/blob{path}?Signature={}", state.second, signatures.len() - 1);
    status(stream, 302, &[("Location", to)], b"")
}

/// What is asked about a repository: a revision, or the files of a commit.
fn about(state: &State, stream: &mut impl Write, path: &str, query: &str) -> std::io::Result<bool> {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let [org, name, what, which] = parts[..] else { return status(stream, 404, &[], b"") };
    let (name, which) = (format!("{org}/{name}"), decoded(which));
    if !state.repositories.lock().unwrap().contains_key(&name) {
        return status(stream, 401, &[("X-Error-Code", "RepoNotFound".to_owned())], b"Repository Not Found");
    }
    let commit = state.revisions.lock().unwrap().get(&(name.clone(), which.clone())).cloned();
    let commit = commit.or_else(|| directory(state, &name, &which).map(|_| which));
    let Some(commit) = commit else {
        return status(stream, 404, &[("X-Error-Code", "RevisionNotFound".to_owned())], b"");
    };
    if what == "revision" {
        return status(stream, 200, &[], format!(r#"{{"id":"{name}","sha":"{commit}"}}"#).as_bytes());
    }
    let dir = directory(state, &name, &commit).unwrap();
    let all = shardfold::Location::of_path(&dir).files(&|_| false).unwrap();
    let start: usize = query.split("cursor=").nth(1).map_or(0, |cursor| cursor.parse().unwrap());
    let entries = all.iter().skip(start).take(PAGE).map(|entry| {
        let (path, size, oid) = (&entry.name, entry.bytes, "a".repeat(40));
        if size < LFS_FROM {
            let oid = git_blob_name(&fs::read(dir.join(path)).unwrap());
            return format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{path}"}}"#);
        }
        let sha = content_hash(&dir.join(path));
        format!(
            r#"{{"type":"file","oid":"{oid}","size":{size},"lfs":{{"oid":"{sha}","size":{size},"pointerSize":134}},"path":"{path}"}}"#
        )
    });
    let page = format!("[{}]", entries.collect::<Vec<_>>().join(","));
    let next =
        format!("</api/models/{name}/tree/{commit}?recursive=true&cursor={}>; rel=\"next\"", start + PAGE);
    let link = (start + PAGE < all.len()).then_some(("Link", next));
    status(stream, 200, link.as_slice(), page.as_bytes())
}

/// SHA-256 of a file, of which little is in memory at once. Each is made once: a large merge asks for the list more than once. One
/// that no disk has room for is never read, so that any name does.
fn content_hash(path: &Path) -> String {
    static KNOWN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let (path, len) = (path.canonicalize().unwrap(), fs::metadata(path).unwrap().len());
    let made = || {
        let (mut hash, mut file) = (Sha256::new(), File::open(&path).unwrap());
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece).unwrap() {
                0 => return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
                count => hash.update(&piece[..count]),
            }
        }
    };
    if len > 4 << 30 {
        return blake3::hash(format!("{} {len}", path.display()).as_bytes()).to_string();
    }
    if len <= 1 << 20 {
        return made();
    }
    KNOWN.lock().unwrap().entry(path.clone()).or_insert_with(made).clone()
}

fn directory(state: &State, name: &str, commit: &str) -> Option<PathBuf> {
    state.repositories.lock().unwrap().get(name)?.get(commit).cloned()
}

/// A range of a file, or what goes wrong with it.
fn bytes(
    state: &State,
    stream: &mut impl Write,
    (path, range): (&Path, Option<(u64, u64)>),
    (faults, mut fault): (Faults, BytesFault),
) -> std::io::Result<bool> {
    if faults.stalls > 0 && state.stalled.fetch_add(1, Ordering::Relaxed) < faults.stalls {
        fault = BytesFault::StallsAfter(100);
    }
    if let Some((times, seconds)) = faults.busy
        && state.busy.fetch_add(1, Ordering::Relaxed) < times
    {
        return status(stream, 429, &[("Retry-After", seconds.to_string())], b"");
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let (first, last) = match (range, fault) {
        (Some((first, last)), BytesFault::None | BytesFault::Slow) if last >= len => {
            return status(stream, 416, &[("Content-Range", format!("bytes */{len}"))], &first.to_le_bytes());
        }
        (Some(range), _) if fault != BytesFault::Whole => range,
        _ => (0, len - 1),
    };
    let count = last - first + 1;
    let (code, shift, short) = match fault {
        BytesFault::Status(code) => return status(stream, code, &[], b""),
        BytesFault::Whole => (200, 0, 0),
        BytesFault::OtherRange if range.is_some() => (206, 1, 0),
        BytesFault::OtherLength => (if range.is_some() { 206 } else { 200 }, 0, 1),
        _ if range.is_none() => (200, 0, 0),
        _ => (206, 0, 0),
    };
    write!(
        stream,
        "HTTP/1.1 {code} X\r\nContent-Length: {}\r\nContent-Range: bytes {}-{}/{len}\r\n\r\n",
        count - short,
        first + shift,
        last + shift
    )?;
    let (mut at, mut buf) = (0, vec![0; STEP]);
    while at < count - short {
        let ends = match fault {
            BytesFault::EndsAfter(end) | BytesFault::StallsAfter(end) => end as u64,
            _ => count - short,
        };
        let piece = if fault == BytesFault::Slow { 4096 } else { STEP as u64 };
        let step = piece.min(count - short - at).min(ends.saturating_sub(at));
        if step == 0 {
            if matches!(fault, BytesFault::StallsAfter(_)) {
                stall(state);
            }
            return Ok(false);
        }
        file.read_exact_at(&mut buf[..step as usize], first + at)?;
        if let BytesFault::OtherByte(part, place) = fault
            && path.to_str().unwrap().contains(part)
            && (first + at..first + at + step).contains(&place)
        {
            buf[(place - first - at) as usize] ^= 1;
        }
        stream.write_all(&buf[..step as usize])?;
        if fault == BytesFault::Slow {
            thread::sleep(Duration::from_millis(2));
        }
        at += step;
    }
    Ok(true)
}

/// Says nothing until the hub is gone, or for long.
fn stall(state: &State) {
    for _ in 0..600 {
        if state.is_over.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn status(
    stream: &mut impl Write,
    code: u16,
    headers: &[(&str, String)],
    body: &[u8],
) -> std::io::Result<bool> {
    let mut text = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.write_all(body)?;
    Ok(true)
}

/// A path with each `%XX` as its byte.
fn decoded(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let code = (first == b'%').then(|| std::str::from_utf8(&behind[..2]).unwrap());
        bytes.push(code.map_or(first, |code| u8::from_str_radix(code, 16).unwrap()));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).unwrap()
}

/// One step of SplitMix64.
fn mixed(seed: u64) -> u64 {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
