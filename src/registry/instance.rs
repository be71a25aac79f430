//! What a registry can hold.

use std::{fmt, sync::Arc};

use crate::{
    bulkhead::{self, Bulkhead, ThreadPoolBulkhead, thread_pool},
    circuit_breaker::{self, CircuitBreaker, State},
    clock::Clock,
    error::InvalidConfig,
    event::{Name, PolicyKind},
    rate_limiter::{self, RateLimiter},
    retry::{self, Retry},
    time_limiter::{self, TimeLimiter},
};

/// A kind of policy that a [`Registry`](super::Registry) makes and holds: each handle of the crate but
/// [`Fallback`](crate::Fallback), which has no settings. Not to be implemented elsewhere.
pub trait Instance: Clone + fmt::Debug + Send + Sync + sealed::Held + 'static {
    /// Its settings.
    type Config: Clone + PartialEq + fmt::Debug + Default + Send + Sync + 'static;

    /// The kind of policy it is.
    const KIND: PolicyKind;

    /// The instance's name.
    fn name(&self) -> &Name;

    /// An instance of that name.
    ///
    /// # Errors
    /// [`InvalidConfig`], as [`validate`](Self::validate).
    fn build(name: Name, config: Self::Config) -> Result<Self, InvalidConfig>;

    /// Whether the settings can be.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a setting out of range or at odds with another.
    fn validate(config: &Self::Config) -> Result<(), InvalidConfig>;

    /// Changes the settings and keeps the state. The clock stays the instance's own.
    ///
    /// # Errors
    /// [`InvalidConfig`], and nothing is changed.
    fn reconfigure(&self, config: Self::Config) -> Result<(), InvalidConfig>;

    /// The settings in force.
    fn config(&self) -> Self::Config;

    /// As [`build`](Self::build), with settings that many instances may share.
    #[doc(hidden)]
    fn sharing(name: Name, config: &Arc<Self::Config>) -> Result<Self, InvalidConfig> {
        Self::build(name, Self::Config::clone(config))
    }

    /// As [`reconfigure`](Self::reconfigure), to settings that many instances may share.
    #[doc(hidden)]
    fn share(&self, config: &Arc<Self::Config>) -> Result<(), InvalidConfig> {
        self.reconfigure(Self::Config::clone(config))
    }

    /// The same settings on another clock.
    #[doc(hidden)]
    fn on_clock(config: Self::Config, clock: &Clock) -> Self::Config;
}

/// What an instance would lose if it were forgotten and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing that matters.
    Nothing,
    /// A state that ends by itself: a circuit's wait, a limiter's debt.
    State,
    /// What somebody set by hand.
    Order,
}

pub(super) mod sealed {
    /// How a registry looks at what it holds.
    pub trait Held {
        /// How many handles there are, the registry's included.
        fn holders(&self) -> usize;
        /// Whether both are the same instance.
        fn is(&self, other: &Self) -> bool;
        /// What would be lost with it. May run code of the user's.
        fn keeps(&self) -> super::Keeps;
    }
}

macro_rules! instance {
    ($policy:ident, $config:ty, $keeps:expr $(, { $($shares:tt)* })?) => {
        impl Instance for $policy {
            type Config = $config;

            const KIND: PolicyKind = PolicyKind::$policy;

            fn name(&self) -> &Name {
                self.shared_name()
            }

            fn build(name: Name, config: $config) -> Result<Self, InvalidConfig> {
                Self::new(name, config)
            }

            fn validate(config: &$config) -> Result<(), InvalidConfig> {
                config.validate()
            }

            fn reconfigure(&self, config: $config) -> Result<(), InvalidConfig> {
                self.reconfigure(config)
            }

            fn config(&self) -> $config {
                self.config()
            }

            fn on_clock(config: $config, clock: &Clock) -> $config {
                config.clock(clock)
            }

            $($($shares)*)?
        }

        impl sealed::Held for $policy {
            fn holders(&self) -> usize {
                self.holders()
            }

            fn is(&self, other: &Self) -> bool {
                std::ptr::eq(self.shared_name(), other.shared_name())
            }

            fn keeps(&self) -> Keeps {
                let keeps: fn(&Self) -> Keeps = $keeps;
                keeps(self)
            }
        }
    };
}

instance!(
    CircuitBreaker,
    circuit_breaker::Config,
    |breaker| match breaker.state() {
        State::Closed | State::HalfOpen => Keeps::Nothing,
        // An open circuit whose wait is over admits the next call, as a new one would.
        State::Open => match breaker.metrics().retry_after {
            Some(wait) if wait.is_zero() => Keeps::Nothing,
            _ => Keeps::State,
        },
        State::Disabled | State::ForcedOpen | State::MetricsOnly => Keeps::Order,
    },
    {
        fn sharing(name: Name, config: &Arc<Self::Config>) -> Result<Self, InvalidConfig> {
            config.validate()?;
            Ok(Self::sharing(name, Arc::clone(config)))
        }

        fn share(&self, config: &Arc<Self::Config>) -> Result<(), InvalidConfig> {
            config.validate()?;
            self.share(Arc::clone(config));
            Ok(())
        }
    }
);
instance!(Retry, retry::Config, |_| Keeps::Nothing);
instance!(Bulkhead, bulkhead::Config, |_| Keeps::Nothing);
instance!(ThreadPoolBulkhead, thread_pool::Config, |_| Keeps::Nothing);
instance!(RateLimiter, rate_limiter::Config, |limiter| {
    if limiter.is_full() { Keeps::Nothing } else { Keeps::State }
});
instance!(TimeLimiter, time_limiter::Config, |_| Keeps::Nothing);
