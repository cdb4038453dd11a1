//! Many products of the same shape. Small ones run side by side, one thread each; large ones one after the other, each
//! on all threads. The bits are those of single products.

use super::driver::{Problem, Right};
use super::split::Split;
use super::{Cpu, Matrix, Then};
use crate::cpu::activation::Activation;
use crate::error::Result;
use std::sync::Mutex;

/// Products shorter than this run side by side.
const SIDE_BY_SIDE_NS: usize = 200_000;
/// Jobs per thread when products run side by side.
const JOBS_PER_THREAD: usize = 4;

/// The same operand of every product: one shape, one slice, and where in it each item begins. Broadcasting repeats an
/// offset.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    /// Shape and memory order of one item; `data` holds all of them.
    pub matrix: Matrix<'a>,
    /// First element of each item.
    pub offsets: &'a [usize],
}

/// A pointer that jobs write disjoint parts through.
struct Target(*mut f32);

// SAFETY: every job writes items of its own.
unsafe impl Sync for Target {}

impl Target {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// C\[i\] = op(A\[i\]) op(B\[i\]) for every item; C holds the products one after the other. `then` is done with finished
/// parts.
///
/// # Errors
/// No memory for packed operands.
///
/// # Panics
/// If the numbers of items or the inner sizes differ, an item lies outside its slice, or C is too short.
pub fn gemm_batched(cpu: &Cpu, a: Items, b: Items, c: &mut [f32], then: Option<&Then>) -> Result<()> {
    let count = a.offsets.len();
    let (m, k, n) = (a.matrix.rows, a.matrix.cols, b.matrix.cols);
    assert!(b.offsets.len() == count, "gemm_batched: {count} items of A, {} of B", b.offsets.len());
    assert!(b.matrix.rows == k, "gemm_batched: op(A) has {k} columns, op(B) {} rows", b.matrix.rows);
    assert!(a.offsets.iter().all(|&at| a.matrix.fits(at)), "gemm_batched: an item lies outside A");
    assert!(b.offsets.iter().all(|&at| b.matrix.fits(at)), "gemm_batched: an item lies outside B");
    let len = m.checked_mul(n).and_then(|item| item.checked_mul(count));
    assert!(len.is_some_and(|len| len <= c.len()), "gemm_batched: C is shorter than {count} × {m} × {n}");
    if m == 0 || n == 0 || count == 0 {
        return Ok(());
    }
    let c = Target(c.as_mut_ptr());
    let problem = |item: usize| Problem {
        isa: cpu.isa,
        m,
        n,
        k,
        a: a.matrix.left(a.offsets[item]),
        b: Right::Memory(b.matrix.right(b.offsets[item])),
        c: c.at(item * m * n),
        bias: std::ptr::null(),
        activation: Activation::None,
        z: std::ptr::null_mut(),
        then,
        first: item * m * n,
        turned: false,
    };
    let each = problem(0).nanoseconds();
    let threads = cpu.pool.threads_for(each.saturating_mul(count) as u64);
    if threads == 1 || count == 1 || each > SIDE_BY_SIDE_NS {
        return (0..count).try_for_each(|item| problem(item).run(Some(&cpu.pool)));
    }
    let jobs = Split::into(count, count.min(threads * JOBS_PER_THREAD));
    let failed = Mutex::new(Ok(()));
    cpu.pool.run(jobs.parts, &|job| {
        if let Err(error) = jobs.range(job).try_for_each(|item| problem(item).run(None))
            && let Ok(mut failed) = failed.lock()
        {
            *failed = Err(error);
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
