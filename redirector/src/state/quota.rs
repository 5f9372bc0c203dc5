//! Keeping what is booked to an agreement within its capacity, by the part of its clients that it takes.
//!
//! An agreement that is full counts as none (P-29): what is above its capacity goes where clients without an agreement go.
//! To switch it off and on again would move all its clients to and fro. So a part of them is taken, as large as fits, and
//! always the same ones; the part shrinks at once and grows slowly, after a while.

use std::time::{Duration, Instant};

/// Time over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// How long the part stays as it is after it shrank.
const HOLD: Duration = Duration::from_secs(5);
/// Below this part of the capacity it may grow.
const SLACK: f64 = 0.9;
/// What it grows to, at most, of the capacity.
const AIM: f64 = 0.95;
/// Growth in one window, at most.
const STEP: f64 = 1.25;
/// The least part that is not none.
const LEAST: f64 = 1.0 / 256.0;

/// How much of its clients an agreement takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Governor {
    part: f64,
    /// Begin of the window, and what was counted until then; `None` before the first sample.
    window: Option<(Instant, u64)>,
    /// Until when it does not grow.
    held: Option<Instant>,
    /// Of the last window, in a second.
    rate: f64,
}

impl Default for Governor {
    fn default() -> Self {
        Self { part: 1.0, window: None, held: None, rate: 0.0 }
    }
}

impl Governor {
    /// The part, in 1/256.
    pub fn factor(&self) -> u16 {
        // Within 0..=256.
        (self.part * 256.0).round() as u16
    }

    /// What was counted in a second, lately.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Nothing limits it.
    pub fn open(&mut self) {
        (self.part, self.held) = (1.0, None);
    }

    /// Takes in what was counted until `now`, and keeps within `limit` in a second.
    pub fn sample(&mut self, now: Instant, count: u64, limit: Option<u64>) {
        let (began, base) = *self.window.get_or_insert((now, count));
        let elapsed = now.saturating_duration_since(began);
        // Counters of a daemon that came later can begin anew.
        let counted = count.saturating_sub(base);
        let is_full = limit.is_some_and(|limit| counted > limit);
        if elapsed.is_zero() || (elapsed < WINDOW && !is_full) {
            return;
        }
        self.window = Some((now, count));
        self.rate = counted as f64 / elapsed.as_secs_f64();
        self.adapt(now, limit);
    }

    /// Takes in a rate that was measured elsewhere.
    pub fn told(&mut self, now: Instant, rate: f64, limit: Option<u64>) {
        self.rate = rate;
        self.adapt(now, limit);
    }

    fn adapt(&mut self, now: Instant, limit: Option<u64>) {
        let Some(limit) = limit.map(|limit| limit as f64) else { return self.open() };
        if self.rate > limit {
            self.part *= limit / self.rate;
            self.held = Some(now + HOLD);
            if self.part < LEAST {
                self.part = 0.0;
            }
        } else if self.part < 1.0 && limit > 0.0 && self.held.is_none_or(|held| now >= held) {
            let room = if self.rate > 0.0 { AIM * limit / self.rate } else { STEP };
            if self.rate < SLACK * limit {
                self.part = (self.part * room.min(STEP)).clamp(LEAST, 1.0);
            }
        }
        if limit == 0.0 {
            self.part = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds with so many requests each, of which the governor's part is booked; what was booked in each, and the
    /// part after it.
    fn run(
        governor: &mut Governor,
        demand: impl Fn(u64) -> u64,
        limit: u64,
        seconds: u64,
    ) -> Vec<(u64, f64)> {
        let began = Instant::now();
        let (mut booked, mut told) = (0.0, Vec::new());
        governor.sample(began, 0, Some(limit));
        for second in 0..seconds {
            let before = booked;
            for tenth in 1..=10u32 {
                booked += demand(second) as f64 / 10.0 * governor.part;
                let now = began + Duration::from_secs(second) + Duration::from_millis(100) * tenth;
                governor.sample(now, booked as u64, Some(limit));
            }
            told.push(((booked - before) as u64, governor.part));
        }
        told
    }

    #[test]
    fn demand_within_the_capacity_is_taken_whole() {
        let told = run(&mut Governor::default(), |_| 999, 1000, 60);
        assert!(told.iter().all(|(_, part)| *part == 1.0), "{told:?}");
    }

    #[test]
    fn what_is_above_the_capacity_goes_elsewhere_within_a_second_and_does_not_swing() {
        let told = run(&mut Governor::default(), |_| 4000, 1000, 120);
        assert!(told[0].1 < 0.3, "within the first second: {told:?}");
        for (second, (booked, part)) in told.iter().enumerate().skip(2) {
            assert!((900..=1050).contains(booked), "second {second}: {booked} booked");
            assert!((0.22..=0.26).contains(part), "second {second}: part {part}");
        }
    }

    #[test]
    fn when_demand_falls_it_is_taken_whole_again_and_not_at_once() {
        let mut governor = Governor::default();
        let told = run(&mut governor, |second| if second < 10 { 4000 } else { 500 }, 1000, 60);
        assert!(told[11].1 < 0.5, "{told:?}");
        assert_eq!(told[40].1, 1.0, "{told:?}");
    }

    #[test]
    fn no_capacity_takes_nobody_and_a_limit_that_is_lifted_everybody() {
        let mut governor = Governor::default();
        run(&mut governor, |_| 100, 0, 20);
        assert_eq!(governor.factor(), 0);
        let now = Instant::now() + Duration::from_secs(3600);
        governor.sample(now, 0, None);
        governor.sample(now + WINDOW, 0, None);
        assert_eq!(governor.factor(), 256);
    }
}
