//! What is larger and what is smaller: a NaN wins, and 0 is larger than −0. So any order of comparing gives the same, and
//! comparing twice does no harm.

/// Which one is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Largest,
    Smallest,
}

/// How words compare.
pub(super) trait Ordered {
    /// What is below, or above, everything.
    fn least(extreme: Extreme) -> u32;
    /// The winner of two.
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32;
    /// The winner of a row; `least` of an empty one.
    fn of_row<const LARGEST: bool>(row: &[u32]) -> u32;
}

/// f32 bits; NaN wins.
pub(super) struct Floats;

/// i32.
pub(super) struct Integers;

/// Independent extremes per row, so that vector registers compare at once and latencies overlap.
const LANES: usize = 32;

const INFINITY: u32 = f32::INFINITY.to_bits();
const NEG_INFINITY: u32 = f32::NEG_INFINITY.to_bits();

impl Ordered for Floats {
    fn least(extreme: Extreme) -> u32 {
        match extreme {
            Extreme::Largest => NEG_INFINITY,
            Extreme::Smallest => INFINITY,
        }
    }

    #[inline(always)]
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32 {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        // Equal numbers have equal bits, but for 0 and −0: of those the sign decides, or the order would.
        match (x == y, LARGEST) {
            (true, true) => a & b,
            (true, false) => a | b,
            (false, true) => crate::cpu::math::maximum(x, y).to_bits(),
            (false, false) => crate::cpu::math::minimum(x, y).to_bits(),
        }
    }

    /// Bits of floats, read as integers, are in the order of the floats where these are positive and in the reverse order
    /// where they are negative; signed, negative ones are before the others, unsigned, behind. So three extremes of integers
    /// tell the largest, the smallest, and whether there is a NaN.
    #[inline(always)]
    fn of_row<const LARGEST: bool>(row: &[u32]) -> u32 {
        if row.is_empty() {
            return Self::least(if LARGEST { Extreme::Largest } else { Extreme::Smallest });
        }
        let mut bits = Bits { most: [i32::MIN; LANES], least: [i32::MAX; LANES], last: [0; LANES] };
        by_lines(row, &mut bits);
        let Bits { most, least, last } = bits;
        let mut keys = [0; LANES];
        for i in 0..LANES {
            let undefined = most[i] > INFINITY as i32 || last[i] > NEG_INFINITY;
            keys[i] = if LARGEST {
                let word = if most[i] < 0 { least[i] ^ i32::MAX } else { most[i] };
                if undefined { i32::MAX } else { word }
            } else {
                let word = if least[i] < 0 { last[i] as i32 ^ i32::MAX } else { least[i] };
                if undefined { i32::MIN } else { word }
            };
        }
        let key = fold::<LARGEST>(keys);
        match key {
            i32::MIN | i32::MAX => f32::NAN.to_bits(),
            ..0 => (key ^ i32::MAX) as u32,
            0.. => key as u32,
        }
    }
}

impl Ordered for Integers {
    fn least(extreme: Extreme) -> u32 {
        match extreme {
            Extreme::Largest => i32::MIN as u32,
            Extreme::Smallest => i32::MAX as u32,
        }
    }

    #[inline(always)]
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32 {
        better::<LARGEST>(a as i32, b as i32) as u32
    }

    #[inline(always)]
    fn of_row<const LARGEST: bool>(row: &[u32]) -> u32 {
        let mut numbers = Numbers::<LARGEST>([if LARGEST { i32::MIN } else { i32::MAX }; LANES]);
        by_lines(row, &mut numbers);
        fold::<LARGEST>(numbers.0) as u32
    }
}

#[inline(always)]
fn better<const LARGEST: bool>(a: i32, b: i32) -> i32 {
    if LARGEST { a.max(b) } else { a.min(b) }
}

/// What is kept of the lines of a row. Not a closure: one that is not inlined is compiled without the instruction set.
trait Lanes {
    fn take(&mut self, line: &[u32; LANES]);
}

/// Extremes of bits: signed, the largest and the smallest; unsigned, the largest.
struct Bits {
    most: [i32; LANES],
    least: [i32; LANES],
    last: [u32; LANES],
}

impl Lanes for Bits {
    #[inline(always)]
    fn take(&mut self, line: &[u32; LANES]) {
        let Self { most, least, last } = self;
        for (((most, least), last), &word) in most.iter_mut().zip(least).zip(last).zip(line) {
            *most = (*most).max(word as i32);
            *least = (*least).min(word as i32);
            *last = (*last).max(word);
        }
    }
}

struct Numbers<const LARGEST: bool>([i32; LANES]);

impl<const LARGEST: bool> Lanes for Numbers<LARGEST> {
    #[inline(always)]
    fn take(&mut self, line: &[u32; LANES]) {
        for (lane, &word) in self.0.iter_mut().zip(line) {
            *lane = better::<LARGEST>(*lane, word as i32);
        }
    }
}

/// Gives `lanes` lines that cover the row; the last one repeats elements.
#[inline(always)]
fn by_lines(row: &[u32], lanes: &mut impl Lanes) {
    let (lines, rest) = row.as_chunks::<LANES>();
    for line in lines {
        lanes.take(line);
    }
    if rest.is_empty() {
        return;
    }
    if let Some(line) = row.last_chunk::<LANES>() {
        lanes.take(line);
    } else {
        let mut line = [row[0]; LANES];
        line[..row.len()].copy_from_slice(row);
        lanes.take(&line);
    }
}

/// The extreme of all lanes.
#[inline(always)]
fn fold<const LARGEST: bool>(mut lanes: [i32; LANES]) -> i32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = better::<LARGEST>(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}
