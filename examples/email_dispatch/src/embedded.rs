//! What the service talks to when nothing else is named: a broker, mail servers and an SMS gateway in this process. They
//! speak the real protocols, over real connections, and can be told to fail.

mod broker;
mod mail_server;
mod sms_gateway;

pub use self::{
    broker::Broker,
    mail_server::{MailFault, MailServer, MailServerOptions, TakenMail},
    sms_gateway::{SmsGateway, SmsMood},
};
