//! Random valid programs: every instruction is drawn with operands that exist, preferably recent ones, so that values are
//! used, overwritten and fused as in real programs. One file for each kind of instruction; here are the draw between them and
//! the choice of operands. What the programs compute is of no interest here: shapes are small, numbers come from tests.

mod element;
mod layer;
mod movement;
mod training;

use crate::dtype::Dtype;
use crate::program::testing::{A, F32, Random, Writer};
use element::{random_element, random_reduce};
use layer::{random_batch_norm, random_linear_grad, random_norm, random_product};
use movement::{random_change, random_gather, random_movement, random_view};
use training::{random_loss, random_optimiser};

/// A random valid program of about `length` instructions in which every opcode may occur. Inputs that may be changed in
/// place occur only whole or as views.
pub(crate) fn random_program(random: &mut Random, length: u32) -> Writer {
    let mut writer = Writer::default();
    for _ in 0..=random.below(3) {
        let dims = random_dims(random);
        writer.input(F32, &dims);
    }
    for _ in 0..length {
        let x = any(random, &writer, F32);
        let dims = writer.dims(x);
        match random.below(29) {
            0..=6 => random_element(random, &mut writer, x),
            7 => random_view(random, &mut writer, x),
            8 => random_reduce(random, &mut writer, x),
            9 => random_product(random, &mut writer, x),
            10 => random_linear_grad(random, &mut writer, x),
            11 => random_loss(random, &mut writer, x),
            12 => random_movement(random, &mut writer, x),
            13 => random_gather(random, &mut writer, x),
            14 => random_optimiser(random, &mut writer, x),
            15 => random_change(random, &mut writer, x),
            16 => {
                let dims = random_dims(random);
                let value = writer.scalar();
                writer.op("full", &[(F32, &dims)], &[], &[value]);
            }
            17 => writer.output(x),
            18 => {
                writer.input(F32, &dims);
            }
            19 => {
                writer.op("squaredNorm", &[(F32, &[])], &[x, x], &[]);
            }
            20 => {
                let bigger: Vec<u32> = dims.iter().map(|&d| if d == 1 { 3 } else { d }).collect();
                writer.op("expand", &[(F32, &bigger)], &[x], &[]);
            }
            21 => {
                let inner = A::W(dims.iter().skip(1).product());
                let scalars: [A; 5] = std::array::from_fn(|_| writer.scalar());
                writer.op("uniform", &[(F32, &dims)], &[], &[&[inner][..], &scalars].concat());
            }
            22 => random_batch_norm(random, &mut writer, x),
            23 | 24 => random_norm(random, &mut writer, x),
            25 => {
                let inner = A::W(dims.iter().skip(1).product());
                let scalars: [A; 5] = std::array::from_fn(|_| writer.scalar());
                let numbers = [inner, A::W(random.below((1 << 24) + 1)), A::F(1.5)];
                writer.like("dropout", &[x], &[&numbers[..], &scalars].concat());
            }
            _ => {
                writer.like("relu", &[x], &[]);
            }
        }
    }
    for _ in 0..=random.below(3) {
        let x = random.below(writer.registers.len() as u32);
        writer.output(x);
    }
    writer
}

fn random_dims(random: &mut Random) -> Vec<u32> {
    let rank = random.below(4);
    let sizes: &[u32] = if random.chance(3) { &[0, 2] } else { &[1, 2, 3, 4, 4, 5, 7, 8] };
    (0..rank).map(|_| random.pick(sizes)).collect()
}

/// A register of a dtype, preferably a recent one; there is always one of f32.
fn any(random: &mut Random, writer: &Writer, dtype: Dtype) -> u32 {
    let found: Vec<u32> =
        (0..writer.registers.len() as u32).filter(|&r| writer.registers[r as usize].0 == dtype).collect();
    let recent = if random.chance(60) { found.len().saturating_sub(4) } else { 0 };
    random.pick(&found[recent..])
}

/// A register of exactly this type: an existing one or a new input.
fn of_type(random: &mut Random, writer: &mut Writer, dtype: Dtype, dims: &[u32]) -> u32 {
    let wanted = (dtype, dims.to_vec());
    let found: Vec<u32> =
        (0..writer.registers.len() as u32).filter(|&r| writer.registers[r as usize] == wanted).collect();
    if found.is_empty() || random.chance(20) { writer.input(dtype, dims) } else { random.pick(&found) }
}
