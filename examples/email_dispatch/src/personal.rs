//! Keeps addresses and phone numbers unreadable to everybody but the recipient's mail server.
//!
//! They are encrypted in a request, on a topic and in the database, decrypted in memory only, and masked wherever they
//! could be printed: [`Recipient`] and [`Phone`] show themselves as `j***@e***.com` and `+49*****89`, and
//! [`mask_text`] does the same to what others say about them.
//!
//! Order has to hold per person, so a record needs a key that says who without saying it: a [pseudonym](Keys::pseudonym).

use std::{fmt, sync::Arc};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Nonce},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, general_purpose},
};
use hmac::{Hmac, Mac};
use lettre::Address;
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

mod mask;

pub use self::mask::mask_text;

/// Standard alphabet; padding is written, and read whether it is there or not.
pub(crate) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, general_purpose::PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

const NONCE: usize = 12;
const TAG: usize = 16;
/// Longer than any address can be, in base64.
const LONGEST: usize = 1_000;

/// The keys that encrypt what is personal: the first encrypts, all of them decrypt, so that a key can be replaced while
/// requests under the old one are still on their way. Cheap to clone; never printed.
///
/// AES-256-GCM with random nonces: one key should encrypt no more than 2³² values.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    ciphers: Vec<Aes256Gcm>,
    pseudonyms: Hmac<Sha256>,
}

impl Keys {
    /// Reads one key or several, separated by commas or white space: each 32 bytes in base64.
    ///
    /// # Errors
    /// [`BadKey`], which says which key is wrong and how, and does not show it.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let mut keys = Vec::new();
        for (index, key) in text.split([',', ' ', '\t', '\r', '\n']).filter(|key| !key.is_empty()).enumerate() {
            let number = index + 1;
            let decoded = Zeroizing::new(BASE64.decode(key).map_err(|_| BadKey::NotBase64 { number })?);
            let length = decoded.len();
            keys.push(Zeroizing::new(
                <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| BadKey::Length { number, length })?,
            ));
        }
        Self::new(&keys).ok_or(BadKey::None)
    }

    /// One random key, which nobody will know: for a demonstration or a test.
    #[must_use]
    pub fn random() -> Self {
        Self::new(&[Zeroizing::new(rand::random())]).expect("there is one")
    }

    fn new(keys: &[Zeroizing<[u8; 32]>]) -> Option<Self> {
        // The oldest key names people: while a new key is put before it, process by process, all agree on the pseudonyms.
        let oldest = keys.last()?;
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<Sha256>::new(None, oldest.as_slice())
            .expand(b"email-dispatch pseudonyms", derived.as_mut_slice())
            .expect("32 bytes are less than HKDF's limit of 8,160");
        Some(Self(Arc::new(Inner {
            ciphers: keys.iter().map(|key| Aes256Gcm::new((&**key).into())).collect(),
            pseudonyms: <Hmac<Sha256> as KeyInit>::new_from_slice(derived.as_slice())
                .expect("HMAC takes a key of any length"),
        })))
    }

    /// Encrypts with the first key: base64 of nonce (12 bytes), ciphertext and tag (16 bytes).
    #[must_use]
    pub fn encrypt(&self, plain: &str) -> String {
        let nonce: [u8; NONCE] = rand::random();
        let ciphertext = self.0.ciphers[0]
            .encrypt(&Nonce::<Aes256Gcm>::from(nonce), plain.as_bytes())
            .expect("what is encrypted is far shorter than AES-GCM's limit of 64 GiB");
        BASE64.encode([&nonce[..], &ciphertext].concat())
    }

    /// Reads an encrypted mail address.
    ///
    /// # Errors
    /// [`Unreadable`], without what was found.
    pub fn decrypt_address(&self, encrypted: &str) -> Result<Recipient, Unreadable> {
        Recipient::parse(&self.decrypt(encrypted)?).map_err(|_| Unreadable::NotAnAddress)
    }

    /// Reads an encrypted phone number.
    ///
    /// # Errors
    /// [`Unreadable`], without what was found.
    pub fn decrypt_phone(&self, encrypted: &str) -> Result<Phone, Unreadable> {
        Phone::parse(&self.decrypt(encrypted)?).map_err(|_| Unreadable::NotAPhone)
    }

    /// Names whoever is behind [`Recipient::normalised`] or a phone number the same way each time, and tells nobody
    /// without the key who that is: 22 characters.
    #[must_use]
    pub fn pseudonym(&self, normalised: &str) -> String {
        let mut mac = self.0.pseudonyms.clone();
        mac.update(normalised.as_bytes());
        // Half of the code: two people sharing a name would only wait for each other.
        general_purpose::URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16])
    }

    fn decrypt(&self, encrypted: &str) -> Result<Zeroizing<String>, Unreadable> {
        let encrypted = encrypted.trim();
        if encrypted.len() > LONGEST {
            return Err(Unreadable::TooLong);
        }
        let bytes = BASE64.decode(encrypted).map_err(|_| Unreadable::NotBase64)?;
        let Some((nonce, ciphertext)) = bytes.split_first_chunk::<NONCE>().filter(|(_, rest)| rest.len() >= TAG) else {
            return Err(Unreadable::TooShort);
        };
        let nonce = Nonce::<Aes256Gcm>::from(*nonce);
        let plain = self
            .0
            .ciphers
            .iter()
            .find_map(|cipher| cipher.decrypt(&nonce, ciphertext).ok())
            .ok_or(Unreadable::WrongKey)?;
        String::from_utf8(plain).map(Zeroizing::new).map_err(|_| Unreadable::NotText)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// There is none.
    #[error("there is no key; one is made by: openssl rand -base64 32")]
    None,
    /// It is not in base64.
    #[error("key {number} is not base64")]
    NotBase64 {
        /// Which one, from 1.
        number: usize,
    },
    /// It is too short or too long.
    #[error("key {number} has {length} bytes, and AES-256 wants 32")]
    Length {
        /// Which one, from 1.
        number: usize,
        /// How many bytes it has.
        length: usize,
    },
}

