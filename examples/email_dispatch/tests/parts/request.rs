//! What is asked for, and everything that can be wrong with it.

use std::sync::LazyLock;

use email_dispatch::{
    personal::{Keys, Unreadable},
    request::{ContentType, EmailRequest, Faults, Intake, Kind, Limits, Origin, Priority},
    template::Templates,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "c2b0f5de-9d9c-4a5c-8a56-0a2b0e6b1f11";
/// 2026-01-31T12:00:00Z.
const NOW: i64 = 1_769_860_800_000;

struct Door {
    keys: Keys,
    intake: Intake,
}

fn door() -> Door {
    // Compiled once for all tests.
    static TEMPLATES: LazyLock<Templates> = LazyLock::new(Templates::embedded);
    let keys = Keys::random();
    let intake = Intake::new(keys.clone(), TEMPLATES.clone(), Limits::default());
    Door { keys, intake }
}

impl Door {
    fn parse(&self, origin: Origin, json: &Value) -> Result<EmailRequest, Faults> {
        self.intake.parse(json.to_string().as_bytes(), origin, NOW)
    }
}

/// A valid request with these fields instead; `null` takes one away.
fn with(fields: Value) -> Value {
    let mut json = json!({ "id": ID, "to": "ada@example.com", "subject": "Hello", "content": "Hello Ada" });
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

fn http(fields: Value) -> Result<EmailRequest, Faults> {
    door().parse(Origin::Http, &with(fields))
}

/// The only fault of a request that comes over HTTP.
fn fault(fields: Value) -> String {
    let faults = http(fields).unwrap_err();
    assert_eq!(faults.faults.len(), 1, "{faults}");
    faults.to_string()
}

#[test]
fn a_small_request_is_completed() {
    let door = door();
    let json = json!({ "to": "ada@example.com", "subject": "Hello", "content": "Hello Ada" });
    let request = door.parse(Origin::Http, &json).unwrap();
    assert!(!request.id.is_nil());
    assert_eq!((request.kind, request.priority), (Kind::Notification, Priority::Normal));
    assert_eq!((request.content_type, request.timestamp.as_str()), (ContentType::Text, "2026-01-31T12:00:00Z"));
    assert_eq!((request.subject.as_str(), request.content.as_deref()), ("Hello", Some("Hello Ada")));
}

#[test]
fn everything_that_is_given_is_kept() {
    let request = http(json!({ "phone": "+49 170 1234567", "contentType": "HTML", "kind": "TRANSACTIONAL",
        "priority": "HIGH", "timestamp": "2026-01-31T13:00:00.5+01:00",
        "attachments": [{ "name": "a b.pdf", "type": "application/pdf", "data": "aGVsbG8=" }] }))
    .unwrap();
    assert_eq!(request.id.to_string(), ID);
    assert!(request.phone.is_some());
    assert_eq!((request.content_type, request.kind), (ContentType::Html, Kind::Transactional));
    assert_eq!((request.priority, request.timestamp.as_str()), (Priority::High, "2026-01-31T12:00:00.5Z"));
    assert_eq!(request.attachments[0].name, "a b.pdf");
}

#[test]
fn a_request_can_be_written_and_read_again_from_a_topic() {
    let door = door();
    let template = json!({ "content": null, "template": "welcome", "variables": { "name": "Ada", "link": "x" } });
    for fields in [json!({}), json!({ "to": null, "phone": "+491701234567" }), template] {
        let request = door.parse(Origin::Http, &with(fields)).unwrap();
        let written = serde_json::to_vec(&request).unwrap();
        assert_eq!(door.intake.parse(&written, Origin::Topic, 0).unwrap(), request);
    }
}

#[test]
fn words_may_be_in_any_case_and_unknown_fields_are_ignored() {
    let request = http(json!({ "kind": "marketing", "priority": "Low", "contentType": "html", "colour": {} })).unwrap();
    assert_eq!(
        (request.kind, request.priority, request.content_type),
        (Kind::Marketing, Priority::Low, ContentType::Html)
    );
}

#[test]
fn a_plain_address_is_encrypted_at_the_door() {
    let door = door();
    let request = door.parse(Origin::Http, &with(json!({ "phone": "+491701234567" }))).unwrap();
    let written = serde_json::to_string(&request).unwrap();
    assert!(!written.contains("ada@example.com") && !written.contains("1701234567"), "{written}");
    assert_eq!(door.keys.decrypt_address(&request.to.unwrap()).unwrap().normalised(), "ada@example.com");
    assert_eq!(door.keys.decrypt_phone(&request.phone.unwrap()).unwrap().expose(), "+491701234567");
}

#[test]
fn an_encrypted_address_is_taken_as_it_is() {
    let door = door();
    let (to, phone) = (door.keys.encrypt("ada@example.com"), door.keys.encrypt("+491701234567"));
    for origin in [Origin::Http, Origin::Topic] {
        let request = door.parse(origin, &with(json!({ "to": to, "phone": phone }))).unwrap();
        assert_eq!((request.to.as_ref(), request.phone.as_ref()), (Some(&to), Some(&phone)));
    }
}

#[test]
fn a_plain_address_on_a_topic_is_a_fault_that_shows_it_masked() {
    let faults = door().parse(Origin::Topic, &with(json!({ "phone": "+491701234567" }))).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "to must be encrypted on a topic (found: a***@e***.com); \
        phone must be encrypted on a topic (found: 13 characters)"
    );
}

#[test]
fn an_address_encrypted_with_another_key_is_a_fault() {
    let to = Keys::random().encrypt("ada@example.com");
    let fault = fault(json!({ "to": to }));
    assert!(fault.starts_with("to was encrypted with another key, or was changed"), "{fault}");
    assert!(!fault.contains(&to));
}

#[test]
fn a_record_without_an_id_is_a_fault_and_an_id_is_found_among_faults() {
    let door = door();
    let to = door.keys.encrypt("ada@example.com");
    let faults = door.parse(Origin::Topic, &with(json!({ "id": null, "to": to }))).unwrap_err();
    assert_eq!((faults.id, faults.to_string().as_str()), (None, "id must be given"));
    let faults = door.parse(Origin::Topic, &with(json!({ "to": 7 }))).unwrap_err();
    assert_eq!(faults.id.unwrap().to_string(), ID);
}

#[test]
fn every_fault_is_named_at_once() {
    let json = json!({ "id": "7", "to": "ada@", "phone": "12", "subject": 5, "content": 6, "variables": [],
        "contentType": "RTF", "kind": "SPAM", "priority": 1, "timestamp": "yesterday",
        "attachments": [{ "name": "a/b", "type": "pdf", "data": "?" }, 8] });
    let faults = door().parse(Origin::Http, &json).unwrap_err();
    let fields: Vec<_> = faults.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "id",
            "to",
            "phone",
            "subject",
            "content",
            "variables",
            "contentType",
            "attachments[0].name",
            "attachments[0].type",
            "attachments[0].data",
            "attachments[1]",
            "kind",
            "priority",
            "timestamp"
        ]
    );
}

