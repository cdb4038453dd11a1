//! Size classes of memory blocks. Rounded up to one, a freed block fits requests of nearly its size; the steps are fine
//! enough that little is lost. What a block is, and who owns it, is each device's own.

/// Alignment of every block, in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;
/// Words in one alignment unit, the smallest block.
const UNIT: usize = ALIGNMENT / 4;
/// Size classes per doubling: at most an eighth of a block is slack.
const STEPS: usize = 8;

/// The class of a request and the words that blocks of this class hold.
pub fn class_of(words: usize) -> (usize, usize) {
    let units = words.div_ceil(UNIT).max(1);
    if units < STEPS {
        return (units, units * UNIT);
    }
    let shift = (units.ilog2() - STEPS.ilog2()) as usize;
    let steps = units.div_ceil(1 << shift);
    // `steps` may have rounded up to the next doubling; the index is the same number either way.
    (shift * STEPS + steps, (steps << shift) * UNIT)
}

/// The words of a class: the inverse of [`class_of`].
pub fn words_of(class: usize) -> usize {
    if class < STEPS {
        return class * UNIT;
    }
    let shift = class / STEPS - 1;
    ((class - shift * STEPS) << shift) * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_consecutive_and_waste_at_most_an_eighth() {
        let mut last = 0;
        for words in (1..5000).chain([1 << 20, (1 << 20) + 1, 1 << 29]) {
            let (class, capacity) = class_of(words);
            assert_eq!(words_of(class), capacity, "{words}");
            assert!(capacity >= words && (capacity - words) * STEPS < words.max(UNIT * STEPS), "{words} {capacity}");
            assert!(class >= last, "{words}");
            last = class;
        }
        assert_eq!(class_of(0), class_of(1));
    }
}
