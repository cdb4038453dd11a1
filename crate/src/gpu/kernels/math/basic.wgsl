// Zero, which no compiler can know: grids are far below 2³¹ workgroups.
fn math_zero() -> u32 { return p.grid_x >> 31u; }

// x, of which no compiler knows where it comes from: what is compensated for must not be rearranged away.
fn math_hide(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) | math_zero()); }

// x once more, for x − x and x ÷ x: hidden in another way, so that the two are not seen to be equal. A second `math_hide` of what is hidden would be seen through.
fn math_twin(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) + math_zero()); }

// Any bits, NaN and infinities among them, which constants cannot be.
fn math_bits(bits: u32) -> f32 { return bitcast<f32>(bits | math_zero()); }

fn math_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

fn math_is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

// x > 0: bits 1 (the smallest subnormal) to 0x7f800000 (infinity).
fn math_is_positive(x: f32) -> bool { return bitcast<u32>(x) - 1u < 0x7f800000u; }

// Neither is NaN.
fn math_ordered(a: f32, b: f32) -> bool { return !(math_is_nan(a) || math_is_nan(b)); }

fn math_equal(a: f32, b: f32) -> bool { return math_ordered(a, b) && a == b; }

fn math_less(a: f32, b: f32) -> bool { return math_ordered(a, b) && a < b; }

fn math_less_equal(a: f32, b: f32) -> bool { return math_ordered(a, b) && a <= b; }

fn math_maximum(a: f32, b: f32) -> f32 { return select(b, a, math_is_nan(a) || math_less(b, a)); }

fn math_minimum(a: f32, b: f32) -> f32 { return select(b, a, math_is_nan(a) || math_less(a, b)); }

fn math_sign(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let one = bitcast<f32>((bits & 0x80000000u) | 0x3f800000u);
    return select(one, x, (bits & 0x7fffffffu) == 0u || math_is_nan(x));
}

fn math_floor(x: f32) -> f32 { return select(floor(x), x, math_is_nan(x)); }

fn math_ceil(x: f32) -> f32 { return select(ceil(x), x, math_is_nan(x)); }

// The size of the first with the sign of the second.
fn math_copysign(size: f32, sign: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(size) & 0x7fffffffu) | (bitcast<u32>(sign) & 0x80000000u));
}

// Truncates and saturates; NaN gives 0. 2147483520 is the largest f32 below 2³¹.
fn math_to_i32(x: f32) -> i32 {
    let inside = i32(clamp(x, -2147483648.0, 2147483520.0));
    return select(select(inside, 2147483647, x >= 2147483648.0), 0, math_is_nan(x));
}

// The integer that n is, for whole n with |n| ≤ 2²²; anything for others. 1.5·2²³ + n has n in its last bits. `i32(n)`
// would be kept inside the range of integers first, which costs a processor that plays the GPU more than an exponential.
fn math_whole(n: f32) -> i32 { return bitcast<i32>(n + 12582912.0) - 0x4b400000; }

// Whether x ≠ 0; NaN is.
fn math_to_bool(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) != 0u; }

// a·b as a sum of two floats, exactly, from halves of 12 bits: `fma` need not be fused.
fn math_two_product(a: f32, b: f32) -> vec2<f32> {
    let high = math_hide(a * b);
    let a_high = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
    let b_high = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
    let a_low = math_hide(a - a_high);
    let b_low = math_hide(b - b_high);
    let first = math_hide(a_high * b_high - high);
    let second = math_hide(first + a_high * b_low);
    let third = math_hide(second + a_low * b_high);
    return vec2<f32>(high, third + a_low * b_low);
}

// a + b as a sum of two floats, exactly, if a is 0 or no smaller than b.
fn math_two_sum(a: f32, b: f32) -> vec2<f32> {
    let high = math_hide(a + b);
    return vec2<f32>(high, b - math_hide(high - a));
}
