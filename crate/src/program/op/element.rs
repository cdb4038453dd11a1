//! Operations on single elements: the family whose instructions are fused into chains. What each computes stands
//! in the opcode table, how in `cpu::math` and `gpu::kernels::math`; here is only which there are and how many operands they take.

use crate::cpu::activation::Activation;

/// An elementwise operation; only these are fused into chains.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ElementOp {
    /// Every element is the scalar, converted to the result's dtype.
    Full {
        /// The scalar.
        scalar: u32,
    },
    /// The operand, broadcast.
    Expand,
    /// The operand in the result's dtype.
    Cast,
    /// A function of one operand.
    Unary(UnaryOp),
    /// An activation with its parameters (unused ones are 0).
    Activation {
        /// Which.
        activation: Activation,
        /// leakyRelu: slope; elu: alpha; softplus: beta, threshold.
        parameters: [f64; 2],
    },
    /// `[dy, saved]` → dz.
    ActivationGrad {
        /// Which.
        activation: Activation,
        /// As in the forward instruction.
        parameters: [f64; 2],
    },
    /// A function of two operands.
    Binary(BinaryOp),
    /// `[condition, a, b]`.
    Where,
    /// The operand held between two scalars.
    Clip {
        /// Scalar: lowest value.
        low: u32,
        /// Scalar: highest value.
        high: u32,
    },
}

impl ElementOp {
    /// Number of operands.
    pub fn arity(self) -> usize {
        match self {
            Self::Full { .. } => 0,
            Self::Expand | Self::Cast | Self::Unary(_) | Self::Activation { .. } | Self::Clip { .. } => 1,
            Self::ActivationGrad { .. } | Self::Binary(_) => 2,
            Self::Where => 3,
        }
    }
}

/// Functions of one element. Meanings as in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names say it; the table has the fine print")]
pub enum UnaryOp {
    Neg,
    Abs,
    Sign,
    Square,
    Sqrt,
    Rsqrt,
    Reciprocal,
    Exp,
    Expm1,
    Log,
    Log1p,
    Erf,
    Floor,
    Ceil,
    LogicalNot,
    IsFinite,
}

/// Functions of two elements. Meanings as in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names say it; the table has the fine print")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Maximum,
    Minimum,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalOr,
}

impl BinaryOp {
    /// Whether the result is bool whatever the operands are.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Greater | Self::GreaterEqual | Self::Less | Self::LessEqual)
    }
}
