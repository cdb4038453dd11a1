//! Errors that only the GPU can see: an index outside its range, a condition that does not hold. A step that checks data writes the outcome into a *cell*
//! of one small buffer. What is computed from such a step is *tainted* by its cell: reading it reads the cell too, and a
//! step that changes something in place looks at the cells of its operands first, on the GPU. So no step waits for the
//! host, and nothing wrong is read or applied.

use std::sync::atomic::{AtomicU64, Ordering};
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

/// What a cell has turned out to say, once that has been read.
type Known = Arc<OnceLock<Option<Arc<Failure>>>>;

/// The check that a cell belongs to.
struct Subject {
    check: Check,
    place: Option<Place>,
    /// The outcomes that the operands of the step suffer from. If one of them is a failure, the step was not to run, and
    /// its own finding is a mere consequence.
    operands: Vec<Known>,
}

/// The outcome of one check, or of several together. Its place in the buffer is free for others when nothing was wrong, or
/// nobody holds it any more.
pub struct Cell {
    index: u32,
    free: Arc<Mutex<Vec<u32>>>,
    /// Counts cells in the order of their steps.
    number: u64,
    subject: Option<Subject>,
    outcome: Known,
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
        if !matches!(self.outcome(), Outcome::Fine) {
            self.release();
        }
    }
}

impl Cell {
    /// Where it begins in the buffer, in words.
    pub fn word(&self) -> u32 {
        self.index * WORDS
    }

    fn release(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
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
        let find = || {
            let Subject { check, place, operands } = self.subject.as_ref()?;
            let earlier = operands.iter().find_map(|outcome| outcome.get().cloned().flatten());
            if earlier.is_some() {
                return earlier;
            }
            let [set, position, index, ..] = *words else { return None };
            if set == 0 {
                return None;
            }
            let text = match check {
                Check::Range { what, size } => {
                    format!("{what} {} at position {position} is outside [0, {size})", index.cast_signed())
                }
                Check::Condition(reason) => reason.text().into(),
            };
            Some(Failure::new(Error::Argument(text), place.clone()))
        };
        let learn = || {
            let failure = find();
            if failure.is_none() {
                // Tensors that live long do not keep it: whoever meets them from now on does not look at it.
                self.release();
            }
            failure
        };
        self.outcome.get_or_init(learn).clone()
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
    made: AtomicU64,
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
        Ok(Self { buffer, number, free, made: AtomicU64::new(0) })
    }

    /// A cell for a check in a step whose operands have a taint.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when all are in use.
    pub fn cell(&self, check: Check, place: Option<Place>, operands: Option<&Taint>) -> Result<Arc<Cell>> {
        let operands = operands.iter().flat_map(|taint| taint.iter()).map(|cell| Arc::clone(&cell.outcome)).collect();
        self.take(Some(Subject { check, place, operands }))
    }

    fn take(&self, subject: Option<Subject>) -> Result<Arc<Cell>> {
        let index = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let index = index.ok_or_else(|| Error::OutOfMemory("too many unread checks of data; call sync()".into()))?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Cell { index, free: Arc::clone(&self.free), number, subject, outcome: Known::default() }))
    }

    /// The word that says whether a step on operands of this taint must not be applied, and the calls that work it out.
    /// The cell must live until the step has been recorded.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when no cell is free.
    pub fn gate(&self, traits: &Traits, taint: &Taint) -> Result<Gate> {
        match &**taint {
            [] => Ok(Gate::open()),
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

impl Gate {
    /// That of a step which is applied whatever happens.
    pub fn open() -> Self {
        Self { word: 0, calls: Vec::new(), cell: None }
    }
}

/// The part of the buffer that a read of these cells copies: first byte and size.
pub fn span(cells: &[Arc<Cell>]) -> Option<(u64, u64)> {
    let first = cells.iter().map(|cell| cell.index).min()?;
    let last = cells.iter().map(|cell| cell.index).max()?;
    Some((u64::from(first) * BYTES, u64::from(last - first + 1) * BYTES))
}

/// Learns the outcome of cells from the words that [`span`] covers; the first failure in the order of the steps.
pub fn failure(cells: &[Arc<Cell>], words: &[u32]) -> Option<Arc<Failure>> {
    let begin = cells.iter().map(|cell| cell.word()).min()?;
    let mut cells: Vec<_> = cells.iter().collect();
    cells.sort_by_key(|cell| cell.number);
    let learned = |cell: &Arc<Cell>| cell.learn(words.get((cell.word() - begin) as usize..)?);
    cells.into_iter().filter_map(learned).reduce(|first, _| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: u32) -> Vec<Arc<Cell>> {
        (1..=count).map(|index| Arc::new(cell(index, &[]))).collect()
    }

    fn cell(index: u32, operands: &[&Cell]) -> Cell {
        let operands = operands.iter().map(|cell| Arc::clone(&cell.outcome)).collect();
        let subject = Some(Subject { check: Check::Range { what: "index", size: 5 }, place: None, operands });
        // The one with the highest index was made first.
        Cell { index, free: Arc::default(), number: u64::from(100 - index), subject, outcome: Known::default() }
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
        assert_eq!(failure.error.message(), "index 1 at position 1 is outside [0, 5)");
        assert!(matches!(all[0].outcome(), Outcome::Fine));
        let Outcome::Failed(second) = all[1].outcome() else { panic!("all are learned") };
        assert_eq!(second.error.message(), "index -2 at position 7 is outside [0, 5)");
    }

    #[test]
    fn what_follows_from_a_failure_is_that_failure() {
        let first = Arc::new(cell(9, &[]));
        let (second, other) = (Arc::new(cell(3, &[&first])), Arc::new(cell(4, &[])));
        let fault = |index| [1, 0, index, 0];
        let words: Vec<u32> = (3..=9).flat_map(fault).collect();
        // All at once, and one after the other.
        let told = failure(&[Arc::clone(&second), other, Arc::clone(&first)], &words).unwrap();
        for cell in [&first, &second] {
            assert!(matches!(cell.outcome(), Outcome::Failed(failure) if Arc::ptr_eq(&failure, &told)));
        }
        let late = Arc::new(cell(2, &[&first]));
        assert!(Arc::ptr_eq(&failure(&[late], &fault(2)).unwrap(), &told));
    }

    #[test]
    fn a_cell_is_free_again_once_when_nobody_holds_it_or_nothing_was_wrong() {
        let free = Arc::new(Mutex::new(Vec::new()));
        let cell = |index| {
            let mut made = cell(index, &[]);
            made.free = Arc::clone(&free);
            made
        };
        drop(cell(3));
        assert_eq!(*free.lock().unwrap(), [3]);
        let wrong = cell(4);
        wrong.learn(&[1, 0, 9, 0]);
        assert_eq!(*free.lock().unwrap(), [3]);
        drop(wrong);
        assert_eq!(*free.lock().unwrap(), [3, 4]);
        let fine = cell(5);
        fine.learn(&[0, 0, 0, 0]);
        fine.learn(&[0, 0, 0, 0]);
        assert_eq!(*free.lock().unwrap(), [3, 4, 5]);
        drop(fine);
        assert_eq!(*free.lock().unwrap(), [3, 4, 5]);
    }
}
