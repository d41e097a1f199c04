//! Pages made by hand and by chance, sound and bent.

#![expect(clippy::single_range_in_vec_init, reason = "one range of unused bytes is meant")]

use proptest::prelude::*;

use super::*;

/// A page of 512 bytes: its type, these cells packed at its end, and everything else 0xee.
struct Page {
    bytes: Vec<u8>,
    cells: Vec<usize>,
    content_start: usize,
}

impl Page {
    fn new(kind: u8) -> Self {
        let mut bytes = vec![0xee; 512];
        bytes[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 2, 0, 0]);
        if matches!(kind, 2 | 5) {
            bytes[8..12].copy_from_slice(&[0, 0, 0, 9]);
        }
        Self { bytes, cells: Vec::new(), content_start: 512 }
    }

    fn is_leaf(&self) -> bool {
        matches!(self.bytes[0], 10 | 13)
    }

    fn cell(mut self, cell: &[u8]) -> Self {
        self.content_start -= cell.len().max(CELL_MIN);
        self.bytes[self.content_start..self.content_start + cell.len()].copy_from_slice(cell);
        self.cells.push(self.content_start);
        self.set_cells()
    }

    fn set_cells(mut self) -> Self {
        let first = if self.is_leaf() { 8 } else { 12 };
        for (at, cell) in (first..).step_by(2).zip(self.cells.clone()) {
            self.set16(at, cell);
        }
        let (cells, start) = (self.cells.len(), self.content_start);
        self.set16(3, cells);
        self.set16(5, start);
        self
    }

    fn set16(&mut self, at: usize, value: usize) {
        self.bytes[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
    }

    /// Makes the last cell a free block.
    fn free_last(mut self) -> Self {
        let start = self.cells.pop().unwrap();
        let length = self.cells.last().copied().unwrap_or(512) - start;
        self.set16(1, start);
        self.set16(start, 0);
        self.set16(start + 2, length);
        self.set_cells()
    }

    fn unused(&self) -> Result<Vec<Range<usize>>, Flaw> {
        read_tree_page(&self.bytes, false).map(|page| page.unused)
    }
}

#[test]
fn the_gap_of_a_leaf_is_unused() {
    let page = Page::new(13).cell(&[3, 1, 7, 7, 7]).cell(&[2, 2, 7, 7]);
    assert_eq!(page.unused(), Ok(vec![12..503]));
    assert_eq!(Page::new(13).unused(), Ok(vec![8..512]));
}

#[test]
fn the_padding_of_a_short_cell_is_unused() {
    assert_eq!(Page::new(10).cell(&[1, 7]).unused(), Ok(vec![10..508, 510..512]));
}

#[test]
fn a_free_block_keeps_its_first_four_bytes() {
    let page = Page::new(13).cell(&[2, 1, 7, 7]).cell(&[8, 2, 7, 7, 7, 7, 7, 7, 7, 7]).free_last();
    assert_eq!(page.unused(), Ok(vec![10..498, 502..508]));
}

#[test]
fn fragments_are_unused() {
    let mut page = Page::new(13).cell(&[2, 1, 7, 7]).cell(&[2, 2, 7, 7]);
    // The second cell is three bytes shorter than its place.
    page.content_start -= 3;
    page = page.set_cells();
    assert_eq!(page.unused(), Err(Flaw::Sum));
    page.bytes[7] = 3;
    assert_eq!(page.unused(), Ok(vec![12..501, 501..504]));
}

#[test]
fn children_of_interior_pages_are_named_and_their_cells_kept() {
    let table = Page::new(5).cell(&[0, 0, 0, 3, 0x81, 0]).bytes;
    let read = read_tree_page(&table, false).unwrap();
    assert_eq!((read.kind, read.children, read.unused), (TreeKind::Table, vec![3, 9], vec![14..506]));
    let index = Page::new(2).cell(&[0, 0, 0, 3, 2, 7, 7]).bytes;
    let read = read_tree_page(&index, false).unwrap();
    assert_eq!((read.kind, read.children, read.unused), (TreeKind::Index, vec![3, 9], vec![14..505]));
}

#[test]
fn a_long_payload_goes_on_elsewhere() {
    // 600 bytes: 39 + (600 - 39) % 508 = 92 are local in a table.
    let mut cell = vec![0x84, 0x58, 1];
    cell.extend([7; 92]);
    cell.extend([0, 0, 0, 5]);
    let read = read_tree_page(&Page::new(13).cell(&cell).bytes, false).unwrap();
    assert_eq!(read.chains, [Chain { head: 5, bytes: 508 }]);
    assert_eq!(read.unused, vec![10..413]);
    assert_eq!(local_bytes(477, 512, TreeKind::Table), 477);
    assert_eq!(local_bytes(103, 512, TreeKind::Index), 39);
}

