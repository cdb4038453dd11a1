//! Writes the code words of a program, instruction by instruction, with the numbers of the opcode table. It keeps what a
//! test needs to go on (types of registers, counts) and checks nothing: whatever it is told to write, it writes.

use crate::dtype::Dtype;
use crate::program::table::OPCODES;

/// One attribute to be written.
#[derive(Clone, Copy)]
pub(crate) enum A<'a> {
    W(u32),
    F(f64),
    L(&'a [u32]),
}

pub(crate) const F32: Dtype = Dtype::F32;
pub(crate) const I32: Dtype = Dtype::I32;
pub(crate) const BOOL: Dtype = Dtype::Bool;

/// Writes code words.
#[derive(Default, Clone)]
pub(crate) struct Writer {
    pub(crate) code: Vec<u32>,
    pub(crate) registers: Vec<(Dtype, Vec<u32>)>,
    pub(crate) inputs: u32,
    pub(crate) outputs: u32,
    pub(crate) scalars: u32,
}

impl Writer {
    /// Appends an instruction and returns its first result.
    pub(crate) fn op(&mut self, name: &str, results: &[(Dtype, &[u32])], inputs: &[u32], attributes: &[A]) -> u32 {
        let row = OPCODES.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no opcode {name}"));
        let start = self.code.len();
        self.code.extend([0, results.len() as u32 | (inputs.len() as u32) << 8]);
        for (dtype, dims) in results {
            self.code.push(*dtype as u32 | (dims.len() as u32) << 8);
            self.code.extend(*dims);
        }
        self.code.extend(inputs);
        for attribute in attributes {
            match *attribute {
                A::W(word) => self.code.push(word),
                A::F(value) => self.code.extend([value.to_bits() as u32, (value.to_bits() >> 32) as u32]),
                A::L(list) => {
                    self.code.push(list.len() as u32);
                    self.code.extend(list);
                }
            }
        }
        self.code[start] = u32::from(row.code) | ((self.code.len() - start) as u32) << 16;
        self.inputs += u32::from(name == "input");
        self.outputs += u32::from(name == "output");
        self.registers.extend(results.iter().map(|(dtype, dims)| (*dtype, dims.to_vec())));
        (self.registers.len() - results.len()) as u32
    }

    pub(crate) fn input(&mut self, dtype: Dtype, dims: &[u32]) -> u32 {
        self.op("input", &[(dtype, dims)], &[], &[])
    }

    pub(crate) fn output(&mut self, register: u32) {
        self.op("output", &[], &[register], &[]);
    }

    /// An f32 instruction that keeps the shape of its first operand.
    pub(crate) fn like(&mut self, name: &str, inputs: &[u32], attributes: &[A]) -> u32 {
        let (dtype, dims) = self.registers[inputs[0] as usize].clone();
        self.op(name, &[(dtype, &dims)], inputs, attributes)
    }

    pub(crate) fn dims(&self, register: u32) -> Vec<u32> {
        self.registers[register as usize].1.clone()
    }

    /// The number of the next scalar.
    pub(crate) fn scalar(&mut self) -> A<'static> {
        self.scalars += 1;
        A::W(self.scalars - 1)
    }

    /// The whole stream, slots numbered from 100 (inputs) and 200 (outputs).
    pub(crate) fn stream(&self) -> Vec<u32> {
        let mut words = vec![0x5447_4c31, self.inputs, self.outputs, 1, self.scalars, self.code.len() as u32];
        words.extend((0..self.inputs).map(|i| 100 + i));
        words.extend((0..self.outputs).map(|i| 200 + i));
        words.push(100);
        words.extend((0..self.scalars).flat_map(|i| {
            let bits = f64::from(i).to_bits();
            [bits as u32, (bits >> 32) as u32]
        }));
        words.extend(&self.code);
        words
    }
}
