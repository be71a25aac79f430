//! Where a mail server is, in one line.

use email_dispatch::smtp::{BadAddress, SmtpAddress, Tls};

fn parse(text: &str) -> SmtpAddress {
    text.parse().unwrap()
}

#[test]
fn an_address_names_host_port_and_encryption() {
    for (text, host, port, tls) in [
        ("smtp://mail.example.org", "mail.example.org", 587, Tls::Opportunistic),
        ("smtp://mail.example.org:25/?tls=none", "mail.example.org", 25, Tls::Off),
        ("smtp://mail.example.org?tls=required", "mail.example.org", 587, Tls::Required),
        ("smtp://mail.example.org?tls=opportunistic", "mail.example.org", 587, Tls::Opportunistic),
        ("smtps://mail.example.org", "mail.example.org", 465, Tls::Implicit),
        ("smtps://[::1]:8465", "::1", 8465, Tls::Implicit),
        (" SMTP://127.0.0.1:2525 ", "127.0.0.1", 2525, Tls::Opportunistic),
    ] {
        let address = parse(text);
        assert_eq!((address.host(), address.port(), address.tls()), (host, port, tls), "{text}");
        assert!(!address.has_login());
    }
}

#[test]
fn a_password_does_not_travel_in_the_clear_unless_that_is_asked_for() {
    assert_eq!(parse("smtp://ada:secret@mail.example.org").tls(), Tls::Required);
    assert_eq!(parse("smtp://ada:secret@mail.example.org?tls=none").tls(), Tls::Off);
    let error = "smtp://ada:secret@mail.example.org?tls=opportunistic".parse::<SmtpAddress>().unwrap_err();
    assert_eq!(error.to_string(), "must have tls=required with a password, or tls=none");
}

#[test]
fn user_and_password_are_never_printed() {
    let address = parse("smtp://ada%40example.org:s%2Fcret@mail.example.org");
    assert!(address.has_login());
    let printed = format!("{address} {address:?} {:?}", email_dispatch::smtp::SmtpSettings::new(address.clone()));
    assert!(!printed.contains("ada") && !printed.contains("cret"), "{printed}");
    assert_eq!(address.to_string(), "smtp://***@mail.example.org:587?tls=required");
    assert_eq!(parse("smtps://[::1]").to_string(), "smtps://[::1]:465");
}

#[test]
fn a_wrong_address_is_told_why_and_not_repeated() {
    for (text, why) in [
        ("", "smtp:// or smtps://"),
        ("secret", "smtp:// or smtps://"),
        ("http://secret", "smtp:// or smtps://"),
        ("smtp://", "name a host"),
        ("smtp://secret:0", "1 to 65535"),
        ("smtp://secret:99999", "1 to 65535"),
        ("smtp://ada:secret/word@mail.example.org", "%"),
        ("smtp://mail.example.org/secret", "end after host and port"),
        ("smtp://mail.example.org#secret", "end after host and port"),
        ("smtp://ada@mail.example.org", "a password beside the user"),
        ("smtp://:secret@mail.example.org", "a user beside the password"),
        ("smtp://a%00:secret@mail.example.org", "control characters"),
        ("smtp://ada:secret%ff@mail.example.org", "UTF-8"),
        ("smtp://mail.example.org?tls=secret", "tls=none, tls=opportunistic or tls=required"),
        ("smtps://mail.example.org?tls=none", "no tls= with smtps://"),
        ("smtp://mail.example.org?secret=1", "no parameter but tls"),
        ("smtp://se cret", "like smtp://host:port"),
    ] {
        let error: BadAddress = text.parse::<SmtpAddress>().unwrap_err();
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
