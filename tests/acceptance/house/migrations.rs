//! Migrations that somebody's warehouse may have seen: followed by others, never changed.

use std::collections::BTreeMap;
use std::fs;

use xxhash_rust::xxh3::xxh3_128;

use crate::world::project;

/// Each released migration by its `xxh3_128`. A new one is entered here when it is released, and
/// an entry is never changed: what a warehouse has gone through is not gone through again.
const RELEASED: &[(&str, u128)] = &[
    ("0001_bookkeeping.sql", 0x608d_50c7_116c_05cc_0ac9_7a8f_eb09_e412),
    ("0002_analyst_tables.sql", 0xe31d_dc1c_6f77_e30e_b093_bb21_1205_7a7b),
    ("0003_seen_by_page.sql", 0x089b_9e8b_82b7_42b9_8723_99ad_e42a_87ce),
    ("0004_shorter_hashes.sql", 0xb1bf_7fde_f4b6_af84_df17_d04b_d474_7f67),
    ("0005_who_holds_rows.sql", 0xf192_6021_4bb5_8fbd_ffde_c46e_881e_ce57),
    ("0006_refusals.sql", 0x7eb7_02b0_a733_a1f8_17b6_62ea_f3e2_d930),
    ("0007_identity.sql", 0x37e5_1aaa_6037_9137_9a6f_415f_28c9_18ec),
    ("0008_scrubbed_by.sql", 0x89a8_97ee_7111_0ef2_2698_0875_a335_e895),
    ("0009_late_indexes.sql", 0x471e_e437_a59a_3a09_3c47_768a_db0a_845c),
    ("0010_ledger.sql", 0x3ff6_43f4_5a43_c466_6e62_5be9_2743_d79e),
    ("0011_removed.sql", 0xd3aa_6e85_4b05_0453_97da_4b46_6f0a_68d6),
    ("0012_consents.sql", 0x153a_2f0f_db6d_fd55_caa8_0004_9aae_27e4),
    ("0013_history.sql", 0xfe2b_bd14_5bb4_6842_7939_4134_cf7f_7bdb),
    ("0014_service.sql", 0x36e2_9f52_b732_79e4_4662_19b0_9784_ef9b),
    ("0015_study_patients.sql", 0x9dff_ebf3_b4d8_cb40_929a_b16e_5112_e64f),
];

/// Returns the migrations in `schema/`, by name.
fn migrations() -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(project("schema")).unwrap().map(Result::unwrap);
    let named = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
    let numbered = named.filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_digit()));
    numbered.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// Returns what is wrong with `migrations`, beside those that were released.
fn complaints(migrations: &BTreeMap<String, Vec<u8>>, released: &[(&str, u128)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, _) in released.iter().filter(|(name, _)| !migrations.contains_key(*name)) {
        found.push(format!("schema/{name} was released, and is gone"));
    }
    for (number, (name, text)) in (1..).zip(migrations) {
        if !name.starts_with(&format!("{number:04}_")) {
            found.push(format!("schema/{name} is not number {number}"));
        }
        let hash = xxh3_128(text);
        match released.iter().find(|(released, _)| released == name) {
            Some((_, released)) if *released != hash => {
                found.push(format!("schema/{name} was released, and has changed; write a new migration"));
            }
            Some(_) => {}
            None => found.push(format!("schema/{name} is not held yet: (\"{name}\", 0x{hash:032x}),")),
        }
    }
    found
}

#[test]
fn a_released_migration_is_followed_never_skipped() {
    let found = complaints(&migrations(), RELEASED);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_released_migration_that_changes_goes_or_is_followed_in_secret_is_told() {
    let held = [("0001_one.sql", xxh3_128(b"one")), ("0002_two.sql", xxh3_128(b"two"))];
    let files = |texts: &[(&str, &str)]| {
        texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    };
    let told = |texts: &[(&str, &str)]| complaints(&files(texts), &held);
    assert_eq!(told(&[("0001_one.sql", "one"), ("0002_two.sql", "two")]), Vec::<String>::new());
    let changed = told(&[("0001_one.sql", "one "), ("0002_two.sql", "two")]);
    assert!(changed.len() == 1 && changed[0].contains("0001_one.sql was released, and has changed"));
    let gone = told(&[("0001_one.sql", "one")]);
    assert!(gone.len() == 1 && gone[0].contains("0002_two.sql was released, and is gone"));
    let new = told(&[("0001_one.sql", "one"), ("0002_two.sql", "two"), ("0003_three.sql", "")]);
    assert!(new.len() == 1 && new[0].contains("(\"0003_three.sql\", 0x"), "{new:?}");
    let skipped = told(&[("0001_one.sql", "one"), ("0002_two.sql", "two"), ("0004_four.sql", "")]);
    assert!(skipped.iter().any(|what| what.contains("0004_four.sql is not number 3")), "{skipped:?}");
}
