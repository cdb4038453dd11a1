//! What can be worked out before a program is bound to slots: its plan, and for each step what its kernel can prepare
//! (chains laid out for the cache, offsets of batched products, scratch sizes). Made once per code.

use std::sync::{Arc, OnceLock};

use super::frame::Frame;
use crate::cpu::Cpu;
use crate::cpu::activation::Activation;
use crate::cpu::elementwise;
use crate::error::{Error, Result};
use crate::plan::{
    Chain, ChainOp, ChainOperand, ChainOutput, Fused, Kernel, Label, MAX_CHAIN_INPUTS, MAX_CHAIN_OUTPUTS, Operand,
    Options, Plan, Step, StepKind,
};
use crate::program::Program;
use crate::program::op::{ElementOp, Op};
use crate::shape::{Dims, strides};

/// A program that has been planned and prepared.
pub struct Planned {
    /// For texts.
    pub program: Program,
    /// What to do and where.
    pub plan: Plan,
    /// One per step.
    pub steps: Vec<Prepared>,
    /// Words of scratch memory that one step needs at most.
    pub scratch: usize,
    /// What its steps are called, once somebody has asked.
    labels: OnceLock<Arc<[Label]>>,
}

impl Planned {
    /// Decodes, validates, plans and prepares code words.
    ///
    /// # Errors
    /// Words that are no program; no memory to plan one.
    pub fn new(code: &[u32], fuse: bool) -> Result<Self> {
        let program = Program::decode(code)?;
        let plan = Plan::new(&program, Options { fuse, ..Options::ALL })?;
        let steps = plan.steps.iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
        let scratch = steps.iter().map(Prepared::scratch).max().unwrap_or(0);
        Ok(Self { program, plan, steps, scratch, labels: OnceLock::new() })
    }

    /// What its steps are called.
    pub fn labels(&self) -> &Arc<[Label]> {
        self.labels.get_or_init(|| self.plan.labels(&self.program).into())
    }
}

/// A step, prepared.
pub enum Prepared {
    /// Elementwise work.
    Chain(elementwise::Chain),
    /// A product of many matrices: first element of each item of a and of b.
    Batches { a: Vec<usize>, b: Vec<usize> },
    /// The gradient of a product whose result went through an activation: dz = dy ⊙ act′(saved) comes first, in scratch
    /// memory of so many words.
    Derivative { dz: elementwise::Chain, words: usize },
    /// A kernel that needs no preparation.
    Plain,
    /// A kernel with chains around it.
    Fused(Box<Around>),
}

/// A kernel with the chains around it, prepared.
pub struct Around {
    /// The kernel itself.
    pub kernel: Prepared,
    /// The chain before it, evaluated in spans.
    pub before: Option<elementwise::Chain>,
    /// The chain behind it, evaluated in spans.
    pub after: Option<elementwise::Chain>,
}

impl Prepared {
    fn new(step: &Step) -> Result<Self> {
        match &step.kind {
            StepKind::Chain(chain) => Ok(Self::Chain(elementwise::Chain::new(chain)?)),
            StepKind::Kernel(kernel) => Self::kernel(kernel),
            StepKind::Fused(fused) => Ok(Self::Fused(Box::new(Around::new(fused)?))),
        }
    }

    fn kernel(kernel: &Kernel) -> Result<Self> {
        match kernel.op {
            Op::Matmul { .. } => batches(kernel),
            Op::LinearGrad { activation, .. } => derivative(kernel, activation),
            _ => Ok(Self::Plain),
        }
    }

    fn scratch(&self) -> usize {
        match self {
            Self::Derivative { words, .. } => *words,
            Self::Fused(around) => around.kernel.scratch(),
            _ => 0,
        }
    }
}

impl Around {
    fn new(fused: &Fused) -> Result<Self> {
        let spans = |chain: Option<&Chain>| chain.map(elementwise::Chain::in_spans).transpose();
        Ok(Self {
            kernel: Prepared::kernel(&fused.kernel)?,
            before: spans(fused.before.as_ref())?,
            after: spans(fused.after.as_ref().map(|after| &after.chain))?,
        })
    }
}

/// Runs a prepared chain on the operands of the plan's.
///
/// # Errors
/// [`Error::Internal`](crate::error::Error::Internal) for operands that are not where the plan says.
pub fn run_chain(prepared: &elementwise::Chain, cpu: &Cpu, chain: &Chain, frame: &Frame) -> Result<()> {
    // On the stack: this is the path of every small program.
    // SAFETY: the plan keeps what a chain writes apart from what it reads, and this is one step of it.
    let inputs = unsafe { chain_inputs(chain, frame) }?;
    let mut outputs: [&mut [u32]; MAX_CHAIN_OUTPUTS] = [(); MAX_CHAIN_OUTPUTS].map(|()| &mut [] as &mut [u32]);
    for (slice, output) in outputs.iter_mut().zip(&chain.outputs) {
        // SAFETY: as above; what it takes the place of is read through this slice alone.
        *slice = unsafe { frame.write(&output.operand) }?;
    }
    let (inputs, outputs) = (inputs.get(..chain.inputs.len()), outputs.get_mut(..chain.outputs.len()));
    if let (Some(inputs), Some(outputs)) = (inputs, outputs) {
        prepared.run(cpu, inputs, outputs, &frame.scalars);
    }
    Ok(())
}

