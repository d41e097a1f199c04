//! The bundle reader on any bytes: it never panics, any split gives the same entries, and a
//! beginning of an answer yields a beginning of its entries.

#![no_main]

use healthex_sync::healthex::bundle::{BundleReader, Limits};
use healthex_sync::plan::row::{EntryRules, sort_entry};
use libfuzzer_sys::fuzz_target;

const ENTRY_BYTES_MAX: usize = 512;

/// The entries of an answer that arrives in these pieces, and whether it was whole.
fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (Vec<(Vec<u8>, u64, u32)>, bool) {
    let limits = Limits { entry_bytes_max: ENTRY_BYTES_MAX };
    let mut reader = BundleReader::new(limits);
    let mut entries = Vec::new();
    let is_good = pieces.into_iter().all(|piece| reader.push(piece, &mut entries).is_ok());
    let is_whole = is_good && reader.finish().is_ok();
    let rules = EntryRules {
        fhir_root: "https://api.healthex.io/FHIR/R4/".to_owned(),
        entry_bytes_max: ENTRY_BYTES_MAX as u64,
        depth_max: 120,
    };
    let facts = entries.iter().map(|entry| (entry.bytes.clone(), entry.size, entry.depth)).collect();
    for entry in entries {
        let _ = sort_entry(entry, &rules);
    }
    (facts, is_whole)
}

fuzz_target!(|data: &[u8]| {
    let Some((&chosen, answer)) = data.split_first() else {
        return;
    };
    let at = usize::from(chosen) * answer.len() / 256;
    let (beginning, rest) = answer.split_at(at);
    let whole = read([answer]);
    assert_eq!(whole, read([beginning, rest]));
    assert_eq!(whole, read(answer.chunks(1)));
    let (cut, _) = read([beginning]);
    assert!(whole.0.starts_with(&cut));
});
