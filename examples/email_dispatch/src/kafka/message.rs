//! What Kafka hands over, as the service knows it.

use rdkafka::{Message, message::Headers as _};

use crate::record::{Delivery, Headers, Topic};

/// A record of this topic, and where it is. A header without a value has an empty one.
pub(super) fn delivery(topic: Topic, message: &impl Message) -> Delivery {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Delivery {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: Headers(headers.map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_vec())).collect()),
    }
}
