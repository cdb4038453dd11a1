//! Uniform random numbers, and dropout, which keeps an element by such a number: Philox 4x32-10 (Salmon et al., 2011), a function of a key and a counter. An element depends on
//! its row and its place in the row alone, so threads and instruction sets change nothing, and a part of the rows has the
//! numbers that it has in the whole. The interpreter and the GPU compute the same bits.
//!
//! Blocks of four numbers are counted through all rows; [`LANES`] of them go through the rounds together.

use super::Cpu;
use super::share::Shared;
use crate::program::op::{Dropout, Uniform};

/// Multipliers of a round, and what is added to the key after it.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Blocks computed together: one register of the widest instruction set for each word.
const LANES: usize = 16;

/// Picoseconds per number.
const NUMBER_PS: u64 = 800;

/// Key and counter but for the place.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The seed, low word first.
    pub key: [u32; 2],
    /// Number of the first row.
    pub row_base: u32,
    /// Who draws.
    pub site: u32,
    /// How often they have drawn before.
    pub draw: u32,
}

impl Stream {
    /// The stream that an instruction names by the scalars of the run.
    pub fn of(uniform: &Uniform, scalars: &[f64]) -> Self {
        let [low, high] = uniform.seed;
        let [key_low, key_high, site, draw, row_base] =
            [low, high, uniform.site, uniform.draw, uniform.row_base].map(|index| whole(scalars, index));
        Self { key: [key_low, key_high], row_base, site, draw }
    }
}

/// A scalar of the run as a whole number of 32 bits; what is none is the nearest one, NaN 0.
pub fn whole(scalars: &[f64], index: u32) -> u32 {
    scalars[index as usize] as u32
}

/// Rows of `inner` numbers in [0, 1), multiples of 2⁻²⁴.
pub fn uniform(cpu: &Cpu, inner: usize, stream: Stream, out: &mut [f32]) {
    by_blocks(cpu, inner, out, &|first, _, own| {
        crate::dispatch!(
            cpu.isa,
            fill(stream: Stream = stream, inner: usize = inner, first: usize = first, out: &mut [f32] = own)
        );
    });
}

/// x, times a scale, where its number is at least a threshold, else 0, whatever x is.
pub fn dropout(cpu: &Cpu, rule: &Dropout, stream: Stream, x: &[f32], out: &mut [f32]) {
    let (inner, threshold, scale) = (rule.of.inner as usize, rule.threshold, rule.scale as f32);
    by_blocks(cpu, inner, out, &|first, start, own| {
        let from = &x[start..start + own.len()];
        crate::dispatch!(
            cpu.isa,
            leave_out(
                stream: Stream = stream,
                inner: usize = inner,
                first: usize = first,
                rule: (u32, f32) = (threshold, scale),
                x: &[f32] = from,
                out: &mut [f32] = own,
            )
        );
    });
}

/// Cuts rows of `inner` numbers into whole blocks: calls `body` with the first block, its place and the elements.
fn by_blocks(cpu: &Cpu, inner: usize, out: &mut [f32], body: &(dyn Fn(usize, usize, &mut [f32]) + Sync)) {
    if out.is_empty() {
        return;
    }
    let per_row = inner.div_ceil(4);
    let blocks = out.len() / inner * per_row;
    // The first element of a block; those of the next one follow it.
    let start = |block: usize| block / per_row * inner + block % per_row * 4;
    let tasks = cpu.tasks(blocks as u64 * 4 * NUMBER_PS, blocks.div_ceil(LANES));
    let out = Shared::new(out);
    cpu.ranges(tasks, blocks, &|range| {
        // SAFETY: the ranges are disjoint, and so are the elements of their blocks.
        let own = unsafe { out.part(start(range.start)..start(range.end)) };
        body(range.start, start(range.start), own);
    });
}

/// Writes whole blocks from block `first` of all rows on.
#[inline(always)]
fn fill<const FMA: bool>(stream: Stream, inner: usize, first: usize, out: &mut [f32]) {
    walk(stream, inner, first, out.len(), |at, words| {
        for (number, word) in out[at..].iter_mut().zip(words) {
            *number = (word >> 8).cast_signed() as f32 * (1.0 / 16_777_216.0);
        }
    });
}

/// The same for what is left of x.
#[inline(always)]
fn leave_out<const FMA: bool>(
    stream: Stream,
    inner: usize,
    first: usize,
    (threshold, scale): (u32, f32),
    x: &[f32],
    out: &mut [f32],
) {
    walk(stream, inner, first, out.len(), |at, words| {
        for ((to, from), word) in out[at..].iter_mut().zip(&x[at..]).zip(words) {
            *to = if word >> 8 >= threshold { from * scale } else { 0.0 };
        }
    });
}

/// Calls `put` with the words of `length` elements from block `first` of all rows on, in stretches and with their place.
#[inline(always)]
fn walk(stream: Stream, inner: usize, first: usize, length: usize, mut put: impl FnMut(usize, &[u32])) {
    let per_row = inner.div_ceil(4);
    let (mut row, mut block) = (first / per_row, first % per_row);
    let mut at = 0;
    while at < length {
        let (mut blocks, mut rows, mut lengths) = ([0; LANES], [0; LANES], [4; LANES]);
        for ((to, of), length) in blocks.iter_mut().zip(&mut rows).zip(&mut lengths) {
            *to = block as u32;
            *of = stream.row_base.wrapping_add(row as u32);
            block += 1;
            if block == per_row {
                *length = inner - (per_row - 1) * 4;
                (row, block) = (row + 1, 0);
            }
        }
        let words = philox([blocks, rows, [stream.site; LANES], [stream.draw; LANES]], stream.key);
        let mut together = [[0; 4]; LANES];
        for (lane, words) in words.iter().enumerate() {
            for (block, word) in together.iter_mut().zip(words) {
                block[lane] = *word;
            }
        }
        if lengths == [4; LANES] {
            // A task may end inside the lanes.
            let words = together.as_flattened();
            let count = words.len().min(length - at);
            put(at, &words[..count]);
            at += count;
            continue;
        }
        for (words, count) in together.iter().zip(lengths) {
            if at == length {
                return;
            }
            put(at, &words[..count]);
            at += count;
        }
    }
}

