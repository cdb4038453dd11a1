//! `uniform`: an invocation computes one Philox 4x32-10 block, four numbers, with the bits of `cpu::random`. Nothing is
//! read. Rows of whole blocks, and a row alone, whose last block may reach into the padding of the result, are written in
//! vectors; rows that end inside a block in words.
//!
//! `dropout`: likewise, but what is computed is which of four elements are left, and those are read. Nobody knows what lies
//! behind an operand, so that vectors take rows of whole blocks.
//!
//! WGSL has no product of 64 bits: its high word is put together from 16-bit halves. Numbers have 24 bits, so conversion
//! and scaling are exact.

use super::shader::{Builder, Memory, Type, Word};
use super::{Prepared, Target, input, output};
use crate::error::Result;
use crate::plan::Kernel;
use crate::program::op::{Dropout, Uniform};

/// Invocations of a workgroup; they share nothing.
const GROUP: usize = 256;

const PHILOX: &str = "\
fn high_word(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu; let ah = a >> 16u;
    let bl = b & 0xffffu; let bh = b >> 16u;
    let middle = ah * bl + ((al * bl) >> 16u);
    let other = al * bh + (middle & 0xffffu);
    return ah * bh + (middle >> 16u) + (other >> 16u);
}
fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let high = vec2<u32>(high_word(0xd2511f53u, c.x), high_word(0xcd9e8d57u, c.z));
        let low = vec2<u32>(0xd2511f53u * c.x, 0xcd9e8d57u * c.z);
        c = vec4<u32>(high.y ^ c.y ^ key.x, low.y, high.x ^ c.w ^ key.y, low.x);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}";

/// Uniform numbers in [0, 1).
pub(super) fn uniform(kernel: &Kernel, of: &Uniform, target: Target) -> Result<Prepared> {
    let y = output(kernel, 0)?;
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let vectors = y.numel == of.inner as usize || of.inner.is_multiple_of(4);
    let mut b = Builder::new(target.traits, "uniform").masked();
    b.buffer("y", Memory::Operand(*y), if vectors { Type::Vec4F32 } else { Type::F32 });
    b.item("fn scaled(words: vec4<u32>) -> vec4<f32> { return vec4<f32>(words) * 5.9604644775390625e-8; }");
    let main = if vectors {
        "y_set(i, scaled(words));".to_owned()
    } else {
        let store = |lane: usize| format!("y_set(at + {lane}u, numbers[{lane}]);");
        format!("let numbers = scaled(words);\n{}", by_words(store))
    };
    by_blocks(b, of, y.numel, &main)
}

/// What is left of x.
pub(super) fn dropout(kernel: &Kernel, rule: &Dropout, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let vectors = rule.of.inner.is_multiple_of(4) && Builder::is_aligned(x, target.aligned);
    let ty = if vectors { Type::Vec4F32 } else { Type::F32 };
    let mut b = Builder::new(target.traits, "dropout").masked();
    b.buffer("x", Memory::Operand(*x), ty);
    b.buffer("y", Memory::Operand(*y), ty);
    b.word("threshold", "u32", Word::Value(rule.threshold));
    b.word("scale", "f32", Word::Value((rule.scale as f32).to_bits()));
    let main = if vectors {
        "y_set(i, select(vec4<f32>(0.0), x(i) * p.scale, words >= vec4<u32>(p.threshold)));".to_owned()
    } else {
        by_words(|lane| {
            format!("y_set(at + {lane}u, select(0.0, x(at + {lane}u) * p.scale, words[{lane}] >= p.threshold));")
        })
    };
    by_blocks(b, &rule.of, y.numel, &main)
}

/// Stores the elements of a block that its row still has.
fn by_words(store: impl Fn(usize) -> String) -> String {
    let first = format!(
        "let left = p.inner - block * 4u;\n\
         let at = row * p.inner + block * 4u;\n\
         {}",
        store(0)
    );
    (1..4).fold(first, |text, lane| format!("{text}\nif (left > {lane}u) {{ {} }}", store(lane)))
}

