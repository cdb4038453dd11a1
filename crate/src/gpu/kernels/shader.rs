//! Writing a shader together with the dispatch that runs it. A kernel declares what it touches (`buffer`), the numbers that
//! come with each run (`word`), writes its body against the names it declared, and gets a [`Call`].
//!
//! Tensors above the binding limit are bound as several windows; the access functions written here hide that, so kernels
//! index elements and never bindings. All bindings are read-write: two operands may share a buffer, of which wgpu allows
//! one kind of use per dispatch.
//!
//! # What a body sees
//! For a buffer `x` of type `T`: `x(i: u32) -> T` and `x_set(i: u32, value: T)`, with `i` counted in elements of `T` from the
//! operand's first. For a word `n`: `p.n`. The index of the workgroup: `group()`. Bounds are the kernel's to keep.
//! The functions of `math`, by calling them: `math_exp(x)`.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::gpu::Class;
use crate::gpu::Traits;
use crate::plan::{Base, Operand};

/// Bytes of immediates that every adapter has.
pub const IMMEDIATE_WORDS: usize = 32;

/// A shader's text and what its pipeline needs.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Shader {
    /// For labels and error texts.
    pub name: &'static str,
    /// WGSL with one entry point, `main`.
    pub text: String,
    /// Number of storage bindings, 0 to n − 1 of group 0.
    pub bindings: usize,
    /// Whether it may run without bounds checks: every access it makes is masked by the kernel itself.
    pub masked: bool,
}

/// Memory that a call touches.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Memory {
    /// An operand of the step.
    Operand(Operand),
    /// Part of the memory that belongs to the step while it runs, in words from its begin. Content is anybody's.
    Scratch {
        /// First word; a multiple of 64.
        offset: usize,
        /// Number of words.
        words: usize,
    },
    /// The fault cells of the device; see [`Word::Cell`].
    Faults,
}

/// One window of memory that is bound.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// Which of [`Call::memory`].
    pub memory: usize,
    /// Which window of it, from 0, each of [`Traits::binding_bytes`].
    pub index: usize,
}

/// One word of the immediates: where its value comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Word {
    /// Known when the plan is prepared.
    Value(u32),
    /// First element of the memory with this position, counted from the begin of its first window.
    Offset(usize),
    /// A scalar of the run, converted to this dtype.
    Scalar(u32, Dtype),
    /// A scalar of the run that carries a whole number of 32 bits.
    Whole(u32),
    /// First word of the fault cell that this step writes: `[1 if there is a fault, position, index]`.
    Cell,
    /// First word of the fault cell that says (1) that this in-place step must not be applied.
    Gate,
}

/// One dispatch.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// What runs.
    pub shader: Arc<Shader>,
    /// What it touches.
    pub memory: Vec<Memory>,
    /// What is bound, by binding.
    pub windows: Vec<Window>,
    /// The immediates.
    pub words: Vec<Word>,
    /// Workgroups per axis.
    pub grid: [u32; 3],
}

/// The WGSL type through which a buffer is seen. Vectors need operands that begin at multiples of four elements
/// ([`Builder::is_aligned`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Type {
    F32,
    I32,
    U32,
    Vec4F32,
    Vec4U32,
}

impl Type {
    /// The type of a dtype's elements; bool is a word.
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::I32 => Self::I32,
            Dtype::Bool => Self::U32,
        }
    }

    /// As WGSL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::Vec4F32 => "vec4<f32>",
            Self::Vec4U32 => "vec4<u32>",
        }
    }

    /// log₂ of the words in an element.
    fn shift(self) -> u32 {
        match self {
            Self::F32 | Self::I32 | Self::U32 => 0,
            Self::Vec4F32 | Self::Vec4U32 => 2,
        }
    }
}

/// A shader being written.
pub struct Builder<'a> {
    traits: &'a Traits,
    name: &'static str,
    masked: bool,
    memory: Vec<Memory>,
    windows: Vec<Window>,
    words: Vec<Word>,
    params: String,
    bindings: String,
    items: String,
    rounds: usize,
}

/// Rounds of loops, all loops of an invocation together, after which lavapipe silently goes on behind the loop.
pub const SOFTWARE_ROUNDS: usize = 65_000;

impl<'a> Builder<'a> {
    /// Begins a shader.
    pub fn new(traits: &'a Traits, name: &'static str) -> Self {
        let (params, bindings, items) = (String::new(), String::new(), String::new());
        let (memory, windows, words) = (Vec::new(), Vec::new(), Vec::new());
        let mut builder =
            Self { traits, name, masked: false, memory, windows, words, params, bindings, items, rounds: 0 };
        builder.word("grid_x", "u32", Word::Value(1));
        builder
    }

    /// Promises that the kernel itself keeps every access inside its operands, so that it may run without bounds checks.
    #[must_use]
    pub fn masked(mut self) -> Self {
        self.masked = true;
        self
    }

