//! Errors that only the GPU can see: an index outside its range. A step that checks data writes the outcome into a *cell*
//! of one small buffer. What is computed from such a step is *tainted* by its cell: reading it reads the cell too, and a
//! step that changes something in place looks at the cells of its operands first, on the GPU. So no step waits for the
//! host, and nothing wrong is read or applied.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::kernels::{Check, gate};
use super::staging::create;
use super::traits::Traits;
use crate::device::{Failure, Place};
use crate::error::{Error, Result};

/// Words of a cell: 1 for a fault, the position of the index, the index, and one to spare.
const WORDS: u32 = 4;

/// Cells of a device. The first is never written: it is the gate that is always open.
const CELLS: u32 = 1 << 16;

/// Bytes of a cell.
const BYTES: u64 = WORDS as u64 * 4;

/// The check that a cell belongs to.
struct Subject {
    check: Check,
    place: Option<Place>,
}

/// The outcome of one check, or of several together. It is free for others when nobody holds it any more.
pub struct Cell {
    index: u32,
    free: Arc<Mutex<Vec<u32>>>,
    subject: Option<Subject>,
    outcome: OnceLock<Option<Arc<Failure>>>,
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

impl Cell {
    /// Where it begins in the buffer, in words.
    pub fn word(&self) -> u32 {
        self.index * WORDS
    }

    /// The outcome, if it has been read before.
    pub fn known(&self) -> Option<Option<Arc<Failure>>> {
        self.outcome.get().cloned()
    }

    /// Takes the outcome from the words of the cell; the failure, if there is one.
    fn learn(&self, words: &[u32]) -> Option<Arc<Failure>> {
        let failure = || {
            let [set, position, index, ..] = *words else { return None };
            if set == 0 {
                return None;
            }
            let Subject { check, place } = self.subject.as_ref()?;
            let (what, size, index) = (check.what, check.size, index.cast_signed());
            let text = format!("{what} {index} at position {position} is outside [0, {size})");
            Some(Failure::new(Error::Argument(text), place.clone()))
        };
        self.outcome.get_or_init(failure).clone()
    }
}

/// The cells that a value may suffer from, by ascending index.
pub type Taint = Arc<[Arc<Cell>]>;

/// No taint.
pub fn clean() -> Taint {
    Arc::new([])
}

/// The taint of what is computed from several values.
pub fn union<'t>(taints: impl Iterator<Item = &'t Taint>) -> Option<Taint> {
    let mut all: Option<Taint> = None;
    for taint in taints.filter(|taint| !taint.is_empty()) {
        all = Some(match all {
            None => Arc::clone(taint),
            Some(all) if Arc::ptr_eq(&all, taint) => all,
            Some(all) => {
                let mut cells: Vec<_> = all.iter().chain(taint.iter()).cloned().collect();
                cells.sort_by_key(|cell| cell.index);
                cells.dedup_by_key(|cell| cell.index);
                cells.into()
            }
        });
    }
    all
}

/// The cells of a device.
pub struct Faults {
    /// The buffer that they are in.
    pub buffer: wgpu::Buffer,
    /// Its number.
    pub number: u64,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Faults {
    /// Cells without faults.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(device: &wgpu::Device, number: u64) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        // The library gives zeroed memory.
        let buffer = create(device, u64::from(CELLS) * BYTES, usage, false)?;
        let free = Arc::new(Mutex::new((1..CELLS).rev().collect()));
        Ok(Self { buffer, number, free })
    }

    /// A cell for a check.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when all are in use.
    pub fn cell(&self, check: Check, place: Option<Place>) -> Result<Arc<Cell>> {
        self.take(Some(Subject { check, place }))
    }

    fn take(&self, subject: Option<Subject>) -> Result<Arc<Cell>> {
        let index = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let index = index.ok_or_else(|| Error::OutOfMemory("too many unread checks of data; call sync()".into()))?;
        Ok(Arc::new(Cell { index, free: Arc::clone(&self.free), subject, outcome: OnceLock::new() }))
    }

    /// The word that says whether a step on operands of this taint must not be applied, and the calls that work it out.
    /// The cell must live until the step has been recorded.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when no cell is free.
    pub fn gate(&self, traits: &Traits, taint: &Taint) -> Result<Gate> {
        match &**taint {
            [] => Ok(Gate { word: 0, calls: Vec::new(), cell: None }),
            [one] => Ok(Gate { word: one.word(), calls: Vec::new(), cell: Some(Arc::clone(one)) }),
            several => {
                let cell = self.take(None)?;
                let words: Vec<u32> = several.iter().map(|cell| cell.word()).collect();
                Ok(Gate { word: cell.word(), calls: gate::any(traits, &words, cell.word())?, cell: Some(cell) })
            }
        }
    }
}

/// See [`Faults::gate`].
pub struct Gate {
    /// The word to look at.
    pub word: u32,
    /// What has to run before.
    pub calls: Vec<super::kernels::shader::Call>,
    /// Keeps the word from being used for something else.
    #[expect(dead_code, reason = "holding it is its use")]
    cell: Option<Arc<Cell>>,
}

/// The part of the buffer that a read of these cells copies: first byte and size.
pub fn span(cells: &[Arc<Cell>]) -> Option<(u64, u64)> {
    let first = cells.iter().map(|cell| cell.index).min()?;
    let last = cells.iter().map(|cell| cell.index).max()?;
    Some((u64::from(first) * BYTES, u64::from(last - first + 1) * BYTES))
}

/// The first failure among cells, from the words that [`span`] covers.
pub fn failure(cells: &[Arc<Cell>], words: &[u32]) -> Option<Arc<Failure>> {
    let first = cells.iter().map(|cell| cell.word()).min()?;
    cells.iter().find_map(|cell| cell.learn(words.get((cell.word() - first) as usize..)?))
}
