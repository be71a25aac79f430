//! Why Kafka cannot be used, in words that give no password away.

use rdkafka::error::KafkaError;

/// Why Kafka cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaFault {
    /// No broker answers.
    #[error("no Kafka broker at {brokers}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        brokers: String,
        /// What went wrong.
        reason: String,
    },
    /// A property is not understood, or the cluster refuses.
    #[error("Kafka: {0}")]
    Failed(String),
}

impl From<KafkaError> for KafkaFault {
    fn from(error: KafkaError) -> Self {
        Self::Failed(explain(&error))
    }
}

/// What an error says, without the value of a property, which may be a password.
pub(crate) fn explain(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            format!("property {name}: {}", reason.replace(&format!("\"{value}\""), "\"…\""))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_property_that_is_refused_is_named_without_its_value() {
        for name in ["sasl.pasword", "security.protocol", "linger.ms"] {
            let error = ClientConfig::new().set(name, "hunter2").create_native_config().err().unwrap();
            for text in [explain(&error), KafkaFault::from(error).to_string()] {
                assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
            }
        }
    }
}
