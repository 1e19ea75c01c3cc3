//! The pixel: one track event in the query of an image's address, for mails and pages without scripts.
//!
//! `writeKey`, `event`, `anonymousId`, `userId`, `messageId`, `timestamp`, `url`, `referrer`, `title`, and `p.<name>` for
//! properties, whose values are text. Other parameters go to `$context` of the properties. The query is form-decoded
//! once, so an address within it arrives as its owner wrote it.

use trackway_domain::event::{Context, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::identity::is_refused;
use trackway_domain::limits::{EVENT_BYTES_MAX, EVENT_NAME_BYTES_MAX, ID_BYTES_MAX, PROPERTIES_MAX};

use crate::draft::within;
use crate::json::ObjectText;
use crate::protocol::{Answer, Head, Method, Protocol, Request, Verdict};
use crate::{Item, Rejection, Understood, client_time, shown};

/// The pixel of ours.
pub struct Pixel;

impl Protocol for Pixel {
    fn name(&self) -> &'static str {
        "pixel"
    }

    fn claims(&self, head: &Head<'_>) -> bool {
        head.method == Method::Get && head.path == PATH
    }

    fn parse(&self, request: &Request<'_>) -> Result<Understood, Rejection> {
        Ok(parse(request.head.query))
    }

    fn answer(&self, _: &Request<'_>, verdict: &Verdict<'_>) -> Answer {
        image_answer(verdict)
    }
}

/// The header that tells a pixel's sender what its body cannot.
const REJECTED: &str = "x-trackway-rejected";

/// Always the image, since an `<img>` has no use for an error. Only what may be taken later is not called a success.
pub(crate) fn image_answer(verdict: &Verdict<'_>) -> Answer {
    let image = |status| Answer::of(status, "image/gif", &GIF).with("cache-control", "no-store");
    let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let visible = |text: &str| text.chars().map(visible).collect::<String>();
    match verdict {
        Verdict::Taken(tally) => match tally.rejected.first() {
            None => image(200),
            Some((_, reason)) => image(200).with(REJECTED, visible(&reason.to_string())),
        },
        Verdict::Refused(refused) => {
            let status = if refused.retry_after_seconds.is_some() { refused.status } else { 200 };
            image(status).with(REJECTED, visible(&refused.message))
        }
    }
}

/// Where the pixel lies.
pub const PATH: &str = "/v1/pixel.gif";

/// The answer: 43 bytes of GIF, one transparent pixel.
pub const GIF: [u8; 43] =
    *b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x00\x00\
    \x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// Understands a query, as it stands after the `?`. There is one item, an event or a rejection.
#[must_use]
pub fn parse(query: &str) -> Understood {
    let mut given = Parameters::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        given.take(&name, value.into_owned());
    }
    let write_key = given.write_key.take();
    let item = match given.event(query.len()) {
        Ok(event) => {
            let content = if event.id.is_none() { query.as_bytes().to_vec() } else { Vec::new() };
            Item::Event { event, content }
        }
        Err(reason) => Item::Rejected { reason, content: query.as_bytes().to_vec() },
    };
    Understood { write_key, items: vec![item], ..Understood::default() }
}

#[derive(Default)]
struct Parameters {
    write_key: Option<String>,
    name: String,
    anonymous_id: String,
    user_id: String,
    message_id: String,
    timestamp: String,
    context: Context,
    properties: Vec<(String, String)>,
    rest: Vec<(String, String)>,
}

impl Parameters {
    /// Takes one parameter; the last of a name wins.
    fn take(&mut self, name: &str, value: String) {
        let slot = match name {
            "writeKey" => {
                self.write_key = Some(value);
                return;
            }
            "event" => &mut self.name,
            "anonymousId" => &mut self.anonymous_id,
            "userId" => &mut self.user_id,
            "messageId" => &mut self.message_id,
            "timestamp" => &mut self.timestamp,
            "url" => &mut self.context.url,
            "referrer" => &mut self.context.referrer,
            "title" => &mut self.context.title,
            _ => {
                let (list, name) = match name.strip_prefix("p.") {
                    Some(name) => (&mut self.properties, name),
                    None => (&mut self.rest, name),
                };
                // Looking for the same name is only worth its time in a list that will not be rejected.
                match list.iter_mut().take(PROPERTIES_MAX).find(|(other, _)| other == name) {
                    Some((_, other)) => *other = value,
                    None => list.push((name.to_owned(), value)),
                }
                return;
            }
        };
        *slot = value;
    }

