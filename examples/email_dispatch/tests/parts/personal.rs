//! What nobody may read, and what they may see of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use email_dispatch::personal::{BadKey, Keys, Phone, Recipient, Unreadable, mask_text};
use proptest::prelude::*;

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

fn keys(text: &str) -> Keys {
    Keys::parse(text).unwrap()
}

#[test]
fn an_address_can_be_read_again_with_the_key() {
    let keys = Keys::random();
    let recipient = keys.decrypt_address(&keys.encrypt("ada@example.com")).unwrap();
    assert_eq!(recipient.expose().to_string(), "ada@example.com");
    let phone = keys.decrypt_phone(&keys.encrypt("+491701234567")).unwrap();
    assert_eq!(phone.expose(), "+491701234567");
}

#[test]
fn the_same_address_is_never_encrypted_to_the_same_text() {
    let keys = Keys::random();
    assert_ne!(keys.encrypt("ada@example.com"), keys.encrypt("ada@example.com"));
}

#[test]
fn an_encrypted_value_is_nonce_ciphertext_and_tag() {
    let encrypted = STANDARD.decode(Keys::random().encrypt("ada@example.com")).unwrap();
    assert_eq!(encrypted.len(), 12 + "ada@example.com".len() + 16);
}

#[test]
fn what_another_program_has_encrypted_can_be_read() {
    // Made with Python's cryptography: AESGCM(bytes([7]) * 32).encrypt(bytes(range(12)), b"ada@example.com", None)
    let encrypted = "AAECAwQFBgcICQoLeeWIMHhxuCQH3oCygTcBUvMtLQZyDgS5h9XxwrxWPw==";
    assert_eq!(keys(&key(7)).decrypt_address(encrypted).unwrap().expose().to_string(), "ada@example.com");
}

#[test]
fn the_first_key_encrypts_and_all_keys_decrypt() {
    let (old, both) = (keys(&key(1)), keys(&format!("{}, {}", key(2), key(1))));
    assert!(both.decrypt_address(&old.encrypt("ada@example.com")).is_ok());
    assert!(keys(&key(2)).decrypt_address(&both.encrypt("ada@example.com")).is_ok());
    assert_eq!(old.decrypt_address(&both.encrypt("ada@example.com")), Err(Unreadable::WrongKey));
}

#[test]
fn keys_may_be_on_lines_of_their_own() {
    let both = keys(&format!("{}\n{}\r\n", key(2), key(1)));
    assert!(both.decrypt_phone(&keys(&key(1)).encrypt("+491701234567")).is_ok());
}

