//! From untrusted words to a [`Stream`] and a [`Program`]. Here the words are counted and typed; whether operands,
//! shapes and attributes fit each other is asked of [`validate`](super::validate), instruction by instruction.

use super::attributes::{self, Attribute, Attributes};
use super::table::{AttributeKind, Opcode, opcode};
use super::validate::{self, Case};
use super::{Instruction, Interface, MAX_CODE_WORDS, MAX_REGISTERS, Op, Program, Register, RegisterId};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::shape::{self, Dims};

/// First word of every stream: "TGL1".
pub const MAGIC: u32 = 0x5447_4c31;

/// The word of an absent operand.
pub const NONE: u32 = 0xffff_ffff;

const HEADER_WORDS: usize = 6;

/// One submission, its parts told apart. What the slots mean is the device's to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream<'a> {
    /// Slot of each `input` instruction, in order.
    pub inputs: &'a [u32],
    /// Slot of each `output` instruction, in order.
    pub outputs: &'a [u32],
    /// Slots to free once the code has run.
    pub frees: &'a [u32],
    /// The instructions: what [`Program::decode`] reads and the plan cache is keyed by.
    pub code: &'a [u32],
    scalars: &'a [u32],
}

impl<'a> Stream<'a> {
    /// Splits the words of a stream; every word must belong to a part.
    pub fn parse(words: &'a [u32]) -> Result<Self> {
        let Some((&[magic, inputs, outputs, frees, scalars, code], rest)) = words.split_first_chunk::<HEADER_WORDS>()
        else {
            return Err(Error::Program(format!("a stream of {} words has no header", words.len())));
        };
        if magic != MAGIC {
            return Err(Error::Program(format!("a stream begins with 0x{MAGIC:08x}, not with 0x{magic:08x}")));
        }
        let [inputs, outputs, frees, scalars, code] = [inputs, outputs, frees, scalars, code].map(u64::from);
        // No overflow: six numbers below 2³².
        let wanted = inputs + outputs + frees + 2 * scalars + code;
        if wanted != rest.len() as u64 {
            return Err(Error::Program(format!("the header speaks of {wanted} words, {} follow", rest.len())));
        }
        if code > MAX_CODE_WORDS as u64 {
            return Err(Error::Program(format!("{code} code words are more than {MAX_CODE_WORDS}")));
        }
        // The sum fits the slice, so each part fits usize and lies inside.
        let (inputs, rest) = rest.split_at(inputs as usize);
        let (outputs, rest) = rest.split_at(outputs as usize);
        let (frees, rest) = rest.split_at(frees as usize);
        let (scalars, code) = rest.split_at(2 * scalars as usize);
        Ok(Self { inputs, outputs, frees, code, scalars })
    }

    /// Refuses a stream that brings code of its own: it is for a program that has been compiled.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn check_bare(&self) -> Result<()> {
        if self.code.is_empty() {
            return Ok(());
        }
        Err(Error::Program(format!("a stream for a compiled program brings {} words of code", self.code.len())))
    }

    /// The scalars in order.
    pub fn scalars(&self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.scalars.as_chunks().0.iter().map(|&[low, high]| float(low, high))
    }
}

impl Interface {
    /// Whether the stream binds exactly the slots and enough scalars. A cached plan needs this asked again: the code says
    /// nothing about what stands before it.
    pub fn check(&self, stream: &Stream) -> Result<()> {
        let given =
            Self { inputs: stream.inputs.len(), outputs: stream.outputs.len(), scalars: stream.scalars().len() };
        if given.inputs != self.inputs || given.outputs != self.outputs || given.scalars < self.scalars {
            return Err(Error::Program(format!(
                "the code needs {} inputs, {} outputs and {} scalars; the stream gives {}, {} and {}",
                self.inputs, self.outputs, self.scalars, given.inputs, given.outputs, given.scalars
            )));
        }
        Ok(())
    }
}

impl Program {
    /// Decodes and validates code words.
    pub fn decode(code: &[u32]) -> Result<Self> {
        if code.len() > MAX_CODE_WORDS {
            return Err(Error::Program(format!("{} code words are more than {MAX_CODE_WORDS}", code.len())));
        }
        let mut program = Self {
            instructions: Vec::new(),
            operands: Vec::new(),
            registers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            interface: Interface::default(),
        };
        let mut rest = code;
        while !rest.is_empty() {
            let number = program.instructions.len();
            rest = program.instruction(rest).map_err(|failure| match failure {
                Failure::Word(name, text) => Error::Program(format!("instruction {number}{name}: {text}")),
                Failure::Memory => Error::OutOfMemory("no memory to decode a program".into()),
            })?;
        }
        program.interface.inputs = program.inputs.len();
        program.interface.outputs = program.outputs.len();
        Ok(program)
    }

