use proptest::prelude::*;

use super::*;

/// What happens to a limiter. Times are small so that every nanosecond can be tried.
#[derive(Debug, Clone, Copy)]
enum Op {
    Advance(u64),
    StepBack(u64),
    Reserve { permits: u32, longest: u64 },
    GiveBack(usize),
    Drain,
    ChangeLimit(u32),
}

fn reserve() -> impl Strategy<Value = Op> {
    (1u32..12, prop_oneof![Just(0u64), 0u64..60]).prop_map(|(permits, longest)| Op::Reserve { permits, longest })
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..30).prop_map(Op::Advance),
        1 => (0u64..30).prop_map(Op::StepBack),
        6 => reserve(),
        2 => any::<usize>().prop_map(Op::GiveBack),
        1 => Just(Op::Drain),
        1 => (1u32..6).prop_map(Op::ChangeLimit),
    ]
}

/// Time only goes on, and nothing but requests and cancellations happens.
fn plain_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..30).prop_map(Op::Advance),
        6 => reserve(),
        2 => any::<usize>().prop_map(Op::GiveBack),
    ]
}

/// A fixed cycle told cycle by cycle, with a list of what was taken instead of an account.
struct SlowCycles {
    period: u64,
    limit: i128,
    began: u64,
    permits: i128,
    /// What was taken since the limiter was built, the latest last.
    taken: Vec<u64>,
    next: u64,
}

impl SlowCycles {
    fn refresh(&mut self, now: u64) {
        let mut cycles = 0;
        while self.began + self.period <= now {
            self.began += self.period;
            cycles += 1;
        }
        if cycles > 0 {
            self.permits = (self.permits + cycles * self.limit).min(self.limit);
        }
    }

    fn wait(&self, now: u64, permits: u32) -> u64 {
        if self.permits >= i128::from(permits) {
            return 0;
        }
        let (mut promised, mut start) = (self.permits, self.began);
        while promised < i128::from(permits) {
            promised += self.limit;
            start += self.period;
        }
        start - now
    }

    fn take(&mut self, permits: i128) -> u64 {
        self.permits -= permits;
        self.next += 1;
        self.taken.push(self.next);
        self.next
    }
}

/// The first moment after `now` at which the request is granted, by trying each.
fn tried(now: u64, until: u64, granted: impl Fn(u64) -> bool) -> Option<u64> {
    (now + 1..=until).find(|at| granted(*at)).map(|at| at - now)
}