/// The fields in which something is wrong.
fn faulty(fields: Value) -> Vec<String> {
    http(fields).unwrap_err().faults.into_iter().map(|fault| fault.field).collect()
}

#[test]
fn no_fault_of_subject_content_template_and_variables_hides_another() {
    let variables = json!({ "name": "Ada" });
    for (fields, expected) in [
        (json!({ "content": null, "subject": 5, "template": "nope" }), ["subject", "template"].as_slice()),
        (json!({ "content": null, "subject": "a\nb", "template": "nope" }), &["template", "subject"]),
        (json!({ "content": null, "subject": "{% x %}", "template": "welcome" }), &["subject", "variables"]),
        (
            json!({ "content": null, "subject": 5, "template": "welcome", "variables": variables }),
            &["subject", "variables"],
        ),
        (json!({ "content": "", "variables": variables }), &["variables", "content"]),
        (json!({ "content": "", "template": "nope", "variables": variables }), &["template", "content", "template"]),
        (json!({ "content": 5, "template": "nope", "subject": null }), &["content", "template", "template"]),
        (json!({ "content": 5, "template": 6 }), &["content", "template", "template"]),
        (json!({ "content": 5, "variables": variables }), &["content", "variables"]),
    ] {
        assert_eq!(faulty(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn each_part_of_an_attachment_is_looked_at_whatever_the_others_are() {
    let attachment = json!({ "name": 5, "type": "pdf", "data": null });
    let [name, media_type, data] = ["attachments[0].name", "attachments[0].type", "attachments[0].data"];
    assert_eq!(faulty(json!({ "attachments": [attachment] })), [name, media_type, data]);
    let fault = fault(json!({ "attachments": [{ "name": 5, "type": "a/b", "data": "" }] }));
    assert_eq!(fault, "attachments[0].name must be text (found: 5)");
}

#[test]
fn of_too_many_attachments_as_many_as_there_may_be_are_looked_at() {
    let found = faulty(json!({ "attachments": vec![8; 1_000] }));
    assert_eq!((found.len(), found[0].as_str(), found[20].as_str()), (21, "attachments", "attachments[19]"));
}

#[test]
fn each_fault_says_field_value_and_rule() {
    for (fields, expected) in [
        (json!({ "id": "7" }), "id must be a UUID (found: 7)"),
        (json!({ "to": null }), "to must be given, or phone"),
        (json!({ "to": "ada@" }), "to must be a mail address, local@domain (found: ada@)"),
        (json!({ "to": 7 }), "to must be text"),
        (json!({ "phone": "0170" }), "phone must be + and 7 to 15 digits, such as +491701234567 (found: 4 characters)"),
        (json!({ "content": null }), "content must be given, or template"),
        (json!({ "content": " " }), "content must not be empty"),
        (json!({ "template": "welcome" }), "template must not be given beside content"),
        (json!({ "variables": { "a": 1 } }), "variables must not be given without a template"),
        (json!({ "subject": null }), "subject must not be empty"),
        (json!({ "subject": "a".repeat(251) }), "subject must have at most 250 characters (found: 251 characters)"),
        (
            json!({ "subject": "Hi\r\nBcc: eve@example.com" }),
            "subject must have no line breaks or other control characters (found: Hi  Bcc: e***@e***.com)",
        ),
        (json!({ "contentType": "RTF" }), "contentType must be TEXT or HTML (found: RTF)"),
        (json!({ "kind": "SPAM" }), "kind must be TRANSACTIONAL, MARKETING or NOTIFICATION (found: SPAM)"),
        (json!({ "priority": {} }), "priority must be HIGH, NORMAL or LOW (found: an object)"),
        (json!({ "timestamp": 12 }), "timestamp must be a moment like 2026-01-31T12:00:00Z (RFC 3339) (found: 12)"),
        (json!({ "attachments": "a" }), "attachments must be a list (found: a)"),
        (
            json!({ "attachments": vec![json!({ "name": "a", "type": "a/b", "data": "" }); 21] }),
            "attachments must be at most 20 (found: 21)",
        ),
    ] {
        assert_eq!(fault(fields), expected);
    }
}

#[test]
fn an_attachment_cannot_name_a_path_or_smuggle_a_header() {
    for name in ["", "a/b", "..\\b", "a\r\nX: y", &"a".repeat(121)] {
        let fault = fault(json!({ "attachments": [{ "name": name, "type": "text/plain", "data": "" }] }));
        assert!(fault.starts_with("attachments[0].name must be a file name"), "{fault}");
    }
    for media_type in ["", "text", "text/", "/plain", "text/pl ain", "text/plain\r\nX: y", "text/plain; charset=x"] {
        let fault = fault(json!({ "attachments": [{ "name": "a", "type": media_type, "data": "" }] }));
        assert!(fault.starts_with("attachments[0].type must be a media type"), "{fault}");
    }
}

#[test]
fn a_template_is_tried_at_the_door() {
    let template = |fields: Value| {
        let mut json = json!({ "content": null, "subject": null, "template": "welcome" });
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        fault(json)
    };
    assert_eq!(
        template(json!({ "template": "welcom" })),
        "template must be one of newsletter, password-reset, welcome (found: welcom)"
    );
    let missing = template(json!({ "variables": { "name": "Ada" } }));
    assert!(missing.starts_with("variables must fill the template: welcome/body.txt, line 5"), "{missing}");
    let variables = json!({ "name": "Ada", "link": "x" });
    let unknown = template(json!({ "variables": variables, "subject": "Hi {{ nam }}" }));
    assert!(unknown.starts_with("subject must render"), "{unknown}");
    let computed = template(json!({ "variables": variables, "subject": "{{ name * 9 }}" }));
    assert!(computed.starts_with("subject may have variables"), "{computed}");
}

#[test]
fn what_is_no_json_object_says_where() {
    let door = door();
    for (json, expected) in [
        (&b"{\"id\": }"[..], "request must be JSON: expected value at line 1 column 8"),
        (b"", "request must be JSON: EOF while parsing a value at line 1 column 0"),
        (b"[]", "request must be a JSON object (found: a list)"),
        (b"\xff", "request must be JSON: expected value at line 1 column 1"),
    ] {
        assert_eq!(door.intake.parse(json, Origin::Topic, NOW).unwrap_err().to_string(), expected);
    }
    let deep = "[".repeat(100_000);
    assert!(door.intake.parse(deep.as_bytes(), Origin::Topic, NOW).is_err());
}

#[test]
fn a_request_larger_than_a_record_may_be_is_a_fault() {
    let fault = fault(json!({ "content": "a".repeat(900_000) }));
    assert!(fault.starts_with("request must be at most 900000 bytes of JSON (found: 900"), "{fault}");
}

#[test]
fn a_request_that_would_be_too_large_once_it_is_written_is_a_fault() {
    let json = format!(
        r#"{{"to":"ada@example.com","template":"newsletter","variables":{{"title":"T","items":[],"unsubscribe":"x","a":[{}1]}}}}"#,
        "1E9,".repeat(200_000)
    );
    let faults = door().intake.parse(json.as_bytes(), Origin::Http, NOW).unwrap_err();
    assert!(faults.to_string().starts_with("request must be at most 900000 bytes of JSON"), "{faults}");
}

#[test]
fn faults_are_json_for_whoever_asked() {
    let faults = http(json!({ "kind": "SPAM", "content": null })).unwrap_err();
    assert_eq!(
        serde_json::to_value(&faults.faults).unwrap(),
        json!([
            { "field": "kind", "value": "SPAM", "rule": "must be TRANSACTIONAL, MARKETING or NOTIFICATION" },
            { "field": "content", "rule": "must be given, or template" }
        ])
    );
}

#[test]
fn the_record_key_is_the_persons_pseudonym() {
    let door = door();
    let key = |fields| door.parse(Origin::Http, &with(fields)).unwrap().record_key(&door.keys);
    assert_eq!(key(json!({})), Ok(Some(door.keys.pseudonym("ada@example.com"))));
    assert_eq!(key(json!({ "to": "ADA@example.com" })), key(json!({})));
    assert_eq!(key(json!({ "to": null, "phone": "+491701234567" })), Ok(Some(door.keys.pseudonym("+491701234567"))));
    assert_eq!(http(json!({})).unwrap().record_key(&door.keys), Err(Unreadable::WrongKey));
}

#[test]
fn a_printed_request_shows_nothing_personal() {
    let request = http(json!({ "subject": "Dear Ada", "phone": "+491701234567",
        "attachments": [{ "name": "Ada.pdf", "type": "application/pdf", "data": "aGVsbG8=" }] }))
    .unwrap();
    let printed = format!("{request:?} {:?}", request.attachments);
    for personal in ["Ada", "Hello", request.to.as_deref().unwrap(), "aGVsbG8"] {
        assert!(!printed.contains(personal), "{printed}");
    }
    assert!(printed.contains(ID));
}

proptest! {
    #[test]
    fn no_bytes_make_the_door_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(door().intake.parse(&bytes, Origin::Topic, NOW).is_err());
    }

    #[test]
    fn no_fault_shows_an_address(
        field in "id|to|phone|subject|content|template|variables|contentType|kind|priority|timestamp|attachments",
        before in "[ -~]{0,30} ",
    ) {
        let json = with(json!({ field: format!("{before}carol.smith@example.net") }));
        if let Err(faults) = door().parse(Origin::Http, &json) {
            prop_assert!(!faults.to_string().contains("carol.smith"), "{faults}");
        }
    }
}
