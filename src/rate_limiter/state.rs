/// Permits taken from a limiter. Times are nanoseconds of the limiter's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// When they may be used; not after the time of the request where they may be used at once.
    pub(super) due: u64,
    /// What the limiter's account showed before. Restoring it gives the permits back.
    pub(super) before: u64,
    /// What it showed afterwards. While it still does, nothing taken later depends on these permits.
    pub(super) after: u64,
}

/// Permits not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No wait is enough.
    Never,
    /// They would have been due after `wait`, which was too long; the same request is granted `retry_after` later.
    Later { wait: u64, retry_after: u64 },
}

/// The permits of a limiter that gets all of them at the start of a period, as Resilience4j's does.
#[derive(Debug, Clone)]
pub(super) struct Cycles {
    pub(super) period: u64,
    pub(super) limit: u32,
    /// The cycle the permits were last brought up to, and the moment it began.
    cycle: u64,
    began: u64,
    /// Negative where later cycles owe permits to reservations. 96 bits hold the most that the longest wait can reserve.
    permits: i128,
    /// All permits ever taken: the account by which reservations are given back.
    taken: u64,
    /// While permits come another way.
    pub(super) closed: bool,
}

impl Cycles {
    pub(super) fn new(period: u64, limit: u32, now: u64) -> Self {
        Self { period, limit, cycle: 0, began: now, permits: i128::from(limit), taken: 0, closed: false }
    }

    /// Takes permits that are due within `longest`.
    #[inline]
    pub(super) fn reserve(&mut self, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        self.refresh(now);
        let due = if self.permits >= i128::from(permits) {
            now
        } else {
            let due = u64::try_from(self.due(permits)).map_err(|_| Refusal::Never)?;
            if due - now > longest {
                return Err(self.refusal(now, permits, longest, due));
            }
            due
        };
        let before = self.taken;
        self.permits -= i128::from(permits);
        self.taken = before.wrapping_add(u64::from(permits));
        Ok(Taken { due, before, after: self.taken })
    }

    /// Gives reserved permits back unless others were taken since.
    pub(super) fn give_back(&mut self, taken: Taken, permits: u32) {
        if self.taken == taken.after {
            self.taken = taken.before;
            self.permits = (self.permits + i128::from(permits)).min(i128::from(self.limit));
        }
    }

    /// Goes on by another limit from the next cycle on, and another period from the current one on, which ends now at the
    /// earliest.
    pub(super) fn change(&mut self, period: u64, limit: u32, now: u64) {
        if period != self.period {
            self.refresh(now);
            self.began = self.began.max(now.saturating_sub(period));
            self.period = period;
        }
        self.limit = limit;
    }

    /// Goes on, in a first cycle, with what is left of the permits that came another way.
    pub(super) fn open(&mut self, period: u64, limit: u32, left: i128, now: u64) {
        let permits = left.min(limit.into());
        // One more, so that nothing taken before is given back.
        let taken = self.taken.wrapping_add(1);
        *self = Self { permits, taken, ..Self::new(period, limit, now) };
    }

    /// Ends. Returns the permits left; negative where they are owed.
    pub(super) fn close(&mut self, now: u64) -> i128 {
        self.refresh(now);
        self.closed = true;
        self.permits
    }

    /// Takes away what is left of the current cycle's permits.
    pub(super) fn drain(&mut self, now: u64) -> u32 {
        self.refresh(now);
        let left = u32::try_from(self.permits.max(0)).unwrap_or(u32::MAX);
        self.permits -= i128::from(left);
        self.taken = self.taken.wrapping_add(u64::from(left));
        left
    }

    /// The permits, the wait for one permit, and the cycle as they are at `now`.
    pub(super) fn look(&self, now: u64) -> (i64, u64, u64) {
        let mut then = self.clone();
        then.refresh(now);
        let wait = if then.permits >= 1 { 0 } else { then.due(1) - u128::from(now) };
        (clamped(then.permits), u64::try_from(wait).unwrap_or(u64::MAX), then.cycle)
    }

    /// Brings the permits up to the cycle of `now`. A clock that has stepped back changes nothing.
    #[inline]
    fn refresh(&mut self, now: u64) {
        let since = now.saturating_sub(self.began);
        if since >= self.period {
            let cycles = since / self.period;
            self.cycle += cycles;
            self.began += cycles * self.period;
            let limit = i128::from(self.limit);
            self.permits = (self.permits + i128::from(cycles) * limit).min(limit);
        }
    }

    /// The start of the first cycle whose permits, with those left over, are enough for a request that is not granted now.
    fn due(&self, permits: u32) -> u128 {
        let beyond_next = i128::from(permits) - self.permits - i128::from(self.limit);
        let cycles = 1 + ceil_div(beyond_next, self.limit);
        u128::from(self.began).saturating_add(cycles.saturating_mul(u128::from(self.period)))
    }

