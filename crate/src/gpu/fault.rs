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

/// How a check has ended.
pub enum Outcome {
    /// Only the GPU knows.
    Unknown,
    /// Nothing was wrong.
    Fine,
    /// What was wrong.
    Failed(Arc<Failure>),
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

    /// The outcome, as far as it has been read.
    pub fn outcome(&self) -> Outcome {
        match self.outcome.get() {
            None => Outcome::Unknown,
            Some(None) => Outcome::Fine,
            Some(Some(failure)) => Outcome::Failed(Arc::clone(failure)),
        }
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

/// The taint of what is computed from several values. Cells that are known to be without fault count no more, so that a
/// running sum over a long loop does not drag all of them along.
pub fn union<'t>(taints: impl Iterator<Item = &'t Taint>) -> Option<Taint> {
    let doubtful = |cell: &&Arc<Cell>| !matches!(cell.outcome(), Outcome::Fine);
    let mut all: Option<Taint> = None;
    for taint in taints {
        if all.as_ref().is_some_and(|all| Arc::ptr_eq(all, taint)) {
            continue;
        }
        let count = taint.iter().filter(doubtful).count();
        if count == 0 {
            continue;
        }
        all = Some(match all {
            None if count == taint.len() => Arc::clone(taint),
            all => {
                let earlier = all.iter().flat_map(|all| all.iter());
                let mut cells: Vec<_> = earlier.chain(taint.iter().filter(doubtful)).cloned().collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: u32) -> Vec<Arc<Cell>> {
        let subject = || Some(Subject { check: Check { what: "index", size: 5 }, place: None });
        let cell = |index| Cell { index, free: Arc::default(), subject: subject(), outcome: OnceLock::new() };
        (1..=count).map(|index| Arc::new(cell(index))).collect()
    }

    fn indices(taint: Option<&Taint>) -> Vec<u32> {
        taint.map_or(Vec::new(), |taint| taint.iter().map(|cell| cell.index).collect())
    }

    #[test]
    fn unions_are_sorted_and_without_what_is_known_to_be_right() {
        let all = cells(4);
        let taint = |cells: &[usize]| -> Taint { cells.iter().map(|&cell| Arc::clone(&all[cell])).collect() };
        let (a, b) = (taint(&[1, 3]), taint(&[0, 1]));
        assert_eq!(indices(union([&a, &clean(), &b].into_iter()).as_ref()), [1, 2, 4]);
        assert!(union([&clean()].into_iter()).is_none());
        all[1].learn(&[0, 9, 9, 9]);
        assert_eq!(indices(union([&a, &b].into_iter()).as_ref()), [1, 4]);
        assert!(union([&taint(&[1])].into_iter()).is_none());
    }

    #[test]
    fn a_cell_says_what_was_wrong_and_where() {
        let all = cells(3);
        let words = [0, 0, 0, 0, 1, 7, (-2_i32).cast_unsigned(), 0, 1, 1, 1, 0];
        assert_eq!(span(&all), Some((16, 48)));
        let failure = failure(&all, &words).unwrap();
        assert_eq!(failure.error.message(), "index -2 at position 7 is outside [0, 5)");
        assert!(matches!(all[0].outcome(), Outcome::Fine) && matches!(all[2].outcome(), Outcome::Unknown));
    }

    #[test]
    fn a_cell_is_free_again_when_nobody_holds_it() {
        let free = Arc::new(Mutex::new(Vec::new()));
        let cell = Cell { index: 3, free: Arc::clone(&free), subject: None, outcome: OnceLock::new() };
        drop(cell);
        assert_eq!(*free.lock().unwrap(), [3]);
    }
}
