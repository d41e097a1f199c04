//! Reads one page of a SQLite file and names the bytes of it that nothing refers to.
//!
//! Promise: bytes in, ranges or a refusal out; any bytes, no panic. What is named is in none of the
//! page's cells, pointers and counters, and all of these together fill the page to the byte: SQLite's
//! own `integrity_check` makes the same sum. Absent on purpose: what one page cannot know, such as
//! whether it is reached once.
//!
//! The format is that of <https://sqlite.org/fileformat2.html>, frozen since 2004.

use std::ops::Range;

/// Why a page, or the file, is left to VACUUM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("its size is none that SQLite has")]
    PageSize,
    #[error("it is no page of a b-tree")]
    NotOfATree,
    #[error("it is of another kind than its tree")]
    OtherKind,
    #[error("its content begins outside of it")]
    ContentStart,
    #[error("a cell ends outside of it")]
    Cell,
    #[error("the list of its free blocks is broken")]
    FreeBlock,
    #[error("two of its cells or free blocks overlap")]
    Overlap,
    #[error("its cells and free bytes do not add up to its size")]
    Sum,
    #[error("a chain of overflow pages is longer or shorter than its cell says")]
    Chain,
    #[error("it is no page of the list of free pages")]
    FreeList,
    #[error("the list of free pages is longer or shorter than the header says")]
    FreeCount,
    #[error("it is not a page of the file")]
    OutOfFile,
    #[error("it is reached twice")]
    ReachedTwice,
    #[error("nothing refers to it")]
    NotReached,
    #[error("its tree is too deep")]
    Depth,
    #[error("the file reserves bytes of each page")]
    Reserved,
    #[error("the file is one of auto_vacuum")]
    AutoVacuum,
}

/// What a tree holds; all its pages are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    Table,
    /// An index, or a table WITHOUT ROWID.
    Index,
}

/// The overflow pages of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub head: u32,
    /// Bytes of the payload that are on the chain.
    pub bytes: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub struct TreePage {
    pub kind: TreeKind,
    /// Empty on a leaf.
    pub children: Vec<u32>,
    pub chains: Vec<Chain>,
    /// Ascending, and none empty.
    pub unused: Vec<Range<usize>>,
}

/// A page that lists free pages.
#[derive(Debug, PartialEq, Eq)]
pub struct TrunkPage {
    pub next: Option<u32>,
    pub leaves: Vec<u32>,
    pub unused: Range<usize>,
}

/// A page of an overflow chain.
#[derive(Debug, PartialEq, Eq)]
pub struct OverflowPage {
    pub next: Option<u32>,
    /// Bytes of the payload that come after this page.
    pub bytes_left: u32,
    pub unused: Range<usize>,
}

/// What page 1 says of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub first_trunk: Option<u32>,
    pub free_pages: u32,
}

/// Length of the file's header, which stands before the first page's own.
const FILE_HEADER: usize = 100;

/// SQLite's limit on a payload; 2 GiB less one.
const PAYLOAD_MAX: u64 = 0x7fff_ffff;

/// No cell takes less.
const CELL_MIN: usize = 4;

pub fn is_page_size(size: usize) -> bool {
    size.is_power_of_two() && (512..=65_536).contains(&size)
}

/// Reads the header of a file from its first page.
pub fn read_file_header(page: &[u8]) -> Result<FileHeader, Flaw> {
    let header = page.get(..FILE_HEADER).ok_or(Flaw::PageSize)?;
    // Two bytes cannot hold 65536; it is written as 1.
    let page_size = match be16(header, 16) {
        Some(1) => 65_536,
        Some(size) => size,
        None => return Err(Flaw::PageSize),
    };
    if !is_page_size(page_size) || page_size != page.len() {
        return Err(Flaw::PageSize);
    }
    if header[20] != 0 {
        return Err(Flaw::Reserved);
    }
    if be32(header, 52) != Some(0) {
        return Err(Flaw::AutoVacuum);
    }
    let first_trunk = be32(header, 32).filter(|trunk| *trunk != 0);
    let free_pages = be32(header, 36).ok_or(Flaw::FreeCount)?;
    Ok(FileHeader { first_trunk, free_pages })
}

