//! A connection that must say soon which HTTP it speaks.
//!
//! hyper's timeout for headers starts once the version is known, which takes up to 24 bytes; a client that sends
//! nothing, or `PRI` and nothing more, would hold its place for ever.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How the preface of HTTP/2 begins, all of which must come.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A TCP stream that ends if its first bytes do not come in time.
pub(crate) struct Impatient {
    stream: TcpStream,
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Impatient {
    /// Waits `patience` for the first bytes of `stream`.
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, waiting: Some((Box::pin(tokio::time::sleep(patience)), 0)) }
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
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
