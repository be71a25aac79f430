//! What each answer and each silence means.

use std::time::Duration;

use email_dispatch::{
    embedded::{MailFault, MailServer, MailServerOptions},
    smtp::{Fault, Handover, Mail, SmtpServer, Stage, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    Freely, failure, hasty, mail, mail_of, outcome,
    script::{Step, UNTIL_DATA, and_then, scripted},
    send, servers, servers_with, settings,
};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_mail_arrives_as_it_was_sent() {
    for without_pipelining in [false, true] {
        let options = MailServerOptions { keep: 1, without_pipelining, ..MailServerOptions::default() };
        let (there, here) = servers_with(options).await;
        let mail = mail_of("one", ".\r\n..two dots\r\nno dot\r\n.one dot\r\n");
        here.send(&mail, &Freely::default()).await.unwrap();
        let [taken] = &there.last_mails()[..] else { panic!("not one mail") };
        assert_eq!((taken.from.as_str(), &taken.to[..]), ("post@example.org", &["ada@example.com".to_owned()][..]));
        assert_eq!(taken.message, mail.message);
        assert_eq!(there.message_ids().into_iter().collect::<Vec<_>>(), [("one@example.org".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn a_large_mail_arrives_whole() {
    let (there, here) = servers().await;
    let mail = mail_of("one", &"A line of an attachment that goes on and on.\r\n".repeat(40_000));
    here.send(&mail, &Freely::default()).await.unwrap();
    assert_eq!(there.last_mails()[0].message, mail.message);
}

#[tokio::test]
async fn a_refused_connection_is_the_servers_fault() {
    assert_eq!(outcome(MailFault::Down).await, (Fault::Provider, Stage::Connect, None));
}

#[tokio::test]
async fn a_name_that_is_not_found_is_the_servers_fault() {
    let here = SmtpServer::new("primary-smtp", hasty("smtp://nobody.invalid:25?tls=none")).unwrap();
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Connect));
}

#[tokio::test]
async fn a_greeting_that_does_not_come_is_not_waited_for() {
    assert_eq!(outcome(MailFault::SlowGreeting(LONG)).await, (Fault::Provider, Stage::Greeting, None));
}

#[tokio::test]
async fn a_connection_that_nobody_accepts_is_not_waited_for() {
    // It is in the queue of the port, established and silent.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
    let here = SmtpServer::new("primary-smtp", hasty(&url)).unwrap();
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Greeting));
    assert!(error.text.contains("no answer within 700ms"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_at_a_recipient_is_not_waited_for() {
    assert_eq!(outcome(MailFault::HangAtRecipient).await, (Fault::Provider, Stage::Recipient, None));
}

#[tokio::test]
async fn a_slow_answer_within_its_time_is_waited_for() {
    let (there, here) = servers().await;
    there.set(MailFault::SlowEndOfData(Duration::from_millis(20))).await;
    send(&here, "one").await.unwrap();
}

#[tokio::test]
async fn a_421_anywhere_is_the_servers_fault() {
    for (fault, stage) in [
        (MailFault::Greeting(421), Stage::Greeting),
        (MailFault::Hello(421), Stage::Greeting),
        (MailFault::Sender(421), Stage::Mail),
        (MailFault::Recipient { code: 421, percent: 100 }, Stage::Recipient),
        (MailFault::Data(421), Stage::Data),
        (MailFault::EndOfData(421), Stage::FinalDot),
    ] {
        assert_eq!(outcome(fault).await, (Fault::Provider, stage, Some(421)));
    }
}

#[tokio::test]
async fn a_transient_no_before_any_recipient_is_the_servers_fault() {
    for (fault, stage) in [
        (MailFault::Greeting(450), Stage::Greeting),
        (MailFault::Hello(450), Stage::Greeting),
        (MailFault::Sender(450), Stage::Mail),
    ] {
        assert_eq!(outcome(fault).await, (Fault::Provider, stage, Some(450)));
    }
}

#[tokio::test]
async fn a_transient_no_to_a_recipient_defers_this_mail_alone() {
    for code in [450, 451, 452] {
        let fault = MailFault::Recipient { code, percent: 100 };
        assert_eq!(outcome(fault).await, (Fault::Deferred, Stage::Recipient, Some(code)));
    }
}

#[tokio::test]
async fn a_transient_no_to_the_message_defers_it() {
    for (code, fault) in [(451, Fault::DeferredByServer), (452, Fault::Deferred), (450, Fault::Deferred)] {
        assert_eq!(outcome(MailFault::EndOfData(code)).await, (fault, Stage::FinalDot, Some(code)));
        assert_eq!(outcome(MailFault::Data(code)).await, (fault, Stage::Data, Some(code)));
    }
}

#[tokio::test]
async fn a_permanent_no_before_any_recipient_refuses_us_and_not_the_message() {
    for (fault, stage) in [
        (MailFault::Greeting(554), Stage::Greeting),
        (MailFault::Hello(550), Stage::Greeting),
        (MailFault::Sender(550), Stage::Mail),
        (MailFault::Sender(530), Stage::Mail),
    ] {
        let (about, at, _) = outcome(fault).await;
        assert_eq!((about, at), (Fault::Refused, stage));
    }
}

#[tokio::test]
async fn a_permanent_no_to_a_recipient_is_the_recipients() {
    for code in [550, 551, 553] {
        let fault = MailFault::Recipient { code, percent: 100 };
        assert_eq!(outcome(fault).await, (Fault::Recipient, Stage::Recipient, Some(code)));
    }
}

#[tokio::test]
async fn a_554_to_a_recipient_may_be_about_us_so_no_mail_is_given_up_for_it() {
    let fault = MailFault::Recipient { code: 554, percent: 100 };
    assert_eq!(outcome(fault).await, (Fault::Provider, Stage::Recipient, Some(554)));
}

#[tokio::test]
async fn a_permanent_no_to_the_message_is_the_messages() {
    for code in [552, 554] {
        assert_eq!(outcome(MailFault::EndOfData(code)).await, (Fault::Message, Stage::FinalDot, Some(code)));
    }
}

#[tokio::test]
async fn no_answer_after_the_final_dot_leaves_it_unknown_whether_the_mail_was_taken() {
    for (fault, taken) in [(MailFault::DropStored, 1), (MailFault::DropUnstored, 0), (MailFault::HangAfterFinalDot, 1)]
    {
        let (there, _) = servers().await;
        let here = SmtpServer::new("primary-smtp", hasty(&there.url())).unwrap();
        there.set(fault).await;
        let error = send(&here, "one").await.unwrap_err();
        assert_eq!((error.fault, error.stage, error.code), (Fault::Unknown, Stage::FinalDot, None));
        assert_eq!(there.accepted(), taken);
        assert_eq!(there.unanswered().into_values().collect::<Vec<_>>(), [1]);
    }
}

#[tokio::test]
async fn a_connection_lost_before_the_dot_has_left_is_known_not_to_have_taken_the_mail() {
    let (there, here) = servers().await;
    there.set(MailFault::DropMidData).await;
    // More than the buffers between the two hold.
    let mail = mail_of("one", &"A line of an attachment that goes on and on.\r\n".repeat(400_000));
    let error = here.send(&mail, &Freely::default()).await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Data));
    assert_eq!(there.accepted(), 0);
}

#[tokio::test]
async fn what_is_not_smtp_is_the_servers_fault() {
    assert_eq!(outcome(MailFault::Garbage).await, (Fault::Provider, Stage::Greeting, None));
}

#[tokio::test]
async fn a_reply_without_end_is_not_read_for_ever() {
    let endless: &'static str = Box::leak("250-more\r\n".repeat(2_000).into_boxed_str());
    let (fault, stage) = scripted_outcome(vec![("", "220 hello\r\n"), ("EHLO", endless)]).await;
    assert_eq!((fault, stage), (Fault::Provider, Stage::Greeting));
}

#[tokio::test]
async fn only_a_positive_answer_to_the_final_dot_is_success() {
    // Neither yes nor no: the answer to something else, to nobody, or none.
    for answer in ["354 go\r\n", "HTTP/1.1 200 OK\r\n", "250-and\r\n"] {
        let outcome = scripted_outcome(and_then(&[("\r\n.\r\n", answer)])).await;
        assert_eq!(outcome, (Fault::Unknown, Stage::FinalDot), "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_is_known_not_to_have_taken_the_mail() {
    // It answers `DATA`, and then waits for something else, without end.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = [0; 1_000];
        for (_, answer) in UNTIL_DATA {
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut said).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let here = SmtpServer::new("primary-smtp", hasty(&format!("smtp://{address}?tls=none"))).unwrap();
    let mail = mail_of("one", &"A line of an attachment that goes on and on.\r\n".repeat(400_000));
    let error = here.send(&mail, &Freely::default()).await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Data));
    reading.abort();
}

#[tokio::test]
async fn a_message_is_not_sent_to_a_server_that_did_not_ask_for_it() {
    let mut script = UNTIL_DATA.to_vec();
    script[4] = ("DATA", "250 whatever\r\n");
    assert_eq!(scripted_outcome(script).await, (Fault::Provider, Stage::Data));
}

#[tokio::test]
async fn a_code_without_text_is_a_reply() {
    let here = scripted_server(vec![
        ("", "220\r\n"),
        ("EHLO", "250\r\n"),
        ("MAIL", "250\r\n"),
        ("RCPT", "250\r\n"),
        ("DATA", "354\r\n"),
        ("\r\n.\r\n", "250\r\n"),
    ])
    .await;
    // `EHLO` alone needs the server's name.
    let error = send(&here, "one").await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Provider, Stage::Greeting));
    let here = scripted_server(vec![
        ("", "220\r\n"),
        ("EHLO", "250 script\r\n"),
        ("MAIL", "250\r\n"),
        ("RCPT", "250\r\n"),
        ("DATA", "354\r\n"),
        ("\r\n.\r\n", "250\r\n"),
    ])
    .await;
    send(&here, "one").await.unwrap();
}

#[tokio::test]
async fn octets_beyond_ascii_are_not_sent_to_a_server_that_does_not_take_them() {
    let mut script = UNTIL_DATA.to_vec();
    script[1] = ("EHLO", "250 script\r\n");
    let here = scripted_server(script).await;
    let error = here.send(&mail_of("one", "Grüße\r\n"), &Freely::default()).await.unwrap_err();
    assert_eq!((error.fault, error.stage), (Fault::Message, Stage::Mail));
    assert!(error.text.contains("8BITMIME"), "{error}");
}

#[tokio::test]
async fn what_a_server_says_is_passed_on_masked_in_one_line_and_not_too_long() {
    let error = failure(MailFault::Recipient { code: 550, percent: 100 }).await;
    assert!(error.text.contains("<a***@e***.com>") && !error.to_string().contains("ada@"), "{error}");
    let text: &'static str = Box::leak(format!("550-ada@example.com\r\n550 {}\r\n", "x".repeat(900)).into_boxed_str());
    let mut script = UNTIL_DATA.to_vec();
    script[3] = ("RCPT", text);
    let error = send(&scripted_server(script).await, "one").await.unwrap_err();
    assert!(error.text.starts_with("a***@e***.com xxx") && error.text.chars().count() == 201, "{error}");
}

#[tokio::test]
async fn the_sender_is_asked_before_the_message_goes_and_not_before_the_recipient_is_taken() {
    let (there, here) = servers().await;
    let freely = Freely::default();
    there.set(MailFault::Recipient { code: 550, percent: 100 }).await;
    here.send(&mail("one"), &freely).await.unwrap_err();
    assert_eq!(freely.asked(), 0);
    there.set(MailFault::Data(451)).await;
    here.send(&mail("one"), &freely).await.unwrap_err();
    assert_eq!(freely.asked(), 1);
}

struct Never(Fault);

impl Handover for Never {
    async fn hand_over(&self) -> Result<(), Fault> {
        Err(self.0)
    }

    async fn take_back(&self) {}
}

#[tokio::test]
async fn a_mail_that_is_not_handed_over_is_not_sent() {
    let (there, here) = servers().await;
    for fault in [Fault::Fenced, Fault::Store] {
        let error = here.send(&mail("one"), &Never(fault)).await.unwrap_err();
        assert_eq!((error.fault, error.stage), (fault, Stage::Recipient));
    }
    there.stop().await;
    assert_eq!((there.accepted(), here.idle_connections()), (0, 0));
}

#[tokio::test]
async fn a_share_of_recipients_is_always_the_same_one() {
    let (there, here) = servers().await;
    there.set(MailFault::Recipient { code: 550, percent: 30 }).await;
    let to = |number: u32| {
        let mut mail = mail("one");
        let to = format!("person-{number}@example.com").parse().unwrap();
        mail.envelope = lettre::address::Envelope::new(None, vec![to]).unwrap();
        mail
    };
    let mut refused = [0; 2];
    for round in &mut refused {
        for number in 0..200 {
            *round += u32::from(here.send(&to(number), &Freely::default()).await.is_err());
        }
    }
    assert_eq!(refused[0], refused[1]);
    assert!((40..80).contains(&refused[0]), "{refused:?}");
}

#[tokio::test]
async fn an_embedded_server_that_was_down_is_there_again_at_the_same_port() {
    let (there, here) = servers().await;
    for _ in 0..3 {
        there.set(MailFault::Down).await;
        send(&here, "one").await.unwrap_err();
        there.set(MailFault::None).await;
        send(&here, "one").await.unwrap();
    }
    assert_eq!(there.accepted(), 3);
    assert_eq!(there.doubles(), [("one@example.org".to_owned(), 3)]);
}

#[tokio::test]
async fn an_embedded_server_answers_the_mail_it_is_taking_before_it_goes_down() {
    let (there, here) = servers().await;
    there.set(MailFault::SlowEndOfData(Duration::from_millis(100))).await;
    let sending = async { send(&here, "one").await };
    let closing = async {
        while there.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        there.set(MailFault::Down).await;
    };
    let (sent, ()) = tokio::join!(sending, closing);
    sent.unwrap();
}

#[tokio::test]
async fn an_embedded_server_counts_what_it_rejects() {
    let (there, here) = servers().await;
    for fault in [MailFault::EndOfData(451), MailFault::EndOfData(451), MailFault::Sender(550)] {
        there.set(fault).await;
        send(&here, "one").await.unwrap_err();
    }
    assert_eq!(there.rejected().into_iter().collect::<Vec<_>>(), [(451, 2), (550, 1)]);
    assert_eq!(there.accepted(), 0);
}

async fn scripted_server(script: Vec<Step>) -> SmtpServer {
    let address = scripted(vec![script]).await;
    SmtpServer::new("primary-smtp", settings(&format!("smtp://{address}?tls=none"))).unwrap()
}

async fn scripted_outcome(script: Vec<Step>) -> (Fault, Stage) {
    let error = send(&scripted_server(script).await, "one").await.unwrap_err();
    (error.fault, error.stage)
}

#[allow(dead_code)] // that it compiles is the test
fn a_send_can_be_spawned(here: &'static SmtpServer, _: &'static MailServer, mail: Mail) {
    tokio::spawn(async move { here.send(&mail, &Freely::default()).await });
}
