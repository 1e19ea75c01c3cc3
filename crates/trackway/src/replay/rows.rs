//! Rows out of a file of events: CSV or JSON lines, plain or gzip, told by its first bytes. Streams; a row that is not an
//! event is told with its number and the reason, and the others go on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Read};

use anyhow::{Context, bail};
use serde_json::value::RawValue;

use super::columns::Columns;
use super::time;

/// One event of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the file, from 1, without the header.
    pub number: u64,
    /// The user's id; empty: not known.
    pub user: String,
    /// The device's id; empty: not known.
    pub visitor: String,
    /// The event's name.
    pub event: String,
    /// When it happened, in ms since 1970 UTC.
    pub time_ms: i64,
    /// The event's id: the file's own, else made of everything up to and including this row. So it is the same in every
    /// run, also when the file has grown at its end, and two rows with equal content have two ids.
    pub id: String,
    /// Properties, the text of a JSON object.
    pub properties: String,
}

/// A row that is not an event.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its place, as [`Row::number`].
    pub number: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Rows in the order of the file.
pub struct Rows {
    lines: Lines,
    columns: Columns,
    number: u64,
    chain: blake3::Hash,
}

enum Lines {
    Csv { reader: csv::Reader<Box<dyn Read + Send>>, header: Vec<String>, places: Places, record: csv::ByteRecord },
    Json { reader: Box<dyn BufRead + Send>, line: Vec<u8> },
}

/// Where the meaningful columns of a CSV file stand.
struct Places {
    user: Option<usize>,
    visitor: Option<usize>,
    event: usize,
    time: usize,
    id: Option<usize>,
}

impl Rows {
    /// Looks at the beginning of `input` and makes ready to read it.
    ///
    /// # Errors
    /// If it cannot be read, or a CSV header lacks a column that `columns` names.
    pub fn open(input: impl Read + Send + 'static, columns: Columns) -> anyhow::Result<Self> {
        let (start, input) = peek(input)?;
        let mut input: Box<dyn Read + Send> = Box::new(input);
        let mut first = start;
        if first.starts_with(&[0x1f, 0x8b]) {
            let (start, inner) = peek(flate2::bufread::MultiGzDecoder::new(BufReader::new(input)))?;
            (first, input) = (start, Box::new(inner));
        }
        let is_json = first.trim_ascii_start().first() == Some(&b'{');
        let mut chain = blake3::hash(b"trackway replay");
        let lines = if is_json {
            Lines::Json { reader: Box::new(BufReader::with_capacity(1 << 16, input)), line: Vec::new() }
        } else {
            // Flexible: one row with a comma too many is a bad row, not the end.
            let mut reader = csv::ReaderBuilder::new().flexible(true).buffer_capacity(1 << 16).from_reader(input);
            let header: Vec<String> =
                reader.headers().context("cannot read the CSV header")?.iter().map(str::to_owned).collect();
            chain = link(chain, header.iter().map(String::as_bytes));
            let find = |name: &str| {
                header.iter().position(|column| column == name).with_context(|| {
                    format!("the file has no column `{name}`; it has {}. Name them with --columns", header.join(", "))
                })
            };
            let places = Places {
                user: columns.user.as_deref().map(find).transpose()?,
                visitor: columns.visitor.as_deref().map(find).transpose()?,
                event: find(&columns.event)?,
                time: find(&columns.time)?,
                id: columns.id.as_deref().map(find).transpose()?,
            };
            Lines::Csv { reader, header, places, record: csv::ByteRecord::new() }
        };
        Ok(Self { lines, columns, number: 0, chain })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// Only when reading cannot go on.
    pub fn next(&mut self) -> anyhow::Result<Option<Result<Row, BadRow>>> {
        let number = self.number + 1;
        let parsed = match &mut self.lines {
            Lines::Csv { reader, header, places, record } => {
                if !reader.read_byte_record(record).with_context(|| format!("cannot read row {number}"))? {
                    return Ok(None);
                }
                self.chain = link(self.chain, record.iter());
                parse_csv(record, header, places)
            }
            Lines::Json { reader, line } => {
                loop {
                    line.clear();
                    if read_line(reader, line).with_context(|| format!("cannot read row {number}"))? == 0 {
                        return Ok(None);
                    }
                    if !line.trim_ascii().is_empty() {
                        break;
                    }
                }
                self.chain = link(self.chain, [line.trim_ascii()]);
                parse_json(line, &self.columns)
            }
        };
        self.number = number;
        Ok(Some(match parsed {
            Ok(mut row) => {
                row.number = number;
                if row.id.is_empty() {
                    row.id = self.chain.to_hex()[..32].to_owned();
                }
                Ok(row)
            }
            Err(reason) => Err(BadRow { number, reason }),
        }))
    }
}

/// The first bytes, and a reader that still has them.
fn peek(mut input: impl Read + Send + 'static) -> anyhow::Result<(Vec<u8>, impl Read + Send + 'static)> {
    let mut first = Vec::new();
    input.by_ref().take(64).read_to_end(&mut first).context("cannot read the beginning")?;
    // Excel begins files with a byte order mark.
    let text = first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&first).to_vec();
    Ok((text.clone(), Cursor::new(text).chain(input)))
}

