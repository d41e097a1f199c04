//! Has the roster lost patients, or has somebody lost the roster?

/// More than half of the patients gone at once is an accident until somebody says otherwise.
pub(crate) fn has_shrunk_suspiciously(known: usize, gone: usize) -> bool {
    gone > 0 && gone * 2 > known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_gone_is_suspicious() {
        assert!(!has_shrunk_suspiciously(0, 0));
        assert!(!has_shrunk_suspiciously(10, 5));
        assert!(has_shrunk_suspiciously(10, 6));
        assert!(has_shrunk_suspiciously(1, 1));
    }
}
