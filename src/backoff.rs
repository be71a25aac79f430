//! How long to wait before each attempt: fixed, exponential or custom intervals, with or without jitter.
//!
//! An [`IntervalFunction`] is a plain value. [`Retry`](crate::Retry) waits by it between attempts and
//! [`CircuitBreaker`](crate::CircuitBreaker) in the open state; it is as useful in a loop of your own.
//!
//! ```
//! use resile::IntervalFunction;
//! use std::time::Duration;
//!
//! let interval = IntervalFunction::exponential(Duration::from_millis(100), 2.0).max(Duration::from_secs(1));
//! let waits: Vec<_> = interval.intervals().take(5).map(|wait| wait.as_millis()).collect();
//! assert_eq!(waits, [100, 200, 400, 800, 1000]);
//!
//! // Many clients that failed together do not come back together.
//! let jittered = interval.randomized(0.5);
//! assert!(jittered.validate().is_ok());
//! assert!((50..=150).contains(&jittered.intervals().next().unwrap().as_millis()));
//! ```

use std::{fmt, sync::Arc, time::Duration};

use fastrand::Rng;

use crate::error::InvalidConfig;

/// Where intervals stop growing, as Resilience4j's do: `i64::MAX` milliseconds.
const LONGEST: Duration = Duration::from_millis(i64::MAX as u64);

/// How long to wait before each further attempt.
///
/// Intervals are whole nanoseconds, cost the same to work out for any attempt, and stop growing at `i64::MAX`
/// milliseconds.
#[doc(alias = "Backoff")]
#[doc(alias = "BackoffStrategy")]
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalFunction {
    curve: Curve,
    max: Option<Duration>,
    jitter: Option<Jitter>,
    contradicted: Option<Jitter>,
    seed: Option<u64>,
}

