//! A client that sends exactly the bytes it is told to, and reads while it sends.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Above every timeout of the gateway under test, with room for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// What is read of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// What it says to people: its head and body.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

/// One connection.
pub(crate) struct Client {
    pub reader: Reader,
    pub writer: OwnedWriteHalf,
}

/// Its reading half.
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (stream, writer) = stream.into_split();
        Ok(Self { reader: Reader { stream, unread: Vec::new() }, writer })
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.writer.write_all(request).await.context("send")?;
        self.reader.answer().await?.context("the gateway closed the connection without an answer")
    }
}

impl Reader {
    /// The next answer, or `None` if the connection was closed.
    pub(crate) async fn answer(&mut self) -> Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).context("a head of ASCII")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        while self.unread.len() < length {
            if !self.read_more().await? {
                bail!("an answer was cut");
            }
        }
        Ok(Some(Answer { status, head, body: self.unread.drain(..length).collect() }))
    }

    /// Whether the connection is closed by the other side, in time; what comes before that is told.
    pub(crate) async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        while self.read_more().await? {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// All bytes that came, and more are waited for; `false`: the connection is closed.
    pub(crate) async fn read_more(&mut self) -> Result<bool> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        // A reset is an end, too.
        let read = read.context("the gateway neither says something nor closes the connection")?.unwrap_or(0);
        Ok(read > 0)
    }

    /// What came and was not read as an answer.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }
}