/// An invocation for each block of the rows; the body sees its number `i`, its `row`, its number in the row, `block`, and
/// the upper 24 bits of its `words`.
fn by_blocks(mut b: Builder, of: &Uniform, numel: usize, body: &str) -> Result<Prepared> {
    let inner = of.inner as usize;
    let (rows, blocks) = (numel / inner.max(1), inner.div_ceil(4));
    b.value("count", rows * blocks);
    b.value("blocks", blocks);
    b.value("inner", inner);
    for (name, scalar) in ["seed_low", "seed_high", "site", "draw", "row_base"].into_iter().zip([
        of.seed[0],
        of.seed[1],
        of.site,
        of.draw,
        of.row_base,
    ]) {
        b.word(name, "u32", Word::Whole(scalar));
    }
    b.item(PHILOX);
    let main = format!(
        "let i = group() * 256u + local;\n\
         if (i >= p.count) {{ return; }}\n\
         let row = i / p.blocks;\n\
         let block = i - row * p.blocks;\n\
         let counter = vec4<u32>(block, p.row_base + row, p.site, p.draw);\n\
         let words = philox(counter, vec2<u32>(p.seed_low, p.seed_high)) >> vec4<u32>(8u);\n\
         {body}"
    );
    Ok(vec![b.finish(GROUP as u32, [(rows * blocks).div_ceil(GROUP), 1, 1], &main)?].into())
}

#[cfg(test)]
mod tests {
    use super::super::canary::{Arena, bits, floats, kernel, prepare, words};
    use super::super::testing::{Lab, Settings, operand, validate};
    use super::*;
    use crate::cpu::random::Stream;
    use crate::cpu::{Cpu, Isa, Pool, random as cpu};
    use crate::dtype::Dtype;
    use crate::gpu::{Class, Traits};
    use crate::program::Op;

    const OF: Uniform = Uniform { inner: 0, seed: [1, 2], site: 3, draw: 4, row_base: 5 };

    fn row_step(inner: u32, y: crate::plan::Operand) -> Kernel {
        kernel(Op::Uniform(Uniform { inner, ..OF }), &[], &[y])
    }

