//! What happens when the group gives or takes partitions. librdkafka calls this on the polling thread.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
};

use super::{commit, desk::Place, shared::Shared};

/// How long the broker may take to say how far the group is.
const ASK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Context {
    shared: Arc<Shared>,
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn given(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let places = self.shared.places(list);
        let ask = if self.shared.closing().is_some() { Duration::ZERO } else { ASK };
        let committed = consumer.committed_offsets(list.clone(), ask);
        if let Err(error) = &committed {
            self.shared.complaints.tell("it is not known how far the group is", error);
        }
        // Where nothing is committed the group has read nothing, and expects the partition from its beginning.
        let expected = |(topic, partition): Place| {
            let list = committed.as_ref().ok()?;
            let element = list.find_partition(&self.shared.settings.topic_name(topic), partition)?;
            match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => Some(0),
            }
        };
        let expected: Vec<(Place, Option<i64>)> = places.iter().map(|place| (*place, expected(*place))).collect();
        let mut desk = self.shared.desk();
        for (place, expected) in expected {
            desk.assign(place, expected, self.shared.stop.child_token());
        }
        drop(desk);
        tracing::debug!(lane = self.shared.lane.name, ?places, "partitions were assigned");
        self.resume(consumer, list);
    }

    fn taken(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let places = self.shared.places(list);
        let lost = consumer.assignment_lost();
        tracing::debug!(lane = self.shared.lane.name, ?places, lost, "partitions are taken away");
        self.shared.desk().let_go(&places);
        // A lost partition is already another's: waiting would help nobody.
        if !lost {
            if self.shared.closing().is_none() {
                self.shared.drain(&places, self.shared.settings.drain);
            }
            if let Some(_one) = self.shared.committing.try_lock_for(self.shared.settings.drain) {
                commit::commit(&self.shared, consumer, &places);
            }
        }
        self.resume(consumer, list);
        self.shared.desk().forget(&places);
    }

    /// A partition that is paused when it is taken away would still be paused when it is given back, for ever.
    fn resume(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        if let Err(error) = consumer.resume(list) {
            self.shared.complaints.tell("partitions cannot be resumed", &error);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => self.taken(consumer, list),
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => self.shared.complaints.tell("the group could not be joined", error),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.given(consumer, list);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.shared.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.complaints.error(error, reason);
    }
}
