//! Elementwise instructions, alone or broadcast, and what works over the middle of `[outer, count, inner]`.

use super::of_type;
use crate::program::testing::{A, BOOL, F32, I32, Random, Writer};

pub(super) fn random_element(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    match random.below(8) {
        0 | 1 => {
            let name = random.pick(&["neg", "exp", "square", "tanh", "gelu", "floor", "isFinite"]);
            let dtype = if name == "isFinite" { BOOL } else { F32 };
            writer.op(name, &[(dtype, &dims)], &[x], &[]);
        }
        2 => {
            writer.like("softplus", &[x], &[A::F(1.0), A::F(20.0)]);
        }
        3 => {
            let (low, high) = (writer.scalar(), writer.scalar());
            writer.like("clip", &[x], &[low, high]);
        }
        4 => {
            let condition = of_type(random, writer, BOOL, &dims);
            let y = of_type(random, writer, F32, &dims);
            writer.op("where", &[(F32, &dims)], &[condition, x, y], &[]);
        }
        5 => {
            // Broadcast over the leading dimensions and one more.
            let mut small = dims.clone();
            if let Some(first) = small.first_mut() {
                *first = 1;
            }
            let small = if random.chance(50) { small } else { dims.get(1..).unwrap_or_default().to_vec() };
            let y = of_type(random, writer, F32, &small);
            let name = random.pick(&["add", "mul", "less", "pow"]);
            let operands = if random.chance(50) { [x, y] } else { [y, x] };
            writer.op(name, &[(if name == "less" { BOOL } else { F32 }, &dims)], &operands, &[]);
        }
        6 => {
            let y = of_type(random, writer, F32, &dims);
            writer.like(random.pick(&["reluGrad", "siluGrad"]), &[x, y], &[]);
        }
        _ => {
            let y = of_type(random, writer, F32, &dims);
            writer.like(random.pick(&["add", "sub", "mul", "maximum"]), &[x, y], &[]);
            if random.chance(20) {
                let z = writer.op("cast", &[(I32, &dims)], &[x], &[]);
                writer.like("add", &[z, z], &[]);
            }
        }
    }
}

pub(super) fn random_reduce(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let axis = random.below(dims.len() as u32 + 1) as usize;
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (outer, count) = (product(&dims[..axis]), dims.get(axis).copied().unwrap_or(1));
    let inner = product(dims.get(axis + 1..).unwrap_or_default());
    let middle = [A::W(outer), A::W(count), A::W(inner)];
    match random.below(8) {
        7 => {
            let ways = [A::W(random.below(2)), A::W(random.below(2))];
            writer.like(random.pick(&["cumsum", "cumprod"]), &[x], &[&middle[..], &ways].concat())
        }
        6 => {
            let k = random.below(count + 1);
            let shape = [outer, k, inner];
            writer.op("topK", &[(F32, &shape), (I32, &shape), (I32, &shape)], &[x], &[&middle[..], &[A::W(k)]].concat())
        }
        0 => writer.like(random.pick(&["softmax", "logSoftmax"]), &[x], &middle),
        1 => writer.like(random.pick(&["softmaxGrad", "logSoftmaxGrad"]), &[x, x], &middle),
        2..=4 if count > 0 => {
            let name = random.pick(&["max", "argmin", "sum", "mean"]);
            let dtype = if name == "argmin" { I32 } else { F32 };
            // Often of something that nothing else needs.
            let x = if random.chance(60) { writer.like("exp", &[x], &[]) } else { x };
            writer.op(name, &[(dtype, &[outer, inner])], &[x], &middle)
        }
        _ => writer.op("variance", &[(F32, &[outer, 1, inner])], &[x], &[&middle[..], &[A::F(1.0)]].concat()),
    };
}
