//! Element types. On a device every element is one 32-bit word; f64 lives on the `js` device only.

/// The type of a tensor's elements. The numbers are those of the stream (`ts/program/words.ts`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Dtype {
    /// IEEE single precision.
    F32 = 0,
    /// Two's complement, wrapping.
    I32 = 1,
    /// 0 or 1 in a 32-bit word.
    Bool = 2,
}

impl Dtype {
    /// Reads the stream's number.
    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            1 => Some(Self::I32),
            2 => Some(Self::Bool),
            _ => None,
        }
    }

    /// The name users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::Bool => "bool",
        }
    }
}
