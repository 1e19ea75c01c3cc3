//! One line of the table: what is sent, and what must come of it.

use std::time::Duration;

/// What a hostile client does.
pub(crate) enum Sent {
    /// Sends these bytes and waits.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes its half of the connection.
    HalfClosed(Vec<u8>),
    /// Sends the first, then the second again and again, slowly, until the gateway ends it.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Sends the bytes again and again, as fast as they are taken, and never reads.
    Flood(Vec<u8>),
}

/// A line of the table.
pub(crate) struct Row {
    pub name: String,
    pub sent: Sent,
    /// Answers, in order: status, and what head or body say.
    pub answers: Vec<(u16, String)>,
    /// The gateway closes the connection after its answers. Else the connection must still serve.
    pub closes: bool,
    /// Before it closes an HTTP/2 connection, it says so.
    pub goes_away: bool,
    /// Names of the events that are in the log.
    pub kept: Vec<String>,
    /// Reasons (code, part of the message) of the records that are in topic `rejected`.
    pub rejected: Vec<(&'static str, &'static str)>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, sent: Vec<u8>) -> Self {
        Self::of(name, Sent::Bytes(sent))
    }

    pub(crate) fn of(name: impl Into<String>, sent: Sent) -> Self {
        let (answers, kept, rejected) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), sent, answers, closes: false, goes_away: false, kept, rejected }
    }

    /// The next answer.
    pub(crate) fn says(mut self, status: u16, what: impl Into<String>) -> Self {
        self.answers.push((status, what.into()));
        self
    }

    /// After its answers the gateway ends the connection.
    pub(crate) fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The gateway sends `GOAWAY` and ends the connection.
    pub(crate) fn goes_away(mut self) -> Self {
        self.goes_away = true;
        self.closes()
    }

    /// It is an event all the same.
    pub(crate) fn keeps(mut self, name: impl Into<String>) -> Self {
        self.kept.push(name.into());
        self
    }

    /// It is kept among the rejected ones.
    pub(crate) fn rejects(mut self, code: &'static str, message: &'static str) -> Self {
        self.rejected.push((code, message));
        self
    }

    /// It is refused with 400, and kept among the rejected ones for the same reason.
    pub(crate) fn bad(self, code: &'static str, message: &'static str) -> Self {
        self.says(400, message).rejects(code, message)
    }

    /// It is taken, as so many events of this name.
    pub(crate) fn kept_times(self, count: usize, name: &str) -> Self {
        (0..count).fold(self.says(200, "true"), |row, _| row.keeps(name))
    }

    /// It is taken so many times, with as many answers.
    pub(crate) fn many(mut self, count: usize, status: u16, what: &str, name: &str) -> Self {
        for _ in 0..count {
            self = self.says(status, what).keeps(name);
        }
        self
    }

    /// As a whole it is refused with 413, and kept among the rejected ones for the same reason.
    pub(crate) fn too_large(self, message: &'static str) -> Self {
        self.says(413, message).rejects("too_large", message)
    }

    /// It is taken, as an event of this name.
    pub(crate) fn taken(self, name: impl Into<String>) -> Self {
        self.says(200, "true").keeps(name)
    }
}

/// The write key `wk` as Basic authorization.
pub(crate) const AUTHORIZED: &str = "authorization: Basic d2s6\r\n";

/// A request of HTTP/1.1 with a key; headers are lines.
pub(crate) fn post(target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_as(AUTHORIZED, target, headers, body)
}

/// The same with a key of one's own.
pub(crate) fn post_as(key: &str, target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\n{key}{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A request without a body.
pub(crate) fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes()
}

/// A request as it stands, with body `{}` left to the caller.
pub(crate) fn raw(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [head.as_bytes(), b"\r\n", body.as_ref()].concat()
}

/// A good event by this name, as JSON.
pub(crate) fn event(name: &str) -> String {
    format!(r#"{{"event":"{name}","anonymousId":"hostile"}}"#)
}

/// The same with more members.
pub(crate) fn event_with(name: &str, members: &str) -> String {
    format!(r#"{{"event":"{name}","anonymousId":"hostile",{members}}}"#)
}