    /// Says how often an invocation goes through loops, all of them together, where that grows with the operands.
    pub fn rounds(&mut self, rounds: usize) {
        self.rounds = rounds;
    }

    /// What the adapter is.
    pub fn traits(&self) -> &Traits {
        self.traits
    }

    /// Declares memory under a name.
    pub fn buffer(&mut self, name: &str, memory: Memory, ty: Type) {
        let position = self.memory.len();
        self.memory.push(memory);
        self.word(&format!("{name}_at"), "u32", Word::Offset(position));
        let (shift, ty) = (ty.shift(), ty.name());
        let count = self.window_count(&memory);
        for index in 0..count {
            let binding = self.windows.len();
            self.windows.push(Window { memory: position, index });
            let _ = writeln!(
                self.bindings,
                "@group(0) @binding({binding}) var<storage, read_write> {name}_{index}: array<{ty}>;"
            );
        }
        let place = if shift == 0 { format!("p.{name}_at + i") } else { format!("(p.{name}_at >> {shift}u) + i") };
        if count == 1 {
            let _ = writeln!(
                self.bindings,
                "fn {name}(i: u32) -> {ty} {{ return {name}_0[{place}]; }}\n\
                 fn {name}_set(i: u32, value: {ty}) {{ {name}_0[{place}] = value; }}"
            );
            return;
        }
        // Windows of equal size: a quotient says which, a remainder where.
        let size = (self.traits.binding_bytes / 4) as u32 >> shift;
        let mut read =
            format!("fn {name}(i: u32) -> {ty} {{ let j = {place}; let k = j % {size}u; switch (j / {size}u) {{");
        let mut write = format!(
            "fn {name}_set(i: u32, value: {ty}) {{ let j = {place}; let k = j % {size}u; switch (j / {size}u) {{"
        );
        for index in 0..count {
            let label = if index + 1 == count { "default".to_owned() } else { format!("case {index}u") };
            let _ = write!(read, " {label}: {{ return {name}_{index}[k]; }}");
            let _ = write!(write, " {label}: {{ {name}_{index}[k] = value; }}");
        }
        let _ = writeln!(self.bindings, "{read} }} }}\n{write} }} }}");
    }

    /// Declares an operand under a name, seen as its dtype.
    pub fn operand(&mut self, name: &str, operand: &Operand) {
        self.buffer(name, Memory::Operand(*operand), Type::of(operand.dtype));
    }

    /// Declares a number of the run; `ty` is `u32`, `i32` or `f32`.
    pub fn word(&mut self, name: &str, ty: &str, word: Word) {
        let _ = write!(self.params, "{name}: {ty}, ");
        self.words.push(word);
    }

    /// Declares a number that is known now.
    ///
    /// # Panics
    /// Never: numbers above `u32` are cut, which operands of fewer than 2³¹ elements exclude.
    pub fn value(&mut self, name: &str, value: usize) {
        self.word(name, "u32", Word::Value(value as u32));
    }

    /// Adds text outside the entry point: functions, constants, workgroup memory.
    pub fn item(&mut self, text: &str) {
        self.items.push_str(text);
        self.items.push('\n');
    }

    /// The call: `main` is the body of the entry point, run by `size` invocations in each of `grid` workgroups. It sees
    /// `local` (index in the workgroup) and `group_id` (vec3). A grid of one axis may be of any length.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when operands are too large to be bound together, or to be looped over, on this adapter;
    /// [`Error::Internal`] for more immediates than there are.
    pub fn finish(mut self, size: u32, grid: [usize; 3], main: &str) -> Result<Call> {
        if self.windows.len() > self.traits.bindings as usize {
            return Err(Error::OutOfMemory(format!(
                "{}: tensors of this size need {} bindings of {} bytes, the adapter has {} per shader; use smaller tensors",
                self.name,
                self.windows.len(),
                self.traits.binding_bytes,
                self.traits.bindings
            )));
        }
        if self.traits.class == Class::Software && self.rounds > SOFTWARE_ROUNDS {
            return Err(Error::OutOfMemory(format!(
                "{}: tensors of this size need {} rounds of a loop, software adapters end it after {SOFTWARE_ROUNDS}; \
                 use smaller tensors or the cpu device",
                self.name, self.rounds
            )));
        }
        if self.words.len() > IMMEDIATE_WORDS {
            return Err(Error::Internal(format!("{}: {} words of immediates", self.name, self.words.len())));
        }
        let grid = self.spread(grid)?;
        if let Some(word) = self.words.first_mut() {
            *word = Word::Value(grid[0]);
        }
        let functions = super::math::definitions(&[&self.items, main]);
        let text = format!(
            "struct Params {{ {} }}\nvar<immediate> p: Params;\n{}var<private> group_id: vec3<u32>;\n\
             fn group() -> u32 {{ return group_id.y * p.grid_x + group_id.x; }}\n{functions}{}\
             @compute @workgroup_size({size})\n\
             fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>, @builtin(local_invocation_index) local: u32) {{\n\
             group_id = workgroup_id;\n{main}\n}}\n",
            self.params, self.bindings, self.items
        );
        let shader = Shader { name: self.name, text, bindings: self.windows.len(), masked: self.masked };
        let (memory, windows, words) = (self.memory, self.windows, self.words);
        Ok(Call { shader: Arc::new(shader), memory, windows, words, grid })
    }