    /// When the same request would be granted.
    ///
    /// While permits are still owed, or if the limit covers the request, its due moment stands still and the wait shrinks
    /// until it fits. Once every cycle starts full, a request beyond the limit is due the same number of cycles after
    /// the one it is made in: the wait fits late in every cycle, or never.
    #[cold]
    fn refusal(&self, now: u64, permits: u32, longest: u64, due: u64) -> Refusal {
        let (period, longest) = (u128::from(self.period), u128::from(longest));
        let fits = u128::from(due) - longest;
        let cycles_until_full = ceil_div(i128::from(self.limit) - self.permits, self.limit).max(1);
        let full = u128::from(self.began) + cycles_until_full * period;
        let at = if permits <= self.limit || fits < full {
            fits
        } else {
            let wait_from_start = u128::from(permits.div_ceil(self.limit) - 1) * period;
            let into_cycle = wait_from_start.saturating_sub(longest);
            if into_cycle >= period {
                return Refusal::Never;
            }
            full + into_cycle
        };
        match u64::try_from(at) {
            Ok(at) => Refusal::Later { wait: due - now, retry_after: at - now },
            Err(_) => Refusal::Never,
        }
    }
}

/// Rounded up; zero for what is negative.
fn ceil_div(permits: i128, limit: u32) -> u128 {
    u128::try_from(permits).unwrap_or(0).div_ceil(u128::from(limit))
}

fn clamped(permits: i128) -> i64 {
    i64::try_from(permits).unwrap_or(if permits < 0 { i64::MIN } else { i64::MAX })
}

/// The pace of a limiter that gets its permits one by one: the generic cell rate algorithm (ITU-T I.371).
///
/// Time is the currency. A permit costs `interval`, and the account is the moment up to which time has been *spent*: in
/// the past, permits are left; in the future, reservations wait. Time unspent for longer than `span` is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) interval: u64,
    pub(super) span: u64,
}

/// The longest span. The account counts from as long before the clock's zero, so that a full one is not negative.
pub(super) const LONGEST_SPAN: u64 = 1 << 62;

/// A moment as the account counts it. Time stands still after 292 years, which leaves room for waits.
#[inline]
fn counted(now: u64) -> u64 {
    now.min(1 << 63) + LONGEST_SPAN
}

impl Pace {
    /// Takes permits that are due within `longest` from an account.
    #[inline]
    pub(super) fn reserve(self, spent: u64, now: u64, permits: u32, longest: u64) -> Result<Taken, Refusal> {
        let now = counted(now);
        let before = spent.max(now - self.span);
        let cost = u64::from(permits).checked_mul(self.interval).ok_or(Refusal::Never)?;
        let after = before.checked_add(cost).ok_or(Refusal::Never)?;
        if after <= now.saturating_add(longest) {
            return Ok(Taken { due: after.saturating_sub(LONGEST_SPAN), before, after });
        }
        // More than ever comes together within the span and the wait.
        if cost > self.span.saturating_add(longest) {
            return Err(Refusal::Never);
        }
        Err(Refusal::Later { wait: after - now, retry_after: after - now - longest })
    }

    /// An account emptied of the permits left at `now`.
    pub(super) fn drained(now: u64) -> u64 {
        counted(now)
    }

    /// An account as it goes on when the pace becomes `new`. Permits left stay the same number at most, reservations
    /// keep their moment; a change never gives permits.
    pub(super) fn changed(self, new: Self, spent: u64, now: u64) -> u64 {
        let now = counted(now);
        let before = spent.max(now - self.span);
        let left = u128::from(now.saturating_sub(before)) * u128::from(new.interval) / u128::from(self.interval);
        before.max(now - u64::try_from(left).unwrap_or(u64::MAX).min(new.span))
    }

    /// An account that begins with so many permits left; fewer than none are owed.
    pub(super) fn opened(self, left: i128, now: u64) -> u64 {
        let now = counted(now);
        let time = left.unsigned_abs().saturating_mul(self.interval.into());
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        if left < 0 { now.saturating_add(time) } else { now - time.min(self.span) }
    }

    /// The permits left at `now`; negative where they are owed.
    pub(super) fn left(self, spent: u64, now: u64) -> i128 {
        let now = counted(now);
        let before = spent.max(now - self.span);
        (i128::from(now) - i128::from(before)).div_euclid(i128::from(self.interval))
    }

    /// The permits and the wait for one permit as they are at `now`.
    pub(super) fn look(self, spent: u64, now: u64) -> (i64, u64) {
        let left = self.left(spent, now);
        let now = counted(now);
        let before = spent.max(now - self.span);
        (clamped(left), before.saturating_add(self.interval).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests;
