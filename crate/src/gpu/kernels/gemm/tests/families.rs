//! All families beside each other.

use super::*;

#[test]
fn all_families_have_the_same_bits() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(5);
    let traits = lab.traits.clone();
    let target = Target { traits: &traits, aligned: Aligned::default() };
    for (m, k, n) in [(7, 530, 36), (70, 300, 33)] {
        let (x, y) = (numbers.reals(m * k), numbers.reals(k * n));
        let mut memory = Layout::default();
        let (a, b) = (memory.input(&[m, k], &x, 0), memory.input(&[k, n], &y, 0));
        let c = memory.result(&[m, n]);
        let product = kernel(Op::Matmul { transpose_a: false, transpose_b: false }, vec![Some(a), Some(b)], vec![c]);
        let bits = |results: Vec<Vec<f32>>| results.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let chosen = bits(memory.run(&mut lab, &prepare(&product, &traits), true));
        let families = Family::all(&traits, m, k);
        assert!(families.len() > 4 && families.contains(&choose::family(&traits, m, n, k, 1)), "{families:?}");
        for family in families {
            let prepared = matmul_by(&product, family, target).unwrap();
            assert_eq!(bits(memory.run(&mut lab, &prepared, true)), chosen, "{family}");
        }
    }
}

#[test]
fn what_is_no_product_has_no_family() {
    let traits = Traits::software();
    let target = Target { traits: &traits, aligned: Aligned::default() };
    let dims = |m, k, n| [[m, k], [k, n], [m, n]].map(|dims| operand(Dtype::F32, &dims, 0));
    let [a, b, c] = dims(2, 0, 3);
    let empty = kernel(Op::Matmul { transpose_a: false, transpose_b: false }, vec![Some(a), Some(b)], vec![c]);
    let family = Family::all(&traits, 2, 1)[0];
    assert_eq!(matmul_by(&empty, family, target).unwrap_err().code(), "ERR_INTERNAL");
    assert_eq!(matmul_by(&kernel(Op::Assign, vec![], vec![]), family, target).unwrap_err().code(), "ERR_INTERNAL");
}
