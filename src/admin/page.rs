//! The live page: one file without anything from outside.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

/// The whole page.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/page.css"),
    "</style>",
    include_str!("page/body.html"),
    "<script>",
    include_str!("page/page.js"),
    "</script>\n</html>\n",
);

/// Lets in what the page holds, by its hash, and nothing else. A test says what the hashes must be.
const POLICY: &str = concat!(
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; ",
    "frame-ancestors 'none'; script-src 'sha256-",
    include_str!("page/script.sha256"),
    "'; style-src 'sha256-",
    include_str!("page/style.sha256"),
    "'",
);

pub(super) async fn answer() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, PAGE).into_response()
}
