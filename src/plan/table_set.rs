//! Which of the analysts' tables are kept: they come in sets.

/// Tables that are kept together, or not at all: the names of `[views] sets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableSet {
    /// What is asked for most.
    Clinical,
    /// Questionnaires and their answers.
    Surveys,
    /// Who cares for a patient, and what is planned.
    Care,
    /// What was billed.
    Claims,
    /// What can be read of documents.
    Texts,
}

impl TableSet {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 5] = [
        ("clinical", Self::Clinical),
        ("surveys", Self::Surveys),
        ("care", Self::Care),
        ("claims", Self::Claims),
        ("texts", Self::Texts),
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, set)| *set == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_has_its_own_name() {
        for (name, set) in TableSet::ALL {
            assert_eq!(set.name(), name);
        }
    }
}