/// Longest JSON line. An event may have 64 KiB; whatever is far beyond is not lines of JSON.
const LINE_BYTES_MAX: u64 = 16 << 20;

fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> anyhow::Result<usize> {
    let n = reader.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if n as u64 == LINE_BYTES_MAX {
        bail!("a line has more than {LINE_BYTES_MAX} bytes");
    }
    Ok(n)
}

/// The next hash of the chain. Lengths go in too, so that `ab,c` and `a,bc` differ.
fn link<'a>(chain: blake3::Hash, parts: impl IntoIterator<Item = &'a [u8]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize()
}

fn parse_csv(record: &csv::ByteRecord, header: &[String], places: &Places) -> Result<Row, String> {
    if record.len() != header.len() {
        return Err(format!("it has {} columns, the header has {}", record.len(), header.len()));
    }
    let text = |place: usize| {
        let bytes = record.get(place).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| format!("column `{}` is not UTF-8", header[place]))
    };
    let optional = |place: Option<usize>| place.map_or(Ok(""), text);
    let mut properties = String::from("{");
    for (place, name) in header.iter().enumerate() {
        let taken = [Some(places.event), Some(places.time), places.user, places.visitor, places.id];
        if taken.contains(&Some(place)) {
            continue;
        }
        let value = text(place)?;
        if !value.is_empty() {
            add_property(&mut properties, name, &if is_json_number(value) { value.to_owned() } else { quote(value) });
        }
    }
    properties.push('}');
    check(Row {
        number: 0,
        user: optional(places.user)?.to_owned(),
        visitor: optional(places.visitor)?.to_owned(),
        event: text(places.event)?.to_owned(),
        time_ms: parse_time(text(places.time)?)?,
        id: optional(places.id)?.to_owned(),
        properties,
    })
}

fn parse_json(line: &[u8], columns: &Columns) -> Result<Row, String> {
    let mut object: BTreeMap<String, &RawValue> =
        serde_json::from_slice(line).map_err(|e| format!("it is not a JSON object ({e})"))?;
    // Ids and times come as text or as numbers; both are taken as they are written.
    let mut take = |name: &str| match object.remove(name).map(RawValue::get) {
        None | Some("null") => Ok(String::new()),
        Some(raw) if raw.starts_with('"') => serde_json::from_str::<String>(raw).map_err(|e| e.to_string()),
        Some(raw) if is_json_number(raw) => Ok(raw.to_owned()),
        Some(_) => Err(format!("`{name}` is neither text nor a number")),
    };
    let mut optional = |name: &Option<String>| name.as_deref().map_or(Ok(String::new()), &mut take);
    let (user, visitor, id) = (optional(&columns.user)?, optional(&columns.visitor)?, optional(&columns.id)?);
    let (event, time_text) = (take(&columns.event)?, take(&columns.time)?);
    let mut properties = String::from("{");
    object.iter().for_each(|(name, value)| add_property(&mut properties, name, value.get()));
    properties.push('}');
    check(Row { number: 0, user, visitor, event, time_ms: parse_time(&time_text)?, id, properties })
}

fn parse_time(text: &str) -> Result<i64, String> {
    time::parse(text)
        .ok_or_else(|| format!("`{text}` is not a time (ISO 8601, or a number of seconds or milliseconds)"))
}

fn check(row: Row) -> Result<Row, String> {
    if row.event.is_empty() {
        return Err("the event's name is empty".to_owned());
    }
    if row.user.is_empty() && row.visitor.is_empty() {
        return Err("neither user nor visitor is given".to_owned());
    }
    Ok(row)
}

fn add_property(properties: &mut String, name: &str, json: &str) {
    if properties.len() > 1 {
        properties.push(',');
    }
    properties.push_str(&quote(name));
    properties.push(':');
    properties.push_str(json);
}