/// Reads a page of a b-tree. `is_first` is true of page 1, which begins with the file's header.
pub fn read_tree_page(page: &[u8], is_first: bool) -> Result<TreePage, Flaw> {
    if !is_page_size(page.len()) {
        return Err(Flaw::PageSize);
    }
    let header = if is_first { FILE_HEADER } else { 0 };
    let layout = Layout::of(page[header]).ok_or(Flaw::NotOfATree)?;
    let short = |at: usize| be16(page, header + at).ok_or(Flaw::ContentStart);
    let (first_free, cells, fragmented) = (short(1)?, short(3)?, usize::from(page[header + 7]));
    let content_start = match short(5)? {
        0 => 65_536,
        start => start,
    };
    let pointers = header + if layout.is_leaf { 8 } else { 12 };
    let pointers_end = pointers + 2 * cells;
    if content_start < pointers_end || page.len() < content_start {
        return Err(Flaw::ContentStart);
    }
    let mut read =
        TreePage { kind: layout.kind, children: Vec::new(), chains: Vec::new(), unused: Vec::new() };
    // What is in use of the content, and of each piece how much is to be kept.
    let mut pieces = Vec::with_capacity(cells);
    for pointer in (pointers..pointers_end).step_by(2) {
        let start = be16(page, pointer).filter(|start| content_start <= *start).ok_or(Flaw::Cell)?;
        let cell = read_cell(page, start, layout)?;
        read.children.extend(cell.child);
        read.chains.extend(cell.chain);
        let length = cell.length.max(CELL_MIN);
        if page.len() < start + length {
            return Err(Flaw::Cell);
        }
        pieces.push(Piece { start, length, kept: cell.length });
    }
    if !layout.is_leaf {
        read.children.push(be32(page, header + 8).ok_or(Flaw::Cell)?);
    }
    read_free_blocks(page, first_free, content_start, &mut pieces)?;
    pieces.sort_unstable_by_key(|piece| piece.start);
    let used: usize = pieces.iter().map(|piece| piece.length).sum();
    if content_start + used + fragmented != page.len() {
        return Err(Flaw::Sum);
    }
    read.unused = unused_bytes(page.len(), pointers_end, content_start, &pieces)?;
    Ok(read)
}

/// Reads a page of an overflow chain that holds the last `bytes` of a payload.
pub fn read_overflow_page(page: &[u8], bytes: u32) -> Result<OverflowPage, Flaw> {
    if !is_page_size(page.len()) {
        return Err(Flaw::PageSize);
    }
    let next = be32(page, 0).filter(|next| *next != 0);
    let here = (bytes as usize).min(page.len() - 4);
    // At most a page's length, which fits.
    let bytes_left = bytes - u32::try_from(here).map_err(|_| Flaw::Chain)?;
    if bytes == 0 || next.is_some() != (bytes_left > 0) {
        return Err(Flaw::Chain);
    }
    Ok(OverflowPage { next, bytes_left, unused: 4 + here..page.len() })
}

/// Reads a trunk of the list of free pages.
pub fn read_trunk_page(page: &[u8]) -> Result<TrunkPage, Flaw> {
    if !is_page_size(page.len()) {
        return Err(Flaw::PageSize);
    }
    let next = be32(page, 0).filter(|next| *next != 0);
    let count = be32(page, 4).ok_or(Flaw::FreeList)? as usize;
    if page.len() / 4 - 2 < count {
        return Err(Flaw::FreeList);
    }
    let leaves =
        (0..count).map(|leaf| be32(page, 8 + 4 * leaf).ok_or(Flaw::FreeList)).collect::<Result<_, _>>()?;
    Ok(TrunkPage { next, leaves, unused: 8 + 4 * count..page.len() })
}

/// Returns whether any of these bytes is not zero.
pub fn is_dirty(page: &[u8], unused: &[Range<usize>]) -> bool {
    unused.iter().any(|range| page[range.clone()].iter().any(|byte| *byte != 0))
}

pub fn zero(page: &mut [u8], unused: &[Range<usize>]) {
    for range in unused {
        page[range.clone()].fill(0);
    }
}

#[derive(Clone, Copy)]
struct Layout {
    kind: TreeKind,
    is_leaf: bool,
}

impl Layout {
    fn of(kind: u8) -> Option<Self> {
        let (kind, is_leaf) = match kind {
            2 => (TreeKind::Index, false),
            5 => (TreeKind::Table, false),
            10 => (TreeKind::Index, true),
            13 => (TreeKind::Table, true),
            _ => return None,
        };
        Some(Self { kind, is_leaf })
    }
}