    /// Lays a long first axis over two: `group()` counts them in order, and there may be up to a row too many.
    fn spread(&self, [x, y, z]: [usize; 3]) -> Result<[u32; 3]> {
        let most = self.traits.grid as usize;
        let spread = if x > most && y == 1 { [most, x.div_ceil(most), z] } else { [x, y, z] };
        if spread.iter().any(|&axis| axis > most) {
            return Err(Error::Internal(format!("{}: a grid of {x} by {y} by {z} workgroups", self.name)));
        }
        Ok(spread.map(|axis| axis as u32))
    }

    fn window_count(&self, memory: &Memory) -> usize {
        let words = match memory {
            Memory::Operand(operand) => operand.numel,
            Memory::Scratch { words, .. } => *words,
            Memory::Faults => return 1,
        };
        windows_of(self.traits, words)
    }

    /// Whether vectors of four can be read: the operand begins at a multiple of four elements. `aligned` tells which input
    /// slots do.
    pub fn is_aligned(operand: &Operand, aligned: Aligned) -> bool {
        operand.location.offset.is_multiple_of(4)
            && match operand.location.base {
                Base::Input(index) => aligned.input(index),
                Base::Arena | Base::Allocation(_) | Base::Nowhere => true,
            }
    }
}

/// Bindings that memory of so many words takes. One less than a binding holds may still reach over its end, because
/// bindings begin at aligned addresses only.
pub fn windows_of(traits: &Traits, words: usize) -> usize {
    let bytes = words as u64 * 4 + u64::from(traits.alignment);
    if bytes <= traits.binding_bytes { 1 } else { bytes.div_ceil(traits.binding_bytes) as usize }
}

/// Which input slots begin at multiples of four elements in their storage: most do, views into slabs need not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Aligned {
    /// Bit i: input i does not. Inputs from 63 on share the last bit.
    pub misaligned: u64,
}

impl Aligned {
    /// Whether an input does.
    pub fn input(self, index: u32) -> bool {
        self.misaligned >> index.min(63) & 1 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Settings, operand, validate};
    use super::*;

    fn copy(traits: &Traits, words: u32, ty: Type) -> Result<Call> {
        let (x, y) = (operand(Dtype::F32, &[words], 0), operand(Dtype::F32, &[words], 64));
        let mut b = Builder::new(traits, "copy");
        b.buffer("x", Memory::Operand(x), ty);
        b.buffer("y", Memory::Operand(y), ty);
        b.value("count", words as usize);
        let main = "let i = group() * 64u + local; if (i < p.count) { y_set(i, x(i)); }";
        b.finish(64, [(words as usize).div_ceil(64), 1, 1], main)
    }

    #[test]
    fn a_copy_runs() {
        let Some(mut lab) = super::super::testing::Lab::open() else { return };
        let arena: Vec<u32> = (0..164).collect();
        for ty in [Type::F32, Type::U32] {
            let call = copy(&lab.traits.clone(), 50, ty).unwrap();
            let after = lab.run(&vec![call].into(), &arena, Settings::default()).arena;
            assert_eq!((&after[..64], &after[64..114], &after[114..]), (&arena[..64], &arena[..50], &arena[114..]));
        }
    }

    #[test]
    fn texts_are_valid_with_one_window_and_with_many() {
        let traits = Traits::least(Class::Integrated);
        for ty in [Type::F32, Type::I32, Type::U32, Type::Vec4F32, Type::Vec4U32] {
            for words in [1, 1000, 33 << 20, 200 << 20] {
                let call = copy(&traits, words, ty).unwrap();
                validate(&call);
                assert_eq!(call.windows.len(), 2 * windows_of(&traits, words as usize));
            }
        }
    }

    #[test]
    fn long_grids_are_laid_over_two_axes() {
        let traits = Traits::least(Class::Integrated);
        assert_eq!(copy(&traits, 64, Type::F32).unwrap().grid, [1, 1, 1]);
        let [x, y, z] = copy(&traits, 64 * 65_537, Type::F32).unwrap().grid;
        assert!(x <= 65_535 && x * y >= 65_537 && (y, z) == (2, 1));
    }

    #[test]
    fn what_cannot_be_bound_is_out_of_memory() {
        let traits = Traits { bindings: 8, ..Traits::least(Class::Integrated) };
        assert_eq!(copy(&traits, 500 << 20, Type::F32).unwrap_err().code(), "ERR_OUT_OF_MEMORY");
    }
}
