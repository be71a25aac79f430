//! Several policies as one: tuples, and what may be left out.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{CallFuture, Cx, Operation, Policy};

/// A call with a policy around it, itself a call for the next policy outwards.
#[derive(Debug, Clone)]
pub struct Around<P, Op> {
    policy: P,
    op: Op,
}

impl<P, Op> Around<P, Op> {
    /// `policy` around `op`.
    pub fn new(policy: P, op: Op) -> Self {
        Self { policy, op }
    }
}

impl<P: Policy<Op>, Op: Operation> Operation for Around<P, Op> {
    type Ok = Op::Ok;
    type Err = Op::Err;
    type Future = P::Future;

    #[inline]
    fn start(self) -> P::Future {
        self.policy.run(self.op)
    }
}

macro_rules! tuple_policy {
    ($op:ident, $($policy:ident)+) => {
        tuple_policy!(@reverse $op [$($policy)+] [] $($policy)+);
    };
    (@reverse $op:ident $all:tt [$($reversed:ident)*] $first:ident $($rest:ident)*) => {
        tuple_policy!(@reverse $op $all [$first $($reversed)*] $($rest)*);
    };
    (@reverse $op:ident $all:tt [$($reversed:ident)+]) => {
        tuple_policy!(@owned $op $all [] [Op] [$op] $($reversed)+);
        tuple_policy!(@borrowed $op $all [] [Op] [$op] $($reversed)+);
    };
    (@owned $op:ident $all:tt [$($bounds:tt)*] [$($inner:tt)+] [$($call:tt)+] $policy:ident $($rest:ident)+) => {
        tuple_policy!(@owned $op $all [$($bounds)* $policy: Policy<$($inner)+>,]
            [Around<$policy, $($inner)+>] [Around::new($policy, $($call)+)] $($rest)+);
    };
    (@owned $op:ident [$($all:ident)+] [$($bounds:tt)*] [$($inner:tt)+] [$($call:tt)+] $policy:ident) => {
        impl<Op: Operation, $($all),+> Policy<Op> for ($($all,)+)
        where
            $($bounds)*
            $policy: Policy<$($inner)+>,
        {
            type Future = $policy::Future;

            #[inline]
            #[allow(non_snake_case)]
            fn run(self, $op: Op) -> Self::Future {
                let ($($all,)+) = self;
                $policy.run($($call)+)
            }
        }
    };
    (@borrowed $op:ident $all:tt [$($bounds:tt)*] [$($inner:tt)+] [$($call:tt)+] $policy:ident $($rest:ident)+) => {
        tuple_policy!(@borrowed $op $all [$($bounds)* &'a $policy: Policy<$($inner)+>,]
            [Around<&'a $policy, $($inner)+>] [Around::new($policy, $($call)+)] $($rest)+);
    };
    (@borrowed $op:ident [$($all:ident)+] [$($bounds:tt)*] [$($inner:tt)+] [$($call:tt)+] $policy:ident) => {
        impl<'a, Op: Operation, $($all),+> Policy<Op> for &'a ($($all,)+)
        where
            $($bounds)*
            &'a $policy: Policy<$($inner)+>,
        {
            type Future = <&'a $policy as Policy<$($inner)+>>::Future;

            #[inline]
            #[allow(non_snake_case)]
            fn run(self, $op: Op) -> Self::Future {
                let ($($all,)+) = self;
                $policy.run($($call)+)
            }
        }
    };
}

tuple_policy!(op, A);
tuple_policy!(op, A B);
tuple_policy!(op, A B C);
tuple_policy!(op, A B C D);
tuple_policy!(op, A B C D E);
tuple_policy!(op, A B C D E F);
tuple_policy!(op, A B C D E F G);
tuple_policy!(op, A B C D E F G H);

impl<Op: Operation, P: Policy<Op>> Policy<Op> for Option<P> {
    type Future = Switched<P::Future, Op::Future>;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        let switch = match self {
            Some(policy) => Switch::On { future: policy.run(op) },
            None => Switch::Off { future: op.start() },
        };
        Switched { switch }
    }
}

impl<'a, Op: Operation, P> Policy<Op> for &'a Option<P>
where
    &'a P: Policy<Op>,
{
    type Future = <Option<&'a P> as Policy<Op>>::Future;

    #[inline]
    fn run(self, op: Op) -> Self::Future {
        self.as_ref().run(op)
    }
}

pin_project! {
    /// A call guarded by an optional policy.
    pub struct Switched<On, Off> {
        #[pin]
        switch: Switch<On, Off>,
    }
}

pin_project! {
    #[project = SwitchProjection]
    enum Switch<On, Off> {
        On { #[pin] future: On },
        Off { #[pin] future: Off },
    }
}

impl<On: CallFuture, Off: CallFuture<Output = On::Output>> CallFuture for Switched<On, Off> {
    #[inline]
    fn poll_with(self: Pin<&mut Self>, cx: Cx, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().switch.project() {
            SwitchProjection::On { future } => future.poll_with(cx, task),
            SwitchProjection::Off { future } => future.poll_with(cx, task),
        }
    }
}

impl<On: CallFuture, Off: CallFuture<Output = On::Output>> Future for Switched<On, Off> {
    type Output = On::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(Cx::new(), task)
    }
}

impl<On, Off> fmt::Debug for Switched<On, Off> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switched").finish_non_exhaustive()
    }
}
