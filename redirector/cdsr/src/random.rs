//! Randomness for nonces, jitter and shares, all from the system.

use std::time::Duration;

/// 64 unpredictable bits.
pub(crate) fn number() -> Result<u64, getrandom::Error> {
    getrandom::u64()
}

/// `base` times a factor between `low` and `high`, so that clients that started together do not stay together.
pub(crate) fn scaled(base: Duration, low: f64, high: f64) -> Result<Duration, getrandom::Error> {
    let fraction = f64::from(getrandom::u32()?) / f64::from(u32::MAX);
    Ok(base.mul_f64(low + (high - low) * fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bounds_and_varies() {
        let base = Duration::from_secs(1);
        let draws: Vec<f64> =
            (0..1000).map(|_| scaled(base, 0.75, 1.25).expect("randomness").as_secs_f64()).collect();
        assert!(draws.iter().all(|draw| (0.75..=1.25).contains(draw)));
        assert!(draws.iter().any(|draw| *draw < 0.8) && draws.iter().any(|draw| *draw > 1.2));
    }
}
