//! A client that sends exactly the bytes it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than every timeout of the tests' gateways.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("it listens"), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// Sends a whole request. Headers are lines.
    pub(crate) async fn ask(&mut self, request_line: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!("{request_line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n");
        self.send(&[head.as_bytes(), body].concat()).await;
        self.answer().await.expect("an answer")
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), AUTHORIZED, body.as_bytes()).await
    }

    /// The next answer, or `None` if the server closed the connection.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head: Vec<u8> = self.unread.drain(..head_end).collect();
        let head = String::from_utf8(head).expect("a head of ASCII");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: Vec<_> = lines.filter_map(header).collect();
        let mut answer = Answer { status: status.expect("a status"), headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.unread.len() < length {
            self.read_more().await?;
        }
        answer.body = self.unread.drain(..length).collect();
        Some(answer)
    }

    /// The first `length` bytes that the server says.
    pub(crate) async fn raw(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            self.read_more().await.expect("more");
        }
        self.unread.drain(..length).collect()
    }

    async fn read_more(&mut self) -> Option<()> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        let read = read.expect("the server says something or closes").unwrap_or(0);
        (read > 0).then_some(())
    }
}

/// The write key `wk` as Basic authorization.
pub(crate) const AUTHORIZED: &str = "authorization: Basic d2s6\r\n";
