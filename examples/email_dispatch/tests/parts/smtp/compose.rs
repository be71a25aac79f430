//! Mails made of requests.

use base64::{Engine, engine::general_purpose::STANDARD};
use email_dispatch::{
    personal::Recipient,
    request::{Attachment, ContentType, EmailRequest, Kind, Priority},
    smtp::{Mail, Mailbox, SmtpServer, Transport, compose, message_id},
    template::Rendered,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Freely, servers};

fn request(attachments: Vec<Attachment>) -> EmailRequest {
    EmailRequest {
        id: Uuid::from_u128(7),
        to: Some("encrypted".to_owned()),
        phone: None,
        subject: String::new(),
        content: None,
        template: None,
        variables: serde_json::Map::new(),
        content_type: ContentType::Text,
        attachments,
        kind: Kind::Notification,
        priority: Priority::Normal,
        timestamp: "2026-01-31T12:00:00.5Z".to_owned(),
    }
}

fn says(subject: &str, text: Option<&str>, html: Option<&str>) -> Rendered {
    Rendered { subject: subject.to_owned(), text: text.map(str::to_owned), html: html.map(str::to_owned) }
}

fn sender() -> Mailbox {
    "Post Office <post@example.org>".parse().unwrap()
}

fn recipient() -> Recipient {
    Recipient::parse("ada@example.com").unwrap()
}

fn composed(request: &EmailRequest, rendered: &Rendered) -> Mail {
    compose(request, rendered, &recipient(), &sender()).unwrap()
}

/// Header, a field a line, and body.
fn parts(mail: &Mail) -> (String, String) {
    let message = String::from_utf8(mail.message.to_vec()).unwrap();
    let (header, body) = message.split_once("\r\n\r\n").unwrap();
    (header.replace("\r\n ", " "), body.replace("\r\n ", " "))
}

fn why(request: &EmailRequest, rendered: &Rendered) -> String {
    compose(request, rendered, &recipient(), &sender()).unwrap_err().to_string()
}

#[test]
fn a_text_goes_as_a_text() {
    let (header, body) = parts(&composed(&request(vec![]), &says("Hello", Some("Hello Ada\n"), None)));
    let mut lines: Vec<_> = header.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Content-Transfer-Encoding: 7bit",
            "Content-Type: text/plain; charset=utf-8",
            "Date: Sat, 31 Jan 2026 12:00:00 +0000",
            "From: \"Post Office\" <post@example.org>",
            "MIME-Version: 1.0",
            "Message-ID: <00000000-0000-0000-0000-000000000007@example.org>",
            "Subject: Hello",
            "To: ada@example.com",
        ]
    );
    assert_eq!(body.trim_end(), "Hello Ada");
}

#[test]
fn the_envelope_is_the_senders_and_the_recipients() {
    let mail = composed(&request(vec![]), &says("Hello", Some("x"), None));
    assert_eq!(mail.envelope.from().unwrap().to_string(), "post@example.org");
    assert_eq!(mail.envelope.to().iter().map(ToString::to_string).collect::<Vec<_>>(), ["ada@example.com"]);
}

#[test]
fn the_same_request_has_the_same_message_id_and_date_each_time() {
    let fields = |mail: &Mail| {
        let (header, _) = parts(mail);
        header
            .lines()
            .filter(|line| line.starts_with("Message-ID") || line.starts_with("Date"))
            .map(str::to_owned)
            .collect()
    };
    let rendered = says("Hello", Some("x"), Some("<p>x</p>"));
    let first: Vec<String> = fields(&composed(&request(vec![]), &rendered));
    assert_eq!(first, fields(&composed(&request(vec![]), &rendered)));
    assert_eq!(first.len(), 2);
    assert!(first.iter().any(|line| line.ends_with(&message_id(Uuid::from_u128(7), "example.org"))));
}

#[test]
fn html_goes_with_its_text_alternative_before_it() {
    let (header, body) = parts(&composed(&request(vec![]), &says("Hello", Some("Hello"), Some("<b>Hello</b>"))));
    assert!(header.contains("Content-Type: multipart/alternative; boundary="), "{header}");
    let text = body.find("text/plain").unwrap();
    let html = body.find("text/html").unwrap();
    assert!(text < html && body.contains("<b>Hello</b>"), "{body}");
}

#[test]
fn attachments_follow_the_body_in_base64() {
    let file = |name: &str, data: &str| Attachment {
        name: name.to_owned(),
        media_type: "application/pdf".to_owned(),
        data: STANDARD.encode(data),
    };
    let request = request(vec![file("a b.pdf", "one"), file("Grüße \"x\".pdf", "two")]);
    for html in [None, Some("<b>Hello</b>")] {
        let (header, body) = parts(&composed(&request, &says("Hello", Some("Hello"), html)));
        assert!(header.contains("Content-Type: multipart/mixed; boundary="), "{header}");
        assert_eq!(body.contains("multipart/alternative"), html.is_some());
        assert_eq!(body.matches("Content-Type: application/pdf").count(), 2);
        assert!(body.contains("Content-Disposition: attachment; filename=\"a b.pdf\""), "{body}");
        assert!(body.contains(&STANDARD.encode("one")) && body.contains(&STANDARD.encode("two")), "{body}");
        assert!(body.is_ascii());
    }
}

