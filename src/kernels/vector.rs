//! Arithmetic that the compiler can put into vector registers: one body, compiled for each instruction set that this
//! program knows, chosen at run time.
//!
//! Sums run over a fixed number of lanes, so that their order depends neither on the width of the processor's vectors
//! nor on the number of threads.

/// Lanes of a running sum: one AVX-512 register, two of AVX2, four of NEON.
pub(super) const LANES: usize = 16;

/// Defines functions that are compiled once for AVX-512, once for AVX2 and once for what every processor has.
///
/// The constant behind the signature is whether a fused multiply-add is an instruction there; [`fma`] takes it, since
/// without the instruction `mul_add` is a slow library call.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?, $fused:ident => $body:block)*) => {
        $($(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<const $fused: bool>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn with_avx512($($arg: $type),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn with_avx2($($arg: $type),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                match $crate::kernels::vector::Level::of_this_processor() {
                    // SAFETY: the processor was found to have what the function is compiled for.
                    $crate::kernels::vector::Level::Avx512 => return unsafe { with_avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::vector::Level::Avx2 => return unsafe { with_avx2($($arg),*) },
                    $crate::kernels::vector::Level::Basic => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        })*
    };
}
pub(super) use vectorised;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) enum Level {
    Basic,
    Avx2,
    Avx512,
}

#[cfg(target_arch = "x86_64")]
impl Level {
    #[inline]
    pub(super) fn of_this_processor() -> Self {
        // The answers are cached by the standard library: an atomic load and a test of bits.
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            Self::Avx512
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Self::Avx2
        } else {
            Self::Basic
        }
    }
}

/// `a · b + c`.
#[inline(always)]
pub(super) fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// e^x, within two units in the last place; Cephes' `expf`. It is 0 below −87.3 and infinite above 88.37, a little before
/// f32 ends on either side; of NaN it is NaN.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let shifted = fma::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts: the first has so few digits that n times it is exact.
    let r = fma::<FUSED>(n, -0.693_359_4, x);
    let r = fma::<FUSED>(n, 2.121_944_4e-4, r);
    let p = fma::<FUSED>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = fma::<FUSED>(p, r, 8.333_452e-3);
    let p = fma::<FUSED>(p, r, 4.166_579_6e-2);
    let p = fma::<FUSED>(p, r, 1.666_666_5e-1);
    let p = fma::<FUSED>(p, r, 0.5);
    let power = fma::<FUSED>(p, r * r, r) + 1.0;
    let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    // Both comparisons are false for NaN, which `power` has kept.
    let value = if x < -87.3 { 0.0 } else { power * two_to_n };
    if x > 88.37 { f32::INFINITY } else { value }
}

/// The error function, within a few units in the last place: the rational minimax approximation of Eigen and XLA
/// (`erf(x) = x · P(x²) / Q(x²)` on [−4, 4], beyond which it is ±1 in f32). Of NaN it is NaN.
#[inline(always)]
pub(super) fn erf<const FUSED: bool>(x: f32) -> f32 {
    let s = x * x;
    let p = fma::<FUSED>(s, -2.726_142e-10, 2.770_681_4e-8);
    let p = fma::<FUSED>(s, p, -2.101_024e-6);
    let p = fma::<FUSED>(s, p, -5.692_506_4e-5);
    let p = fma::<FUSED>(s, p, -7.349_906_3e-4);
    let p = fma::<FUSED>(s, p, -2.954_6e-3);
    let p = fma::<FUSED>(s, p, -1.609_603_3e-2);
    let q = fma::<FUSED>(s, -1.456_607_2e-5, -2.133_740_6e-4);
    let q = fma::<FUSED>(s, q, -1.682_827e-3);
    let q = fma::<FUSED>(s, q, -7.373_329e-3);
    let q = fma::<FUSED>(s, q, -1.426_474e-2);
    // Both comparisons are false for NaN, which the quotient has kept.
    let value = if x < -4.0 { -1.0 } else { x * p / q };
    if x > 4.0 { 1.0 } else { value }
}

/// Adds the lanes pairwise, in an order of its own that never changes.
#[inline(always)]
pub(super) fn fold(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of `term` over the elements of slices of the same length.
#[inline(always)]
pub(super) fn sum_of<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let length = slices[0].len();
    let slices = slices.map(|slice| &slice[..length]);
    let mut lanes = [0.0; LANES];
    let mut start = 0;
    while start + LANES <= length {
        // Arrays of a known size: no bounds are left to check, and the loop becomes vector instructions.
        let chunks = slices.map(|slice| {
            let mut chunk = [0.0; LANES];
            chunk.copy_from_slice(&slice[start..start + LANES]);
            chunk
        });
        for lane in 0..LANES {
            lanes[lane] += term(chunks.map(|chunk| chunk[lane]));
        }
        start += LANES;
    }
    for (lane, index) in (start..length).enumerate() {
        lanes[lane] += term(slices.map(|slice| slice[index]));
    }
    fold(lanes)
}

/// The largest of `values`, NaN left out: what is then made of each value has it. −∞ of none.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (top, &value) in lanes.iter_mut().zip(chunk) {
            *top = if value > *top { value } else { *top };
        }
    }
    for (top, &value) in lanes.iter_mut().zip(rest) {
        *top = if value > *top { value } else { *top };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    vectorised! {
        fn exponentials(values: &mut [f32]), FUSED => {
            for value in values {
                *value = exp::<FUSED>(*value);
            }
        }
        fn error_functions(values: &mut [f32]), FUSED => {
            for value in values {
                *value = erf::<FUSED>(*value);
            }
        }
    }

    /// erf by its Taylor series in f64 (Abramowitz & Stegun 7.1.6).
    fn erf_by_series(x: f64) -> f64 {
        let (mut term, mut total, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * total.abs() {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            total += term;
        }
        total * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn exponential_and_error_function_are_good_to_f32() {
        let inputs: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.02 + 0.003).collect();
        let mut found = inputs.clone();
        exponentials(&mut found);
        for (&x, &value) in inputs.iter().zip(&found) {
            let wanted = f64::from(x).exp();
            assert!((f64::from(value) / wanted - 1.0).abs() < 3e-7, "exp({x}) is not {value}");
        }
        let inputs: Vec<f32> = (-2500..2500).map(|i| i as f32 * 0.002 + 0.0003).collect();
        let mut found = inputs.clone();
        error_functions(&mut found);
        for (&x, &value) in inputs.iter().zip(&found) {
            let wanted = erf_by_series(f64::from(x));
            assert!((f64::from(value) - wanted).abs() < 4e-7 * wanted.abs(), "erf({x}) is not {value}");
        }
    }
}
