//! Movement of words against index arithmetic, element by element, for shapes with and without dimensions that merge.

use super::*;
use crate::cpu::{Isa, Pool};
use crate::shape::numel;

fn cpus() -> [Cpu; 2] {
    [1, 3].map(|threads| Cpu { isa: Isa::detect(), pool: Pool::new(threads).unwrap() })
}

fn words(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

/// The multi-index of a flat one.
fn index(flat: usize, dims: &[u32]) -> Vec<usize> {
    strides(dims).iter().zip(dims).map(|(s, &d)| flat / s % d as usize).collect()
}

fn flat(index: &[usize], dims: &[u32]) -> usize {
    index.iter().zip(strides(dims)).map(|(i, s)| i * s).sum()
}

#[test]
fn transpose_follows_index_arithmetic() {
    let cases: [(&[u32], &[u32]); 14] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[0, 3], &[1, 0]),
        (&[3, 5], &[1, 0]),
        (&[16, 16], &[1, 0]),
        (&[17, 33], &[1, 0]),
        (&[1, 7, 1], &[2, 0, 1]),
        (&[257, 301], &[1, 0]),
        (&[2, 3, 5], &[0, 2, 1]),
        (&[4, 3, 50], &[1, 0, 2]),
        (&[3, 20, 40], &[2, 0, 1]),
        (&[3, 20, 40], &[1, 2, 0]),
        (&[2, 3, 4, 5, 2, 3], &[5, 0, 3, 2, 4, 1]),
        (&[2, 1, 3, 2, 2, 1, 2, 3], &[7, 6, 5, 4, 3, 2, 1, 0]),
    ];
    for cpu in cpus() {
        for (dims, permutation) in cases {
            let x = words(numel(dims).unwrap());
            let sizes: Vec<u32> = permutation.iter().map(|&p| dims[p as usize]).collect();
            let mut y = vec![u32::MAX; x.len()];
            transpose(&cpu, dims, permutation, &x, &mut y);
            for (position, &got) in y.iter().enumerate() {
                let mut from = vec![0; dims.len()];
                for (i, &p) in index(position, &sizes).iter().zip(permutation) {
                    from[p as usize] = *i;
                }
                assert_eq!(got as usize, flat(&from, dims), "{dims:?} by {permutation:?}");
            }
        }
    }
}

#[test]
fn slice_and_pad_follow_index_arithmetic() {
    type Case = (&'static [u32], &'static [u32], &'static [u32]);
    let cases: [Case; 9] = [
        (&[], &[], &[]),
        (&[7], &[2], &[3]),
        (&[7], &[7], &[0]),
        (&[4, 5], &[0, 0], &[4, 5]),
        (&[4, 5], &[1, 0], &[2, 5]),
        (&[4, 5], &[3, 4], &[1, 1]),
        (&[9, 5], &[2, 4], &[6, 1]),
        (&[3, 4, 5], &[1, 1, 1], &[2, 3, 2]),
        (&[300, 500], &[7, 11], &[200, 301]),
    ];
    for cpu in cpus() {
        for (dims, starts, sizes) in cases {
            let x = words(numel(dims).unwrap());
            let mut part = vec![u32::MAX; numel(sizes).unwrap()];
            slice(&cpu, dims, starts, sizes, &x, &mut part);
            for (position, &got) in part.iter().enumerate() {
                let from: Vec<_> = index(position, sizes).iter().zip(starts).map(|(i, &s)| i + s as usize).collect();
                assert_eq!(got as usize, flat(&from, dims), "slice of {dims:?}");
            }
            let mut padded = vec![0; x.len()];
            pad(&cpu, sizes, starts, dims, 77_777_777, &part, &mut padded);
            for (position, &got) in padded.iter().enumerate() {
                let inside = index(position, dims)
                    .iter()
                    .zip(starts)
                    .zip(sizes)
                    .all(|((&i, &s), &n)| i >= s as usize && i < (s + n) as usize);
                assert_eq!(got as usize, if inside { position } else { 77_777_777 }, "pad to {dims:?}");
            }
        }
    }
}

#[test]
fn concat_puts_operands_one_after_the_other() {
    for cpu in cpus() {
        for (dims, axis) in [(&[3, 0, 4][..], 1), (&[0][..], 0), (&[200, 3, 0], 2), (&[0, 2, 3], 0)] {
            let parts: Vec<(Vec<u32>, u32)> = [2u32, 0, 5, 1]
                .iter()
                .enumerate()
                .map(|(k, &size)| {
                    let mut own = dims.to_vec();
                    own[axis] = size;
                    ((0..numel(&own).unwrap() as u32).map(|i| i * 10 + k as u32).collect(), size)
                })
                .collect();
            let operands: Vec<_> = parts.iter().map(|(x, size)| (&x[..], *size)).collect();
            let mut all = dims.to_vec();
            all[axis] = 8;
            let mut out = vec![u32::MAX; numel(&all).unwrap()];
            concat(&cpu, dims, axis, &operands, &mut out);
            for (position, &got) in out.iter().enumerate() {
                let mut at = index(position, &all);
                let (k, first) = [(0, 0), (2, 2), (3, 7)].into_iter().rfind(|&(_, f)| at[axis] >= f).unwrap();
                at[axis] -= first;
                let mut own = dims.to_vec();
                own[axis] = parts[k].1;
                assert_eq!(got as usize, flat(&at, &own) * 10 + k);
            }
        }
    }
}

#[test]
fn assign_and_add_in_place() {
    for cpu in cpus() {
        for size in [0, 1, 1009, 300_007] {
            let source: Vec<u32> = (0..size).map(|i| (i as f32 * 0.5).to_bits()).collect();
            let mut target = vec![0; size];
            assign(&cpu, &mut target, &source);
            assert!(target == source);
            add_into(&cpu, Dtype::F32, &mut target, &source);
            assert!(target.iter().enumerate().all(|(i, &w)| f32::from_bits(w) == i as f32));
            let mut ints = vec![u32::MAX; size];
            add_into(&cpu, Dtype::I32, &mut ints, &words(size));
            assert!(ints.iter().enumerate().all(|(i, &w)| w as i32 == i as i32 - 1));
        }
    }
}
