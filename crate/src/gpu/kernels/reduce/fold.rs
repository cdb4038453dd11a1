//! What a reduction makes of elements, in WGSL: how one becomes a `State`, how two states are joined, how the last one is
//! written. It knows nothing of who computes what; that is `rows.rs` and `columns.rs`.
//!
//! Extremes and positions compare keys: words whose order as u32 is the order wanted, with NaN above everything. So no
//! float is compared, no infinity is written down, and one `max` serves all four of them and both dtypes.

use super::super::shader::Type;

/// What is wanted of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Order {
    /// The largest, or the smallest.
    pub(super) largest: bool,
    /// Of f32, or of i32.
    pub(super) floats: bool,
}

/// What is done over the reduced axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fold {
    /// Σ x of f32.
    Sum,
    /// Σ (x − c)² of f32, with one centre per result.
    Deviations,
    /// Σ x of words, wrapping.
    Words,
    /// The extreme.
    Extreme(Order),
    /// Where it is first.
    Position(Order),
}

impl Fold {
    /// The type of elements and of states in memory, one or four at a time.
    pub(super) fn element(self, vectors: bool) -> Type {
        match (self, vectors) {
            (Self::Sum | Self::Deviations, false) => Type::F32,
            (Self::Sum | Self::Deviations, true) => Type::Vec4F32,
            (_, false) => Type::U32,
            (_, true) => Type::Vec4U32,
        }
    }

    /// Whether four columns may be folded at once.
    pub(super) fn has_vectors(self) -> bool {
        !matches!(self, Self::Position(_))
    }

    /// What joins states of the same kind.
    pub(super) fn of_states(self) -> Self {
        if self == Self::Deviations { Self::Sum } else { self }
    }

    /// `State`, `none` and `join`, of one column or of four; for what is found by keys, `key` and `unkey`.
    pub(super) fn items(self, of_states: bool, vectors: bool) -> String {
        let (state, none, join) = match self {
            Self::Sum | Self::Deviations => (if vectors { "vec4<f32>" } else { "f32" }, "0.0", "a + b"),
            Self::Words => (if vectors { "vec4<u32>" } else { "u32" }, "0u", "a + b"),
            Self::Extreme(_) => (if vectors { "vec4<u32>" } else { "u32" }, "0u", "max(a, b)"),
            Self::Position(_) => {
                ("vec2<u32>", "0u, 0xffffffffu", "select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y))")
            }
        };
        let keys = match self {
            Self::Extreme(order) => order.keys(of_states, false, vectors),
            Self::Position(order) => order.keys(of_states, true, false),
            _ => String::new(),
        };
        format!(
            "alias State = {state};\nconst none = State({none});\n\
             fn join(a: State, b: State) -> State {{ return {join}; }}\n{keys}"
        )
    }

