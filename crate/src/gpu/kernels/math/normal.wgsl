// Φ(−z) and e^{−z²/2} for z ≥ 0; the square is carried in two parts.
fn math_normal_tail(z: f32) -> vec2<f32> {
    let near = min(z, $TAIL_HIGHEST);
    let square = math_two_product(0.5 * near, near);
    let density = math_decay_sum(-square.x, -square.y);
    let t = 1.0 / fma($TAIL_SCALE, near, 1.0);
    return vec2<f32>(density * (t * $TAIL_OF_T), density);
}

// Φ(z) and e^{−z²/2}. NaN is lost.
fn math_normal(z: f32) -> vec2<f32> {
    let tail = math_normal_tail(abs(z));
    return vec2<f32>(select(tail.x, 1.0 - tail.x, z >= 0.0), tail.y);
}

fn math_erf(x: f32) -> f32 {
    let size = abs(x);
    let square = x * x;
    let small = fma(x, $ERF_OF_SQUARE, x);
    let large = math_copysign(fma(-2.0, math_normal_tail(size * $SQRT_2).x, 1.0), x);
    let y = select(large, small, size <= $ERF_SMALL);
    return select(y, x, math_is_nan(x));
}
