//! What one process at a time may do.

use std::time::Duration;

use super::{
    StoreError,
    change::{Change, Effect},
    writer::Writer,
};
use crate::wall_clock::WallClock;

/// A would-be holder of a named lease, such as the right to publish the outbox.
///
/// A holder that stalls for longer than its lease may find that another holds it; what a lease protects must be
/// harmless when two do it for a moment.
#[derive(Clone, Debug)]
pub struct Lease {
    writer: Writer,
    clock: WallClock,
    name: String,
    owner: String,
}

impl Lease {
    pub(super) fn new(writer: Writer, clock: WallClock, name: String, owner: String) -> Self {
        Self { writer, clock, name, owner }
    }

    /// Holds the lease from now on for `duration`, if it is free, has ended, or is this holder's already.
    ///
    /// # Errors
    /// The database's. Whether the lease is held is then not known.
    pub async fn try_hold(&self, duration: Duration) -> Result<bool, StoreError> {
        let (name, owner) = (self.name.clone(), self.owner.clone());
        let effect = self.writer.write(Change::Hold { name, owner, until: self.clock.in_ms(duration) }).await?;
        Ok(matches!(effect, Effect::Made { .. }))
    }

    /// Lets others have it, if it is held.
    ///
    /// # Errors
    /// The database's. The lease then ends when its time has passed.
    pub async fn release(&self) -> Result<(), StoreError> {
        self.writer.write(Change::LetGo { name: self.name.clone(), owner: self.owner.clone() }).await?;
        Ok(())
    }
}
