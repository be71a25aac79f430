//! The port of a mail server, which opens and closes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{MailFault, Shared};

/// How many connections may wait to be accepted: a client whose connection overflows the queue waits for ever.
const BACKLOG: u32 = 4096;

/// Opens and closes the port as the fault says.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) opened: watch::Sender<bool>,
    pub(super) end: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Door {
    pub(super) async fn keep(self, mut listener: TcpListener) {
        let mut fault = self.shared.fault.subscribe();
        loop {
            // Ends the connections of this opening.
            let closing = self.end.child_token();
            tokio::select! {
                () = self.accept(&listener, &closing) => {}
                _ = fault.wait_for(|fault| matches!(fault, MailFault::Down)) => {}
                () = self.end.cancelled() => return,
            }
            closing.cancel();
            drop(listener);
            // Bound and not listening: connections are refused, and nobody else gets the port.
            let kept = self.bound().await;
            self.opened.send_replace(false);
            tokio::select! {
                _ = fault.wait_for(|fault| !matches!(fault, MailFault::Down)) => {}
                () = self.end.cancelled() => return,
            }
            listener = match kept.listen(BACKLOG) {
                Ok(listener) => listener,
                Err(_) => match self.bound().await.listen(BACKLOG) {
                    Ok(listener) => listener,
                    Err(_) => return,
                },
            };
            self.opened.send_replace(true);
        }
    }

    async fn accept(&self, listener: &TcpListener, closing: &CancellationToken) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, closing) = (Arc::clone(&self.shared), closing.clone());
                    self.tasks.spawn(shared.serve(stream, closing));
                }
                // Too many open files, most likely: some will be closed.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// The port was ours a moment ago, and will be again.
    async fn bound(&self) -> TcpSocket {
        loop {
            match reserved(self.address) {
                Ok(socket) => return socket,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// Opens a port.
pub(super) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    reserved(address)?.listen(BACKLOG)
}

fn reserved(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