#[test]
fn a_wrong_key_is_named_by_its_number_and_not_shown() {
    assert_eq!(Keys::parse(" \n").unwrap_err(), BadKey::None);
    let short = STANDARD.encode(b"sixteen bytes!!!");
    let error = Keys::parse(&format!("{},{short}", key(1))).unwrap_err();
    assert_eq!(error, BadKey::Length { number: 2, length: 16 });
    assert!(!error.to_string().contains(&short));
    let error = Keys::parse("secret§").unwrap_err();
    assert_eq!(error, BadKey::NotBase64 { number: 1 });
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn keys_are_never_printed() {
    assert_eq!(format!("{:?}", keys(&key(65))), "Keys(..)");
}

#[test]
fn a_changed_value_is_refused() {
    let keys = Keys::random();
    let mut bytes = STANDARD.decode(keys.encrypt("ada@example.com")).unwrap();
    for at in [0, 12, bytes.len() - 1] {
        bytes[at] ^= 1;
        assert_eq!(keys.decrypt_address(&STANDARD.encode(&bytes)), Err(Unreadable::WrongKey));
        bytes[at] ^= 1;
    }
}

#[test]
fn what_is_no_encrypted_address_says_why() {
    let keys = Keys::random();
    assert_eq!(keys.decrypt_address("ada@example.com"), Err(Unreadable::NotBase64));
    assert_eq!(keys.decrypt_address(&STANDARD.encode([0; 27])), Err(Unreadable::TooShort));
    assert_eq!(keys.decrypt_address(&"A".repeat(2_000)), Err(Unreadable::TooLong));
    assert_eq!(keys.decrypt_address(&keys.encrypt("nobody")), Err(Unreadable::NotAnAddress));
    assert_eq!(keys.decrypt_phone(&keys.encrypt("ada@example.com")), Err(Unreadable::NotAPhone));
}

#[test]
fn addresses_are_read_as_people_write_them() {
    for (written, read) in [
        ("ada@example.com", "ada@example.com"),
        (" Ada.Lovelace+news@Example.COM ", "Ada.Lovelace+news@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("\"ada lovelace\"@example.com", "\"ada lovelace\"@example.com"),
        ("ada@[192.0.2.1]", "ada@[192.0.2.1]"),
    ] {
        assert_eq!(Recipient::parse(written).unwrap().expose().to_string(), read, "{written}");
    }
}

#[test]
fn what_is_no_address_is_refused_without_being_repeated() {
    for wrong in [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@exam ple.com",
        "ada@example.com\r\nBCC: eve@example.com",
        "\"ada\r\nRCPT TO:<eve@example.com>\"@example.com",
        "ada@example.com, eve@example.com",
        "<ada@example.com>",
        "jürgen@example.com",
        &format!("{}@example.com", "a".repeat(65)),
        &format!("a@{}com", "example.".repeat(32)),
    ] {
        let error = Recipient::parse(wrong).expect_err(wrong).to_string();
        assert!(!error.contains("ada@") && !error.contains("example"), "{error}");
    }
}

#[test]
fn phone_numbers_are_read_as_people_write_them() {
    assert_eq!(Phone::parse("+49 (170) 123-45.67").unwrap().expose(), "+491701234567");
    for wrong in ["", "+", "0170 1234567", "+0170 1234567", "+12345", "+1234567890123456", "+49170x1234567"] {
        assert!(Phone::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn addresses_and_numbers_print_themselves_masked() {
    let recipient = Recipient::parse("john.doe@example.co.uk").unwrap();
    assert_eq!((recipient.to_string(), format!("{recipient:?}")), ("j***@e***.uk".into(), "j***@e***.uk".into()));
    let phone = Phone::parse("+491701234589").unwrap();
    assert_eq!((phone.to_string(), format!("{phone:?}")), ("+49*****89".into(), "+49*****89".into()));
}

#[test]
fn a_pseudonym_is_the_same_for_one_person_and_says_nothing() {
    let keys = keys(&key(1));
    let of = |address: &str| keys.pseudonym(&Recipient::parse(address).unwrap().normalised());
    assert_eq!(of("Ada@Example.com"), of("ada@example.COM"));
    assert_ne!(of("ada@example.com"), of("eve@example.com"));
    assert_eq!(of("ada@example.com").len(), 22);
    assert_ne!(of("ada@example.com"), Keys::random().pseudonym("ada@example.com"));
}

#[test]
fn a_pseudonym_stays_the_same_while_a_new_key_is_put_before_the_old() {
    let (old, both) = (keys(&key(1)), keys(&format!("{},{}", key(2), key(1))));
    assert_eq!(old.pseudonym("ada@example.com"), both.pseudonym("ada@example.com"));
}

#[test]
fn addresses_in_free_text_are_masked() {
    for (text, masked) in [
        ("550 5.1.1 <john@example.com>: unknown", "550 5.1.1 <j***@e***.com>: unknown"),
        ("no such user john@example.com.", "no such user j***@e***.com."),
        ("john@example.com,eve@example.org", "j***@e***.com,e***@e***.org"),
        ("\"john doe\"@example.com is full", "j***@e***.com is full"),
        ("john@[192.0.2.1] is away", "j***@*** is away"),
        ("jürgen@bücher.example", "j***@b***.example"),
        ("smtp://user:word@mail.example.com:25", "smtp://user:w***@m***.com:25"),
        ("bounce+john=example.com@esp.example", "b***@e***.example"),
        ("nothing here, 4.5.3 @ 12:30", "nothing here, 4.5.3 @ 12:30"),
        ("@@ a@ @b a@@b", "@@ a@ @b a@@b"),
    ] {
        assert_eq!(mask_text(text), masked);
    }
}

#[test]
fn phone_numbers_in_free_text_are_masked_and_other_numbers_are_not() {
    for (text, masked) in [
        ("cannot reach +491701234567", "cannot reach +49*****67"),
        ("cannot reach +49 (170) 123-4567.", "cannot reach +49*****67."),
        ("to=491701234567, try later", "to=491*****67, try later"),
        ("call 491701234567.", "call 491*****67."),
        ("queued as 8F2C12345678901", "queued as 8F2C12345678901"),
        ("3f0a2c9e-0000-4000-8000-123456789012", "3f0a2c9e-0000-4000-8000-123456789012"),
        ("421 4.7.0 try again in 300 s", "421 4.7.0 try again in 300 s"),
        ("+1 and +12345", "+1 and +12345"),
    ] {
        assert_eq!(mask_text(text), masked);
    }
}

#[test]
fn masking_a_long_text_takes_time_in_proportion() {
    for part in ["@", "@[", "a@", "\"@", "+1", "1234567890 ", "a.b-"] {
        assert!(!mask_text(&part.repeat(200_000)).is_empty());
    }
}

proptest! {
    #[test]
    fn no_address_survives_masking(
        before in "[ -~]{0,10}[ <:,]",
        local in "[a-z0-9.+]{1,20}[a-z]",
        domain in "[a-z]{3,10}\\.(com|example|org)",
        after in "[ >,;][ -~]{0,10}",
    ) {
        let address = format!("{local}@{domain}");
        let masked = mask_text(&format!("{before}{address}{after}"));
        prop_assert!(!masked.contains(&address), "{masked}");
    }

    #[test]
    fn masking_never_panics(text in "\\PC*|[@+0-9.\\[\\]\" a-c-]{0,40}") {
        prop_assert_eq!(mask_text(&text).is_empty(), text.is_empty());
    }

    #[test]
    fn what_is_masked_stays_as_it_is(local in "[a-z0-9.]{0,9}[a-z]", domain in "[a-z]{1,9}(\\.com)?", number in "[1-9][0-9]{7,13}") {
        let masked = mask_text(&format!("<{local}@{domain}>, +{number}"));
        prop_assert_eq!(mask_text(&masked), masked);
    }

    #[test]
    fn nothing_made_up_can_be_decrypted(text in "[A-Za-z0-9+/]{0,80}={0,2}") {
        prop_assert!(Keys::random().decrypt_address(&text).is_err());
    }
}

#[test]
fn nothing_of_an_address_with_two_ats_is_readable() {
    for (text, masked) in [
        ("ada@example.com@example.com", "a***@e***.com@***"),
        ("to ada@example.com@mail.example.com@x.", "to a***@e***.com@***@***."),
    ] {
        assert_eq!(mask_text(text), masked);
        assert_eq!(mask_text(masked), masked);
    }
}
