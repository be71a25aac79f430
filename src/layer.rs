//! The one tower adapter: any policy is a [`Layer`](tower_layer::Layer), and [`Guarded`] is the service it makes.
//!
//! ```
//! use resile::{BoxError, CircuitBreaker, TimeLimiter};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let mut client = ServiceBuilder::new()
//!     .layer(CircuitBreaker::with_defaults("orders"))
//!     .layer(TimeLimiter::with_defaults("orders"))
//!     .service(service_fn(|order: u32| async move { Ok::<_, BoxError>(order + 1) }));
//! assert_eq!(client.ready().await?.call(41).await?, 42);
//! # Ok::<(), BoxError>(())
//! # }).unwrap();
//! ```
//!
//! The service is always ready: the inner service's readiness is awaited inside the guarded call, so that a service that
//! never becomes ready falls under a time limit, and an open breaker does not ask it at all. The inner service's error
//! type is kept; it must be [`Rejectable`]. A foreign error enters at the bottom of the stack with
//! `.map_err(resile::Error::Inner)`.
//!
//! What a policy tells the call inside it does not pass through a service: under a separate retry layer, every attempt is
//! the first to the layers inside. Where the attempt matters, make one layer of a [`Pipeline`](crate::Pipeline).
//!
//! Where the compiler only says that a stack does not satisfy `_: Service<_>`, let it say why by naming the request:
//! `fn check(client: &impl Service<u32>) {}`.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    error::Rejectable,
    policy::{CallFuture, Cx, Operation, Policy},
};

/// A service with a policy around it.
#[derive(Debug, Clone)]
pub struct Guarded<S, P> {
    service: S,
    policy: P,
}

impl<S, P> Guarded<S, P> {
    /// `policy` around `service`.
    pub const fn new(service: S, policy: P) -> Self {
        Self { service, policy }
    }

    /// The policy, to look at or to steer.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// The service inside.
    pub const fn inner(&self) -> &S {
        &self.service
    }
}

impl<S, P, Request> Service<Request> for Guarded<S, P>
where
    S: Service<Request> + Clone,
    S::Error: Rejectable,
    P: Policy<ServiceCall<S, Request>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = P::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> P::Future {
        // The service that has been used so far goes with the call: whatever it holds, such as a permit from an earlier
        // `poll_ready`, is used by this call and not kept from it.
        let next = self.service.clone();
        let service = mem::replace(&mut self.service, next);
        self.policy.clone().run(ServiceCall { service, request })
    }
}

/// A request to a service, not yet made. `Clone`, and so can be retried, where service and request are.
#[derive(Debug, Clone)]
pub struct ServiceCall<S, Request> {
    service: S,
    request: Request,
}

impl<S, Request> Operation for ServiceCall<S, Request>
where
    S: Service<Request>,
    S::Error: Rejectable,
{
    type Ok = S::Response;
    type Err = S::Error;
    type Future = Oneshot<S, Request>;

    fn start(self) -> Oneshot<S, Request> {
        Oneshot { state: OneshotState::Readying { service: self.service, request: Some(self.request) } }
    }
}

pin_project! {
    /// Waits until a service is ready, and calls it.
    pub struct Oneshot<S: Service<Request>, Request> {
        #[pin]
        state: OneshotState<S, Request>,
    }
}

pin_project! {
    #[project = OneshotProjection]
    enum OneshotState<S: Service<Request>, Request> {
        Readying { service: S, request: Option<Request> },
        Called { #[pin] future: S::Future },
        Done,
    }
}

impl<S: Service<Request>, Request> CallFuture for Oneshot<S, Request> {
    #[inline]
    fn poll_with(self: Pin<&mut Self>, _: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll(task)
    }
}

impl<S: Service<Request>, Request> Future for Oneshot<S, Request> {
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut ending = Ending { state: self.project().state };
        if let OneshotProjection::Readying { service, request } = ending.state.as_mut().project() {
            match service.poll_ready(task)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    mem::forget(ending);
                    return Poll::Pending;
                }
            }
            let future = service.call(request.take().expect("called once"));
            ending.state.set(OneshotState::Called { future });
        }
        let OneshotProjection::Called { future } = ending.state.as_mut().project() else {
            panic!("polled after its end");
        };
        let polled = future.poll(task);
        if polled.is_pending() {
            mem::forget(ending);
        }
        polled
    }
}

/// Drops the service and its answer where the call ends or unwinds, so that they are gone before the policies around it
/// give back what they hold.
struct Ending<'a, S: Service<Request>, Request> {
    state: Pin<&'a mut OneshotState<S, Request>>,
}

impl<S: Service<Request>, Request> Drop for Ending<'_, S, Request> {
    #[inline]
    fn drop(&mut self) {
        self.state.set(OneshotState::Done);
    }
}

impl<S: Service<Request>, Request> fmt::Debug for Oneshot<S, Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oneshot").finish_non_exhaustive()
    }
}
