//! [`UndoFile`]: an undo file that is read. A tile that was made is put right by what it has of it.

use std::path::PathBuf;

use crate::cancel::Cancel;
use crate::error::verify::VerifyError;
use crate::error::{Error, Result};
use crate::plan::out_tensor::{OutTensor, Plan};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::undo::exceptions::{ExceptionReader, WHOLE, take_number};
use crate::undo::layout::{BLOCK, DIGITS, GROUP, HASH, MAGIC, PLACE, UndoLayout, width};

/// Bytes that are read at once to be hashed.
const STEP: u64 = 256 << 10;
/// Bytes of exceptions that are read at once: about as many as a block has.
const FEW: usize = 2048;

/// An undo file.
pub struct UndoFile {
    source: Box<dyn Source>,
    path: PathBuf,
    layout: UndoLayout,
    places: Vec<u64>,
    /// Where the blocks end.
    tail: u64,
    /// BLAKE3 of it, in hex.
    pub(crate) hash: String,
}

impl UndoFile {
    /// The file `name` in `dir`, read once for its hash, if it is there. `plan` takes the merge back whose plan has the digest `merge`.
    ///
    /// # Errors
    /// [`VerifyError::UndoDamaged`], [`VerifyError::UndoOfOther`]; as reading.
    pub(crate) fn open(
        (dir, name): (&Location, &str),
        (plan, merge): (&Plan, &str),
        cancel: &Cancel,
    ) -> Result<Option<UndoFile>> {
        if !dir.has_file(name)? {
            return Ok(None);
        }
        let (source, path) = (dir.open(name)?, dir.path_of(name));
        let damaged = |what| Error::from(VerifyError::UndoDamaged { path: path.clone(), what });
        if source.len() < (MAGIC.len() + DIGITS + HASH) as u64 {
            return Err(damaged("it is too short"));
        }
        let mut start = MAGIC;
        source.read_at(&mut start, 0)?;
        if start != MAGIC {
            return Err(damaged("it does not begin as one of this version"));
        }
        let hash =
            checked_hash(source.as_ref(), cancel)?.ok_or_else(|| damaged("its own checksum is another"))?;
        let layout = UndoLayout::of(plan);
        let other = || Error::from(VerifyError::UndoOfOther { path: path.clone() });
        let tail = source.len().checked_sub(layout.tail_bytes()).filter(|tail| *tail >= MAGIC.len() as u64);
        let tail = tail.ok_or_else(other)?;
        let mut digest = [0; DIGITS];
        source.read_at(&mut digest, tail)?;
        if digest != merge.as_bytes() {
            return Err(other());
        }
        let mut places = vec![0; layout.places as usize * PLACE];
        source.read_at(&mut places, tail + layout.places_at())?;
        let places = places.as_chunks::<PLACE>().0.iter().map(|place| u64::from_le_bytes(*place));
        let places: Vec<u64> = places.collect();
        if !places.is_sorted() || places.iter().any(|place| *place < MAGIC.len() as u64 || *place > tail) {
            return Err(damaged("it has blocks where none can be"));
        }
        Ok(Some(UndoFile { source, path, layout, places, tail, hash }))
    }

    /// Puts bytes right that were made of a shard of `plan`, from its byte `at` on; of a tensor that is only copied they are.
    ///
    /// # Errors
    /// [`VerifyError::UndoDamaged`]; as reading.
    pub(crate) fn put_right(&self, (plan, shard): (&Plan, usize), at: u64, bytes: &mut [u8]) -> Result<()> {
        let tensors = &plan.shards[shard].tensors;
        let of = self.layout.of_shard(shard);
        let Some(place) = of.partition_point(|of| tensors[of.tensor].offset <= at).checked_sub(1) else {
            return Ok(());
        };
        let (tensor, first) = (&tensors[of[place].tensor], of[place].first);
        if at >= tensor.offset + tensor.bytes {
            return Ok(());
        }
        let width = width(tensor);
        let element = (at - tensor.offset) / width as u64;
        let group = element / BLOCK / GROUP;
        let mut blocks =
            Blocks { file: self, at: self.places[(first + group) as usize], buffer: [0; FEW], held: 0..0 };
        for block in group * GROUP.. {
            let own = block * BLOCK..((block + 1) * BLOCK).min(tensor.shape.elements());
            let (from, to) = (element.max(own.start), own.end.min(element + (bytes.len() / width) as u64));
            if own.start >= element && from >= to {
                return Ok(());
            }
            let made = if from < to {
                &mut bytes[(from - element) as usize * width..(to - element) as usize * width]
            } else {
                &mut []
            };
            blocks.next((tensor, own.end - own.start), from - own.start, made)?;
        }
        Ok(())
    }

