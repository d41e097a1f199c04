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
mod tests;