#[test]
fn a_page_that_does_not_add_up_is_refused() {
    let sound = || Page::new(13).cell(&[2, 1, 7, 7]).cell(&[2, 2, 7, 7]);
    let check = |bend: &dyn Fn(&mut Page), flaw| {
        let mut page = sound();
        bend(&mut page);
        assert_eq!(page.unused(), Err(flaw));
    };
    check(&|page| page.bytes[0] = 7, Flaw::NotOfATree);
    check(&|page| page.set16(5, 600), Flaw::ContentStart);
    check(&|page| page.set16(5, 5), Flaw::ContentStart);
    check(&|page| page.set16(3, 300), Flaw::ContentStart);
    check(&|page| page.set16(8, 511), Flaw::Cell);
    check(&|page| page.set16(8, 400), Flaw::Cell);
    check(&|page| page.bytes[508] = 3, Flaw::Cell);
    check(&|page| page.bytes[504] = 3, Flaw::Sum);
    check(&|page| page.bytes[7] = 1, Flaw::Sum);
    check(&|page| page.set16(10, 508), Flaw::Overlap);
    check(&|page| page.set16(1, 511), Flaw::FreeBlock);
    check(&|page| page.set16(1, 400), Flaw::FreeBlock);
    assert_eq!(read_tree_page(&[13; 500], false), Err(Flaw::PageSize));
}

#[test]
fn the_rest_of_the_last_overflow_page_is_unused() {
    let mut page = vec![7; 512];
    page[..4].copy_from_slice(&[0, 0, 0, 6]);
    let more = OverflowPage { next: Some(6), bytes_left: 1, unused: 512..512 };
    assert_eq!(read_overflow_page(&page, 509), Ok(more));
    // A last page that names a next one, and one before the last that does not.
    assert_eq!(read_overflow_page(&page, 508), Err(Flaw::Chain));
    page[3] = 0;
    assert_eq!(read_overflow_page(&page, 509), Err(Flaw::Chain));
    assert_eq!(read_overflow_page(&page, 0), Err(Flaw::Chain));
    let last = OverflowPage { next: None, bytes_left: 0, unused: 104..512 };
    assert_eq!(read_overflow_page(&page, 100), Ok(last));
}

#[test]
fn a_trunk_names_its_leaves() {
    let mut page = vec![7; 512];
    page[..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 5]);
    assert_eq!(read_trunk_page(&page), Ok(TrunkPage { next: None, leaves: vec![4, 5], unused: 16..512 }));
    page[7] = 127;
    assert_eq!(read_trunk_page(&page), Err(Flaw::FreeList));
}

#[test]
fn the_header_of_a_file_that_is_not_ours_to_scrub_is_refused() {
    let mut page = vec![0; 512];
    page[16] = 2;
    page[35] = 7;
    page[39] = 3;
    assert_eq!(read_file_header(&page), Ok(FileHeader { first_trunk: Some(7), free_pages: 3 }));
    assert_eq!(read_file_header(&page[..90]), Err(Flaw::PageSize));
    assert_eq!(read_file_header(&[0; 1024]), Err(Flaw::PageSize));
    page[20] = 8;
    assert_eq!(read_file_header(&page), Err(Flaw::Reserved));
    page[20] = 0;
    page[55] = 3;
    assert_eq!(read_file_header(&page), Err(Flaw::AutoVacuum));
}

#[test]
fn varints_have_nine_bytes_at_most() {
    let read = |bytes: &[u8]| varint(bytes, 0).map(|read| (read.value, read.length));
    assert_eq!(read(&[0x7f]), Some((127, 1)));
    assert_eq!(read(&[0x81, 0x00]), Some((128, 2)));
    assert_eq!(read(&[0xff; 9]), Some((u64::MAX, 9)));
    assert_eq!(read(&[0xff; 8]), None);
    assert_eq!(read(&[]), None);
}

proptest! {
    /// Whatever the bytes: no panic, and what is named is within the page, ascending and apart.
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 512),
        kind in prop::sample::select(vec![2u8, 5, 10, 13]),
        cells in 0u8..4,
        is_first: bool,
    ) {
        let header = if is_first { 100 } else { 0 };
        bytes[header] = kind;
        bytes[header + 3..header + 5].copy_from_slice(&[0, cells]);
        if let Ok(page) = read_tree_page(&bytes, is_first) {
            let mut end = header + 8;
            for range in page.unused {
                prop_assert!(end <= range.start && range.start < range.end && range.end <= 512);
                end = range.end;
            }
        }
        let _ = read_overflow_page(&bytes, u32::from(cells) * 300);
        let _ = read_trunk_page(&bytes);
        let _ = read_file_header(&bytes);
    }

    /// Cells of any length in a sound page are kept, and every other byte of it is named.
    #[test]
    fn every_byte_of_a_sound_page_is_kept_or_named(lengths in proptest::collection::vec(0u8..60, 0..7)) {
        let mut page = Page::new(13);
        for length in &lengths {
            let mut cell = vec![*length, 1];
            cell.extend(std::iter::repeat_n(7, usize::from(*length)));
            page = page.cell(&cell);
        }
        let read = read_tree_page(&page.bytes, false).unwrap();
        let mut zeroed = page.bytes.clone();
        zero(&mut zeroed, &read.unused);
        prop_assert!(!is_dirty(&zeroed, &read.unused));
        let again = read_tree_page(&zeroed, false).unwrap();
        prop_assert_eq!(again, read);
        let content = &zeroed[8 + 2 * lengths.len()..];
        prop_assert!(!content.contains(&0xee));
        let kept: usize = lengths.iter().map(|length| usize::from(*length)).sum();
        let header = |length: &&u8| **length == 7;
        let of_length_7 = lengths.iter().filter(header).count();
        prop_assert_eq!(content.split(|byte| *byte == 7).count() - 1, kept + of_length_7);
    }
}
