//! Which instruction set the kernels use. Chosen once at run time, never by compiler flags, so that one binary runs on
//! every machine of its target. Kernels are written once, as `#[inline(always)]` bodies, and instantiated under
//! `#[target_feature]` by [`dispatch!`](crate::dispatch); the compiler vectorises each copy for its instruction set.

/// An instruction set that kernels are instantiated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// AVX-512 F/BW/DQ/VL with FMA: 16 floats per register.
    Avx512,
    /// AVX2 with FMA: 8 floats per register.
    Avx2,
    /// NEON, the baseline of `aarch64`: 4 floats per register.
    Neon,
    /// Whatever the target's baseline offers; no fused multiply-add is assumed.
    Scalar,
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every instruction set this machine can run, best first. Tests run their kernels on each of them.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut found = Vec::new();
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    found.push(Self::Avx512);
                }
                found.push(Self::Avx2);
            }
            found.push(Self::Scalar);
            found
        }
        #[cfg(target_arch = "aarch64")]
        {
            vec![Self::Neon, Self::Scalar]
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            vec![Self::Scalar]
        }
    }

    /// The name users see in `devices()`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
            Self::Scalar => "scalar",
        }
    }
}

/// Instantiates one generic body per instruction set and calls the one that `$isa` names.
///
/// `dispatch!(isa, body::<FMA>(args…; types…))`: `body` must be an `#[inline(always)]` function with one
/// `const FMA: bool` parameter, which says whether `f32::mul_add` is a single instruction there.
///
/// ```
/// use tilegrad::cpu::Isa;
/// #[inline(always)]
/// fn scale<const FMA: bool>(x: &mut [f32], by: f32) {
///     for v in x { *v *= by; }
/// }
/// let mut x = [1.0, 2.0];
/// tilegrad::dispatch!(Isa::detect(), scale(x: &mut [f32] = &mut x, by: f32 = 2.0));
/// assert_eq!(x, [2.0, 4.0]);
/// ```
#[macro_export]
macro_rules! dispatch {
    ($isa:expr, $body:ident $(:: <$($g:ty),+>)? ($($arg:ident : $ty:ty = $val:expr),* $(,)?) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512($($arg: $ty),*) $(-> $ret)? { $body::<$($($g,)+)? true>($($arg),*) }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($arg: $ty),*) $(-> $ret)? { $body::<$($($g,)+)? true>($($arg),*) }
        #[cfg(target_arch = "aarch64")]
        fn neon($($arg: $ty),*) $(-> $ret)? { $body::<$($($g,)+)? true>($($arg),*) }
        fn scalar($($arg: $ty),*) $(-> $ret)? {
            $body::<$($($g,)+)? { cfg!(target_arch = "aarch64") }>($($arg),*)
        }
        // The arguments are evaluated here, outside the unsafe calls.
        let ($($arg,)*): ($($ty,)*) = ($($val,)*);
        match $isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is only made by `Isa::available` after the CPU has reported these features.
            $crate::cpu::Isa::Avx512 => unsafe { avx512($($arg),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is only made by `Isa::available` after the CPU has reported these features.
            $crate::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
            #[cfg(target_arch = "aarch64")]
            $crate::cpu::Isa::Neon => neon($($arg),*),
            _ => scalar($($arg),*),
        }
    }};
}
