//! Plans as text, for people. Memory is `in0`, `kept0` (an allocation that outputs keep) or `arena`, with an offset in
//! elements; inside a chain its operands are `a0`, its instructions `t0`, scalars of the run `$0`.

use super::{Base, Chain, ChainOperand, Kernel, Location, Operand, Plan, Step, StepKind};
use std::fmt;

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Base::Arena => write!(f, "arena+{}", self.offset),
            Base::Input(index) => write!(f, "in{index}+{}", self.offset),
            Base::Allocation(index) => write!(f, "kept{index}+{}", self.offset),
            Base::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// `%3 arena+64 f32[2,3]`
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{} {} {}{}", self.register, self.location, self.dtype.name(), self.dims)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {}, kept {:?}, about {} ns", self.arena, self.allocations, self.nanoseconds)?;
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "{i}: {step}")?;
        }
        for (i, output) in self.outputs.iter().enumerate() {
            writeln!(f, "output {i}: {output}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StepKind::Chain(chain) => write!(f, "{chain}"),
            StepKind::Kernel(kernel) => write!(f, "{kernel}"),
            StepKind::Fused(fused) => {
                if let Some(before) = &fused.before {
                    write!(f, "{before}  into ")?;
                }
                write!(f, "{}", fused.kernel)?;
                match &fused.after {
                    Some(after) => write!(f, "  into {}", after.chain),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (", self.op)?;
        for (i, input) in self.inputs.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(if self.mutates.contains(&i) { "changes " } else { "" })?;
            match input {
                Some(operand) => write!(f, "{operand}")?,
                None => f.write_str("none")?,
            }
        }
        f.write_str(")")?;
        self.outputs.iter().try_for_each(|output| write!(f, " → {output}"))?;
        writeln!(f)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chain over {}", self.dims)?;
        for (i, input) in self.inputs.iter().enumerate() {
            writeln!(f, "    a{i} = {input}")?;
        }
        for (i, op) in self.ops.iter().enumerate() {
            write!(f, "    t{i}: {} = {:?}", op.dtype.name(), op.op)?;
            for operand in op.operands.iter().filter(|operand| **operand != ChainOperand::None) {
                write!(f, " {operand}")?;
            }
            for output in self.outputs.iter().filter(|output| usize::from(output.op) == i) {
                write!(f, " → {}", output.operand)?;
                if let Some(input) = output.in_place_of {
                    write!(f, " over a{input}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ChainOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(i) => write!(f, "a{i}"),
            Self::Op(i) => write!(f, "t{i}"),
            Self::Scalar(i, dtype) => write!(f, "${i}:{}", dtype.name()),
            Self::None => f.write_str("none"),
        }
    }
}
