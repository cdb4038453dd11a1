//! What adapters are said to reach, by their makers: f32 arithmetic without matrix units, and memory. Boards of one name
//! differ (clocks, memory, power limits); the larger figure stands here, so shares are rather too small.

/// Peak rates.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Peaks {
    /// TFLOP/s of f32.
    pub tflops: f64,
    /// GB/s of memory.
    pub gigabytes: f64,
}

/// Parts of names with TFLOP/s and GB/s. The first that fits counts.
const KNOWN: &[(&str, f64, f64)] = &[
    ("h200", 67.0, 4800.0),
    ("h100", 67.0, 3350.0),
    ("a100", 19.5, 2039.0),
    ("l40s", 91.6, 864.0),
    ("tesla t4", 8.1, 320.0),
    ("nvidia l4", 30.3, 300.0),
    ("rtx 5090", 104.8, 1792.0),
    ("rtx 4090", 82.6, 1008.0),
    ("rtx 3090", 35.6, 936.0),
    ("rx 7900 xtx", 61.4, 960.0),
    ("apple m1 max", 10.4, 400.0),
    ("apple m1 pro", 5.2, 200.0),
];

/// The peaks of an adapter, if it is known.
pub fn of(name: &str) -> Option<Peaks> {
    let name = name.to_lowercase();
    let &(_, tflops, gigabytes) = KNOWN.iter().find(|(part, ..)| name.contains(part))?;
    Some(Peaks { tflops, gigabytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_known_by_parts_of_their_names() {
        assert_eq!(of("NVIDIA H200"), Some(Peaks { tflops: 67.0, gigabytes: 4800.0 }));
        assert_eq!(of("NVIDIA L40S").map(|peaks| peaks.gigabytes), Some(864.0));
        assert_eq!(of("llvmpipe (LLVM 15.0.6, 256 bits)"), None);
    }
}