    /// `value`: the state of the element `at`, whose position on the axis is `i`; of four columns, of the vector `at`.
    pub(super) fn value(self) -> &'static str {
        match self {
            Self::Sum | Self::Words => "fn value(at: u32, i: u32) -> State { return x(at); }",
            Self::Deviations => {
                "var<private> centre: State;
fn value(at: u32, i: u32) -> State { let d = x(at) - centre; return d * d; }"
            }
            Self::Extreme(_) => "fn value(at: u32, i: u32) -> State { return key(x(at)); }",
            Self::Position(_) => "fn value(at: u32, i: u32) -> State { return State(key(x(at)), i); }",
        }
    }

    /// Four neighbours at once: `Wide`; `wide`, of the elements `v` of which the first stands at `i` of an axis that ends
    /// at `end`; `widen`, which adds a later one to an earlier one; `narrow`.
    pub(super) fn wide(self) -> &'static str {
        match self {
            Self::Sum => {
                "alias Wide = vec4<f32>;
fn wide(v: vec4<f32>, i: u32, end: u32) -> Wide { return select(vec4<f32>(0.0), v, inside(i, end)); }
fn widen(a: Wide, b: Wide) -> Wide { return a + b; }
fn narrow(a: Wide) -> State { return (a.x + a.y) + (a.z + a.w); }"
            }
            Self::Deviations => {
                "var<private> centre: f32;
alias Wide = vec4<f32>;
fn wide(v: vec4<f32>, i: u32, end: u32) -> Wide {
  let d = v - vec4<f32>(centre);
  return select(vec4<f32>(0.0), d * d, inside(i, end));
}
fn widen(a: Wide, b: Wide) -> Wide { return a + b; }
fn narrow(a: Wide) -> State { return (a.x + a.y) + (a.z + a.w); }"
            }
            Self::Words => {
                "alias Wide = vec4<u32>;
fn wide(v: vec4<u32>, i: u32, end: u32) -> Wide { return select(vec4<u32>(0u), v, inside(i, end)); }
fn widen(a: Wide, b: Wide) -> Wide { return a + b; }
fn narrow(a: Wide) -> State { return (a.x + a.y) + (a.z + a.w); }"
            }
            Self::Extreme(_) => {
                "alias Wide = vec4<u32>;
fn wide(v: vec4<u32>, i: u32, end: u32) -> Wide {
  return select(vec4<u32>(0u), vec4<u32>(key(v.x), key(v.y), key(v.z), key(v.w)), inside(i, end));
}
fn widen(a: Wide, b: Wide) -> Wide { return max(a, b); }
fn narrow(a: Wide) -> State { return max(max(a.x, a.y), max(a.z, a.w)); }"
            }
            // What lies outside has the least key and a position behind all others: it loses against everything.
            Self::Position(_) => {
                "struct Wide { key: vec4<u32>, at: vec4<u32> }
fn wide(v: vec4<u32>, i: u32, end: u32) -> Wide {
  let keys = select(vec4<u32>(0u), vec4<u32>(key(v.x), key(v.y), key(v.z), key(v.w)), inside(i, end));
  return Wide(keys, vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u));
}
fn widen(a: Wide, b: Wide) -> Wide {
  let later = b.key > a.key;
  return Wide(select(a.key, b.key, later), select(a.at, b.at, later));
}
fn narrow(a: Wide) -> State {
  let low = join(vec2<u32>(a.key.x, a.at.x), vec2<u32>(a.key.y, a.at.y));
  return join(low, join(vec2<u32>(a.key.z, a.at.z), vec2<u32>(a.key.w, a.at.w)));
}"
            }
        }
    }

    /// Whether sums begin at zero rather than at the first element: then no sum is −0, as on the cpu.
    pub(super) fn starts_at_zero(self) -> bool {
        matches!(self, Self::Sum | Self::Deviations)
    }
}

impl Order {
    /// `key`, and `unkey`, which turns it back; NaN comes back as the quiet one. For positions −0 equals 0.
    fn keys(self, of_states: bool, equal_zeros: bool, vectors: bool) -> String {
        let ty = if vectors { "vec4<u32>" } else { "u32" };
        let turn = if self.largest { "k" } else { "~k" };
        let key = match (of_states, self.floats) {
            (true, _) => "return bits;".to_owned(),
            (false, false) => format!("let k = bits ^ Word(0x80000000u); return {turn};"),
            (false, true) => {
                let zeros = if equal_zeros { "select(bits, Word(0u), bits == Word(0x80000000u))" } else { "bits" };
                format!(
                    "let b = {zeros};
let k = select(b | Word(0x80000000u), ~b, b >= Word(0x80000000u));
return select({turn}, Word(0xffffffffu), (b & Word(0x7fffffffu)) > Word(0x7f800000u));"
                )
            }
        };
        let unkey = if self.floats {
            "select(select(~b, b ^ Word(0x80000000u), b >= Word(0x80000000u)), Word(0x7fc00000u), k == Word(0xffffffffu))"
        } else {
            "b ^ Word(0x80000000u)"
        };
        format!(
            "alias Word = {ty};
fn key(bits: Word) -> Word {{ {key} }}
fn unkey(k: Word) -> Word {{ let b = {turn}; return {unkey}; }}"
        )
    }
}