#[derive(Clone)]
enum Curve {
    Fixed(Duration),
    Exponential { initial: Duration, multiplier: f64 },
    Custom(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Jitter {
    Randomized(f64),
    Full,
    Decorrelated,
}

/// A function of the user's equals only its own clones.
impl PartialEq for Curve {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(one), Self::Fixed(other)) => one == other,
            (
                Self::Exponential { initial, multiplier },
                Self::Exponential { initial: other, multiplier: other_multiplier },
            ) => initial == other && multiplier == other_multiplier,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl IntervalFunction {
    /// The same interval each time. It may be zero.
    pub const fn fixed(interval: Duration) -> Self {
        Self::new(Curve::Fixed(interval))
    }

    /// `initial`, then each time `multiplier` times as long. `initial` is more than zero, `multiplier` finite and more
    /// than zero. Resilience4j's defaults are 500 ms and 1.5.
    #[doc(alias = "ofExponentialBackoff")]
    pub const fn exponential(initial: Duration, multiplier: f64) -> Self {
        Self::new(Curve::Exponential { initial, multiplier })
    }

    /// Whatever `interval` says for an attempt, counted from 1.
    pub fn custom(interval: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::new(Curve::Custom(Arc::new(interval)))
    }

    const fn new(curve: Curve) -> Self {
        Self { curve, max: None, jitter: None, contradicted: None, seed: None }
    }

    /// Lets intervals grow to this and no further. The limit holds *before* the jitter, so that waits still differ once
    /// they have reached it: with [`randomized`](Self::randomized) they lie around it. Default: no limit.
    #[must_use]
    pub fn max(mut self, interval: Duration) -> Self {
        self.max = Some(interval);
        self
    }

    /// Spreads an interval `x` evenly over `x - d ..= x + d`, where `d = factor * x` and `0 <= factor <= 1`.
    ///
    /// Source: Resilience4j's randomised intervals, whose default factor is 0.5.
    #[doc(alias = "ofRandomized")]
    #[doc(alias = "ofExponentialRandomBackoff")]
    #[must_use]
    pub fn randomized(self, factor: f64) -> Self {
        self.with_jitter(Jitter::Randomized(factor))
    }

    /// Spreads an interval `x` evenly over `0 ..= x`.
    ///
    /// Source: "Full Jitter" in M. Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015.
    #[must_use]
    pub fn full_jitter(self) -> Self {
        self.with_jitter(Jitter::Full)
    }

    /// Spreads a [`fixed`](Self::fixed) interval evenly over `initial ..= 3 * previous`, where `previous` is the wait
    /// before, at first `initial`. Waits grow by themselves, on average by half each time, so no other growth goes with
    /// it; [`max`](Self::max) limits the range that is drawn from.
    ///
    /// Source: "Decorrelated Jitter" in M. Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015,
    /// where the limit is applied to what was drawn.
    #[must_use]
    pub fn decorrelated_jitter(self) -> Self {
        self.with_jitter(Jitter::Decorrelated)
    }

    /// Makes the jitter reproducible. Default: each run is different.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    fn with_jitter(mut self, jitter: Jitter) -> Self {
        let before = self.jitter.replace(jitter);
        let another = before.filter(|before| std::mem::discriminant(before) != std::mem::discriminant(&jitter));
        self.contradicted = self.contradicted.or(another);
        self
    }

    /// The interval after `attempt` failed attempts, from 1, without jitter. Zero counts as 1.
    pub fn interval(&self, attempt: u32) -> Duration {
        let attempt = attempt.max(1);
        let interval = match &self.curve {
            Curve::Fixed(interval) => *interval,
            Curve::Exponential { initial, multiplier } => {
                scaled(*initial, multiplier.powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX)))
            }
            Curve::Custom(interval) => interval(attempt),
        };
        interval.min(self.cap())
    }

    /// The waits of one run, with jitter, without end. With a [`seed`](Self::seed) they are the same each time.
    pub fn intervals(&self) -> Intervals {
        Intervals { rng: self.rng(), function: self.clone(), attempt: 0, previous: None }
    }

    /// Whether the intervals can be as they are set.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a value outside its limits, for two kinds of jitter at once, and for decorrelated jitter on
    /// anything but a fixed interval.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.check("interval_function")
    }

    /// As `validate`, under the name of the setting that holds the function.
    pub(crate) fn check(&self, field: &'static str) -> Result<(), InvalidConfig> {
        if let Curve::Exponential { initial, multiplier } = self.curve {
            InvalidConfig::check(!initial.is_zero(), field, initial, "the initial interval must be more than zero")?;
            let grows = multiplier.is_finite() && multiplier > 0.0;
            InvalidConfig::check(grows, field, multiplier, "the multiplier must be finite and more than zero")?;
        }
        if let Some(Jitter::Randomized(factor)) = self.jitter {
            let share = (0.0..=1.0).contains(&factor);
            InvalidConfig::check(share, field, factor, "the randomization factor must be from 0 to 1")?;
        }
        if let (Some(one), Some(other)) = (self.contradicted, self.jitter) {
            return Err(InvalidConfig::new(field, (one, other), "only one kind of jitter can be had"));
        }
        let by_itself = matches!(self.jitter, Some(Jitter::Decorrelated)) && !matches!(self.curve, Curve::Fixed(_));
        InvalidConfig::check(
            !by_itself,
            field,
            &self.curve,
            "decorrelated jitter grows by itself: it goes with a fixed interval only",
        )
    }

    /// The interval with jitter. `previous` is what was sampled before in the same run.
    pub(crate) fn sample(&self, attempt: u32, previous: Option<Duration>, rng: &mut Rng) -> Duration {
        let interval = self.interval(attempt);
        match self.jitter {
            None => interval,
            Some(Jitter::Randomized(factor)) => {
                let spread = scaled(interval, factor).min(interval);
                between(interval - spread, interval.saturating_add(spread), rng)
            }
            Some(Jitter::Full) => between(Duration::ZERO, interval, rng),
            Some(Jitter::Decorrelated) => {
                let longest = previous.unwrap_or(interval).saturating_mul(3).min(self.cap());
                between(interval, longest.max(interval), rng)
            }
        }
    }

    /// Whether a function of the user's decides, which may take its time, or panic.
    pub(crate) fn calls_user_code(&self) -> bool {
        matches!(self.curve, Curve::Custom(_))
    }

    /// What a run draws its jitter from.
    pub(crate) fn rng(&self) -> Rng {
        self.rng_of_run(0)
    }

    /// As `rng`, where runs that share a seed are to differ.
    pub(crate) fn rng_of_run(&self, run: u64) -> Rng {
        self.seed.map_or_else(Rng::new, |seed| Rng::with_seed(seed.wrapping_add(run)))
    }

    /// What the jitter is reproducible by.
    pub(crate) fn seed_in_use(&self) -> Option<u64> {
        self.seed
    }

    fn cap(&self) -> Duration {
        self.max.unwrap_or(LONGEST).min(LONGEST)
    }
}

/// Never panics: what is not a number becomes zero, what is too long the longest.
fn scaled(interval: Duration, factor: f64) -> Duration {
    from_nanos((interval.as_nanos() as f64 * factor).round() as u128)
}

fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let nanos = nanos.min(LONGEST.as_nanos());
    Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
}

fn between(shortest: Duration, longest: Duration, rng: &mut Rng) -> Duration {
    from_nanos(rng.u128(shortest.as_nanos()..=longest.as_nanos()))
}

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(interval) => write!(f, "fixed({interval:?})"),
            Self::Exponential { initial, multiplier } => write!(f, "exponential({initial:?}, {multiplier:?})"),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}

/// The waits of one run, without end. See [`IntervalFunction::intervals`].
#[derive(Debug, Clone)]
#[must_use = "iterators do nothing unless consumed"]
pub struct Intervals {
    function: IntervalFunction,
    rng: Rng,
    attempt: u32,
    previous: Option<Duration>,
}

impl Iterator for Intervals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.attempt = self.attempt.saturating_add(1);
        self.previous = Some(self.function.sample(self.attempt, self.previous, &mut self.rng));
        self.previous
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn waits(function: &IntervalFunction, attempt: u32) -> Vec<Duration> {
        let mut rng = function.rng();
        (0..20_000).map(|_| function.sample(attempt, None, &mut rng)).collect()
    }

    /// 20 000 even draws: the mean's standard deviation is 0.2 % of the range's width.
    fn assert_even_between(waits: &[Duration], shortest: Duration, longest: Duration) {
        assert!(waits.iter().all(|wait| (shortest..=longest).contains(wait)));
        let width = longest - shortest;
        let mean = waits.iter().sum::<Duration>() / u32::try_from(waits.len()).unwrap();
        assert!(mean.abs_diff(shortest + width / 2) < width / 100, "{mean:?}");
        assert!(*waits.iter().min().unwrap() < shortest + width / 100);
        assert!(*waits.iter().max().unwrap() > longest - width / 100);
    }

    #[test]
    fn a_randomized_interval_lies_evenly_around_its_middle() {
        let function = IntervalFunction::exponential(100 * MS, 2.0).randomized(0.5).seed(1);
        assert_even_between(&waits(&function, 3), 200 * MS, 600 * MS);
        assert!(waits(&function.randomized(0.0), 3).iter().all(|wait| *wait == 400 * MS));
    }

    #[test]
    fn full_jitter_lies_evenly_between_nothing_and_the_interval() {
        let function = IntervalFunction::exponential(100 * MS, 2.0).full_jitter().seed(2);
        assert_even_between(&waits(&function, 3), Duration::ZERO, 400 * MS);
    }

    #[test]
    fn decorrelated_jitter_lies_evenly_between_the_first_interval_and_three_times_the_last_wait() {
        let function = IntervalFunction::fixed(100 * MS).decorrelated_jitter().seed(3);
        assert_even_between(&waits(&function, 1), 100 * MS, 300 * MS);
        let mut rng = function.rng();
        let later: Vec<_> = (0..20_000).map(|_| function.sample(2, Some(250 * MS), &mut rng)).collect();
        assert_even_between(&later, 100 * MS, 750 * MS);
    }

    #[test]
    fn jitter_survives_the_cap() {
        let randomized = IntervalFunction::exponential(100 * MS, 2.0).max(1000 * MS).randomized(0.5).seed(4);
        assert_even_between(&waits(&randomized, 30), 500 * MS, 1500 * MS);
        let full = IntervalFunction::exponential(100 * MS, 2.0).max(1000 * MS).full_jitter().seed(4);
        assert_even_between(&waits(&full, 30), Duration::ZERO, 1000 * MS);
        let decorrelated = IntervalFunction::fixed(100 * MS).max(1000 * MS).decorrelated_jitter().seed(4);
        let mut rng = decorrelated.rng();
        let late: Vec<_> = (0..20_000).map(|_| decorrelated.sample(30, Some(1000 * MS), &mut rng)).collect();
        assert_even_between(&late, 100 * MS, 1000 * MS);
    }

    #[test]
    fn decorrelated_jitter_grows_on_the_wait_before() {
        let mut previous = 100 * MS;
        for wait in IntervalFunction::fixed(100 * MS).decorrelated_jitter().seed(5).intervals().take(100) {
            assert!((100 * MS..=3 * previous).contains(&wait));
            previous = wait;
        }
        assert!(previous > 10_000 * MS, "{previous:?}");
    }

    #[test]
    fn a_seeded_run_can_be_repeated_and_an_unseeded_one_differs() {
        let function = IntervalFunction::fixed(100 * MS).full_jitter();
        let run = |function: &IntervalFunction| function.intervals().take(8).collect::<Vec<_>>();
        assert_ne!(run(&function), run(&function));
        let seeded = function.seed(6);
        assert_eq!(run(&seeded), run(&seeded));
        assert_ne!(seeded.rng_of_run(0).u64(..), seeded.rng_of_run(1).u64(..));
    }

    #[test]
    fn a_custom_function_is_told_the_attempt_and_capped() {
        let function = IntervalFunction::custom(|attempt| attempt * MS).max(3 * MS);
        assert_eq!(function.intervals().take(5).collect::<Vec<_>>(), [MS, 2 * MS, 3 * MS, 3 * MS, 3 * MS]);
        assert_eq!(function.interval(0), MS);
        assert!(function.calls_user_code());
        assert!(!IntervalFunction::fixed(MS).calls_user_code());
    }

    #[test]
    fn intervals_stop_growing_at_the_longest_that_resilience4j_knows() {
        assert_eq!(IntervalFunction::exponential(1000 * MS, 2.0).interval(100), LONGEST);
        assert_eq!(IntervalFunction::fixed(Duration::MAX).interval(1), LONGEST);
        assert_eq!(IntervalFunction::custom(|_| Duration::MAX).interval(1), LONGEST);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |function: IntervalFunction| function.validate().expect_err("refused").rule.into_owned();
        for multiplier in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
            assert!(refused(IntervalFunction::exponential(MS, multiplier)).starts_with("the multiplier"));
        }
        for factor in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            assert!(refused(IntervalFunction::fixed(MS).randomized(factor)).starts_with("the randomization factor"));
        }
        assert!(refused(IntervalFunction::exponential(Duration::ZERO, 2.0)).starts_with("the initial interval"));
        let both = IntervalFunction::fixed(MS).full_jitter().randomized(0.5).full_jitter();
        assert!(refused(both).starts_with("only one kind of jitter"));
        assert!(refused(IntervalFunction::exponential(MS, 2.0).decorrelated_jitter()).starts_with("decorrelated"));
        assert!(refused(IntervalFunction::custom(|_| MS).decorrelated_jitter()).starts_with("decorrelated"));
        let error = IntervalFunction::exponential(MS, -1.0).check("wait_interval_function_in_open_state");
        assert_eq!(error.unwrap_err().field, "wait_interval_function_in_open_state");
    }

    #[test]
    fn what_can_be_is_accepted() {
        let accepted = |function: IntervalFunction| assert_eq!(function.validate(), Ok(()));
        accepted(IntervalFunction::fixed(Duration::ZERO));
        accepted(IntervalFunction::exponential(MS, 0.5).max(Duration::ZERO).full_jitter());
        accepted(IntervalFunction::fixed(MS).decorrelated_jitter().max(10 * MS).seed(0));
        accepted(IntervalFunction::custom(|_| MS).randomized(1.0).randomized(0.5));
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(
            nanos in any::<u64>(),
            secs in any::<u64>(),
            multiplier in proptest::num::f64::ANY,
            factor in proptest::num::f64::ANY,
            attempt in prop_oneof![0..100u32, u32::MAX - 2..=u32::MAX, any::<u32>()],
            max in proptest::option::of(any::<u64>()),
            previous in proptest::option::of(any::<u64>()),
        ) {
            let previous = previous.map(Duration::from_secs);
            for initial in [Duration::from_nanos(nanos), Duration::from_secs(secs)] {
                let mut function = IntervalFunction::exponential(initial, multiplier);
                function.max = max.map(Duration::from_nanos);
                let _ = function.validate();
                for function in [
                    function.clone(),
                    function.clone().randomized(factor),
                    function.clone().full_jitter(),
                    function.decorrelated_jitter(),
                ] {
                    let mut rng = function.rng();
                    prop_assert!(function.interval(attempt) <= function.cap());
                    prop_assert!(function.sample(attempt, previous, &mut rng) <= LONGEST);
                }
            }
        }

        #[test]
        fn exponential_intervals_grow_until_the_cap(
            initial in 1_000..10_000_000_000u64,
            multiplier in 1.01..100.0f64,
            cap in 1_000..10_000_000_000_000u64,
        ) {
            let cap = Duration::from_nanos(cap);
            let function = IntervalFunction::exponential(Duration::from_nanos(initial), multiplier).max(cap);
            for attempt in (1..).take_while(|attempt| function.interval(attempt + 1) < cap) {
                prop_assert!(function.interval(attempt) < function.interval(attempt + 1));
            }
            prop_assert_eq!(function.interval(u32::MAX), cap);
        }
    }
}
