//! Numbers of chance that `RKE2FLOW_SEED` repeats (SplitMix64).

/// Draws numbers.
pub struct Chance(u64);

impl Chance {
    /// From the seed that is given, or from this process; it is printed.
    pub fn new() -> Self {
        let given = std::env::var("RKE2FLOW_SEED").ok();
        let seed = given.map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().unwrap());
        eprintln!("RKE2FLOW_SEED={seed}");
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
