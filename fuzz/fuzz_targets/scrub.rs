//! The reader of pages on any bytes: it never panics, what it names can be zeroed without changing
//! what it reads, and a walk over any file ends.

#![no_main]

use healthex_sync::warehouse::sqlite_page::{is_dirty, read_file_header, read_overflow_page, read_tree_page, read_trunk_page, zero};
use healthex_sync::warehouse::sqlite_walk::Walk;
use libfuzzer_sys::fuzz_target;

fn read_page(page: &[u8], is_first: bool, bytes: u32) {
    if let Ok(read) = read_tree_page(page, is_first) {
        let mut zeroed = page.to_vec();
        zero(&mut zeroed, &read.unused);
        assert!(!is_dirty(&zeroed, &read.unused));
        assert_eq!(read_tree_page(&zeroed, is_first), Ok(read));
    }
    if let Ok(read) = read_overflow_page(page, bytes) {
        let mut zeroed = page.to_vec();
        zero(&mut zeroed, &[read.unused.clone()]);
        assert_eq!(read_overflow_page(&zeroed, bytes), Ok(read));
    }
    if let Ok(read) = read_trunk_page(page) {
        let mut zeroed = page.to_vec();
        zero(&mut zeroed, &[read.unused.clone()]);
        assert_eq!(read_trunk_page(&zeroed), Ok(read));
    }
    let _ = read_file_header(page);
}

fuzz_target!(|data: &[u8]| {
    let [shift, root, high, low, file @ ..] = data else { return };
    let size = 512usize << (shift % 8);
    let bytes = u32::from(u16::from_be_bytes([*high, *low]));
    for page in file.chunks(size) {
        read_page(page, false, bytes);
        read_page(page, true, bytes);
    }
    let pages: Vec<&[u8]> = file.chunks_exact(size).collect();
    let Ok(mut walk) = Walk::new(size, pages.len() as u32, &[u32::from(*root)]) else { return };
    while let Some(page) = walk.wants() {
        if walk.take(pages[page as usize - 1]).is_err() {
            return;
        }
    }
    let _ = walk.finish();
});
