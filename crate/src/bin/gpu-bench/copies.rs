//! How fast the adapter copies: what memory really gives.

use super::measure::{Bench, Case, Expected, Failure, Work};
use super::memory::{Arena, bits, numbers};
use super::plain;

/// GB/s of a plain copy, what is read and what is written together.
pub fn run(bench: &mut Bench) -> Result<f64, Failure> {
    // Far above any cache on a GPU; a processor is as fast with less.
    let wanted = if bench.is_software() { 16 << 20 } else { 64 << 20 };
    let elements = wanted.min(bench.traits().buffer_bytes / 16) as usize;
    let mut arena = Arena::default();
    let values = numbers(elements, 1);
    let (x, y) = (arena.floats(&[elements as u32], &values), arena.result(&[elements as u32]));
    let bytes = 8.0 * elements as f64;
    let expected = vec![Expected { operand: y, words: bits(&values), slack: None }];
    let case = Case { name: "copy".into(), work: Work::Bytes(bytes), arena, scalars: Vec::new(), expected };
    let prepared = plain::copy(bench.traits(), &x, &y)?;
    let outcome = bench.measure(&case, &prepared)?;
    if let Some(wrong) = outcome.wrong {
        return Err(format!("a plain copy is wrong: {wrong}").into());
    }
    let rate = bytes / outcome.best / 1e9;
    println!("copy of {} MiB: {rate:.1} GB/s read and written", elements >> 18);
    Ok(rate)
}
