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
