//! What a project does not want kept of properties and traits, by the name of a member at the top of the object.

use std::borrow::Cow;

use crate::json::{self, Members, ObjectText};

/// Lists of names. A name may end with `*`, for all that begin alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyLists {
    /// If not empty, only these are kept, and those that `hash` names.
    pub allow: Vec<String>,
    /// These are dropped. It wins over the other two.
    pub deny: Vec<String>,
    /// Of these a keyed hash is kept: equal values stay equal, and nobody can read them.
    pub hash: Vec<String>,
}

impl PropertyLists {
    /// Everything is kept as it is.
    pub const NONE: Self = Self { allow: Vec::new(), deny: Vec::new(), hash: Vec::new() };

    /// Whether everything is kept as it is.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// What is kept of `object`, the text of a JSON object.
    ///
    /// - `hash`: of a value's text, as it stands in JSON but without a string's quotes, so that `7` and `"7"` are equal.
    #[must_use]
    pub fn kept<'a>(&self, object: &'a str, hash: impl Fn(&str) -> String) -> Cow<'a, str> {
        if self.is_none() || object == "{}" {
            return Cow::Borrowed(object);
        }
        let Ok(members) = json::object::<Members<'_>>(object) else { return Cow::Borrowed("{}") };
        let mut out = ObjectText::from("{}", object.len());
        for (name, value) in members.iter() {
            let named = |list: &[String]| list.iter().any(|pattern| names(pattern, name));
            if named(&self.deny) {
                continue;
            }
            if named(&self.hash) {
                let text = json::text(value).unwrap_or(Cow::Borrowed(value.get()));
                out.text(name, &hash(&text));
            } else if self.allow.is_empty() || named(&self.allow) {
                out.raw(name, value.get());
            }
        }
        Cow::Owned(out.finish())
    }
}

fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], deny: &[&str], hash: &[&str], expected: &str) {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let lists = PropertyLists { allow: list(allow), deny: list(deny), hash: list(hash) };
        let object = r#"{"plan":"pro","email":"a@b","email2":7,"$context":{"email":"x"}}"#;
        assert_eq!(lists.kept(object, |text| format!("#{text}")), expected);
    }

    #[test]
    fn names_are_kept_dropped_or_hashed() {
        check(&[], &[], &[], r#"{"plan":"pro","email":"a@b","email2":7,"$context":{"email":"x"}}"#);
        check(&["plan"], &[], &[], r#"{"plan":"pro"}"#);
        check(&[], &["email"], &[], r#"{"plan":"pro","email2":7,"$context":{"email":"x"}}"#);
        check(&[], &["email*", "$context"], &[], r#"{"plan":"pro"}"#);
        check(&["plan"], &[], &["email*"], r##"{"plan":"pro","email":"#a@b","email2":"#7"}"##);
        check(&["plan"], &["email"], &["email*"], r##"{"plan":"pro","email2":"#7"}"##);
        check(&[], &["*"], &[], "{}");
    }
}
