//! How counts are put into words.

/// Returns a count and what is counted: `1 patient`, `2 patients`.
pub(crate) fn counted(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let check = |count: u64, text: &str| assert_eq!(counted(count, "entry", "entries"), text);
        check(0, "0 entries");
        check(1, "1 entry");
        check(2, "2 entries");
    }
}
