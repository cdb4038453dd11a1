//! The functions of shaders: texts and literals without a GPU, values against the `cpu` functions that they are written after.

use super::*;
use crate::cpu::activation::{self as cpu_activation, Activation};
use crate::cpu::{Isa, math as cpu};
use crate::dtype::Dtype;
use crate::gpu::Traits;
use crate::gpu::kernels::Prepared;
use crate::gpu::kernels::shader::{Builder, Call, Memory, Type};
use crate::gpu::kernels::testing::{Lab, Settings, operand, validate};

#[test]
fn every_function_is_valid_with_what_it_calls() {
    let traits = Traits::software();
    assert!(FUNCTIONS.len() > 60);
    for function in &*FUNCTIONS {
        assert!(!function.text.contains('$'), "{}", function.text);
        let call = Builder::new(&traits, "functions").finish(1, [1; 3], &format!("// {}", function.name)).unwrap();
        assert!(call.shader.text.contains(&function.text));
        validate(&call);
    }
}

#[test]
fn a_text_gets_what_it_calls_once() {
    let text = definitions(&["math_gelu(x) + math_gelu(y)", "math_erf(x)"]);
    assert_eq!(text.matches("fn math_decay_sum(").count(), 1);
    assert!(text.contains("fn math_gelu(") && text.contains("fn math_erf(") && !text.contains("fn math_log("));
    assert_eq!(definitions(&["exp(x)"]), "");
}

#[test]
fn literals_are_exact_and_never_constants_that_do_not_compile() {
    for x in [0.1f32, -2.121_944_4e-4, f32::MAX, f32::MIN_POSITIVE, 1e-45, 8_589_934_592.0] {
        assert_eq!(literal(x).trim_end_matches('f').parse::<f32>().unwrap().to_bits(), x.to_bits());
    }
    assert_eq!(literal(f32::NEG_INFINITY), "math_bits(4286578688u)");
}

/// All operands of functions as words: `x`, `y` → `expression`.
fn call(traits: &Traits, count: usize, expression: &str) -> Call {
    let mut b = Builder::new(traits, "function");
    for (i, name) in ["a", "b", "out"].into_iter().enumerate() {
        b.buffer(name, Memory::Operand(operand(Dtype::I32, &[count as u32], i * count)), Type::U32);
    }
    b.value("count", count);
    let main = format!(
        "let i = group() * 64u + local;\nif (i >= p.count) {{ return; }}\n\
         let x = bitcast<f32>(a(i));\nlet y = bitcast<f32>(b(i));\nout_set(i, bitcast<u32>({expression}));"
    );
    b.finish(64, [count.div_ceil(64), 1, 1], &main).unwrap()
}

fn evaluate(lab: &mut Lab, expression: &str, x: &[f32], y: &[f32]) -> Vec<f32> {
    let call = call(&lab.traits, x.len(), expression);
    let mut arena: Vec<u32> = x.iter().chain(y).map(|v| v.to_bits()).collect();
    arena.resize(3 * x.len(), 0);
    let outcome = lab.run(&Prepared::from(vec![call]), &arena, Settings::default());
    outcome.arena[2 * x.len()..].iter().map(|&bits| f32::from_bits(bits)).collect()
}

const SPECIAL: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-42,
    -1e-45,
    2_147_483_648.0,
    -2_147_483_648.0,
    2_147_483_520.0,
    16_777_217.0,
    8_388_609.0,
    -8_388_607.0,
    88.73,
    -103.9,
    20.0,
];

/// Arguments of one function: every exponent with many significands, a dense grid, the special values.
fn arguments() -> Vec<f32> {
    let patterns = (0..=u32::MAX).step_by(20_011).map(f32::from_bits);
    patterns.chain((-60_000..60_000).map(|i| i as f32 * 2e-3)).chain(SPECIAL).collect()
}

/// Arguments of two: all pairs of special values, and neighbours far apart.
fn pairs() -> (Vec<f32>, Vec<f32>) {
    let special = SPECIAL.iter().flat_map(|&x| SPECIAL.map(|y| (x, y)));
    let spread = (0..200_000u32).map(|i| {
        let [x, y] =
            [i.wrapping_mul(2_654_435_769), i.wrapping_mul(40_503).wrapping_add(77).wrapping_mul(2_246_822_519)];
        if i % 2 == 0 {
            (f32::from_bits(x), f32::from_bits(y))
        } else {
            ((x >> 8) as f32 * 2f32.powi(-22) - 1.0, (y >> 8) as f32 * 2f32.powi(-20) - 8.0)
        }
    });
    special.chain(spread).unzip()
}

/// Holds what a device gives to what is wanted, exactly or within a relative budget; `least` is what may always be lost.
fn hold(name: &str, x: &[f32], y: &[f32], got: &[f32], want: impl Fn(f32, f32) -> f64, (relative, least): (f64, f64)) {
    for ((&x, &y), &got) in x.iter().zip(y).zip(got) {
        let want = want(x, y);
        let error = (f64::from(got) - want).abs();
        let near = got == want as f32 || got.is_nan() && want.is_nan() || error <= (relative * want.abs()).max(least);
        assert!(near, "{name}({x:e}, {y:e}) is {got:e}, not {want:e}");
    }
}

/// An error relative to the exact value, and one that is always allowed.
type Budget = (f64, f64);

