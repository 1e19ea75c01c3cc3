//! What ClickHouse's errors mean for whoever asked.

use clickhouse::error::Error;

/// The kinds of failure that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, a connection that broke, or a proxy's answer in place of the server's.
    Connection,
    /// Our own time limit.
    TimedOut,
    /// The server cannot do it now: overloaded, out of memory or disk, shutting down, read-only, being merged.
    Busy,
    /// A limit on rows, bytes or time that we sent along.
    RowsLimit,
    /// See `RowsLimit`.
    BytesLimit,
    /// See `RowsLimit`.
    TimeLimit,
    /// The server's limit on memory.
    MemoryLimit,
    /// It will fail again: tables or types differ, rights are missing, the SQL is wrong.
    Refused,
}

/// Sorts an error of the client or the server.
pub(crate) fn failure(error: &Error) -> Failure {
    match error {
        Error::Network(_) => Failure::Connection,
        Error::TimedOut => Failure::TimedOut,
        Error::BadResponse(text) => match code(text) {
            Some(code) => failure_of_code(code),
            // Only the server writes a code. Whatever else answers is not the server.
            None => Failure::Connection,
        },
        // An error of a type that we did not produce ourselves is one of how we use the client: it comes again.
        Error::InvalidParams(_)
        | Error::Compression(_)
        | Error::Decompression(_)
        | Error::DataFormat(_)
        | Error::RowNotFound
        | Error::SequenceMustHaveLength
        | Error::DeserializeAnyNotSupported
        | Error::NotEnoughData
        | Error::InvalidUtf8Encoding(_)
        | Error::InvalidTagEncoding(_)
        | Error::VariantDiscriminatorIsOutOfBound(_)
        | Error::Custom(_)
        | Error::InvalidColumnsHeader(_)
        | Error::SchemaMismatch(_)
        | Error::Unsupported(_)
        | Error::Other(_) => Failure::Refused,
        // The client's enum is open: a variant that it adds must be looked at before it may be retried.
        _ => Failure::Refused,
    }
}

/// The number in `Code: 241. DB::Exception: …`.
fn code(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("Code: ")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The server's codes (src/Common/ErrorCodes.cpp of ClickHouse) that are not the request's fault.
fn failure_of_code(code: u32) -> Failure {
    match code {
        158 | 396 => Failure::RowsLimit, // TOO_MANY_ROWS, TOO_MANY_ROWS_OR_BYTES
        307 => Failure::BytesLimit,      // TOO_MANY_BYTES
        159 | 160 => Failure::TimeLimit, // TIMEOUT_EXCEEDED, TOO_SLOW
        241 => Failure::MemoryLimit,     // MEMORY_LIMIT_EXCEEDED
        3 // UNEXPECTED_END_OF_FILE: our own connection broke, as the server saw it
        | 198 // DNS_ERROR
        | 202 // TOO_MANY_SIMULTANEOUS_QUERIES
        | 203 // NO_FREE_CONNECTION
        | 209 // SOCKET_TIMEOUT
        | 210 // NETWORK_ERROR
        | 225 // NO_ZOOKEEPER
        | 236 // ABORTED: tables are being stopped
        | 242 // TABLE_IS_READ_ONLY: a replica without its keeper
        | 243 // NOT_ENOUGH_SPACE
        | 252 // TOO_MANY_PARTS
        | 254 // NO_ACTIVE_REPLICAS
        | 279 // ALL_CONNECTION_TRIES_FAILED
        | 285 // TOO_FEW_LIVE_REPLICAS
        | 286 // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        | 319 // UNKNOWN_STATUS_OF_INSERT: the token makes the answer
        | 394 // QUERY_WAS_CANCELLED
        | 425 // SYSTEM_ERROR
        | 439 // CANNOT_SCHEDULE_TASK
        | 473 // DEADLOCK_AVOIDED
        | 745 // SERVER_OVERLOADED
        | 999 // KEEPER_EXCEPTION
        => Failure::Busy,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_busy_is_told_from_one_that_refuses() {
        let of = |text: &str| failure(&Error::BadResponse(text.to_owned()));
        assert_eq!(of("Code: 241. DB::Exception: memory"), Failure::MemoryLimit);
        assert_eq!(of("Code: 252. DB::Exception: too many parts"), Failure::Busy);
        assert_eq!(of("Code: 60. DB::Exception: Unknown table"), Failure::Refused);
        assert_eq!(of("Code: 158"), Failure::RowsLimit);
        assert_eq!(of("502 Bad Gateway"), Failure::Connection);
        assert_eq!(failure(&Error::TimedOut), Failure::TimedOut);
    }
}
