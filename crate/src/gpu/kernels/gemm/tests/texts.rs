//! Every text through naga, without an adapter.

use super::super::super::testing::validate;
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
