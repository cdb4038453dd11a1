// n, the integer nearest to x·log₂ e, and r = x − n·ln 2.
fn math_reduce(x: f32) -> vec2<f32> {
    let n = round(x * $LOG2_E);
    return vec2<f32>(n, fma(n, $MINUS_LN2_LOW, math_hide(fma(n, $MINUS_LN2_HIGH, x))));
}

// eʳ − 1 for |r| ≤ ½ ln 2.
fn math_expm1_reduced(r: f32) -> f32 { return fma(r * r, $EXP_OF_R, r); }

// 2ⁿ for −127 < n < 128.
fn math_power_of_two(n: i32) -> f32 { return bitcast<f32>(u32(n + 127) << 23u); }

// x·2ⁿ for 0.5 ≤ x ≤ 2 and |n| ≤ 252, with one rounding.
fn math_scale(x: f32, n: i32) -> f32 {
    let half = n >> 1u;
    return math_hide(x * math_power_of_two(half)) * math_power_of_two(n - half);
}

fn math_exp(x: f32) -> f32 {
    let reduced = math_reduce(clamp(x, $EXP_LOWEST, $EXP_HIGHEST));
    let y = math_scale(1.0 + math_expm1_reduced(reduced.y), math_whole(reduced.x));
    return select(y, x, math_is_nan(x));
}

// e^(x + tail) for x ≤ 0, where `tail` is below the precision of x; 0 below the normal range. NaN is lost.
fn math_decay_sum(x: f32, tail: f32) -> f32 {
    let reduced = math_reduce(max(x, -88.0));
    let y = (1.0 + math_expm1_reduced(reduced.y + tail)) * math_power_of_two(math_whole(reduced.x));
    return select(y, 0.0, x < $DECAY_LOWEST);
}

// eˣ for x ≤ 0; 0 below the normal range.
fn math_decay(x: f32) -> f32 { return select(math_decay_sum(x, 0.0), x, math_is_nan(x)); }

// ½(eˣ − 1).
fn math_half_expm1(x: f32) -> f32 {
    let reduced = math_reduce(x);
    let half = math_power_of_two(math_whole(reduced.x) - 1);
    return fma(half, math_expm1_reduced(reduced.y), math_hide(half - 0.5));
}

fn math_expm1(x: f32) -> f32 {
    let y = 2.0 * math_half_expm1(clamp(x, $EXPM1_LOWEST, $EXP_HIGHEST));
    return select(y, x, abs(x) < $EPSILON || math_is_nan(x));
}

fn math_tanh(x: f32) -> f32 {
    let size = min(abs(x), $TANH_HIGHEST);
    let half = math_half_expm1(2.0 * size);
    let y = math_copysign(half / (half + 1.0), x);
    return select(y, x, abs(x) < $EPSILON || math_is_nan(x));
}

// σ(x) and σ(−x).
fn math_sigmoid_pair(x: f32) -> vec2<f32> {
    let e = math_decay_sum(-abs(x), 0.0);
    let large = 1.0 / (1.0 + e);
    let small = e * large;
    let pair = select(vec2<f32>(small, large), vec2<f32>(large, small), x >= 0.0);
    return select(pair, vec2<f32>(x, x), math_is_nan(x));
}

fn math_sigmoid(x: f32) -> f32 { return math_sigmoid_pair(x).x; }
