//! The order in which a file's rows are sent, and copies of them for other users. For showing that neither matters to the
//! answers, and for load.

use std::str::FromStr;

use super::rows::Row;

/// In which order rows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they stand. The only one that streams; all others need the file in memory.
    File,
    /// User by user, each by time.
    User,
    /// By time, whoever it is.
    Time,
    /// In no order, but the same one for the same seed.
    Shuffled {
        /// Where the generator begins.
        seed: u64,
    },
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file" => Ok(Self::File),
            "user" => Ok(Self::User),
            "time" => Ok(Self::Time),
            "shuffled" => Ok(Self::Shuffled { seed: 1 }),
            _ => text
                .strip_prefix("shuffled:")
                .and_then(|seed| seed.parse().ok())
                .map(|seed| Self::Shuffled { seed })
                .ok_or_else(|| format!("`{text}` is none of file, user, time, shuffled, shuffled:SEED")),
        }
    }
}

impl Order {
    /// Puts all rows into this order. Rows that are equal to it keep the order of the file.
    pub fn arrange(self, rows: &mut [Row]) {
        match self {
            Self::File => {}
            Self::User => rows.sort_by(|a, b| (&a.user, &a.visitor, a.time_ms).cmp(&(&b.user, &b.visitor, b.time_ms))),
            Self::Time => rows.sort_by_key(|row| row.time_ms),
            Self::Shuffled { seed } => shuffle(rows, seed),
        }
    }
}

/// Fisher and Yates' shuffle by the splitmix64 generator: the same on every machine, and no dependency for it.
fn shuffle(rows: &mut [Row], mut state: u64) {
    for i in (1..rows.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        rows.swap(i, (z % (i as u64 + 1)) as usize);
    }
}

/// The `copy`th of a row (from 1): the first is the row itself, the second belongs to the user `NAME~2`, and so on.
pub fn copy(row: &Row, copy: u32) -> Row {
    if copy <= 1 {
        return row.clone();
    }
    let other = |id: &str| if id.is_empty() { String::new() } else { format!("{id}~{copy}") };
    Row { user: other(&row.user), visitor: other(&row.visitor), id: other(&row.id), ..row.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        [("b", 5), ("a", 9), ("a", 5), ("b", 1), ("a", 5)]
            .iter()
            .zip(1..)
            .map(|(&(user, time_ms), number)| Row {
                number,
                user: user.into(),
                visitor: String::new(),
                event: "e".into(),
                time_ms,
                id: number.to_string(),
                properties: "{}".into(),
            })
            .collect()
    }

    fn arranged(order: &str) -> Vec<u64> {
        let mut rows = rows();
        order.parse::<Order>().expect("an order").arrange(&mut rows);
        rows.iter().map(|row| row.number).collect()
    }

    #[test]
    fn equal_rows_keep_the_order_of_the_file() {
        assert_eq!(arranged("file"), [1, 2, 3, 4, 5]);
        assert_eq!(arranged("user"), [3, 5, 2, 4, 1]);
        assert_eq!(arranged("time"), [4, 1, 3, 5, 2]);
    }

    #[test]
    fn a_shuffle_is_all_rows_in_the_order_of_its_seed() {
        let mut sorted = arranged("shuffled:7");
        assert_eq!(arranged("shuffled:7"), sorted);
        assert!((0..9).any(|seed| arranged(&format!("shuffled:{seed}")) != sorted));
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5]);
        assert!("shuffled:x".parse::<Order>().is_err());
    }

    #[test]
    fn a_copy_is_another_users_event() {
        let row = &rows()[0];
        assert_eq!(&copy(row, 1), row);
        let second = copy(row, 2);
        assert_eq!((second.user.as_str(), second.visitor.as_str(), second.id.as_str()), ("b~2", "", "1~2"));
        assert_eq!(second.time_ms, row.time_ms);
    }
}