    /// BLAKE3 of a section of the base's shard: its header, or a tensor.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn hash(&self, shard: usize, section: usize) -> Result<[u8; HASH]> {
        let mut hash = [0; HASH];
        self.source.read_at(&mut hash, self.tail + self.layout.hash_at(shard, section))?;
        Ok(hash)
    }

    /// What it is read from: whoever uses it looks whether it is still what it was.
    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    fn damaged(&self) -> Error {
        VerifyError::UndoDamaged { path: self.path.clone(), what: "a block of it is none" }.into()
    }
}

/// BLAKE3 of a file in hex, whose last bytes are that of all before them; none if they are not.
fn checked_hash(source: &dyn Source, cancel: &Cancel) -> Result<Option<String>> {
    let (mut hasher, mut at, end) = (blake3::Hasher::new(), 0, source.len() - HASH as u64);
    let mut buf = vec![0; STEP.min(end) as usize];
    while at < end {
        cancel.check()?;
        let step = &mut buf[..(end - at).min(STEP) as usize];
        source.read_at(step, at)?;
        hasher.update(step);
        at += step.len() as u64;
    }
    let mut sum = [0; HASH];
    source.read_at(&mut sum, end)?;
    if *hasher.finalize().as_bytes() != sum {
        return Ok(None);
    }
    hasher.update(&sum);
    Ok(Some(hasher.finalize().to_hex().to_string()))
}

/// Blocks that are read one behind the other, a little at a time.
struct Blocks<'f> {
    file: &'f UndoFile,
    /// The next byte of the file.
    at: u64,
    buffer: [u8; FEW],
    /// Which bytes of the buffer are the next.
    held: std::ops::Range<usize>,
}

impl Blocks<'_> {
    /// Takes the next block, of so many elements of a tensor, and puts `made` right by it: the elements from number `first` on.
    fn next(&mut self, (tensor, elements): (&OutTensor, u64), first: u64, made: &mut [u8]) -> Result<()> {
        let len = take_number(&mut || self.byte())?.ok_or_else(|| self.file.damaged())?;
        let end = self.at.saturating_add(len);
        if end > self.file.tail {
            return Err(self.file.damaged());
        }
        if !made.is_empty() && len > 0 {
            self.body((tensor, elements), (first, len), made)?;
        }
        let passed = (end - self.at.min(end)) as usize;
        if end < self.at {
            return Err(self.file.damaged());
        }
        self.held.start = self.held.start.saturating_add(passed).min(self.held.end);
        self.at = end;
        Ok(())
    }

    /// Puts `made` right by a body of `len` bytes.
    fn body(
        &mut self,
        (tensor, elements): (&OutTensor, u64),
        (first, len): (u64, u64),
        made: &mut [u8],
    ) -> Result<()> {
        let (width, file) = (width(tensor), self.file);
        let parameter = self.byte()?;
        if parameter == WHOLE {
            if len != 1 + elements * width as u64 {
                return Err(file.damaged());
            }
            return file.source.read_at(made, self.at + first * width as u64);
        }
        let mut next = || self.byte();
        let reader = ExceptionReader::new(parameter, elements, &mut next)?;
        let is_sound = reader.map_or(Ok(false), |reader| reader.put_right(made, first, width))?;
        if is_sound { Ok(()) } else { Err(file.damaged()) }
    }

    fn byte(&mut self) -> Result<u8> {
        if self.held.is_empty() {
            let len = (self.file.tail - self.at.min(self.file.tail)).min(FEW as u64) as usize;
            if len == 0 {
                return Err(self.file.damaged());
            }
            self.file.source.read_at(&mut self.buffer[..len], self.at)?;
            self.held = 0..len;
        }
        let byte = self.buffer[self.held.start];
        self.held.start += 1;
        self.at += 1;
        Ok(byte)
    }
}