    #[test]
    fn numbers_are_those_of_the_cpu() {
        let Some(mut lab) = Lab::open() else { return };
        let processor = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
        let high = f64::from(u32::MAX);
        for scalars in [
            [9.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [9.0, 3_735_928_559.0, 2_097_151.0, 4_294_901_762.0, 17.0, 1000.0],
            [9.0, high, high, high, high, high],
        ] {
            for (rows, inner) in [
                (0, 5),
                (1, 0),
                (1, 1),
                (1, 2),
                (1, 4),
                (1, 7),
                (1, 1009),
                (1, 70_001),
                (5, 1),
                (3, 3),
                (5, 4),
                (7, 6),
                (257, 12),
                (31, 33),
                (300, 257),
            ] {
                let mut arena = Arena::default();
                let y = arena.written(Dtype::F32, &[rows, inner]);
                let mut want = vec![0.0; y.numel];
                let of = Uniform { inner, ..OF };
                cpu::uniform(&processor, inner as usize, Stream::of(&of, &scalars), &mut want);
                let settings = Settings { scalars: &scalars, ..Settings::default() };
                let got = arena.run(&mut lab, &row_step(inner, y), settings);
                assert!(words(&got, &y) == bits(&want), "{rows} rows of {inner} by {scalars:?}");
            }
        }
    }

    #[test]
    fn what_is_left_is_what_the_cpu_leaves() {
        let Some(mut lab) = Lab::open() else { return };
        let processor = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
        let scalars = [9.0, 3_735_928_559.0, 2_097_151.0, 65_539.0, 17.0, 1000.0];
        for (rows, inner) in
            [(0, 5), (1, 0), (1, 1), (1, 7), (1, 1009), (5, 1), (3, 3), (5, 4), (257, 12), (31, 33), (300, 257)]
        {
            for shift in [0, 3] {
                for (threshold, scale) in [(0, 1.0), (5_033_165, 1.0 / 0.7), (1 << 23, 2.0), (1 << 24, 0.0)] {
                    let mut numbers = floats((rows * inner) as usize, 5);
                    // What is left out may be anything.
                    if threshold == 1 << 24 {
                        numbers.fill(f32::INFINITY);
                    }
                    let mut arena = Arena::default();
                    let x = arena.read(Dtype::F32, &[rows, inner], &bits(&numbers), shift);
                    let y = arena.written(Dtype::F32, &[rows, inner]);
                    let rule = Dropout { of: Uniform { inner, ..OF }, threshold, scale };
                    let mut want = vec![f32::NAN; y.numel];
                    cpu::dropout(&processor, &rule, Stream::of(&rule.of, &scalars), &numbers, &mut want);
                    let step = kernel(Op::Dropout(rule), &[Some(x)], &[y]);
                    let got = arena.run(&mut lab, &step, Settings { scalars: &scalars, ..Settings::default() });
                    assert!(words(&got, &y) == bits(&want), "{rows} rows of {inner}, {threshold}, shift {shift}");
                }
            }
        }
    }

    #[test]
    fn blocks_are_the_known_answers() {
        let Some(mut lab) = Lab::open() else { return };
        let known: [[u32; 10]; 3] = [
            [0, 0, 0, 0, 0, 0, 0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            [
                u32::MAX,
                u32::MAX,
                u32::MAX,
                u32::MAX,
                u32::MAX,
                u32::MAX,
                0x408f_276d,
                0x41c8_3b0e,
                0xa20b_c7c6,
                0x6d54_51fd,
            ],
            [
                0x243f_6a88,
                0x85a3_08d3,
                0x1319_8a2e,
                0x0370_7344,
                0xa409_3822,
                0x299f_31d0,
                0xd16c_fe09,
                0x94fd_cceb,
                0x5001_e420,
                0x2412_6ea1,
            ],
        ];
        for [c0, c1, c2, c3, k0, k1, want @ ..] in known {
            let traits = lab.traits.clone();
            let mut b = Builder::new(&traits, "philox");
            b.buffer("y", Memory::Operand(operand(Dtype::I32, &[4], 0)), Type::Vec4U32);
            b.item(PHILOX);
            let main = format!(
                "if (local == 0u) {{ y_set(0u, philox(vec4<u32>({c0}u, {c1}u, {c2}u, {c3}u), vec2<u32>({k0}u, {k1}u))); }}"
            );
            let call = b.finish(GROUP as u32, [1, 1, 1], &main).unwrap();
            assert_eq!(lab.run(&vec![call].into(), &[0; 4], Settings::default()).arena, want);
        }
    }

    #[test]
    fn texts_are_valid_and_know_no_sizes() {
        let traits = Traits::least(Class::Discrete);
        let text = |rows, inner| {
            let prepared = prepare(&row_step(inner, operand(Dtype::F32, &[rows, inner], 0)), &traits);
            prepared.calls.iter().for_each(validate);
            prepared.calls.into_iter().map(|call| call.shader).collect::<Vec<_>>()
        };
        let left = |rows, inner, at| {
            let rule = Dropout { of: Uniform { inner, ..OF }, threshold: inner, scale: f64::from(rows) };
            let [x, y] = [operand(Dtype::F32, &[rows, inner], at), operand(Dtype::F32, &[rows, inner], 1 << 30)];
            let prepared = prepare(&kernel(Op::Dropout(rule), &[Some(x)], &[y]), &traits);
            prepared.calls.iter().for_each(validate);
            prepared.calls.into_iter().map(|call| call.shader).collect::<Vec<_>>()
        };
        assert_eq!(left(3, 64, 0), left(5, 128, 64));
        assert_eq!(left(1, 33, 0), left(4, 64, 3));
        left(3, 60 << 18, 0);
        assert_eq!(text(3, 64), text(5, 128));
        assert_eq!(text(1, 33), text(4, 64));
        assert_eq!(text(3, 33), text(5, 129));
        // Results of many windows.
        text(1, 60 << 20);
        text(60 << 20, 1);
    }
}
