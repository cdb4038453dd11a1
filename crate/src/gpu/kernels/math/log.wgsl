// n and m of a positive normal number m·2ⁿ with √½ ≤ m < √2.
fn math_split(x: f32) -> vec2<f32> {
    let bits = bitcast<u32>(x);
    let n = bitcast<i32>(bits - $SQRT_HALF_BITS) >> 23u;
    return vec2<f32>(f32(n), bitcast<f32>(bits - (bitcast<u32>(n) << 23u)));
}

// As `math_split`, subnormals included: their bits are the number in units of 2⁻¹⁴⁹, whatever arithmetic makes of them.
fn math_split_any(x: f32) -> vec2<f32> {
    let bits = bitcast<u32>(x);
    let subnormal = bits < 0x00800000u;
    let split = math_split(select(x, f32(bits), subnormal));
    return vec2<f32>(select(split.x, split.x - 149.0, subnormal), split.y);
}

// n·ln 2 + ln(1 + f).
fn math_log_assemble(n: f32, f: f32) -> f32 {
    let square = f * f;
    let low = math_hide(fma(n, $LN2_LOW, square * f * $LOG_OF_F));
    return fma(n, $LN2_HIGH, fma(-0.5, square, low) + f);
}

// y, or the value that ln x has where it is not finite.
fn math_log_edges(x: f32, y: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let up = select(y, x, bits == 0x7f800000u);
    let down = select(up, math_bits(0xff800000u), (bits & 0x7fffffffu) == 0u);
    return select(down, math_bits(0x7fc00000u), bits > 0x7f800000u && bits != 0x80000000u);
}

fn math_log(x: f32) -> f32 {
    let split = math_split_any(x);
    return math_log_edges(x, math_log_assemble(split.x, split.y - 1.0));
}

// ln(1 + x): what 1 + x loses to rounding is added to m.
fn math_log1p(x: f32) -> f32 {
    let sum = math_hide(1.0 + x);
    let big = math_hide(sum - 1.0);
    let lost = math_hide(1.0 - math_hide(sum - big)) + math_hide(x - big);
    let split = math_split(sum);
    let scale = bitcast<f32>(u32(max(127 - math_whole(split.x), 0)) << 23u);
    let y = math_log_edges(sum, math_log_assemble(split.x, fma(lost, scale, split.y - 1.0)));
    return select(y, x, abs(x) < $HALF_EPSILON || math_is_nan(x));
}