/// The inputs of a chain, in the plan's order; empty where an output takes the place of one.
///
/// # Safety
/// Nothing that the chain reads is written while the slices live.
pub unsafe fn chain_inputs<'a>(chain: &Chain, frame: &'a Frame) -> Result<[&'a [u32]; MAX_CHAIN_INPUTS]> {
    let mut inputs: [&[u32]; MAX_CHAIN_INPUTS] = [&[]; MAX_CHAIN_INPUTS];
    for (slice, (position, operand)) in inputs.iter_mut().zip(chain.inputs.iter().enumerate()) {
        if chain.outputs.iter().all(|output| output.in_place_of != Some(position as u8)) {
            // SAFETY: the caller's promise.
            *slice = unsafe { frame.read(operand) }?;
        }
    }
    Ok(inputs)
}

/// Where the items of a batched product begin; nothing when it is one product, or one with more rows, or empty.
fn batches(kernel: &Kernel) -> Result<Prepared> {
    let (Some(Some(a)), Some(Some(b)), Some(c)) = (kernel.inputs.first(), kernel.inputs.get(1), kernel.outputs.first())
    else {
        return Ok(Prepared::Plain);
    };
    // A batch of empty products may be as long as it likes: it costs nobody memory, so it must not cost us any.
    if c.numel == 0 {
        return Ok(Prepared::Plain);
    }
    let batch = |dims: &[u32]| dims.len().saturating_sub(2);
    let (a_batch, b_batch, c_batch) = (batch(&a.dims), batch(&b.dims), batch(&c.dims));
    let is_one = |dims: &[u32]| dims.iter().all(|&size| size == 1);
    let transposed = matches!(kernel.op, Op::Matmul { transpose_a: true, .. });
    if is_one(&c.dims[..c_batch]) || (is_one(&b.dims[..b_batch]) && !transposed) {
        return Ok(Prepared::Plain);
    }
    let offsets = |dims: &[u32], batch: usize| {
        let item: usize = dims[batch..].iter().map(|&size| size as usize).product();
        let strides = stretched(&dims[..batch], c_batch).into_iter().map(|stride| stride * item);
        walk(&c.dims[..c_batch], &strides.collect::<Vec<_>>())
    };
    Ok(Prepared::Batches { a: offsets(&a.dims, a_batch)?, b: offsets(&b.dims, b_batch)? })
}

/// The linear index of every position of `dims`, row-major, under these strides. As many as a program says: a batch that
/// is too long for the machine is an error.
fn walk(dims: &[u32], strides: &[usize]) -> Result<Vec<usize>> {
    let count: usize = dims.iter().map(|&size| size as usize).product();
    let mut indices = Vec::new();
    indices
        .try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory(format!("no memory to plan a product of {count} matrices")))?;
    indices.extend((0..count).map(|position| {
        let place = |(rest, index): (usize, usize), (&size, &stride): (&u32, &usize)| {
            (rest / size as usize, index + rest % size as usize * stride)
        };
        dims.iter().zip(strides).rev().fold((position, 0), place).1
    }));
    Ok(indices)
}

/// Strides with which a shape is read over a broadcast one of `rank` dimensions: 0 where it is stretched.
fn stretched(dims: &[u32], rank: usize) -> Vec<usize> {
    let own = dims.iter().zip(strides(dims)).map(|(&size, stride)| if size == 1 { 0 } else { stride });
    std::iter::repeat_n(0, rank.saturating_sub(dims.len())).chain(own).collect()
}

/// dz = dy ⊙ act′(saved), as a chain of one instruction over all elements in a row.
fn derivative(kernel: &Kernel, activation: Activation) -> Result<Prepared> {
    let (Some(Some(dy)), Some(Some(saved))) = (kernel.inputs.first(), kernel.inputs.get(1)) else {
        return Ok(Prepared::Plain);
    };
    let dims = Dims::new(&[dy.numel as u32]).unwrap_or_default();
    let flat = |operand: &Operand| Operand { dims, ..*operand };
    let chain = Chain {
        dims,
        numel: dy.numel,
        inputs: vec![flat(dy), flat(saved)],
        ops: vec![ChainOp {
            instruction: 0,
            op: ElementOp::ActivationGrad { activation, parameters: activation.default_parameters() },
            operands: [ChainOperand::Input(0), ChainOperand::Input(1), ChainOperand::None],
            operand_dtype: dy.dtype,
            dtype: dy.dtype,
        }],
        outputs: vec![ChainOutput { op: 0, operand: flat(dy), depends_on: 3, in_place_of: None }],
    };
    Ok(Prepared::Derivative { dz: elementwise::Chain::new(&chain)?, words: dy.numel })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_follows_the_strides() {
        assert_eq!(walk(&[], &[]).unwrap(), [0]);
        assert_eq!(walk(&[2, 3], &[3, 1]).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(walk(&[2, 3], &[0, 1]).unwrap(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(walk(&[2, 0], &[1, 1]).unwrap(), []);
    }
}
