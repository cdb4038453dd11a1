//! The same program gives the same bits, whoever runs it: caller or device thread, one thread or several, fused or not,
//! on fresh memory or on memory full of old values.

use super::*;
use crate::program::Program;

#[test]
fn bits_do_not_depend_on_who_runs() {
    let benches = [bench(1, true), bench(3, true), bench(1, false)];
    benches.iter().for_each(Bench::use_up_turn);
    let inline = bench(1, true);
    let mut random = Random::new(7);
    for seed in 0..400 {
        let writer = random_program(&mut random, 12);
        inline.next_turn();
        let expected = order::run(&inline, &writer, seed);
        for (name, bench) in ["one thread", "three threads", "unfused"].iter().zip(&benches) {
            let program = Program::decode(&writer.code).unwrap();
            assert_eq!(order::run(bench, &writer, seed), expected, "{name}, seed {seed}:\n{program}");
        }
    }
}

#[test]
fn packed_weights_change_no_bit_and_no_write_is_missed() {
    let bench = bench(2, true);
    let (k, n) = (70, 45);
    let weight: Vec<f32> = (0..k * n).map(|i| (i % 97) as f32 / 97.0 - 0.4).collect();
    bench.write(1, &vec![0.3; 5 * k]);
    bench.write(2, &weight);
    let shapes: [(Dtype, &[u32]); 2] = [(F32, &[5, k as u32]), (F32, &[k as u32, n as u32])];
    let product = program(&shapes, |w, x| vec![w.op("matmul", &[(F32, &[5, n as u32])], x, &[A::W(0), A::W(0)])]);
    let double = program(&shapes[1..], |w, x| {
        let two = w.op("add", &[shapes[1]], &[x[0], x[0]], &[]);
        w.op("assign", &[], &[x[0], two], &[]);
        vec![]
    });
    let multiply = |slot| bench.submit(&stream(&product, &[1, 2], &[slot], &[], &[]));
    for slot in 10..13 {
        multiply(slot);
    }
    let first = bench.read(10, 5 * n).unwrap();
    assert!(bench.device.statistics().memory.packed > 0);
    assert_eq!(bench.read(12, 5 * n).unwrap(), first);
    bench.submit(&stream(&double, &[2], &[], &[], &[]));
    multiply(13);
    multiply(14);
    let doubled: Vec<f32> = first.iter().map(|y| y * 2.0).collect();
    assert_eq!(bench.read(13, 5 * n).unwrap(), doubled);
    assert_eq!(bench.read(14, 5 * n).unwrap(), doubled);
}

/// Rows that a batch of elements holds many of, a few, and not one of.
#[test]
fn a_softmax_between_chains_has_the_bits_of_the_steps_apart() {
    let benches = [bench(1, true), bench(3, true), bench(1, false)];
    for (rows, count) in [(1, 1), (700, 7), (300, 64), (9, 1000), (40, 1031), (3, 9001)] {
        for (op, grad) in [("softmax", "softmaxGrad"), ("logSoftmax", "logSoftmaxGrad")] {
            let (dims, axes) = ([rows, count], [A::W(rows), A::W(count), A::W(1)]);
            let shape: (Dtype, &[u32]) = (F32, &dims);
            let writer = program(&[shape, shape, (F32, &[count]), (F32, &[rows, 1])], |w, x| {
                let above = w.op("greater", &[(Dtype::Bool, &dims)], &[x[0], x[2]], &[]);
                let within = w.op("where", &[shape], &[above, x[0], x[3]], &[]);
                let soft = w.like(op, &[within], &axes);
                let y = w.op("where", &[shape], &[above, soft, x[1]], &[]);
                let slope = w.op("mul", &[shape], &[y, x[2]], &[]);
                let own = w.like(grad, &[slope, x[1]], &axes);
                vec![y, w.op("where", &[shape], &[above, own, x[2]], &[])]
            });
            benches.iter().for_each(Bench::next_turn);
            let [one, three, apart] = [0, 1, 2].map(|i| order::run(&benches[i], &writer, u64::from(count)));
            assert!(one == apart && three == apart, "{op} of {dims:?}");
            assert!(apart.iter().all(Result::is_ok));
        }
    }
}