/// One block per lane: four words from a counter of four words and a key.
#[inline(always)]
fn philox(counter: [[u32; LANES]; 4], [mut k0, mut k1]: [u32; 2]) -> [[u32; LANES]; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for _ in 0..ROUNDS {
        for lane in 0..LANES {
            let a = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane]);
            let b = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane]);
            c0[lane] = (b >> 32) as u32 ^ c1[lane] ^ k0;
            c1[lane] = b as u32;
            c2[lane] = (a >> 32) as u32 ^ c3[lane] ^ k1;
            c3[lane] = a as u32;
        }
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    const STREAM: Stream = Stream { key: [0xdead_beef, 77], row_base: 0, site: 0xffff_0002, draw: 3 };

    fn block(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
        philox(counter.map(|word| [word; LANES]), key).map(|words| {
            assert_eq!(words, [words[0]; LANES]);
            words[0]
        })
    }

    #[test]
    fn philox_gives_the_known_answers() {
        let all = u32::MAX;
        assert_eq!(block([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(block([all; 4], [all; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// Rows, one element after the other.
    fn expected(inner: usize, rows: usize, stream: Stream) -> Vec<f32> {
        let Stream { key, row_base, site, draw } = stream;
        let number = |position: usize| {
            let (row, i) = ((position / inner) as u32, position % inner);
            let word = block([i as u32 / 4, row_base.wrapping_add(row), site, draw], key)[i % 4];
            f32::from((word >> 24) as u8) / 256.0 + f32::from((word >> 8) as u16) / 16_777_216.0
        };
        (0..rows * inner).map(number).collect()
    }

    #[test]
    fn rows_of_every_length_are_counted_on_every_instruction_set() {
        for isa in Isa::available() {
            for threads in [1, 3] {
                let cpu = Cpu { isa, pool: Pool::new(threads).unwrap() };
                for inner in [0, 1, 2, 3, 4, 5, 7, 13, 63, 64, 65, 128, 257] {
                    for rows in [0, 1, 2, 17, 131] {
                        let mut out = vec![f32::NAN; inner * rows];
                        uniform(&cpu, inner, STREAM, &mut out);
                        assert!(out == expected(inner, rows, STREAM), "{rows} rows of {inner}");
                    }
                }
                // So many that they are shared.
                for (inner, rows) in [(1_000_003, 1), (70_001, 13), (33, 30_011), (64, 20_000)] {
                    let mut out = vec![f32::NAN; inner * rows];
                    uniform(&cpu, inner, STREAM, &mut out);
                    assert!(out == expected(inner, rows, STREAM), "{rows} rows of {inner}");
                }
            }
        }
    }

    #[test]
    fn dropout_keeps_what_has_a_high_enough_number() {
        for isa in Isa::available() {
            for threads in [1, 3] {
                let cpu = Cpu { isa, pool: Pool::new(threads).unwrap() };
                for (inner, rows) in
                    [(0, 3), (1, 1), (1, 131), (3, 17), (4, 5), (64, 9), (65, 33), (70_001, 13), (33, 30_011)]
                {
                    let numbers = expected(inner, rows, STREAM);
                    // What is left out may be anything.
                    let x: Vec<f32> =
                        (0..inner * rows).map(|i| if numbers[i] < 0.25 { f32::NAN } else { i as f32 }).collect();
                    for (threshold, scale) in [(1 << 22, 4.0 / 3.0), (1 << 24, 0.0), (3 << 22, 4.0)] {
                        let of = Uniform { inner: inner as u32, seed: [0; 2], site: 0, draw: 0, row_base: 0 };
                        let rule = Dropout { of, threshold, scale };
                        let mut out = vec![f32::NAN; x.len()];
                        dropout(&cpu, &rule, STREAM, &x, &mut out);
                        let least = threshold as f32 / 16_777_216.0;
                        let left = |i: usize| if numbers[i] >= least { x[i] * scale as f32 } else { 0.0 };
                        assert!((0..x.len()).all(|i| out[i] == left(i)), "{rows} rows of {inner}, {threshold}");
                    }
                }
            }
        }
    }

    #[test]
    fn later_rows_alone_have_the_numbers_that_they_have_among_all() {
        let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
        for inner in [1, 6, 8, 37] {
            // The number of a row wraps.
            for row_base in [0, 5, u32::MAX - 3] {
                let whole = Stream { row_base, ..STREAM };
                let mut all = vec![0.0; 29 * inner];
                uniform(&cpu, inner, whole, &mut all);
                let mut part = vec![0.0; 11 * inner];
                uniform(&cpu, inner, Stream { row_base: row_base.wrapping_add(7), ..whole }, &mut part);
                assert_eq!(part, all[7 * inner..18 * inner]);
            }
        }
    }

    #[test]
    fn scalars_are_whole_numbers() {
        let scalars = [0.0, 4_294_967_295.0, 2_147_483_648.0, -1.0, 1e300, f64::NAN];
        let words: Vec<u32> = (0..6).map(|index| whole(&scalars, index)).collect();
        assert_eq!(words, [0, u32::MAX, 1 << 31, 0, u32::MAX, 0]);
    }
}
