//! Two JSON objects as one.

use std::collections::HashSet;

use crate::json::{Members, ObjectText};

/// Writes the members of both into an object; where both have a name, the winner's. Null says nothing and is dropped.
///
/// Takes time in proportion to the members, of which a stranger may send very many.
pub(crate) fn write(winner: &Members<'_>, other: &Members<'_>, out: &mut ObjectText) {
    let names: HashSet<&str> = winner.iter().map(|(name, _)| name).collect();
    let others = other.iter().filter(|(name, _)| !names.contains(name));
    for (name, value) in winner.iter().chain(others).filter(|(_, value)| value.get() != "null") {
        out.raw(name, value.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn the_winners_members_stand_once_and_null_is_dropped() {
        let members = |text| json::object::<Members<'_>>(text).expect("JSON");
        let mut out = ObjectText::from("{}", 0);
        write(&members(r#"{"a":1,"b":null}"#), &members(r#"{"b":2,"c":3,"a":4,"d":null}"#), &mut out);
        assert_eq!(out.finish(), r#"{"a":1,"c":3}"#);
    }
}
