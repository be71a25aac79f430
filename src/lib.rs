//! Keeps a service working while what it calls does not.
//!
//! Circuit breaker, retry, rate limiter, bulkhead, time limiter and fallback around any async call: one at a time, several
//! in a [`Pipeline`], or as tower layers. Settings, states, counters and events have the names, defaults and rules of
//! Resilience4j. No task is spawned and nothing is boxed: a policy is a value with a `call` method, and the guarded call
//! is a plain future.
//!
//! # Protect one call
//!
//! ```
//! use resile::{CircuitBreaker, Error};
//!
//! struct Orders {
//!     breaker: CircuitBreaker,
//! }
//!
//! impl Orders {
//!     async fn order(&self, id: u64) -> Result<String, Error<std::io::Error>> {
//!         self.breaker.call(|| fetch(id)).await
//!     }
//! }
//!
//! async fn fetch(id: u64) -> std::io::Result<String> {
//!     Ok(format!("order {id}")) // over the network, in a real service
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let orders = Orders { breaker: CircuitBreaker::with_defaults("orders") };
//! assert_eq!(orders.order(42).await.unwrap(), "order 42");
//! # });
//! ```
//!
//! When half of the last 100 calls have failed, further ones are rejected at once for 60 s; then ten trial calls decide
//! whether the dependency is well again. `with_defaults` takes the defaults, `new` takes a
//! [`Config`](circuit_breaker::Config).
//!
//! # Protect it five times
//!
//! A [`Pipeline`] holds several policies, outermost first. Its type can be named, so a struct can hold it, and it can be
//! shared between tasks.
//!
//! ```
//! use resile::{Bulkhead, CircuitBreaker, Error, InvalidConfig, Pipeline, RateLimiter, Retry, TimeLimiter};
//! use resile::{bulkhead, circuit_breaker, rate_limiter, time_limiter};
//! use std::{io, sync::Arc, time::Duration};
//!
//! struct Orders {
//!     guard: Pipeline<(Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead)>,
//! }
//!
//! impl Orders {
//!     fn new() -> Result<Self, InvalidConfig> {
//!         Ok(Self {
//!             guard: Pipeline::new((
//!                 Retry::with_defaults("orders"), // three attempts, 500 ms apart
//!                 CircuitBreaker::new(
//!                     "orders",
//!                     circuit_breaker::Config::default()
//!                         .failure_rate_threshold(50.0)
//!                         .wait_duration_in_open_state(Duration::from_secs(30)),
//!                 )?,
//!                 RateLimiter::new(
//!                     "orders",
//!                     rate_limiter::Config::default()
//!                         .limit_for_period(100)
//!                         .limit_refresh_period(Duration::from_secs(1))
//!                         .timeout_duration(Duration::from_millis(200)),
//!                 )?,
//!                 TimeLimiter::new(
//!                     "orders",
//!                     time_limiter::Config::default().timeout_duration(Duration::from_secs(2)),
//!                 )?,
//!                 Bulkhead::new("orders", bulkhead::Config::default().max_concurrent_calls(20))?,
//!             )),
//!         })
//!     }
//!
//!     async fn order(&self, id: u64) -> Result<String, Error<io::Error>> {
//!         self.guard.call(|| fetch(id)).await
//!     }
//! }
//! # async fn fetch(id: u64) -> io::Result<String> { Ok(format!("order {id}")) }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let orders = Arc::new(Orders::new()?);
//! let shared = Arc::clone(&orders);
//! let task = tokio::spawn(async move { shared.order(42).await });
//! assert_eq!(task.await.unwrap().unwrap(), "order 42");
//! # Ok::<(), InvalidConfig>(())
//! # }).unwrap();
//! ```
//!
//! The order matters: [`guide::composing`] says what each order means and why this one is a good first choice.
//!
//! # The policies
//!
//! | policy | for | reach for it when | main settings and defaults |
//! |---|---|---|---|
//! | [`CircuitBreaker`] | not calling what keeps failing, and trying it again later | a dependency can be down or slow for longer than a caller wants to wait | `failure_rate_threshold` 50 %, `slow_call_duration_threshold` 60 s, `sliding_window_size` 100 calls, `wait_duration_in_open_state` 60 s |
//! | [`Retry`] | calling again what failed for a moment | the call may be repeated, and the next attempt has a real chance | `max_attempts` 3 with the first, `wait_duration` 500 ms or an [`IntervalFunction`], `max_duration` none |
//! | [`RateLimiter`] | staying below a number of calls a period | the dependency, or a contract, names a rate | `limit_for_period` 50, `limit_refresh_period` 500 ns (set it!), `timeout_duration` 5 s, `algorithm` fixed cycle |
//! | [`Bulkhead`] | limiting the calls that run at once | one slow dependency could use up memory, connections or tasks | `max_concurrent_calls` 25, `max_wait_duration` zero |
//! | [`ThreadPoolBulkhead`] | running blocking closures on threads of their own | the call blocks a thread | `core_thread_pool_size`, `max_thread_pool_size` the machine's parallelism, `queue_capacity` 100 |
//! | [`TimeLimiter`] | giving a call up | always, for every call that leaves the process | `timeout_duration` 1 s |
//! | [`Fallback`] | answering in place of a call that failed | there is an answer that is better than an error | none: a function of the error |
//!
//! Every handle is cheap to clone, and a clone is the same instance. Each has `call(|| future)`, `call_with` for closures
//! that want to know the attempt, `call_flat` for an error type of your own and `call_blocking` for plain threads, and is
//! a tower layer (see [`layer`]). The thread pool alone takes closures that block, by `call` and `call_blocking`.
//!
//! # Errors
//!
//! A call through any number of policies fails with one flat [`Error`]: its own error, or a [`Rejected`] that says which
//! policy refused, why, with the numbers that decided it, and when to come back.
//!
//! ```
//! use resile::{CircuitBreaker, Error, Rejected};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let breaker = CircuitBreaker::with_defaults("orders");
//! breaker.transition_to_open()?;
//!
//! match breaker.call(|| async { Ok::<_, std::io::Error>("an order") }).await {
//!     Ok(order) => println!("{order}"),
//!     Err(Error::Inner(error)) => println!("the call ran and failed: {error}"),
//!     Err(Error::Rejected(Rejected::CircuitOpen(open))) => {
//!         println!("{open}"); // circuit breaker 'orders' is OPEN and does not permit further calls; retry after ...
//!     }
//!     Err(Error::Rejected(rejected)) => {
//!         // For an HTTP answer: 429 for a rate limit, 503 for all else, and the `Retry-After` header.
//!         println!("{} {:?}", rejected.http_status(), rejected.retry_after());
//!     }
//! }
//! # Ok::<(), resile::circuit_breaker::IllegalTransition>(())
//! # }).unwrap();
//! ```
//!
//! An error type of your own can carry a rejection instead: see [`Rejectable`].
//!
//! # Guarantees
//!
//! 1. **A permit cannot leak and cannot lie.** A verdict consumes it; dropping it, as a cancelled call does, gives the
//!    place back; a panic counts as a failure.
//! 2. **A late result decides nothing.** A result from a call that was admitted before the circuit last changed its state is
//!    counted as a late result and nowhere else.
//! 3. **One clock.** Waits, windows, durations and time-outs read one monotonic [`Clock`], which a test can set, so that a
//!    test never sleeps.
//! 4. **No allocation and no boxing.** While nobody listens, neither a call that is admitted without a wait nor a rejection
//!    allocates; no lock is ever held across an `.await` or while your code runs. (A breaker allocates as its circuit
//!    opens, and once where two threads first count in it at the same moment. The thread pool and
//!    [`TimeLimiter::detached`] hand the call on to another thread or task, and allocate for that.)
//! 5. **Local refusals are not failures of the thing called.** An open circuit, a full bulkhead or an empty rate limiter
//!    inside a breaker does not count against it, and a retry does not repeat it.
//! 6. **A rejection explains itself**: which policy and instance, why, the numbers, and when to come back where a moment can
//!    be named.
//! 7. **Listeners can do no harm.** They are called outside every lock, a panic in one reaches neither the call nor the next
//!    listener, and dropping the [`Subscription`] ends it.
//!
//! # Where to go next
//!
//! * [`guide::composing`]: the order of policies, what counts as a failure, and the usual mistakes.
//! * [`guide::testing`]: testing your service in virtual time.
//! * [`guide::from_resilience4j`]: each property, operation, event and annotation, and what differs on purpose.
//! * The module of each policy: [`circuit_breaker`], [`retry`], [`rate_limiter`], [`bulkhead`], [`time_limiter`],
//!   [`fallback`]; then [`event`] for watching, [`outcome`] for saying what a result means, [`policy`] for a policy of your
//!   own.
//! * [`registry`]: instances by name or by key, their settings, and changing those while they run.
//! * The examples in the repository: `quick_start`, `pipeline`, `tower_stack`, `own_error`, `failover`, `blocking`,
//!   `events`, `settings`, `metrics`, `admin`.
//!
//! # Runtimes
//!
//! Futures run on any executor. Waits are woken by a thread of the crate's own, started by the first of them. Only
//! [`TimeLimiter::detached`] needs a tokio runtime.
//!
//! # Features
//!
//! | feature | effect |
//! |---|---|
//! | `admin` | health, Actuator's endpoints and a live page over HTTP, as a router for axum: the module `admin` |
//! | `settings` | files in Resilience4j's layout, in YAML, TOML or JSON, also while the service runs: the module `settings` |
//! | `metrics` | counts and gauges through the `metrics` facade, by Resilience4j's names in Prometheus: the module `metrics` |
//! | `tracing` | events as events of the `tracing` crate, and a span for each attempt where one is asked for: the module `tracing` |
//! | `test-util` | the default clock follows tokio's, so that `#[tokio::test(start_paused = true)]` drives every policy; for dev-dependencies only, see [`guide::testing`] |
//!
//! No feature is on by default, and every policy is there without any.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "admin")]
#[cfg_attr(docsrs, doc(cfg(feature = "admin")))]
pub mod admin;
pub mod backoff;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod clock;
pub mod error;
pub mod event;
pub mod fallback;
pub mod guide;
pub mod layer;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
pub mod outcome;
pub mod pipeline;
pub mod policy;
pub mod rate_limiter;
pub mod registry;
pub mod retry;
#[cfg(feature = "settings")]
#[cfg_attr(docsrs, doc(cfg(feature = "settings")))]
pub mod settings;
pub mod time_limiter;
#[cfg(feature = "tracing")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub mod tracing;

mod blocking;
mod meter;
mod sync;
mod tally;
mod timer;

pub use self::{
    backoff::IntervalFunction,
    bulkhead::{Bulkhead, ThreadPoolBulkhead},
    circuit_breaker::CircuitBreaker,
    clock::{Clock, ManualClock},
    error::{
        BoxError, BulkheadFull, CircuitOpen, Error, InvalidConfig, RateLimited, Rejectable, Rejected, RetriesExhausted,
        TimedOut,
    },
    event::{Event, Subscription},
    fallback::Fallback,
    outcome::{Outcome, Verdict},
    pipeline::Pipeline,
    policy::{CallFuture, Cx, Operation, Policy},
    rate_limiter::RateLimiter,
    registry::{Registry, Resilience},
    retry::Retry,
    time_limiter::TimeLimiter,
};
