//! A connection that must say soon which HTTP it speaks, and must read what it is told.
//!
//! hyper's timeout for headers starts once the version is known, which takes up to 24 bytes; a client that sends
//! nothing, or `PRI` and nothing more, would hold its place for ever. So would one that asks and never reads: hyper waits
//! without end until it can write. And hyper knows no idle connection of HTTP/2: [`Activity`] tells.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How the preface of HTTP/2 begins, all of which must come.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A TCP stream that ends if its first bytes do not come in time, or if nothing can be written for as long.
pub(crate) struct Impatient {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
    /// Runs while the other side takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// Waits `patience` for the first bytes of `stream`, and for each time that something can be written.
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, waiting: Some((Box::pin(tokio::time::sleep(patience)), 0)), stuck: None }
    }

    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some((sleep, seen)) = &mut self.waiting {
            if read.is_pending() {
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            } else {
                // Anything but the preface is HTTP/1 and known by its first byte that differs; no request of it begins
                // with `PRI`.
                let new = &buf.filled()[before..];
                let is_http1 = *seen == 0 && !new.is_empty() && new[..new.len().min(3)] != b"PRI"[..new.len().min(3)];
                *seen += new.len();
                if is_http1 || *seen >= PREFACE_BYTES {
                    self.waiting = None;
                }
            }
        }
        read
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What a connection does, to tell whether it is idle.
#[derive(Default)]
pub(crate) struct Activity {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Activity {
    /// A request has begun; it ends when what is returned is dropped.
    pub(crate) fn request(&self) -> impl Drop + use<'_> {
        // Nothing else hangs on these counters, so no ordering is needed.
        self.begun.fetch_add(1, Ordering::Relaxed);
        struct Ends<'a>(&'a AtomicUsize);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ends(&self.ended)
    }

    /// Resolves once there was no request for a time between `patience` and twice that.
    pub(crate) async fn idle(&self, patience: Duration) {
        let mut seen = None;
        loop {
            let (ended, begun) = (self.ended.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed));
            if begun == ended && seen == Some(begun) {
                return;
            }
            seen = Some(begun);
            tokio::time::sleep(patience).await;
        }
    }
}