/// A cell or a free block.
struct Piece {
    start: usize,
    length: usize,
    /// The bytes at its beginning that mean something.
    kept: usize,
}

struct Cell {
    length: usize,
    child: Option<u32>,
    chain: Option<Chain>,
}

fn read_cell(page: &[u8], start: usize, layout: Layout) -> Result<Cell, Flaw> {
    let mut at = start;
    let mut child = None;
    if !layout.is_leaf {
        child = Some(be32(page, at).ok_or(Flaw::Cell)?);
        at += 4;
    }
    if layout.kind == TreeKind::Table && !layout.is_leaf {
        at += varint(page, at).ok_or(Flaw::Cell)?.length;
        return Ok(Cell { length: at - start, child, chain: None });
    }
    let payload = varint(page, at).ok_or(Flaw::Cell)?;
    at += payload.length;
    if layout.kind == TreeKind::Table {
        at += varint(page, at).ok_or(Flaw::Cell)?.length;
    }
    if PAYLOAD_MAX < payload.value {
        return Err(Flaw::Cell);
    }
    let bytes = usize::try_from(payload.value).map_err(|_| Flaw::Cell)?;
    let local = local_bytes(bytes, page.len(), layout.kind);
    at += local;
    let mut chain = None;
    if local < bytes {
        let head = be32(page, at).ok_or(Flaw::Cell)?;
        chain = Some(Chain { head, bytes: u32::try_from(bytes - local).map_err(|_| Flaw::Cell)? });
        at += 4;
    }
    Ok(Cell { length: at - start, child, chain })
}

/// How much of a payload is on its page; the rest is on overflow pages.
fn local_bytes(payload: usize, page_size: usize, kind: TreeKind) -> usize {
    let most = match kind {
        TreeKind::Table => page_size - 35,
        TreeKind::Index => (page_size - 12) * 64 / 255 - 23,
    };
    if payload <= most {
        return payload;
    }
    let least = (page_size - 12) * 32 / 255 - 23;
    // What fills the overflow pages without a rest, if that much fits.
    let fitting = least + (payload - least) % (page_size - 4);
    if fitting <= most { fitting } else { least }
}

fn read_free_blocks(
    page: &[u8],
    first: usize,
    content_start: usize,
    pieces: &mut Vec<Piece>,
) -> Result<(), Flaw> {
    let mut block = first;
    let mut end = content_start;
    while block != 0 {
        // Ascending, so the list has an end.
        if block < end {
            return Err(Flaw::FreeBlock);
        }
        let next = be16(page, block).ok_or(Flaw::FreeBlock)?;
        let length = be16(page, block + 2).ok_or(Flaw::FreeBlock)?;
        end = block + length;
        if length < CELL_MIN || page.len() < end {
            return Err(Flaw::FreeBlock);
        }
        pieces.push(Piece { start: block, length, kept: CELL_MIN });
        block = next;
    }
    Ok(())
}

/// What is between the pieces, and what of each is not kept.
fn unused_bytes(
    page_size: usize,
    pointers_end: usize,
    content_start: usize,
    pieces: &[Piece],
) -> Result<Vec<Range<usize>>, Flaw> {
    let mut unused = Vec::with_capacity(2 * pieces.len() + 2);
    unused.push(pointers_end..content_start);
    let mut end = content_start;
    for piece in pieces {
        if piece.start < end {
            return Err(Flaw::Overlap);
        }
        unused.push(end..piece.start);
        end = piece.start + piece.length;
        unused.push(piece.start + piece.kept.min(piece.length)..end);
    }
    unused.push(end..page_size);
    unused.retain(|range| !range.is_empty());
    Ok(unused)
}

struct Varint {
    value: u64,
    length: usize,
}

/// Seven bits a byte, the high bit set on all but the last; a ninth byte counts whole.
fn varint(page: &[u8], at: usize) -> Option<Varint> {
    let bytes = page.get(at..)?;
    let mut value = 0;
    for (length, byte) in (1..).zip(bytes.iter().take(8)) {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(Varint { value, length });
        }
    }
    let last = bytes.get(8)?;
    Some(Varint { value: value << 8 | u64::from(*last), length: 9 })
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(bytes)))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of unused bytes is meant")]
mod tests {
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
}
