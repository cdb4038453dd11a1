//! Whether any of several checks of data has failed: what a step in place looks at when its operands depend on more than
//! one.

use std::fmt::Write as _;

use super::shader::{Builder, Call, IMMEDIATE_WORDS, Memory, Type, Word};
use crate::error::Result;
use crate::gpu::Traits;

/// Cells that one call looks at: the immediates that are left.
const CELLS: usize = IMMEDIATE_WORDS - 4;

/// Calls that set the cell at word `out` if one of the cells at `words` is set, and clear it otherwise.
///
/// # Errors
/// None that a device with enough immediates could meet.
pub fn any(traits: &Traits, words: &[u32], out: u32) -> Result<Vec<Call>> {
    let one = |(number, words): (usize, &[u32])| {
        let mut b = Builder::new(traits, "gate").masked();
        b.buffer("cells", Memory::Faults, Type::U32);
        b.word("out", "u32", Word::Value(out));
        // What earlier calls have found counts too.
        b.word("earlier", "u32", Word::Value(if number == 0 { 0 } else { out }));
        let mut main = "var any = cells(p.earlier);\n".to_owned();
        for position in 0..CELLS {
            let name = format!("cell{position}");
            // The first cell of all is always clear.
            b.word(&name, "u32", Word::Value(words.get(position).copied().unwrap_or(0)));
            let _ = writeln!(main, "any |= cells(p.{name});");
        }
        b.finish(1, [1, 1, 1], &(main + "cells_set(p.out, any);"))
    };
    words.chunks(CELLS).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Lab, Settings, validate};
    use super::*;
    use crate::gpu::Class;

    #[test]
    fn many_cells_take_several_calls() {
        let words: Vec<u32> = (1..100).map(|cell| cell * 4).collect();
        let calls = any(&Traits::least(Class::Integrated), &words, 400).unwrap();
        assert_eq!(calls.len(), 99_usize.div_ceil(CELLS));
        calls.iter().for_each(validate);
    }

    #[test]
    fn one_set_cell_is_enough() {
        let Some(mut lab) = Lab::open() else { return };
        let traits = lab.traits.clone();
        // The lab's cells: word 0 is clear or set, words 4 to 7 are 7.
        for (words, closed, want) in [(vec![0, 0], false, 0), (vec![0, 5], false, 7), (vec![0; 70], true, 1)] {
            let calls = any(&traits, &words, 4).unwrap();
            let cell = lab.run(&calls.into(), &[0; 16], Settings { closed, ..Settings::default() }).cell;
            assert_eq!(cell[0], want, "{words:?}");
        }
    }
}
