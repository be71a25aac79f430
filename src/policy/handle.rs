//! What every handle has, written once.

/// Gives a policy its own `call`, `call_with`, `call_flat` and `call_blocking`, and makes it a tower layer.
macro_rules! handle_methods {
    ($policy:ident $(<$($parameter:ident),+>)?) => {
        impl$(<$($parameter),+>)? $policy$(<$($parameter),+>)? {
            /// Guards the call that `call` makes. Its error comes back as [`Error::Inner`](crate::Error::Inner).
            ///
            /// # Errors
            /// The call's own error, or the rejection.
            ///
            /// # Cancel safety
            /// Dropping the future drops the call and gives back whatever was held for it. Before the first poll nothing
            /// is held.
            #[inline]
            pub fn call<'a, Call, Fut, T, E>(
                &'a self,
                call: Call,
            ) -> <&'a Self as $crate::policy::Policy<$crate::policy::Plain<Call>>>::Future
            where
                Call: FnOnce() -> Fut,
                Fut: Future<Output = Result<T, E>>,
                &'a Self: $crate::policy::Policy<$crate::policy::Plain<Call>>,
            {
                $crate::policy::Policy::run(self, $crate::policy::Plain(call))
            }

            /// As `call`, for a closure that wants to know the attempt and the time: see [`Cx`](crate::Cx).
            ///
            /// # Errors
            /// The call's own error, or the rejection.
            ///
            /// # Cancel safety
            /// That of `call`.
            #[inline]
            pub fn call_with<'a, Call, Fut, T, E>(
                &'a self,
                call: Call,
            ) -> <&'a Self as $crate::policy::Policy<$crate::policy::PlainWith<Call>>>::Future
            where
                Call: FnOnce($crate::policy::Cx) -> Fut,
                Fut: Future<Output = Result<T, E>>,
                &'a Self: $crate::policy::Policy<$crate::policy::PlainWith<Call>>,
            {
                $crate::policy::Policy::run(self, $crate::policy::PlainWith(call))
            }

            /// As `call`, for a future whose error is itself [`Rejectable`](crate::Rejectable): nothing is wrapped, and a
            /// rejection becomes a value of that error.
            ///
            /// # Errors
            /// The call's own error, which may be the rejection.
            ///
            /// # Cancel safety
            /// That of `call`.
            #[inline]
            pub fn call_flat<'a, Call, Fut, T, E>(
                &'a self,
                call: Call,
            ) -> <&'a Self as $crate::policy::Policy<$crate::policy::Flat<Call>>>::Future
            where
                Call: FnOnce() -> Fut,
                Fut: Future<Output = Result<T, E>>,
                E: $crate::error::Rejectable,
                &'a Self: $crate::policy::Policy<$crate::policy::Flat<Call>>,
            {
                $crate::policy::Policy::run(self, $crate::policy::Flat(call))
            }

            /// As `call`, for a closure that blocks, on a thread of its own. Where the policy has to wait, the thread
            /// sleeps. The state is shared with `call`, and the results are the same.
            ///
            /// # Errors
            /// The call's own error, or the rejection.
            ///
            /// # Panics
            /// With the call's own panic, which is counted as one of a future is.
            #[inline]
            pub fn call_blocking<'a, Call, T, E>(&'a self, call: Call) -> Result<T, $crate::error::Error<E>>
            where
                Call: FnOnce() -> Result<T, E>,
                &'a Self: $crate::policy::Policy<$crate::policy::Blocking<Call>>,
            {
                $crate::blocking::run($crate::policy::Policy::run(self, $crate::policy::Blocking(call)))
            }
        }

        impl<S $($(, $parameter: Clone)+)?> tower_layer::Layer<S> for $policy$(<$($parameter),+>)? {
            type Service = $crate::layer::Guarded<S, Self>;

            fn layer(&self, service: S) -> Self::Service {
                $crate::layer::Guarded::new(service, self.clone())
            }
        }
    };
}
pub(crate) use handle_methods;

/// Gives a handle with a `source()` the three ways to listen.
macro_rules! event_methods {
    ($handle:ident) => {
        impl $handle {
            /// The instance's name.
            pub fn name(&self) -> &str {
                &self.source().name
            }

            pub(crate) fn shared_name(&self) -> &$crate::event::Name {
                &self.source().name
            }

            /// How many handles and owned permits there are, this one included.
            pub(crate) fn holders(&self) -> usize {
                std::sync::Arc::strong_count(&self.inner)
            }

            /// Calls `listener` with every event, on the thread it happens on, outside every lock. A panic in it is
            /// contained. Dropping the subscription ends it.
            pub fn on_event(
                &self,
                listener: impl Fn(&$crate::event::Event) + Send + Sync + 'static,
            ) -> $crate::event::Subscription {
                self.source().listeners.subscribe(listener)
            }

            /// Events as a stream that holds at most `capacity` unread ones, at least one. When it is full the oldest
            /// makes room and is counted as missed.
            pub fn events(&self, capacity: usize) -> $crate::event::EventStream {
                self.source().listeners.stream(capacity)
            }

            /// Keeps the last `capacity` events, at least one, to be looked at when wanted.
            #[doc(alias = "CircularEventConsumer")]
            pub fn event_log(&self, capacity: usize) -> $crate::event::EventLog {
                self.source().listeners.log(capacity)
            }
        }
    };
}
pub(crate) use event_methods;
