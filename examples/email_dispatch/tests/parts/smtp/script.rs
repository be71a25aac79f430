//! A mail server that says what it is told to, for what no sane one says.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What it waits for, and what it says then.
pub(super) type Step = (&'static str, &'static str);

/// `EHLO`, `MAIL`, `RCPT` and `DATA`, all well.
pub(super) const UNTIL_DATA: [Step; 5] = [
    ("", "220 hello\r\n"),
    ("EHLO", "250-script\r\n250 8BITMIME\r\n"),
    ("MAIL", "250 ok\r\n"),
    ("RCPT", "250 ok\r\n"),
    ("DATA", "354 go\r\n"),
];

/// Each connection gets one script, the next the next, and is closed at its end. Further ones are closed at once.
pub(super) async fn scripted(scripts: Vec<Vec<Step>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut scripts = scripts.into_iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let script = scripts.next().unwrap_or_default();
            tokio::spawn(async move {
                let mut said = Vec::new();
                for (wanted, answer) in script {
                    while !said.windows(wanted.len().max(1)).any(|part| part == wanted.as_bytes()) && !wanted.is_empty()
                    {
                        if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    said.clear();
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// `UNTIL_DATA` and these.
pub(super) fn and_then(steps: &[Step]) -> Vec<Step> {
    [&UNTIL_DATA[..], steps].concat()
}
