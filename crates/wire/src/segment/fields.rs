//! What is in a body, by name and unread: the values are still JSON text.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::json::{Lenient, Object, Rest};

/// A value that was there, as its text.
pub(super) type Value<'a> = Option<&'a RawValue>;

/// One item.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub kind: Value<'a>,
    pub message_id: Value<'a>,
    pub anonymous_id: Value<'a>,
    pub user_id: Value<'a>,
    pub previous_id: Value<'a>,
    pub group_id: Value<'a>,
    pub event: Value<'a>,
    pub name: Value<'a>,
    pub category: Value<'a>,
    pub properties: Value<'a>,
    pub traits: Value<'a>,
    pub timestamp: Value<'a>,
    pub original_timestamp: Value<'a>,
    pub sent_at: Value<'a>,
    pub write_key: Value<'a>,
    pub context: ContextFields<'a>,
    pub rest: Rest<'a>,
}

impl<'a> Object<'a> for Fields<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let slot = match &*name {
            "type" => &mut self.kind,
            "messageId" => &mut self.message_id,
            "anonymousId" => &mut self.anonymous_id,
            "userId" => &mut self.user_id,
            "previousId" => &mut self.previous_id,
            "groupId" => &mut self.group_id,
            "event" => &mut self.event,
            "name" => &mut self.name,
            "category" => &mut self.category,
            "properties" => &mut self.properties,
            "traits" => &mut self.traits,
            "timestamp" => &mut self.timestamp,
            "originalTimestamp" => &mut self.original_timestamp,
            "sentAt" => &mut self.sent_at,
            "writeKey" => &mut self.write_key,
            "context" => {
                self.context = map.next_value_seed(Lenient::new())?;
                return Ok(());
            }
            "integrations" | "_metadata" => return map.next_value::<serde::de::IgnoredAny>().map(drop),
            _ => {
                self.rest.keep(name, map.next_value()?);
                return Ok(());
            }
        };
        *slot = Some(map.next_value()?);
        Ok(())
    }
}

/// An object of which some members have a field and the others are kept.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($key:literal => $field:ident),* } $(nested { $($nested_key:literal => $nested:ident: $type:ident),* })?) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub $field: Value<'a>,)*
            $($(pub $nested: $type<'a>,)*)?
            pub rest: Rest<'a>,
        }

        impl<'a> Object<'a> for $name<'a> {
            fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
                match &*name {
                    $($key => self.$field = Some(map.next_value()?),)*
                    $($($nested_key => self.$nested = map.next_value_seed(Lenient::new())?,)*)?
                    _ => self.rest.keep(name, map.next_value()?),
                }
                Ok(())
            }
        }

        impl<'a> $name<'a> {
            /// Takes from `outer` what is not here.
            pub(super) fn inherit(&mut self, outer: &Self) {
                $(self.$field = self.$field.or(outer.$field);)*
                $($(self.$nested.inherit(&outer.$nested);)*)?
                self.rest.inherit(&outer.rest);
            }
        }
    };
}

object! {
    /// `context`
    ContextFields {
        "userAgent" => user_agent, "locale" => locale, "traits" => traits, "sequence" => sequence,
        "sessionId" => session_id, "ip" => ip, "consent" => consent,
        "consentManagement" => consent_management
    }
    nested { "page" => page: PageFields, "campaign" => campaign: CampaignFields, "screen" => screen: ScreenFields, "library" => library: LibraryFields }
}

object! {
    /// `context.page`
    PageFields { "url" => url, "title" => title, "referrer" => referrer, "path" => path, "search" => search }
}

object! {
    /// `context.campaign`
    CampaignFields { "source" => source, "medium" => medium, "name" => name, "term" => term, "content" => content }
}

object! {
    /// `context.screen`
    ScreenFields { "width" => width, "height" => height }
}

object! {
    /// `context.library`
    LibraryFields { "name" => name, "version" => version }
}

/// Properties of a page or screen call that have a field elsewhere.
#[derive(Default)]
pub(super) struct PageProperties<'a> {
    pub url: Value<'a>,
    pub title: Value<'a>,
    pub referrer: Value<'a>,
    pub name: Value<'a>,
    pub category: Value<'a>,
}

impl<'a> Object<'a> for PageProperties<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let slot = match &*name {
            "url" => &mut self.url,
            "title" => &mut self.title,
            "referrer" => &mut self.referrer,
            "name" => &mut self.name,
            "category" => &mut self.category,
            _ => return map.next_value::<serde::de::IgnoredAny>().map(drop),
        };
        *slot = Some(map.next_value()?);
        Ok(())
    }
}