/// Text as JSON.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Whether `text` is a number as JSON writes it, to the letter: `007` and `+1` are codes, not numbers.
fn is_json_number(text: &str) -> bool {
    matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
        && matches!(text.as_bytes().last(), Some(b'0'..=b'9'))
        && serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(input: impl Into<Vec<u8>>, columns: &str) -> Vec<Result<Row, BadRow>> {
        let mut rows = Rows::open(Cursor::new(input.into()), columns.parse().expect("columns")).expect("a header");
        std::iter::from_fn(|| rows.next().expect("readable")).collect()
    }

    fn events(input: impl Into<Vec<u8>>) -> Vec<Row> {
        read(input, "user=u,event=e,time=t").into_iter().map(|row| row.expect("a good row")).collect()
    }

    const CSV: &str = "u,e,t,price,code\nann,buy,2024-01-01,9.50,007\nann,buy,2024-01-01,9.50,007\n";

    #[test]
    fn other_columns_become_properties_and_numbers_stay_numbers() {
        let row = &events(CSV)[0];
        assert_eq!((row.user.as_str(), row.event.as_str(), row.time_ms), ("ann", "buy", 1_704_067_200_000));
        assert_eq!(row.properties, r#"{"price":9.50,"code":"007"}"#);
    }

    #[test]
    fn text_that_only_begins_like_a_number_stays_text() {
        let row = &events("u,e,t,a,b,c,d,x\nann,buy,0,+1,1.,1e5,-0.5,1 2\n")[0];
        assert_eq!(row.properties, r#"{"a":"+1","b":"1.","c":1e5,"d":-0.5,"x":"1 2"}"#);
    }

    #[test]
    fn rows_of_equal_content_have_ids_of_their_own_and_the_same_ids_in_every_run() {
        let (one, two) = (events(CSV), events(CSV));
        assert_ne!(one[0].id, one[1].id);
        assert_eq!(one, two);
    }

    #[test]
    fn a_file_that_has_grown_keeps_the_ids_of_its_beginning() {
        let longer = format!("{CSV}bob,buy,2024-01-02,1,x\n");
        assert_eq!(events(longer)[..2], events(CSV)[..]);
        let other = CSV.replace("9.50,007\nann", "9.51,007\nann");
        assert_ne!(events(other)[1].id, events(CSV)[1].id);
    }

    #[test]
    fn an_id_column_wins() {
        let row = read("u,e,t,k\nann,buy,0,order-7\n", "user=u,event=e,time=t,id=k").remove(0).expect("good");
        assert_eq!((row.id.as_str(), row.properties.as_str()), ("order-7", "{}"));
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(CSV.as_bytes()).expect("memory");
        assert_eq!(events(gzip.finish().expect("memory")), events(CSV));
    }

    #[test]
    fn json_lines_are_told_by_their_first_byte() {
        let rows = events(
            "\n{\"u\":7,\"e\":\"buy\",\"t\":1704067200,\"price\":12345678901234567890,\"deep\":{\"a\":[1]}}\n\n",
        );
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].user.as_str(), rows[0].time_ms), ("7", 1_704_067_200_000));
        assert_eq!(rows[0].properties, r#"{"deep":{"a":[1]},"price":12345678901234567890}"#);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_column() {
        assert_eq!(events(format!("\u{feff}{CSV}"))[0].user, "ann");
    }

    #[test]
    fn a_bad_row_is_told_and_the_others_go_on() {
        let bad = |input: &str, part: &str| {
            let rows = read(input, "user=u,event=e,time=t");
            let reason = rows[0].as_ref().expect_err(input);
            assert!(reason.number == 1 && reason.reason.contains(part), "{reason:?}");
            assert_eq!(rows[1].as_ref().expect("a good row").number, 2);
        };
        bad("u,e,t\nann,buy,soon\nann,buy,0\n", "`soon`");
        bad("u,e,t\nann,buy\nann,buy,0\n", "2 columns");
        bad("u,e,t\nann,,0\nann,buy,0\n", "name");
        bad("u,e,t\n,buy,0\nann,buy,0\n", "neither user nor visitor");
        bad("{\"u\":[],\"e\":\"x\",\"t\":0}\n{\"u\":\"ann\",\"e\":\"x\",\"t\":0}", "`u`");
        bad("{nonsense}\n{\"u\":\"ann\",\"e\":\"x\",\"t\":0}", "JSON");
    }

    #[test]
    fn a_column_that_is_not_there_is_named() {
        let columns = "user=nobody,event=e,time=t".parse().expect("columns");
        let error = Rows::open(Cursor::new(CSV), columns).err().expect("no such column").to_string();
        assert!(error.contains("`nobody`") && error.contains("price"), "{error}");
    }
}
