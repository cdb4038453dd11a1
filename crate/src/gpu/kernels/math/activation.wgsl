// NaN stays: only the bits of −0 to −∞ become 0.
fn math_relu(z: f32) -> f32 {
    let bits = bitcast<u32>(z);
    return bitcast<f32>(select(bits, 0u, bits - 0x80000000u <= 0x7f800000u));
}

fn math_relu_grad(dy: f32, y: f32) -> f32 { return select(0.0, dy, math_is_positive(y)); }

fn math_leaky_relu(z: f32, slope: f32) -> f32 { return select(slope * z, z, math_is_positive(z) || math_is_nan(z)); }

fn math_leaky_relu_grad(dy: f32, z: f32, slope: f32) -> f32 { return select(slope * dy, dy, math_is_positive(z)); }

fn math_elu(z: f32, alpha: f32) -> f32 { return select(alpha * math_expm1(z), z, math_is_positive(z) || math_is_nan(z)); }

fn math_elu_grad(dy: f32, y: f32, alpha: f32) -> f32 { return select(dy * (y + alpha), dy, math_is_positive(y)); }

fn math_sigmoid_grad(dy: f32, y: f32) -> f32 { return dy * (y * (1.0 - y)); }

fn math_tanh_grad(dy: f32, y: f32) -> f32 { return dy * fma(-y, y, 1.0); }

fn math_silu(z: f32) -> f32 { return z * math_sigmoid(z); }

fn math_silu_grad(dy: f32, z: f32) -> f32 {
    let gate = math_sigmoid_pair(z);
    return dy * fma(z * gate.x, gate.y, gate.x);
}

// ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|)
fn math_softplus(z: f32, beta: f32, threshold: f32, inverse: f32) -> f32 {
    let scaled = beta * z;
    let y = (max(scaled, 0.0) + math_log1p(math_decay(-abs(scaled)))) * inverse;
    return select(y, z, scaled > threshold || math_is_nan(z));
}

fn math_softplus_grad(dy: f32, z: f32, beta: f32, threshold: f32) -> f32 {
    let scaled = beta * z;
    return dy * select(math_sigmoid(scaled), 1.0, math_less(threshold, scaled));
}

fn math_heaviside(z: f32) -> f32 { return select(0.0, 1.0, math_is_positive(z)); }

fn math_heaviside_grad(dy: f32, z: f32) -> f32 { return 0.0; }

fn math_gelu(z: f32) -> f32 { return select(z * math_normal(z).x, z, math_is_nan(z)); }

fn math_gelu_grad(dy: f32, z: f32) -> f32 {
    let normal = math_normal(z);
    let near = clamp(z, -$TAIL_HIGHEST, $TAIL_HIGHEST);
    let slope = fma(near * $INV_SQRT_2PI, normal.y, normal.x);
    return dy * select(slope, z, math_is_nan(z));
}

// σ(2u), 1 − σ(2u)
fn math_gelu_tanh_gate(z: f32) -> vec2<f32> {
    return math_sigmoid_pair($TWICE_GELU_SCALE * z * fma($GELU_CUBIC * z, z, 1.0));
}

fn math_gelu_tanh(z: f32) -> f32 { return z * math_gelu_tanh_gate(z).x; }

fn math_gelu_tanh_grad(dy: f32, z: f32) -> f32 {
    let gate = math_gelu_tanh_gate(z);
    let near = clamp(z, -$GELU_TANH_FLAT, $GELU_TANH_FLAT);
    let inner = $TWICE_GELU_SCALE * fma($THRICE_GELU_CUBIC * near, near, 1.0);
    return dy * fma(near * gate.x * gate.y, inner, gate.x);
}
