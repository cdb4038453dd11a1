// log₂ x of a positive finite x as a sum of two floats: 2⁻³⁰ relative.
fn math_log2(x: f32) -> vec2<f32> {
    let split = math_split_any(x);
    let f = split.y - 1.0;
    let d = math_two_sum(1.0, split.y);
    let inverse = 1.0 / d.x;
    let s = math_hide(f * inverse);
    let back = math_two_product(s, d.x);
    let rest_of_f = math_hide(math_hide(f - back.x) - back.y);
    let s_low = (rest_of_f - s * d.y) * inverse;
    let square = s * s;
    let main = math_two_product($TWO_LOG2_E, s);
    let rest = s * square * $LOG2_OF_SQUARE;
    let low = main.y + ($TWO_LOG2_E_LOW * s + $TWO_LOG2_E * s_low) + rest;
    let sum = math_two_sum(split.x, main.x);
    return math_two_sum(sum.x, sum.y + low);
}

// 2^(high + low); 0 and ∞ out of range.
fn math_exp2(high: f32, low: f32) -> f32 {
    let x = clamp(high, -160.0, 160.0);
    let n = round(x);
    let r = math_hide(x - n) + select(0.0, low, abs(high) < 160.0);
    return math_scale(1.0 + r * $EXP2_OF_R, math_whole(n));
}

// xʸ with the special cases of IEEE 754; x² is x·x.
fn math_pow(x: f32, y: f32) -> f32 {
    let base = abs(x);
    let size = abs(y);
    let base_bits = bitcast<u32>(base);
    let log = math_log2(base);
    let exponent = clamp(y, -$LARGEST_EXPONENT, $LARGEST_EXPONENT);
    let product = math_two_product(log.x, exponent);
    var power = math_exp2(product.x, product.y + log.y * exponent);

    let integer = floor(size) == size;
    let odd = integer && (u32(min(size, 16777216.0)) & 1u) == 1u;
    let negative = bitcast<u32>(x) >= 0x80000000u;

    let unbounded = (base_bits == 0u) == (bitcast<u32>(y) >= 0x80000000u);
    let limit = math_bits(select(0u, 0x7f800000u, unbounded));
    power = select(power, limit, base_bits == 0u || base_bits == 0x7f800000u);
    power = select(power, -power, odd && negative);
    let undefined = negative && base_bits != 0u && base_bits < 0x7f800000u && !integer;
    power = select(power, math_bits(0x7fc00000u), undefined || !math_ordered(x, y));
    power = select(power, 1.0, (bitcast<u32>(y) & 0x7fffffffu) == 0u || bitcast<u32>(x) == 0x3f800000u);
    return select(power, x * x, bitcast<u32>(y) == 0x40000000u);
}
