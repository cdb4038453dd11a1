//! Values against the formulas in f64, derivatives against central differences, and the edges: infinities, NaN, far out where
//! squares overflow. All instruction sets; sizes around a vector.

use super::*;
use Activation::*;

const ALL: [Activation; 11] = [None, Relu, LeakyRelu, Elu, Sigmoid, Tanh, Silu, Softplus, Heaviside, Gelu, GeluTanh];

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Φ by Simpson's rule over the density, good to 1e-12 for |z| ≤ 6.
fn cdf(z: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let steps = 2000;
    let h = z / f64::from(steps);
    let weight = |i: i32| if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
    0.5 + (0..=steps).map(|i| weight(i) * density(f64::from(i) * h)).sum::<f64>() * h / 3.0
}

fn formula(act: Activation, z: f64) -> f64 {
    match act {
        None => z,
        Relu => z.max(0.0),
        LeakyRelu => z.max(0.01 * z),
        Elu => {
            if z > 0.0 {
                z
            } else {
                z.exp_m1()
            }
        }
        Sigmoid => sigmoid(z),
        Tanh => z.tanh(),
        Silu => z * sigmoid(z),
        Softplus => {
            if z > 20.0 {
                z
            } else {
                z.exp().ln_1p()
            }
        }
        Heaviside => f64::from(z > 0.0),
        Gelu => z * cdf(z),
        GeluTanh => z * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z * z * z)).tanh()),
    }
}

/// Every size from 0 to 40 and a prime, so that all vector lengths have all tails.
fn sizes() -> impl Iterator<Item = usize> {
    (0..=40).chain([1009])
}

fn arguments(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 619) % 1009) as f32 / 84.0 - 5.999).collect()
}

#[test]
fn values_follow_the_formulas() {
    for isa in Isa::available() {
        for act in ALL {
            for size in sizes() {
                let z = arguments(size);
                let mut y = z.clone();
                apply(isa, act, &mut y);
                for (&z, &y) in z.iter().zip(&y) {
                    let want = formula(act, f64::from(z));
                    let error = (f64::from(y) - want).abs();
                    // The rounding of 2u, up to 25 here, is part of the tanh form's left tail.
                    let budget = if act == GeluTanh { 4e-6 } else { 5e-7 };
                    assert!(
                        error <= (budget * want.abs()).min(5e-7 * want.abs().max(1.0)) + 1e-11,
                        "{act:?}({z}) is {y}, not {want} on {isa:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn derivatives_follow_central_differences() {
    for isa in Isa::available() {
        for act in ALL {
            for size in sizes() {
                let z = arguments(size);
                let dy: Vec<f32> = (0..size).map(|i| i as f32 % 7.0 - 3.0).collect();
                let mut saved = z.clone();
                if !act.saves_z() {
                    apply(isa, act, &mut saved);
                }
                let mut dz = vec![f32::NAN; size];
                grad(isa, act, &dy, &saved, &mut dz);
                for ((&z, &dy), &dz) in z.iter().zip(&dy).zip(&dz) {
                    let at = |h: f64| formula(act, f64::from(z) + h);
                    let want = f64::from(dy) * (at(1e-5) - at(-1e-5)) / 2e-5;
                    let error = (f64::from(dz) - want).abs();
                    assert!(error <= 2e-6 * want.abs().max(1.0), "{act:?}′({z})·{dy} is {dz}, not {want}");
                }
            }
        }
    }
}

#[test]
fn known_values_and_edges() {
    for isa in Isa::available() {
        let at = |act, z: f32| {
            let mut y = [z];
            apply(isa, act, &mut y);
            y[0]
        };
        for (z, erf, tanh) in
            [(1.0, 0.841_344_7, 0.841_192), (-1.0, -0.158_655_3, -0.158_808), (-3.0, -0.004_049_7, -0.003_637_4)]
        {
            assert!((at(Gelu, z) - erf).abs() < 1e-7 && (at(GeluTanh, z) - tanh).abs() < 1e-6);
        }
        // The far left tail of GELU is small, not zero.
        assert!((at(Gelu, -12.0) / -2.132_e-32 - 1.0).abs() < 1e-3);
        for act in ALL {
            assert_eq!(at(act, f32::NAN).is_nan(), act != Heaviside, "{act:?}");
        }
        assert_eq!((at(Relu, 0.0), at(Heaviside, 0.0), at(Sigmoid, -200.0), at(Softplus, 1e30)), (0.0, 0.0, 0.0, 1e30));
        for act in [Gelu, GeluTanh, Silu, Softplus] {
            assert_eq!(at(act, f32::MAX), f32::MAX, "{act:?}");
        }
    }
}

#[test]
fn derivatives_stay_finite_far_out() {
    for isa in Isa::available() {
        for act in ALL {
            let saved = if act.saves_z() { [1e30, -1e30, 50.0, -50.0] } else { [1.0, 0.0, 0.5, 0.25] };
            let mut dz = [f32::NAN; 4];
            grad(isa, act, &[1.0; 4], &saved, &mut dz);
            assert!(dz.iter().all(|d| d.is_finite()), "{act:?}: {dz:?}");
            // dy is selected, not multiplied, where the derivative is 0 by definition.
            if act == Relu || act == Heaviside {
                grad(isa, act, &[f32::INFINITY; 4], &[-1.0; 4], &mut dz);
                assert_eq!(dz, [0.0; 4]);
            }
        }
    }
}
