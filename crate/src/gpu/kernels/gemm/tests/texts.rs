//! Every text through naga, without an adapter.

use super::super::super::testing::{validate, validate_for};
use super::choose::Family;
use super::*;

#[test]
fn what_is_empty_needs_no_memory() {
    let traits = Traits::software();
    let op = Op::Matmul { transpose_a: false, transpose_b: false };
    let product = |m, k, n| {
        let dims = [[m, k], [k, n], [m, n]].map(|dims| operand(Dtype::F32, &dims, 0));
        prepare(&kernel(op.clone(), vec![Some(dims[0]), Some(dims[1])], vec![dims[2]]), &traits)
    };
    for (m, k, n) in [(0, 3, 3), (3, 3, 0), (0, 0, 0)] {
        assert_eq!(product(m, k, n), Prepared::default());
    }
    let zeros = product(3, 0, 5);
    zeros.calls.iter().for_each(validate);
    assert_eq!(zeros.calls.len(), 1);
    assert_eq!(zeros.calls[0].memory.len(), 1);
}

/// All families, with every tile that anybody chooses.
fn families() -> Vec<Family> {
    let software = |rows, vectors| Family::Software(software::Tile { rows, vectors });
    let simt = |rows, cols| Family::Simt(simt::Tile { rows, cols });
    let mut families = vec![software(8, 1), software(8, 2), software(16, 1), software(16, 2)];
    families.extend([1, 2, 4, 8].map(Family::Rows));
    families.extend([(32, 32), (64, 64), (64, 128), (128, 64), (128, 128)].map(|(rows, cols)| simt(rows, cols)));
    families
}

#[test]
fn every_text_is_valid_and_fits_workgroup_memory() {
    let activations = [Activation::None, Activation::Relu, Activation::Gelu];
    for (at, family) in families().into_iter().enumerate() {
        for kind in 0..64 {
            let size = |bit: usize, even| if kind >> bit & 1 == 0 { even } else { even + 1 };
            let (m, k, n) = (size(0, 132), size(1, if kind & 8 == 0 { 200 } else { 2000 }), size(2, 260));
            let (ta, tb) = (kind & 16 != 0, kind & 32 != 0);
            let traits =
                Traits { workgroup_bytes: if kind % 3 == 0 { 32 << 10 } else { 16 << 10 }, ..Traits::software() };
            let target = Target { traits: &traits, aligned: Aligned::default() };
            let place = |dims: [usize; 2]| operand(Dtype::F32, &words(&dims), 0);
            let sides = [place([m, k]), place([k, n])];
            let bias = (kind % 5 < 3).then(|| operand(Dtype::F32, &[n as u32], 0));
            let z = (kind % 7 < 3).then(|| place([m, n]));
            let to = Memory::Operand(place([m, n]));
            let epilogue = Epilogue { to, bias, activation: activations[(kind + at) % 3], z, after: None };
            let batch = vec![BatchDim { size: 3, a: 5, b: 0 }; kind % 4];
            let a = side(&sides[0], !ta, Aligned::default());
            let b = side(&sides[1], tb, Aligned::default());
            let mut prepared = Prepared::default();
            Product { a, b, m, n, k, batch, epilogue }.dispatch(family, target, &mut prepared).unwrap();
            validate_for(&prepared.calls[0], &traits);
        }
    }
}

#[test]
fn a_text_knows_neither_the_rows_nor_the_batch() {
    let text = |traits: &Traits, batch: usize, m: usize| {
        let dims = [vec![batch, m, 64], vec![batch, 64, 2048], vec![batch, m, 2048]];
        let [a, b, c] = dims.map(|dims| operand(Dtype::F32, &words(&dims), 0));
        let op = Op::Matmul { transpose_a: false, transpose_b: false };
        prepare(&kernel(op, vec![Some(a), Some(b)], vec![c]), traits).calls[0].shader.text.clone()
    };
    for class in [Class::Discrete, Class::Integrated, Class::Software] {
        for traits in [Traits::least(class), Traits { class, ..Traits::software() }] {
            let all = |batch| (1..600).map(move |m| (batch, m));
            let texts: std::collections::HashSet<String> =
                all(2).chain(all(7)).map(|(batch, m)| text(&traits, batch, m)).collect();
            assert!(texts.len() <= 3, "{class:?} {}", texts.len());
        }
    }
}

#[test]
fn long_products_are_cut_into_parts_that_meet() {
    let traits = Traits { binding_bytes: 2 << 30, ..Traits::software() };
    let (m, k, n) = (70_000, 4096, 4096);
    let dims = [[m, k], [k, n], [m, n]].map(|dims| operand(Dtype::F32, &words(&dims), 0));
    let op = Op::Matmul { transpose_a: false, transpose_b: false };
    let prepared = prepare(&kernel(op, vec![Some(dims[0]), Some(dims[1])], vec![dims[2]]), &traits);
    // 2.35 TFLOP by 2.5 GFLOP.
    assert!((900..1100).contains(&prepared.calls.len()), "{}", prepared.calls.len());
    assert!(prepared.calls.windows(2).all(|pair| pair[0].shader == pair[1].shader));

    let to = Memory::Operand(dims[2]);
    let of = |m: usize, batch: usize| Product {
        a: side(&dims[0], true, Aligned::default()),
        b: side(&dims[1], false, Aligned::default()),
        m,
        n,
        k,
        batch: vec![BatchDim { size: batch, a: 0, b: 0 }],
        epilogue: Epilogue::plain(to),
    };
    for (m, batch) in [(70_000, 3), (16, 1000), (16, 1), (1, 200_000)] {
        let mut covered = 0;
        for part in of(m, batch).parts(&traits, 16, n.div_ceil(64)) {
            assert!(part.row % 16 == 0 && part.row + (part.tiles - 1) * 16 < m && part.item + part.items <= batch);
            assert!(part.items <= traits.grid as usize);
            covered += part.tiles * part.items;
        }
        assert_eq!(covered, m.div_ceil(16) * batch);
    }
}
