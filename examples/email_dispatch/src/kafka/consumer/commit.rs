//! Commits what is finished, and finds out what the broker forgot.

use std::{collections::HashMap, sync::Weak, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use super::{context::Context, desk::Place, shared::Shared};

/// How long a broker may take to say what it still has.
const ASK: Duration = Duration::from_secs(2);

/// Commits every `commit_interval` until the consumer is closed.
///
/// It waits for the broker's answer, since librdkafka tells nobody of a commit that failed later. That may take long, so
/// it has a thread of its own, for which no runtime waits when it ends.
pub(super) fn regularly(shared: &Shared, consumer: &Weak<BaseConsumer<Context>>) {
    loop {
        std::thread::sleep(shared.settings.commit_interval);
        let closed = shared.committing.lock();
        let Some(consumer) = consumer.upgrade().filter(|_| !*closed) else { return };
        explain_gaps(shared, &consumer);
        let places = shared.desk().places();
        commit(shared, &consumer, &places);
        // Before the lock is given up, so that the last one to have it, which leaves the group, is the polling thread.
        drop(consumer);
        drop(closed);
    }
}

/// Commits what is due of these partitions. The caller holds `committing`.
///
/// What the broker refuses stays due. A group that has already given our partitions to another is not bothered.
pub(super) fn commit(shared: &Shared, consumer: &BaseConsumer<Context>, places: &[Place]) {
    let due = shared.desk().due(places);
    if due.is_empty() || consumer.assignment_lost() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(due.len());
    for due in &due {
        let (topic, partition) = due.place;
        let name = shared.settings.topic_name(topic);
        if let Err(error) = list.add_partition_offset(&name, partition, Offset::Offset(due.commit.offset)) {
            shared.complaints.tell("an offset cannot be committed", &error);
            return;
        }
    }
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) => shared.desk().committed(&due),
        Err(error) => shared.complaints.tell("offsets are not committed yet", &error),
    }
}

/// Says which offsets were left out because the broker had forgotten them. Compaction and transactions leave gaps too,
/// but above what the broker still has.
pub(super) fn explain_gaps(shared: &Shared, consumer: &BaseConsumer<Context>) {
    let mut oldest: HashMap<Place, Option<i64>> = HashMap::new();
    let gaps = shared.desk().take_gaps();
    for gap in gaps {
        let (topic, partition) = gap.place;
        let name = shared.settings.topic_name(topic);
        let ask = || match consumer.fetch_watermarks(&name, partition, ASK) {
            Ok((low, _)) => Some(low),
            Err(error) => {
                shared.complaints.tell("the broker does not say what it still has", &error);
                None
            }
        };
        let Some(low) = *oldest.entry(gap.place).or_insert_with(ask) else {
            shared.desk().put_back(gap);
            continue;
        };
        let (from, to) = (gap.offsets.start, gap.offsets.end.min(low));
        if to > from {
            tracing::error!(topic = name, partition, from, to, "the broker forgot records before they were read");
            shared.desk().lose(to.abs_diff(from));
        }
    }
}