/// An expression, what it should give, and how near.
type Row<F> = (&'static str, F, Budget);

type Of32 = fn(f32) -> f32;
type Of64 = fn(f64) -> f64;
type OfTwo = fn(f32, f32) -> f32;

const EXACT: Budget = (0.0, 0.0);

/// Two steps of the smallest subnormals besides.
const BUDGET: Budget = (3e-7, 3e-45);

/// σ and Φ are 0 below the normal range; some z times that.
const DECAY: Budget = (5e-7, 1.5e-36);

#[test]
fn functions_of_one_number_agree_with_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let x = arguments();
    let smooth: [Row<Of64>; 7] = [
        ("math_exp(x)", f64::exp, BUDGET),
        ("math_decay(-abs(x))", |x| (-x.abs()).exp(), DECAY),
        ("math_expm1(x)", f64::exp_m1, BUDGET),
        ("math_log(x)", f64::ln, BUDGET),
        ("math_log1p(x)", f64::ln_1p, BUDGET),
        ("math_tanh(x)", f64::tanh, BUDGET),
        ("math_sigmoid(x)", |x| 1.0 / (1.0 + (-x).exp()), DECAY),
    ];
    for (expression, want, budget) in smooth {
        let got = evaluate(&mut lab, expression, &x, &x);
        hold(expression, &x, &x, &got, |x, _| want(f64::from(x)), budget);
    }
    let table: [Row<Of32>; 14] = [
        ("math_erf(x)", cpu::erf::<false>, BUDGET),
        ("math_sign(x)", cpu::sign, EXACT),
        ("math_floor(x)", f32::floor, EXACT),
        ("math_ceil(x)", f32::ceil, EXACT),
        ("f32(math_to_i32(x))", |x| (x as i32) as f32, EXACT),
        ("select(0.0, 1.0, math_to_bool(x))", |x| f32::from(x != 0.0), EXACT),
        ("select(0.0, 1.0, math_is_finite(x))", |x| f32::from(x.is_finite()), EXACT),
        ("sqrt(x)", f32::sqrt, EXACT),
        ("1.0 / sqrt(x)", |x| 1.0 / x.sqrt(), EXACT),
        ("1.0 / x", |x| 1.0 / x, EXACT),
        ("x * x", |x| x * x, EXACT),
        ("-x", |x| -x, EXACT),
        ("abs(x)", f32::abs, EXACT),
        ("math_hide(x + 12582912.0) - 12582912.0", |x| (x + 12_582_912.0) - 12_582_912.0, EXACT),
    ];
    for (expression, want, budget) in table {
        let got = evaluate(&mut lab, expression, &x, &x);
        hold(expression, &x, &x, &got, |x, _| f64::from(want(x)), budget);
    }
}

#[test]
fn functions_of_two_numbers_agree_with_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let (x, y) = pairs();
    let table: [Row<OfTwo>; 9] = [
        ("math_pow(x, y)", cpu::pow::<false>, BUDGET),
        ("math_pow(abs(x), y)", |x, y| cpu::pow::<false>(x.abs(), y), BUDGET),
        ("math_maximum(x, y)", cpu::maximum, EXACT),
        ("math_minimum(x, y)", cpu::minimum, EXACT),
        ("select(0.0, 1.0, math_less(x, y))", |x, y| f32::from(x < y), EXACT),
        ("select(0.0, 1.0, math_less_equal(x, y))", |x, y| f32::from(x <= y), EXACT),
        ("select(0.0, 1.0, math_equal(x, y))", |x, y| f32::from(x == y), EXACT),
        ("x / y", |x, y| x / y, EXACT),
        ("x * y", |x, y| x * y, EXACT),
    ];
    for (expression, want, budget) in table {
        let got = evaluate(&mut lab, expression, &x, &y);
        hold(expression, &x, &y, &got, |x, y| f64::from(want(x, y)), budget);
    }
}

#[test]
fn activations_agree_with_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let z = arguments();
    let dy: Vec<f32> = (0..z.len()).map(|i| (i % 31) as f32 / 8.0 - 2.0).collect();
    for code in 0..11 {
        let act = Activation::from_code(code).unwrap();
        let name = format!("{act:?}");
        let mut y = z.clone();
        cpu_activation::apply(Isa::Scalar, act, &mut y);
        let got = evaluate(&mut lab, &activation(act.function(), "x"), &z, &z);
        agree(&name, &z, &got, &y, DECAY);
        let saved = if act.saves_z() { &z } else { &y };
        let mut dz = vec![0.0; z.len()];
        cpu_activation::grad(Isa::Scalar, act, &dy, saved, &mut dz);
        let got = evaluate(&mut lab, &activation_grad(act.function(), "y", "x"), saved, &dy);
        // Derivatives are differences of numbers near 1.
        agree(&format!("{name}′"), saved, &got, &dz, (5e-7, 5e-7));
    }
}

fn agree(name: &str, z: &[f32], got: &[f32], want: &[f32], budget: (f64, f64)) {
    for ((&z, &got), &want) in z.iter().zip(got).zip(want) {
        hold(name, &[z], &[z], &[got], |_, _| f64::from(want), budget);
    }
}

#[test]
fn parameters_that_are_no_constants_compile() {
    let Some(mut lab) = Lab::open() else { return };
    for (act, parameters) in [(Activation::LeakyRelu, [f64::INFINITY, 0.0]), (Activation::Softplus, [2.0, 6.0])] {
        let function = act.with_parameters(parameters);
        let got = evaluate(&mut lab, &activation(function, "x"), &[-1.0, 4.0], &[0.0; 2]);
        let slope = evaluate(&mut lab, &activation_grad(function, "y", "x"), &[-1.0, 4.0], &[1.0; 2]);
        let want = match act {
            Activation::LeakyRelu => ([f32::NEG_INFINITY, 4.0], [f32::INFINITY, 1.0]),
            _ => ([0.063_464, 4.0], [0.119_202_9, 1.0]),
        };
        for (got, want) in got.iter().chain(&slope).zip(want.0.iter().chain(&want.1)) {
            assert!(got == want || (got - want).abs() < 1e-6, "{act:?}: {got}, not {want}");
        }
    }
}
