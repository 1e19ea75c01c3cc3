//! Which columns of a file mean what.

use std::fmt;
use std::str::FromStr;

/// Names of the columns that have a meaning; all others are properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The user's id.
    pub user: Option<String>,
    /// The device's id.
    pub visitor: Option<String>,
    /// The event's name.
    pub event: String,
    /// When it happened.
    pub time: String,
    /// The event's own id.
    pub id: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    /// Parses `user=COLUMN,event=COLUMN,time=COLUMN[,visitor=COLUMN][,id=COLUMN]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut user, mut visitor, mut event, mut time, mut id) = (None, None, None, None, None);
        for part in text.split(',') {
            let (meaning, column) = part.split_once('=').ok_or_else(|| format!("`{part}` is not MEANING=COLUMN"))?;
            let place = match meaning.trim() {
                "user" => &mut user,
                "visitor" => &mut visitor,
                "event" => &mut event,
                "time" => &mut time,
                "id" => &mut id,
                other => return Err(format!("`{other}` is none of user, visitor, event, time, id")),
            };
            if place.replace(column.trim().to_owned()).is_some() {
                return Err(format!("`{}` is given twice", meaning.trim()));
            }
        }
        if user.is_none() && visitor.is_none() {
            return Err("neither `user=COLUMN` nor `visitor=COLUMN` is given: whose events are they?".to_owned());
        }
        let event = event.ok_or("`event=COLUMN` is missing: which column has the events' names?")?;
        let time = time.ok_or("`time=COLUMN` is missing: which column says when it happened?")?;
        Ok(Self { user, visitor, event, time, id })
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event={},time={}", self.event, self.time)?;
        let others = [("user", &self.user), ("visitor", &self.visitor), ("id", &self.id)];
        others.iter().try_for_each(|(name, column)| match column {
            Some(column) => write!(f, ",{name}={column}"),
            None => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_by_their_meaning() {
        let columns: Columns = "user=user_id,event=what,time=when".parse().expect("valid");
        assert_eq!(columns.user.as_deref(), Some("user_id"));
        assert_eq!((columns.event.as_str(), columns.time.as_str()), ("what", "when"));
        assert_eq!(columns.id, None);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let refused = |text: &str, part: &str| {
            let message = text.parse::<Columns>().expect_err(text);
            assert!(message.contains(part), "{message}");
        };
        refused("event=e,time=t", "user=COLUMN");
        refused("user=u,time=t", "event=COLUMN");
        refused("user=u,event=e", "time=COLUMN");
        refused("user=u,event=e,time=t,colour=c", "colour");
        refused("user=u,user=v,event=e,time=t", "twice");
        refused("user", "MEANING=COLUMN");
    }
}
