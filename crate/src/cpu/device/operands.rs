//! The operands of one running instruction as slices: what kernels take.

use super::frame::{Frame, Word};
use crate::error::{Error, Result};
use crate::plan::{Kernel, Operand};

/// The operands and results of an instruction in a bound plan.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    kernel: &'a Kernel,
    frame: &'a Frame,
}

impl<'a> Operands<'a> {
    /// The operands of the instruction that runs now.
    ///
    /// # Safety
    /// While slices from here live, no others of this frame do, and each result, and each operand that is changed in
    /// place, is asked for once. Then no two slices overlap of which one is written: the plan keeps what a step writes
    /// apart from all else, and [`Frame::bind`] has refused in-place operands that overlap others.
    pub unsafe fn new(kernel: &'a Kernel, frame: &'a Frame) -> Self {
        Self { kernel, frame }
    }

    /// What is known of an operand.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is absent, which a valid program rules out.
    pub fn operand(&self, position: usize) -> Result<&'a Operand> {
        self.kernel
            .inputs
            .get(position)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Internal(format!("operand {position} is missing")))
    }

    /// What is known of a result.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many.
    pub fn result(&self, position: usize) -> Result<&'a Operand> {
        self.kernel.outputs.get(position).ok_or_else(|| Error::Internal(format!("result {position} is missing")))
    }

    /// An operand.
    pub fn input<T: Word>(&self, position: usize) -> Result<&'a [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.read(self.operand(position)?) }
    }

    /// An operand that may be absent.
    pub fn optional<T: Word>(&self, position: usize) -> Result<Option<&'a [T]>> {
        match self.kernel.inputs.get(position) {
            Some(Some(_)) => self.input(position).map(Some),
            _ => Ok(None),
        }
    }

    /// All operands from a position on.
    pub fn inputs_from<T: Word + 'a>(self, position: usize) -> impl Iterator<Item = Result<&'a [T]>> {
        (position..self.kernel.inputs.len()).map(move |position| self.input(position))
    }

    /// An operand that is changed in place.
    pub fn changed<T: Word>(&self, position: usize) -> Result<&'a mut [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.write(self.operand(position)?) }
    }

    /// A result.
    pub fn output<T: Word>(&self, position: usize) -> Result<&'a mut [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.write(self.result(position)?) }
    }

    /// The scalar of the run with this number.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many, which binding rules out.
    pub fn scalar(&self, index: u32) -> Result<f64> {
        let scalar = self.frame.scalars.get(index as usize).copied();
        scalar.ok_or_else(|| Error::Internal(format!("scalar {index} is missing")))
    }

    /// Words of scratch memory that belong to this instruction.
    pub fn scratch(&self, words: usize) -> Result<&'a mut [u32]> {
        // SAFETY: the promise of `new`; a step asks for its scratch once.
        unsafe { self.frame.scratch(words) }
    }

    /// Where the words of an operand live, if they outlive the run.
    pub fn frame(&self) -> &'a Frame {
        self.frame
    }
}

/// Lists for kernels that take any number of operands. Their memory is kept from step to step, what they hold is not.
#[derive(Default)]
pub struct Lists {
    slices: Vec<&'static [u32]>,
    sized: Vec<(&'static [u32], u32)>,
}

impl Lists {
    /// Hands a list of slices to `body`.
    ///
    /// # Errors
    /// The first of `items`; then `body` is not called.
    pub fn slices<'a, T: 'a, R>(
        &mut self,
        items: impl Iterator<Item = Result<&'a [T]>>,
        body: impl FnOnce(&[&'a [T]]) -> R,
    ) -> Result<R> {
        hand(&mut self.slices, items, body)
    }

    /// Hands a list of slices with a number each to `body`.
    ///
    /// # Errors
    /// As for [`Lists::slices`].
    pub fn sized<'a, R>(
        &mut self,
        items: impl Iterator<Item = Result<(&'a [u32], u32)>>,
        body: impl FnOnce(&[(&'a [u32], u32)]) -> R,
    ) -> Result<R> {
        hand(&mut self.sized, items, body)
    }
}

fn hand<Kept, Item, R>(
    kept: &mut Vec<Kept>,
    items: impl Iterator<Item = Result<Item>>,
    body: impl FnOnce(&[Item]) -> R,
) -> Result<R> {
    let mut list: Vec<Item> = emptied(std::mem::take(kept));
    let mut filled = Ok(());
    for item in items {
        match item {
            Ok(item) => list.push(item),
            Err(error) => {
                filled = Err(error);
                break;
            }
        }
    }
    let result = filled.map(|()| body(&list));
    *kept = emptied(list);
    result
}

/// An empty list in the memory of another. Collecting from a list into one of equal items keeps its memory; a test of the
/// crate counts on it.
fn emptied<From, To>(mut list: Vec<From>) -> Vec<To> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_memory_and_nothing_else() {
        let mut lists = Lists::default();
        let data = [1.0_f32, 2.0, 3.0];
        let all = || (0..3).map(|i| Ok(&data[i..]));
        assert_eq!(lists.slices(all(), <[_]>::len).unwrap(), 3);
        let kept = (lists.slices.as_ptr(), lists.slices.capacity());
        let sum = |list: &[&[f32]]| list.iter().map(|part| part[0]).sum::<f32>();
        assert_eq!(lists.slices(all(), sum).unwrap(), 6.0);
        let broken = all().chain([Err(Error::Internal("x".into()))]);
        assert!(lists.slices(broken, |_| panic!("it is not called")).is_err());
        assert_eq!((lists.slices.as_ptr(), lists.slices.capacity(), lists.slices.len()), (kept.0, kept.1, 0));
    }
}
