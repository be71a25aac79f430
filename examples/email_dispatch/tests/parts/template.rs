//! What a mail says.

use std::{fs, path::Path, sync::LazyLock};

use email_dispatch::{
    personal::Keys,
    request::{EmailRequest, Intake, Limits, Origin},
    template::{TemplateError, Templates},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Compiled once for all tests.
fn embedded() -> Templates {
    static TEMPLATES: LazyLock<Templates> = LazyLock::new(Templates::embedded);
    TEMPLATES.clone()
}

fn request(fields: Value) -> EmailRequest {
    let mut json = json!({ "id": "c2b0f5de-9d9c-4a5c-8a56-0a2b0e6b1f11", "subject": "", "contentType": "TEXT",
        "kind": "NOTIFICATION", "priority": "NORMAL", "timestamp": "2026-01-31T12:00:00Z" });
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn write(dir: &Path, file: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in files {
        write(dir.path(), file, text);
    }
    dir
}

fn error_of(files: &[(&str, &str)]) -> String {
    Templates::from_dir(dir(files).path()).unwrap_err().to_string()
}

#[test]
fn the_embedded_templates_render() {
    let templates = embedded();
    assert_eq!(templates.names().collect::<Vec<_>>(), ["newsletter", "password-reset", "welcome"]);
    let variables = json!({ "name": "Ada", "link": "https://example.com/?a=1&b=2", "minutes": 30, "title": "News",
        "unsubscribe": "https://example.com/bye", "items": [{ "heading": "One", "text": "First" },
        { "heading": "Two", "text": "Second", "link": "https://example.com/two" }] });
    for name in templates.names() {
        let rendered = templates.render(&request(json!({ "template": name, "variables": variables }))).unwrap();
        assert!(!rendered.subject.is_empty() && !rendered.subject.contains('\n'));
        assert!(rendered.text.unwrap().len() > 20);
        let html = rendered.html.unwrap();
        assert!(html.starts_with("<!DOCTYPE html>") && !html.contains("{{"), "{html}");
    }
}

#[test]
fn html_is_escaped_and_text_is_not() {
    let variables = json!({ "name": "<b>Ada & Co</b>", "link": "https://example.com" });
    let rendered = embedded().render(&request(json!({ "template": "welcome", "variables": variables }))).unwrap();
    assert!(rendered.html.unwrap().contains("&lt;b&gt;Ada &amp; Co&lt;&#x2f;b&gt;"));
    assert!(rendered.text.unwrap().contains("Hello <b>Ada & Co</b>,"));
    assert_eq!(rendered.subject, "Welcome, <b>Ada & Co</b>");
}

#[test]
fn a_missing_variable_is_an_error_that_names_file_and_line() {
    let error = embedded()
        .render(&request(json!({ "template": "welcome", "variables": { "name": "Ada" } })))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("welcome/body.txt, line 5: ") && error.contains("undefined"), "{error}");
}

#[test]
fn an_unknown_template_is_an_error_that_names_those_there_are() {
    let error = embedded().render(&request(json!({ "template": "layout.html" }))).unwrap_err().to_string();
    assert_eq!(error, "there is no template 'layout.html', but newsletter, password-reset, welcome");
}

#[test]
fn plain_content_is_sent_as_it_is() {
    let rendered =
        embedded().render(&request(json!({ "subject": "{{ a }}", "content": "{{ b }} <c> & {% if %}" }))).unwrap();
    assert_eq!(rendered.subject, "{{ a }}");
    assert_eq!((rendered.text.unwrap().as_str(), rendered.html), ("{{ b }} <c> & {% if %}", None));
}

#[test]
fn html_content_gets_a_text_alternative() {
    let html = "<style>p { color: red }</style><h1>Hello</h1><p>one &amp; <b>two</b></p><script>alert(1)</script>\
        <ul><li>three</ul><a href=\"https://example.com/x\">four</a><table><tr><td>five<td>six</table>";
    let rendered =
        embedded().render(&request(json!({ "subject": "S", "content": html, "contentType": "HTML" }))).unwrap();
    let text = rendered.text.unwrap();
    for said in ["Hello", "one & two", "three", "four", "https://example.com/x", "five", "six"] {
        assert!(text.contains(said), "no '{said}' in {text}");
    }
    for unsaid in ["<", "color", "alert", "\r"] {
        assert!(!text.contains(unsaid), "'{unsaid}' in {text}");
    }
    assert_eq!(rendered.html.as_deref(), Some(html));
}

#[test]
fn html_that_is_none_gets_a_text_alternative_too() {
    for html in
        ["", "<", "<table><tr><td><table>", "</p></p>", "<a href=x><a href=y>", "<p>\u{0}</p>", "<svg><style><g>"]
    {
        let rendered = embedded().render(&request(json!({ "subject": "S", "content": html, "contentType": "HTML" })));
        assert!(rendered.is_ok(), "{html}");
    }
}

#[test]
fn odd_html_loses_nothing_that_is_said() {
    for (html, said) in [
        ("5 < 6 &amp; 7 > 6", "5 < 6 & 7 > 6"),
        ("one<!-- > -- <p> -->two", "onetwo"),
        ("<title>no</title><img alt='a > b'>yes", "a > byes"),
        ("<STYLE>p > a { color: red }</STYLE >yes", "yes"),
        ("<script>if (a < b) document.write('</p>')</script>yes", "yes"),
        ("<pre>a <b>b</b></pre>", "a b"),
        ("yes<a href=\"no", "yes"),
        ("yes<!-- no", "yes"),
        ("<a href=\"https://example.com/?a=1&amp;b=2\">here</a>", "here (https://example.com/?a=1&b=2)"),
        ("<p></p>", "This mail can only be shown as HTML."),
    ] {
        let request = request(json!({ "subject": "S", "content": html, "contentType": "HTML" }));
        assert_eq!(embedded().render(&request).unwrap().text.as_deref(), Some(said), "{html}");
    }
}

#[test]
fn a_text_alternative_takes_time_in_proportion_to_the_html() {
    for part in [
        "<div>",
        "<table><tr><td>",
        "<ul><li>",
        "<a href=x>",
        "<a",
        "<a href=\"",
        "<a =\">\"= ",
        "<!",
        "<title>",
        "</a",
    ] {
        let content = part.repeat(100_000 / part.len());
        let request = request(json!({ "subject": "S", "content": content, "contentType": "HTML" }));
        assert!(embedded().render(&request).is_ok());
    }
}

#[test]
fn a_subject_of_the_request_replaces_that_of_the_template_and_takes_variables() {
    let variables = json!({ "name": "Ada", "link": "x", "account": { "number": 7 } });
    let rendered = embedded()
        .render(&request(json!({ "template": "welcome", "variables": variables,
            "subject": "{{name}}, your account {{ account.number }} {is} ready" })))
        .unwrap();
    assert_eq!(rendered.subject, "Ada, your account 7 {is} ready");
}

#[test]
fn a_subject_of_the_request_can_do_nothing_but_name_variables() {
    for subject in [
        "{% for a in range(100000) %}{{ name }}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ range(1000000) }}",
        "{{ name|upper }}",
        "{{ name.upper() }}",
        "{{ name[0] }}",
        "{{ }}",
        "{{ name",
        "{# #}",
        "{{{% x %}}}",
    ] {
        let request = request(json!({ "template": "welcome", "subject": subject,
            "variables": { "name": "Ada", "link": "x" } }));
        assert!(matches!(embedded().render(&request), Err(TemplateError::SubjectSyntax)), "{subject}");
    }
}

#[test]
fn a_variable_cannot_put_a_header_into_the_mail() {
    let variables = json!({ "name": "Ada\r\nBcc: eve@example.com", "link": "x" });
    let error = embedded().render(&request(json!({ "template": "welcome", "variables": variables }))).unwrap_err();
    assert!(matches!(error, TemplateError::Subject(_)), "{error}");
}

#[test]
fn templates_are_read_from_a_folder() {
    let dir = dir(&[
        ("base.html", "<p>{% block b %}{% endblock %}</p>"),
        ("shop/receipt/subject.txt", "Receipt\n"),
        ("shop/receipt/body.html", "{% extends 'base.html' %}{% block b %}{{ sum }}{% endblock %}"),
        ("notes.md", "{% not a template"),
        (".hidden/subject.txt", "x"),
    ]);
    let templates = Templates::from_dir(dir.path()).unwrap();
    assert_eq!(templates.names().collect::<Vec<_>>(), ["shop/receipt"]);
    let rendered =
        templates.render(&request(json!({ "template": "shop/receipt", "variables": { "sum": 5 } }))).unwrap();
    assert_eq!(rendered.html.as_deref(), Some("<p>5</p>"));
    assert_eq!(rendered.text.as_deref().map(str::trim), Some("5"));
}

#[test]
fn a_template_that_cannot_be_compiled_is_an_error_that_names_file_and_line() {
    let error = error_of(&[("a/subject.txt", "A"), ("a/body.txt", "one\n{% if x %}\n{{ y")]);
    assert!(error.starts_with("a/body.txt, line 3: syntax error"), "{error}");
}

#[test]
fn a_template_without_subject_or_body_is_an_error() {
    assert_eq!(error_of(&[("a/body.txt", "B")]), "template 'a' has no subject.txt");
    assert_eq!(error_of(&[("a/subject.txt", "S")]), "template 'a' has no body.txt or body.html");
}

#[test]
fn a_folder_without_templates_is_an_error() {
    assert!(error_of(&[("a.txt", "A")]).contains("has no templates"));
    let error = Templates::from_dir(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/at/all cannot be read"), "{error}");
}

#[test]
fn a_template_that_is_not_text_is_an_error_that_names_the_file() {
    let dir = dir(&[("a/subject.txt", "A")]);
    write(dir.path(), "a/body.txt", [0xff, 0xfe]);
    let error = Templates::from_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a/body.txt cannot be read"), "{error}");
}

#[test]
fn a_template_without_end_runs_out_of_fuel() {
    let dir = dir(&[
        ("a/subject.txt", "A"),
        ("a/body.txt", "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}"),
    ]);
    let error = Templates::from_dir(dir.path()).unwrap().render(&request(json!({ "template": "a" }))).unwrap_err();
    assert!(error.to_string().contains("fuel"), "{error}");
}

#[test]
fn a_mail_without_end_is_cut_short() {
    let dir = dir(&[("a/subject.txt", "A"), ("a/body.txt", "{% for a in range(9999) %}{{ long }}{% endfor %}")]);
    let request = request(json!({ "template": "a", "variables": { "long": "x".repeat(1_000) } }));
    let error = Templates::from_dir(dir.path()).unwrap().render(&request).unwrap_err();
    assert!(matches!(error, TemplateError::Failed { .. }), "{error}");
}

#[test]
fn an_error_in_a_template_shows_no_address() {
    let dir = dir(&[("a/subject.txt", "A"), ("a/body.txt", "{{ to|int }}")]);
    let request = request(json!({ "template": "a", "variables": { "to": "ada@example.com" } }));
    let error = Templates::from_dir(dir.path()).unwrap().render(&request).unwrap_err().to_string();
    assert!(!error.contains("ada@"), "{error}");
}

#[test]
fn what_passes_the_door_renders() {
    let templates = embedded();
    let intake = Intake::new(Keys::random(), templates.clone(), Limits::default());
    let json = json!({ "to": "ada@example.com", "template": "welcome", "variables": { "name": "Ada", "link": "x" } });
    let request = intake.parse(json.to_string().as_bytes(), Origin::Http, 0).unwrap();
    assert_eq!(templates.render(&request).unwrap().subject, "Welcome, Ada");
}

proptest! {
    #[test]
    fn no_html_makes_the_text_alternative_panic(html in "(<|>|</|<!--|-->|=|\"|'|&|#|;|a|pre|title|script|é| |\n){0,40}") {
        let request = request(json!({ "subject": "S", "content": html, "contentType": "HTML" }));
        prop_assert!(embedded().render(&request).is_ok());
    }
}
