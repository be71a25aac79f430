//! How this service asks others over HTTP.

use std::error::Error;

use reqwest::{Client, ClientBuilder, Url, redirect};

use crate::personal::mask_text;

/// A client for this address: TLS by ring; without redirects, which turn a `POST` into a `GET`; and past the proxies
/// that the environment names if the address is this machine's own.
pub fn for_url(url: &Url) -> ClientBuilder {
    // The second in the process to do so is told that it is done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().redirect(redirect::Policy::none());
    if is_this_machine(url) { client.no_proxy() } else { client }
}

/// Why there was no answer, with all that is behind it, for the error alone says little. Masked, and without the address,
/// whose path is often a secret.
#[must_use]
pub fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    mask_text(&text)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_each_of_its_names() {
        for (url, own) in [
            ("http://127.0.0.1:1/", true),
            ("http://localhost/", true),
            ("http://[::1]:80/", true),
            ("https://192.0.2.1/", false),
            ("https://sms.example.com/", false),
        ] {
            assert_eq!(is_this_machine(&Url::parse(url).unwrap()), own, "{url}");
        }
    }
}