proptest! {
    #[test]
    fn a_fixed_cycle_does_what_the_slow_model_does(
        period in 1u64..20,
        limit in 1u32..6,
        ops in prop::collection::vec(any_op(), 1..60),
    ) {
        let mut now = 1_000;
        let mut state = Cycles::new(period, limit, now);
        let mut model = SlowCycles {
            period, limit: limit.into(), began: now, permits: limit.into(), taken: Vec::new(), next: 0,
        };
        let mut outstanding = Vec::new();
        for op in ops {
            match op {
                Op::Advance(nanos) => now += nanos,
                Op::StepBack(nanos) => now -= nanos.min(now),
                Op::Reserve { permits, longest } => {
                    model.refresh(now);
                    let wait = model.wait(now, permits);
                    match state.reserve(now, permits, longest) {
                        Ok(taken) => {
                            prop_assert!(wait <= longest);
                            prop_assert_eq!(taken.due, now + wait);
                            outstanding.push((taken, permits, model.take(permits.into())));
                        }
                        Err(refusal) => {
                            prop_assert!(wait > longest);
                            if let Refusal::Later { wait: said, .. } = refusal {
                                prop_assert_eq!(said, wait);
                            }
                        }
                    }
                }
                Op::GiveBack(which) if !outstanding.is_empty() => {
                    let (taken, permits, id) = outstanding.remove(which % outstanding.len());
                    state.give_back(taken, permits);
                    if model.taken.last() == Some(&id) {
                        model.taken.pop();
                        model.permits = (model.permits + i128::from(permits)).min(model.limit);
                    }
                }
                Op::GiveBack(_) => {}
                Op::Drain => {
                    model.refresh(now);
                    let left = model.permits.max(0);
                    prop_assert_eq!(i128::from(state.drain(now)), left);
                    if left > 0 {
                        model.take(left);
                    }
                }
                Op::ChangeLimit(limit) => {
                    state.limit = limit;
                    model.limit = limit.into();
                }
            }
            // The same limit is used for all cycles since, so looking now and then may not change what comes later.
            let (left, wait, _) = state.look(now);
            let mut seen = SlowCycles { taken: Vec::new(), ..model };
            seen.refresh(now);
            prop_assert_eq!((i128::from(left), wait), (seen.permits, seen.wait(now, 1)));
        }
    }

    #[test]
    fn a_refusal_by_a_fixed_cycle_names_the_first_moment_that_works(
        period in 1u64..12,
        limit in 1u32..6,
        changed in prop::option::of(1u32..6),
        before in prop::collection::vec((0u64..15, 1u32..12, 0u64..60), 0..6),
        permits in 1u32..20,
        longest in prop_oneof![Just(0u64), 0u64..80],
    ) {
        let mut now = 7;
        let mut state = Cycles::new(period, limit, now);
        for (nanos, permits, longest) in before {
            now += nanos;
            let _ = state.reserve(now, permits, longest);
        }
        state.limit = changed.unwrap_or(limit);
        let refused = state.clone().reserve(now, permits, longest);
        let granted = |at| state.clone().reserve(at, permits, longest).is_ok();
        match refused {
            Ok(_) => {}
            // Long enough for every reservation to come due, and for full cycles after that.
            Err(Refusal::Never) => prop_assert_eq!(tried(now, now + 60 + 60 * period, granted), None),
            Err(Refusal::Later { retry_after, .. }) => {
                prop_assert_eq!(tried(now, now + retry_after, granted), Some(retry_after));
            }
        }
    }

    #[test]
    fn no_cycle_has_more_due_than_its_limit_and_what_one_request_carried_over(
        period in 1u64..20,
        limit in 1u32..6,
        largest in 1u32..12,
        ops in prop::collection::vec(plain_op(), 1..80),
    ) {
        let mut now = 0;
        let mut state = Cycles::new(period, limit, now);
        let mut due: Vec<(Taken, u32)> = Vec::new();
        for op in ops {
            match op {
                Op::Advance(nanos) => now += nanos,
                Op::Reserve { permits, longest } => {
                    let permits = permits.min(largest);
                    due.extend(state.reserve(now, permits, longest).map(|taken| (taken, permits)));
                }
                Op::GiveBack(which) if !due.is_empty() => {
                    let which = which % due.len();
                    let account = state.taken;
                    state.give_back(due[which].0, due[which].1);
                    if state.taken != account {
                        due.remove(which);
                    }
                }
                _ => {}
            }
        }
        let cycle = |taken: &Taken| taken.due / period;
        for (first, _) in &due {
            for (last, _) in &due {
                if cycle(first) <= cycle(last) {
                    let within = due.iter().filter(|(t, _)| (cycle(first)..=cycle(last)).contains(&cycle(t)));
                    let permits: u64 = within.map(|(_, permits)| u64::from(*permits)).sum();
                    let cycles = cycle(last) - cycle(first) + 1;
                    prop_assert!(permits <= cycles * u64::from(limit) + u64::from(largest - 1));
                }
            }
        }
    }

    #[test]
    fn a_smooth_pace_does_what_a_bucket_filled_each_nanosecond_does(
        interval in 1u64..8,
        burst in 1u32..6,
        ops in prop::collection::vec(any_op(), 1..60),
    ) {
        let pace = Pace { interval, span: interval * u64::from(burst) };
        let (mut now, mut spent) = (1_000_u64, 0);
        // The bucket holds nanoseconds, filled when it is asked. A clock that has stepped back since takes them out
        // again until it has caught up. Nobody has ever looked at the first one, however long it has been full.
        let full = i128::from(pace.span);
        let (mut bucket, mut filled_at) = (full + 1_000, now);
        let mut outstanding = Vec::new();
        for op in ops {
            match op {
                Op::Advance(nanos) => now += nanos,
                Op::StepBack(nanos) => now -= nanos.min(now),
                Op::Reserve { permits, longest } => {
                    let mut filled = (bucket - i128::from(filled_at.saturating_sub(now))).min(full);
                    for _ in filled_at..now {
                        filled = (filled + 1).min(full);
                    }
                    let cost = i128::from(permits) * i128::from(interval);
                    let wait = (cost - filled).max(0);
                    match pace.reserve(spent, now, permits, longest) {
                        Ok(taken) => {
                            prop_assert!(wait <= i128::from(longest));
                            prop_assert_eq!(i128::from(taken.due.max(now) - now), wait);
                            spent = taken.after;
                            (bucket, filled_at) = (filled - cost, now);
                            outstanding.push((taken, cost));
                        }
                        Err(refusal) => {
                            prop_assert!(wait > i128::from(longest));
                            if let Refusal::Later { wait: said, .. } = refusal {
                                prop_assert_eq!(i128::from(said), wait);
                            }
                        }
                    }
                }
                Op::GiveBack(_) => {
                    if let Some((taken, cost)) = outstanding.pop() {
                        if taken.after == spent {
                            spent = taken.before;
                            bucket += cost;
                        }
                    }
                }
                Op::Drain => {
                    spent = spent.max(Pace::drained(now));
                    let behind = i128::from(now) - i128::from(filled_at);
                    bucket = bucket.min(-behind);
                    outstanding.clear();
                }
                Op::ChangeLimit(_) => {}
            }
        }
    }

    #[test]
    fn a_refusal_by_a_smooth_pace_names_the_first_moment_that_works(
        interval in 1u64..8,
        burst in 1u32..6,
        before in prop::collection::vec((0u64..15, 1u32..12, 0u64..60), 0..6),
        permits in 1u32..20,
        longest in prop_oneof![Just(0u64), 0u64..80],
    ) {
        let pace = Pace { interval, span: interval * u64::from(burst) };
        let (mut now, mut spent) = (7, 0);
        for (nanos, permits, longest) in before {
            now += nanos;
            spent = pace.reserve(spent, now, permits, longest).map_or(spent, |taken| taken.after);
        }
        let granted = |at| pace.reserve(spent, at, permits, longest).is_ok();
        match pace.reserve(spent, now, permits, longest) {
            Ok(_) => {}
            Err(Refusal::Never) => prop_assert_eq!(tried(now, now + 1_000, granted), None),
            Err(Refusal::Later { retry_after, .. }) => {
                prop_assert_eq!(tried(now, now + retry_after, granted), Some(retry_after));
            }
        }
    }

    #[test]
    fn no_window_has_more_due_than_the_burst_and_what_came_in_it(
        interval in 1u64..8,
        burst in 1u32..6,
        ops in prop::collection::vec(plain_op(), 1..80),
    ) {
        let pace = Pace { interval, span: interval * u64::from(burst) };
        let (mut now, mut spent) = (0, 0);
        let mut due: Vec<(Taken, u64, u32)> = Vec::new();
        for op in ops {
            match op {
                Op::Advance(nanos) => now += nanos,
                Op::Reserve { permits, longest } => {
                    if let Ok(taken) = pace.reserve(spent, now, permits, longest) {
                        spent = taken.after;
                        due.push((taken, taken.due.max(now), permits));
                    }
                }
                Op::GiveBack(which) if !due.is_empty() => {
                    let which = which % due.len();
                    if due[which].0.after == spent {
                        spent = due.remove(which).0.before;
                    }
                }
                _ => {}
            }
        }
        for (first, (_, from, largest)) in due.iter().enumerate() {
            for last in first..due.len() {
                let permits: u64 = due[first..=last].iter().map(|(.., permits)| u64::from(*permits)).sum();
                let came = (due[last].1 - from) / interval;
                // A request beyond the burst has waited for the rest of its permits.
                prop_assert!(permits <= u64::from(burst.max(*largest)) + came);
            }
        }
    }

    #[test]
    fn a_change_of_pace_never_gives_permits_and_moves_no_reservation(
        old in (1u64..50, 1u32..9),
        new in (1u64..50, 1u32..9),
        taken in prop::collection::vec((0u64..60, 1u32..6), 0..8),
        later in 0u64..100,
    ) {
        let [old, new] = [old, new].map(|(interval, burst)| Pace { interval, span: interval * u64::from(burst) });
        let (mut now, mut spent) = (0, 0);
        for (nanos, permits) in taken {
            now += nanos;
            spent = old.reserve(spent, now, permits, 100).map_or(spent, |taken| taken.after);
        }
        now += later;
        let changed = old.changed(new, spent, now);
        prop_assert!(changed >= spent);
        let ((before, _), (after, _)) = (old.look(spent, now), new.look(changed, now));
        prop_assert!(after <= before.max(0));
        if spent >= counted(now) {
            prop_assert_eq!(changed, spent);
        }
    }

    #[test]
    fn nothing_overflows(
        period in prop_oneof![1..=u64::MAX, Just(u64::MAX), 1..9u64],
        limit in prop_oneof![1..=u32::MAX, Just(u32::MAX), Just(1)],
        span in 1..=LONGEST_SPAN,
        ops in prop::collection::vec((any::<u64>(), any::<u32>(), prop_oneof![any::<u64>(), Just(u64::MAX)]), 1..30),
    ) {
        let mut state = Cycles::new(period, limit, ops[0].0);
        let pace = Pace { interval: period.min(span), span };
        let mut spent = 0;
        for (now, permits, longest) in ops {
            let cycles = state.reserve(now, permits, longest);
            let smooth = pace.reserve(spent, now, permits, longest);
            spent = smooth.map_or(spent, |taken| taken.after);
            state.look(now);
            pace.look(spent, now);
            pace.changed(Pace { interval: 1, span: LONGEST_SPAN }, spent, now);
            match (cycles, permits % 3) {
                (Ok(taken), 0) => state.give_back(taken, permits),
                (_, 1) => state.limit = permits,
                _ => {}
            }
            if permits % 7 == 0 {
                state.drain(now);
                spent = spent.max(Pace::drained(now));
            }
        }
    }
}