#[test]
fn what_is_not_ascii_is_encoded() {
    let (header, body) = parts(&composed(&request(vec![]), &says("Grüße aus Köln", Some("Grüße\n"), None)));
    assert!(header.is_ascii() && body.is_ascii(), "{header}\n\n{body}");
    let subject = header.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
    let (first, second) = (STANDARD.encode("Grüße"), STANDARD.encode("Köln"));
    assert_eq!(subject, format!("=?utf-8?b?{first}?= aus =?utf-8?b?{second}?="));
    assert_eq!(STANDARD.decode(body.trim_end()).unwrap(), "Grüße\r\n".as_bytes());
}

#[test]
fn no_field_can_add_a_line_to_the_header() {
    for evil in ["Hello\r\nBcc: eve@example.com", "Hello\nBcc: eve@example.com", "Hello\rBcc: x", "a\0b"] {
        let error = why(&request(vec![]), &says(evil, Some("x"), None));
        assert_eq!(error, "subject must have no line breaks or other control characters");
        let file = Attachment { name: evil.to_owned(), media_type: "a/b".to_owned(), data: String::new() };
        let error = why(&request(vec![file]), &says("Hello", Some("x"), None));
        assert_eq!(error, "attachments[0].name must have no control characters");
        let file = Attachment { name: "a".to_owned(), media_type: format!("a/b; x={evil}"), data: String::new() };
        match compose(&request(vec![file]), &says("Hello", Some("x"), None), &recipient(), &sender()) {
            Ok(mail) => assert!(!String::from_utf8_lossy(&mail.message).contains("\nBcc")),
            Err(error) => assert_eq!(error.field, "attachments[0].type"),
        }
    }
}

#[test]
fn no_text_can_end_the_message_or_leave_a_bare_line_end_in_it() {
    for evil in ["\r\n.\r\nMAIL FROM:<eve@example.com>", "a\n.\nb", "a\r.\rb", "a\n\r.\n\rb", "a\r\r\n.\r\n", "a\0b\r"]
    {
        let mail = composed(&request(vec![]), &says("Hello", Some(evil), Some(evil)));
        let text = String::from_utf8(mail.message.to_vec()).unwrap();
        let without = text.replace("\r\n", "");
        assert!(!without.contains(['\r', '\n', '\0']), "{evil:?}: {text:?}");
    }
}

#[test]
fn no_line_is_longer_than_every_server_takes() {
    let long = format!("{} {}", "x".repeat(3_000), "ü".repeat(3_000));
    let file = Attachment {
        name: "ü".repeat(120),
        media_type: "application/pdf".to_owned(),
        data: STANDARD.encode("x".repeat(10_000)),
    };
    let subject = "ü".repeat(200);
    let mail = composed(&request(vec![file]), &says(&subject, Some(&long), Some(&"x".repeat(3_000))));
    let text = String::from_utf8(mail.message.to_vec()).unwrap();
    assert!(text.is_ascii());
    assert!(text.lines().all(|line| line.len() <= 998), "{}", text.lines().map(str::len).max().unwrap());
}

#[test]
fn what_cannot_be_part_of_a_mail_is_named_and_not_repeated() {
    let with = |media_type: &str, data: &str| {
        let file = |media_type: &str, data: &str| Attachment {
            name: "a.pdf".to_owned(),
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        };
        why(&request(vec![file("a/b", ""), file(media_type, data)]), &says("Hello", Some("x"), None))
    };
    assert_eq!(with("a/b", "!"), "attachments[1].data must be base64");
    assert_eq!(with("nothing", ""), "attachments[1].type must be a media type like application/pdf");
    let at = |timestamp: &str| EmailRequest { timestamp: timestamp.to_owned(), ..request(vec![]) };
    assert!(why(&at("yesterday"), &says("Hello", Some("x"), None)).starts_with("timestamp must be a moment"));
}

#[test]
fn a_request_of_any_year_makes_a_mail_or_an_error() {
    for year in ["-009000", "-000001", "0000", "0001", "1899", "1969", "9999"] {
        let request = EmailRequest { timestamp: format!("{year}-06-01T12:00:00Z"), ..request(vec![]) };
        let made = compose(&request, &says("Hello", Some("x"), None), &recipient(), &sender());
        assert_eq!(made.is_ok(), !year.starts_with('-'), "{year}");
    }
}

proptest! {
    #[test]
    fn whatever_a_request_says_makes_a_mail_of_the_same_shape(
        subject in "\\PC{1,200}", text in any::<String>(), html in any::<String>(), name in "\\PC{1,120}",
    ) {
        let file = Attachment { name, media_type: "application/pdf".to_owned(), data: STANDARD.encode(&text) };
        let mail = composed(&request(vec![file]), &says(&subject, Some(&text), Some(&html)));
        let message = std::str::from_utf8(&mail.message).unwrap();
        prop_assert!(message.is_ascii());
        prop_assert!(!message.replace("\r\n", "").contains(['\r', '\n', '\0']));
        prop_assert!(message.lines().all(|line| line.len() <= 998));
        let (header, _) = parts(&mail);
        let mut names: Vec<_> = header.lines().map(|line| line.split(':').next().unwrap()).collect();
        names.sort_unstable();
        prop_assert_eq!(names, ["Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"]);
    }
}

#[tokio::test]
async fn a_composed_mail_arrives_as_it_was_composed() {
    let (there, here): (_, SmtpServer) = servers().await;
    let text = ".\n..\nA text with dots\n.and more\n";
    let mail = composed(&request(vec![]), &says("Hello", Some(text), Some("<p>.</p>\n.\n")));
    here.send(&mail, &Freely::default()).await.unwrap();
    let taken = &there.last_mails()[0];
    assert_eq!(taken.message, mail.message);
    assert!(there.message_ids().contains_key("00000000-0000-0000-0000-000000000007@example.org"));
}