    /// Decodes one instruction and returns the words after it.
    fn instruction<'a>(&mut self, words: &'a [u32]) -> std::result::Result<&'a [u32], Failure> {
        let number = self.instructions.len();
        if number >= MAX_REGISTERS {
            return Err(Failure::new("", format!("more than {MAX_REGISTERS} instructions")));
        }
        let &[head, ..] = words else { return Ok(words) };
        let (code, length) = (head as u16, (head >> 16) as usize);
        let row = opcode(code).ok_or_else(|| Failure::new("", format!("there is no opcode {code}")))?;
        let fail = |text: String| Failure::Word(format!(" ({})", row.name), text);
        let (body, rest) = words
            .split_at_checked(length)
            .ok_or_else(|| fail(format!("says it has {length} words, {} are left", words.len())))?;
        let mut cursor = Cursor { words: body.get(1..).unwrap_or_default() };

        let counts = cursor.word().map_err(fail)?;
        let (results, operands) = (counts & 0xff, counts >> 8);
        in_range("outputs", results, row.outputs).map_err(fail)?;
        in_range("inputs", operands, row.inputs).map_err(fail)?;

        let first_result = self.registers.len();
        for _ in 0..results {
            let register = self.result(&mut cursor, number).map_err(fail)?;
            self.registers.try_reserve(1)?;
            self.registers.push(register);
        }
        let first_operand = self.operands.len();
        let words = cursor.take(operands as usize).map_err(fail)?;
        self.operands.try_reserve(words.len())?;
        for (i, &word) in words.iter().enumerate() {
            if word != NONE && word as usize >= first_result {
                return Err(fail(format!("input {i} is %{word}, which is not defined before it")));
            }
            self.operands.push((word != NONE).then_some(word));
        }
        let attributes = cursor.attributes(row).map_err(fail)?;
        if !cursor.words.is_empty() {
            return Err(fail(format!("{} words too many", cursor.words.len())));
        }
        let op = attributes::op(row, &attributes, self.inputs.len(), self.outputs.len()).map_err(fail)?;

        let (known, declared) = self.registers.split_at(first_result);
        let operands = self.operands.get(first_operand..).unwrap_or_default();
        let case = Case { row, op: &op, operands, known, declared, instructions: &self.instructions };
        validate::check(&case).map_err(fail)?;
        self.bind(&op, first_operand, first_result)?;

        for attribute in attributes.iter() {
            if let Attribute::Scalar(index) = attribute {
                self.interface.scalars = self.interface.scalars.max(*index as usize + 1);
            }
        }
        self.instructions.try_reserve(1)?;
        self.instructions.push(Instruction {
            row,
            op,
            operands: first_operand as u32..self.operands.len() as u32,
            results: first_result as u32..self.registers.len() as u32,
        });
        Ok(rest)
    }

    /// Reads the declaration of a result.
    fn result(&self, cursor: &mut Cursor, instruction: usize) -> std::result::Result<Register, String> {
        if self.registers.len() >= MAX_REGISTERS {
            return Err(format!("more than {MAX_REGISTERS} registers"));
        }
        let word = cursor.word()?;
        let (dtype, rank) = (word & 0xff, word >> 8);
        let dtype = Dtype::from_code(dtype).ok_or_else(|| format!("an output has dtype {dtype}, unknown here"))?;
        if rank as usize > shape::MAX_RANK {
            return Err(format!("an output has rank {rank}, above {}", shape::MAX_RANK));
        }
        let dims = Dims::new(cursor.take(rank as usize)?).unwrap_or_default();
        let numel = shape::numel(&dims).ok_or_else(|| format!("{dims} has more than 2^31 - 1 elements"))?;
        let root = self.registers.len() as RegisterId;
        Ok(Register { dtype, dims, numel, root, offset: 0, instruction: instruction as u32 })
    }

    /// Enters what inputs, outputs and views mean. The instruction has been validated.
    fn bind(&mut self, op: &Op, operand: usize, result: usize) -> std::result::Result<(), Failure> {
        let operand = self.operands.get(operand).copied().flatten();
        match *op {
            Op::Input { .. } => {
                self.inputs.try_reserve(1)?;
                self.inputs.push(result as RegisterId);
            }
            Op::Output { .. } => {
                self.outputs.try_reserve(1)?;
                self.outputs.extend(operand);
            }
            Op::View { offset } => {
                let viewed = operand.and_then(|id| self.registers.get(id as usize)).map(|r| (r.root, r.offset));
                if let (Some((root, base)), Some(view)) = (viewed, self.registers.get_mut(result)) {
                    view.root = root;
                    view.offset = base + offset as usize;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Why an instruction was refused.
enum Failure {
    /// A word of it is wrong; the first part names the operation once it is known.
    Word(String, String),
    /// The tables cannot grow.
    Memory,
}

impl Failure {
    fn new(name: &str, text: String) -> Self {
        Self::Word(name.into(), text)
    }
}

impl From<std::collections::TryReserveError> for Failure {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::Memory
    }
}

/// The words of one instruction that have not been read.
struct Cursor<'a> {
    words: &'a [u32],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> std::result::Result<&'a [u32], String> {
        let (taken, rest) = self.words.split_at_checked(count).ok_or("ends too early")?;
        self.words = rest;
        Ok(taken)
    }

    fn word(&mut self) -> std::result::Result<u32, String> {
        let (&word, rest) = self.words.split_first().ok_or("ends too early")?;
        self.words = rest;
        Ok(word)
    }

    fn attributes(&mut self, row: &Opcode) -> std::result::Result<Attributes<'a>, String> {
        let mut attributes = Attributes::default();
        for &(name, kind) in row.attributes {
            let attribute = match kind {
                AttributeKind::U32 => Attribute::U32(self.word()?),
                AttributeKind::F64 => {
                    let low = self.word()?;
                    Attribute::F64(float(low, self.word()?))
                }
                AttributeKind::Scalar => {
                    let index = self.word()?;
                    // A program that reads all its scalars has no more of them than words.
                    if index as usize >= MAX_CODE_WORDS {
                        return Err(format!("{name} is scalar {index}, too high"));
                    }
                    Attribute::Scalar(index)
                }
                AttributeKind::U32s => {
                    let count = self.word()?;
                    Attribute::U32s(self.take(count as usize)?)
                }
            };
            attributes.push(attribute);
        }
        Ok(attributes)
    }
}

fn float(low: u32, high: u32) -> f64 {
    f64::from_bits(u64::from(low) | u64::from(high) << 32)
}

fn in_range(what: &str, given: u32, (least, most): (u32, u32)) -> std::result::Result<(), String> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(format!("cannot have {given} {what}")) }
}
