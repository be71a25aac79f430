//! Makes the topics that are not there yet.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataTopic,
};
use tokio::time::Instant;

use super::{Complaints, KafkaFault, KafkaSettings, fault::explain};
use crate::record::Topic;

/// How often it is asked whether new topics can be used.
const LOOK: Duration = Duration::from_millis(100);

/// Makes the topics of the service that are not there yet, and waits until they can be used. Those that are there stay
/// as they are; only the dead-letter topic gets as many partitions as any other and as the setting says, for a dead
/// letter keeps its partition's number.
///
/// # Errors
/// [`KafkaFault::Unreachable`] when no broker answers within `message_timeout`; [`KafkaFault::Failed`] when the cluster
/// refuses.
pub async fn make_topics(settings: &KafkaSettings) -> Result<(), KafkaFault> {
    let admin: AdminClient<Complaints> =
        settings.with_properties(settings.client()).create_with_context(Complaints::of("topics"))?;
    let cluster = Cluster { settings: settings.clone(), admin: Arc::new(admin) };
    cluster.make().await
}

struct Cluster {
    settings: KafkaSettings,
    admin: Arc<AdminClient<Complaints>>,
}

impl Cluster {
    async fn make(&self) -> Result<(), KafkaFault> {
        let there = self.partitions().await?;
        let most = there.values().copied().max().unwrap_or(0).max(self.settings.partitions);
        let new: Vec<(String, i32)> = Topic::ALL
            .into_iter()
            .map(|topic| (self.settings.topic_name(topic), self.wanted(topic, most)))
            .filter(|(name, _)| !there.contains_key(name))
            .collect();
        if !new.is_empty() {
            self.create(&new).await?;
        }
        let dead = self.settings.topic_name(Topic::DeadLetter);
        if there.get(&dead).is_some_and(|partitions| *partitions < most) {
            self.extend(&dead, most).await?;
        }
        self.wait_until_usable(most).await
    }

    fn wanted(&self, topic: Topic, most: i32) -> i32 {
        if topic == Topic::DeadLetter { most } else { self.settings.partitions }
    }

    async fn create(&self, new: &[(String, i32)]) -> Result<(), KafkaFault> {
        let replication = || TopicReplication::Fixed(self.settings.replication);
        let new: Vec<NewTopic<'_>> =
            new.iter().map(|(name, partitions)| NewTopic::new(name, *partitions, replication())).collect();
        let results = self.admin.create_topics(&new, &self.options()).await.map_err(|error| self.fault(&error))?;
        accepted(results)
    }

    async fn extend(&self, name: &str, partitions: i32) -> Result<(), KafkaFault> {
        let more = [NewPartitions::new(name, usize::try_from(partitions).unwrap_or(0))];
        let results = self.admin.create_partitions(&more, &self.options()).await.map_err(|error| self.fault(&error))?;
        accepted(results)
    }

    async fn wait_until_usable(&self, most: i32) -> Result<(), KafkaFault> {
        let until = Instant::now() + self.settings.message_timeout;
        loop {
            let there = self.partitions().await?;
            let missing = Topic::ALL.into_iter().find(|topic| {
                let wanted = if *topic == Topic::DeadLetter { most } else { 1 };
                there.get(&self.settings.topic_name(*topic)).is_none_or(|partitions| *partitions < wanted)
            });
            match missing {
                None => return Ok(()),
                Some(topic) if Instant::now() >= until => {
                    let name = self.settings.topic_name(topic);
                    return Err(KafkaFault::Failed(format!(
                        "topic {name}: made, but without a leader for a long time"
                    )));
                }
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// How many partitions our topics have that are there, counting those that have a leader.
    async fn partitions(&self) -> Result<BTreeMap<String, i32>, KafkaFault> {
        let (admin, time_limit) = (Arc::clone(&self.admin), self.settings.message_timeout);
        let asked = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, time_limit)).await;
        let metadata =
            asked.map_err(|error| KafkaFault::Failed(error.to_string()))?.map_err(|error| self.fault(&error))?;
        let ours = metadata.topics().iter().filter(|topic| self.settings.topic(topic.name()).is_some());
        let led = |topic: &MetadataTopic| topic.partitions().iter().filter(|it| it.leader() >= 0).count();
        Ok(ours.map(|topic| (topic.name().to_owned(), i32::try_from(led(topic)).unwrap_or(i32::MAX))).collect())
    }

    fn options(&self) -> AdminOptions {
        let time_limit = Some(self.settings.message_timeout);
        AdminOptions::new().request_timeout(time_limit).operation_timeout(time_limit)
    }

    fn fault(&self, error: &KafkaError) -> KafkaFault {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve,
            ) => KafkaFault::Unreachable { brokers: self.settings.brokers.clone(), reason: explain(error) },
            _ => KafkaFault::Failed(explain(error)),
        }
    }
}

/// Another process may have been faster.
fn accepted(results: Vec<TopicResult>) -> Result<(), KafkaFault> {
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => return Err(KafkaFault::Failed(format!("topic {name}: {error}"))),
        }
    }
    Ok(())
}
