//! Rows of one block that say who is whose person.

use hashbrown::HashMap;
use trackway_store::rows::IdentityRow;

/// At most one row for each pair: the last. All of a block's rows may have one version, and of rows with one version none
/// is the newer.
#[derive(Debug, Default)]
pub(crate) struct IdentityRows {
    rows: Vec<IdentityRow>,
    places: HashMap<(u128, u128), usize>,
}

impl IdentityRows {
    pub fn push(&mut self, row: IdentityRow) {
        match self.places.get(&(row.key, row.person)) {
            Some(&place) => self.rows[place] = row,
            None => {
                self.places.insert((row.key, row.person), self.rows.len());
                self.rows.push(row);
            }
        }
    }

    pub fn take(&mut self) -> Vec<IdentityRow> {
        self.places.clear();
        std::mem::take(&mut self.rows)
    }
}