/// Why an encrypted value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not in base64.
    #[error("is not base64")]
    NotBase64,
    /// It has no room for nonce and tag.
    #[error("is too short to be an encrypted value")]
    TooShort,
    /// It is longer than any address.
    #[error("is too long to be an encrypted address or phone number")]
    TooLong,
    /// It was encrypted with a key that we do not have, or was changed since.
    #[error("was encrypted with another key, or was changed")]
    WrongKey,
    /// What was encrypted is not text.
    #[error("is not text once decrypted")]
    NotText,
    /// What was encrypted is not a mail address.
    #[error("is not a mail address once decrypted")]
    NotAnAddress,
    /// What was encrypted is not a phone number.
    #[error("is not a phone number once decrypted")]
    NotAPhone,
}

/// Why a text is not an address or a phone number, in words that do not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// The mail address of a person. Printed as `j***@e***.com`; [`expose`](Self::expose) gives the address itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient(Address);

impl Recipient {
    /// Reads `local@domain`. An international domain is turned into its ASCII form.
    ///
    /// # Errors
    /// [`Malformed`], with the rule that is broken. A local part beyond ASCII is refused, since not every server on the
    /// way would take it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (local, domain) = text.trim().rsplit_once('@').ok_or(Malformed("must be like local@domain"))?;
        if !local.is_ascii() {
            return Err(Malformed("must be in ASCII before the @"));
        }
        if local.chars().any(char::is_control) {
            return Err(Malformed("must have no control characters"));
        }
        let domain = if domain.is_ascii() {
            domain.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(domain).map_err(|_| Malformed("must have a valid domain after the @"))?
        };
        // RFC 5321, 4.5.3.1: 64 octets, and 256 for the path with its angle brackets.
        if local.len() > 64 || local.len() + 1 + domain.len() > 254 {
            return Err(Malformed("must have at most 64 characters before the @ and 254 in all"));
        }
        Address::new(local, domain).map(Self).map_err(|_| Malformed("must be a mail address, local@domain"))
    }

    /// The address itself, to be used and not printed.
    #[must_use]
    pub fn expose(&self) -> &Address {
        &self.0
    }

    /// The address in lower case: the same for everything that reaches the same person.
    #[must_use]
    pub fn normalised(&self) -> String {
        AsRef::<str>::as_ref(&self.0).to_ascii_lowercase()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::address(self.0.user(), self.0.domain()))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A phone number, international. Printed as `+49*****89`; [`expose`](Self::expose) gives the number itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl Phone {
    /// Reads `+` and 7 to 15 digits, which may be grouped by spaces, hyphens, dots, slashes and parentheses.
    ///
    /// # Errors
    /// [`Malformed`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const RULE: Malformed = Malformed("must be + and 7 to 15 digits, such as +491701234567");
        let digits = text.trim().strip_prefix('+').ok_or(RULE)?;
        let mut number = String::from("+");
        for character in digits.chars() {
            match character {
                '0'..='9' => number.push(character),
                ' ' | '-' | '.' | '/' | '(' | ')' => {}
                _ => return Err(RULE),
            }
        }
        // No country's code begins with 0.
        let fits = (8..=16).contains(&number.len()) && !number.starts_with("+0");
        if fits { Ok(Self(number)) } else { Err(RULE) }
    }

    /// The number itself, `+` and digits, to be used and not printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::phone(&self.0))
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
