//! Random numbers for the tests that try any history: the same ones for the same seed.

/// Numbers below a bound that each call names.
///
/// Source: George Marsaglia, "Xorshift RNGs", 2003. Seeds begin at 1.
pub(crate) fn random_below(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}