    fn event(self, bytes: usize) -> Result<ReceivedEvent, Rejection> {
        if self.name.is_empty() {
            return Err(Rejection::Missing { field: "event", hint: "Name what happened, as in `event=mail_opened`" });
        }
        within(|| format!("name of event {}", shown(&self.name)), self.name.len(), "bytes", EVENT_NAME_BYTES_MAX)?;
        within(|| format!("event {}", shown(&self.name)), bytes, "bytes", EVENT_BYTES_MAX)?;
        let keys = self.properties.len() + self.rest.len();
        within(|| format!("size of the properties of event {}", shown(&self.name)), keys, "keys", PROPERTIES_MAX)?;
        let user_id = id("userId", self.user_id)?;
        let (visitor, user_id) = match (id("anonymousId", self.anonymous_id)?, user_id) {
            (Some(device), user_id) => (Visitor::Device(device), user_id),
            (None, Some(user)) => (Visitor::User(user.clone()), Some(user)),
            (None, None) => {
                let hint = "A pixel has no cookie of ours: put the recipient's id into its address, as in \
                            `anonymousId=…` or `userId=…`";
                return Err(Rejection::Missing { field: "anonymousId", hint });
            }
        };
        let mut properties = ObjectText::from("{}", bytes);
        for (name, value) in &self.properties {
            properties.text(name, value);
        }
        properties.nested("$context", |out| self.rest.iter().for_each(|(name, value)| out.text(name, value)));
        Ok(ReceivedEvent {
            kind: EventKind::Track,
            name: self.name,
            id: id("messageId", self.message_id)?,
            visitor: Some(visitor),
            user_id,
            other_id: None,
            client_time_ms: client_time::of_text(&self.timestamp),
            sent_at_ms: None,
            sequence: 0,
            context: self.context,
            revenue: None,
            properties: properties.finish(),
            traits: "{}".to_owned(),
        })
    }
}

fn id(field: &'static str, id: String) -> Result<Option<String>, Rejection> {
    within(|| format!("`{field}`"), id.len(), "bytes", ID_BYTES_MAX)?;
    Ok((!is_refused(&id)).then_some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> ReceivedEvent {
        match parse(query).items.pop() {
            Some(Item::Event { event, .. }) => event,
            other => panic!("{query}: {other:?}"),
        }
    }

    fn refusal(query: &str) -> String {
        match parse(query).items.pop() {
            Some(Item::Rejected { reason, content }) => {
                assert_eq!(content, query.as_bytes());
                reason.to_string()
            }
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn a_pixel_says_what_a_track_call_says() {
        let query = "writeKey=wk&event=mail%20opened&anonymousId=a1&userId=u1&messageId=m1&timestamp=2026-11-22T15:20:10Z\
                     &url=https%3A%2F%2Fx.example%2F%3Fq%3Dh%25C3%25A4&referrer=r&title=K%C3%A4se+%26+Co&p.plan=pro";
        assert_eq!(parse(query).write_key.as_deref(), Some("wk"));
        let expected = ReceivedEvent {
            kind: EventKind::Track,
            name: "mail opened".into(),
            id: Some("m1".into()),
            visitor: Some(Visitor::Device("a1".into())),
            user_id: Some("u1".into()),
            other_id: None,
            client_time_ms: Some(1_795_360_810_000),
            sent_at_ms: None,
            sequence: 0,
            context: Context {
                url: "https://x.example/?q=h%C3%A4".into(),
                referrer: "r".into(),
                title: "Käse & Co".into(),
                ..Context::default()
            },
            revenue: None,
            properties: r#"{"plan":"pro"}"#.into(),
            traits: "{}".into(),
        };
        assert_eq!(check(query), expected);
    }

    #[test]
    fn a_user_without_a_device_is_the_visitor() {
        let event = check("event=e&userId=u1&anonymousId=null");
        assert_eq!((event.visitor, event.user_id), (Some(Visitor::User("u1".into())), Some("u1".into())));
    }

    #[test]
    fn unknown_parameters_are_kept_and_the_last_of_a_name_wins() {
        let event = check("event=e&userId=u&p.a=1&utm_source=x&p.a=2&p.b=%22");
        assert_eq!(event.properties, r#"{"a":"2","b":"\"","$context":{"utm_source":"x"}}"#);
    }

    #[test]
    fn content_is_kept_only_where_there_is_no_id() {
        let content = |query: &str| match parse(query).items.pop() {
            Some(Item::Event { content, .. }) => content,
            other => panic!("{other:?}"),
        };
        assert_eq!(content("event=e&userId=u"), b"event=e&userId=u");
        assert_eq!(content("event=e&userId=u&messageId=m"), b"");
    }

    #[test]
    fn nobody_and_nothing_are_rejected_with_a_hint() {
        assert!(refusal("event=e").starts_with("`anonymousId` is missing. A pixel has no cookie"));
        assert!(refusal("userId=u").starts_with("`event` is missing. Name what happened"));
        assert!(refusal("").starts_with("`event` is missing"));
    }

    #[test]
    fn every_limit_names_the_thing_its_size_and_itself() {
        let long = "x".repeat(1025);
        assert_eq!(refusal(&format!("event=e&userId={long}")), "`userId` is 1 025 bytes, limit is 1 024");
        assert!(refusal(&format!("event={long}&userId=u")).ends_with("…` is 1 025 bytes, limit is 512"));
        let title = "x".repeat(65_536);
        assert_eq!(refusal(&format!("event=e&title={title}")), "event `e` is 65 550 bytes, limit is 65 536");
        let many: String = (0..1025).map(|n| format!("&p.{n}=1")).collect();
        assert_eq!(
            refusal(&format!("event=e&userId=u{many}")),
            "size of the properties of event `e` is 1 025 keys, limit is 1 024"
        );
    }

    #[test]
    fn the_gif_is_whole() {
        assert!(GIF.starts_with(b"GIF89a\x01\x00\x01\x00") && GIF.ends_with(b"\x3b"));
    }
}
