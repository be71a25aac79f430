//! What the service talks to when nothing else is named: a broker, mail servers and an SMS gateway in this process. They
//! speak the real protocols, over real connections, and can be told to fail.

mod broker;
mod sms_gateway;

pub use self::{
    broker::Broker,
    sms_gateway::{SmsGateway, SmsMood},
};
