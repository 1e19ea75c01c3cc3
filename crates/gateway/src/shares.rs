//! A request's items by the write keys that they name.

use std::collections::HashMap;

use trackway_wire::{Item, Rejection};

use crate::admit::Admission;
use crate::reply::Refusal;

/// A request's items by who admits them.
pub(crate) struct Shares {
    /// Items with their places, by admission.
    pub admitted: Vec<(Admission, Vec<(usize, Item)>)>,
    /// Items whose write keys let into nothing.
    pub refused: Vec<(usize, Rejection)>,
}

/// Nearly all requests have one key for all their items. Some protocols have one an item: each then goes where its own key
/// lets it, and one with a wrong key spoils no other.
pub(crate) fn shares(
    admission: Result<Admission, Refusal>,
    own_keys: Vec<(usize, String)>,
    items: Vec<Item>,
    admit: impl Fn(Option<&str>) -> Result<Admission, Refusal>,
) -> Result<Shares, Refusal> {
    let items = items.into_iter().enumerate();
    if own_keys.is_empty() {
        return Ok(Shares { admitted: vec![(admission?, items.collect())], refused: Vec::new() });
    }
    // The request's own share stands first.
    let mut keys = vec![admission];
    // Each item may name another.
    let mut places: HashMap<Option<String>, usize> = HashMap::from([(None, 0)]);
    let mut shares: Vec<Vec<(usize, Item)>> = vec![Vec::new()];
    let mut own_keys = own_keys.into_iter().peekable();
    for (index, item) in items {
        let key = own_keys.next_if(|(place, _)| *place == index).map(|(_, key)| key);
        let share = match places.get(&key) {
            Some(&share) => share,
            None => {
                keys.push(admit(key.as_deref()));
                shares.push(Vec::new());
                places.insert(key, keys.len() - 1);
                keys.len() - 1
            }
        };
        shares[share].push((index, item));
    }
    let (mut admitted, mut refused, mut last) = (Vec::new(), Vec::new(), None);
    for (admission, items) in keys.into_iter().zip(shares) {
        match admission {
            Ok(admission) => admitted.push((admission, items)),
            // What may be taken later is asked for again, with all that came with it.
            Err(refusal) if refusal.is_temporary() && !items.is_empty() => return Err(refusal),
            Err(refusal) => {
                let message = refusal.to_string();
                let reason = |(index, _)| (index, Rejection::Key { message: message.clone() });
                refused.extend(items.into_iter().map(reason));
                last = Some(refusal);
            }
        }
    }
    match last {
        Some(refusal) if admitted.is_empty() => Err(refusal),
        _ => Ok(Shares { admitted, refused }),
    }
}
