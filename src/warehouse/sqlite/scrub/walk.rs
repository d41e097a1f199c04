//! Goes through a whole file and notes each page with unallocated bytes that are not zero.
//!
//! Promise: a file is accepted only if each of its pages is reached, and reached once. Absent on
//! purpose: reading. Whoever walks asks which page is wanted and hands it in, so that a file, a
//! running database and a test's bytes are walked by the same steps.

use super::page::{
    Chain, FileHeader, Flaw, TreeKind, is_dirty, is_page_size, read_file_header, read_overflow_page,
    read_tree_page, read_trunk_page,
};

/// Pages from a root to a leaf; SQLite has the same limit.
pub(super) const DEPTH_MAX: u8 = 20;

/// Dirty pages that one walk notes, 64 MB of them; the next walk finds the rest.
const DIRTY_MAX: usize = 4_000_000;

/// SQLite locks bytes from here on, and so keeps the page free that they are in.
const LOCK_BYTE: u64 = 1 << 30;

/// The file was refused, and nothing of it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {page}: {flaw}")]
pub struct Refused {
    pub page: u32,
    pub flaw: Flaw,
}

impl Refused {
    /// Returns whether the file is sound as far as is known, and only of another make.
    pub fn is_of_the_format(self) -> bool {
        matches!(self.flaw, Flaw::Reserved | Flaw::AutoVacuum)
    }
}

/// Where in [`Remains::interiors`] an interior page is.
pub(super) type InteriorId = u32;

/// An interior page, by which a later look at the same tree finds the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interior {
    pub(super) page: u32,
    /// `None` above a root.
    pub(super) parent: Option<InteriorId>,
}

/// A page with bytes to zero, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    Tree {
        page: u32,
        parent: Option<InteriorId>,
    },
    /// The last page of the chain that begins at `head`, of a cell on `page`.
    Chain {
        head: u32,
        page: u32,
        parent: Option<InteriorId>,
    },
    Trunk {
        page: u32,
    },
    Free {
        page: u32,
        trunk: u32,
    },
}

/// What a walk through a sound file found.
#[derive(Debug, Default)]
pub struct Remains {
    pub(super) interiors: Vec<Interior>,
    pub(super) dirty: Vec<Dirty>,
    is_cut: bool,
}

impl Remains {
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && !self.is_cut
    }

    /// Returns whether there is more than was noted.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub fn dirty_pages(&self) -> usize {
        self.dirty.len()
    }
}

#[derive(Clone, Copy)]
enum Task {
    Tree(TreeTask),
    Overflow(OverflowTask),
    Trunk { page: u32 },
    Free { page: u32, trunk: u32 },
}

#[derive(Clone, Copy)]
struct TreeTask {
    page: u32,
    parent: Option<InteriorId>,
    /// `None` of a root, which may be of either kind.
    kind: Option<TreeKind>,
    depth: u8,
}

#[derive(Clone, Copy)]
struct OverflowTask {
    page: u32,
    /// Of the payload, those on this page and after it.
    bytes: u32,
    head: u32,
    owner: u32,
    parent: Option<InteriorId>,
}

impl Task {
    fn page(self) -> u32 {
        match self {
            Self::Tree(TreeTask { page, .. })
            | Self::Overflow(OverflowTask { page, .. })
            | Self::Trunk { page }
            | Self::Free { page, .. } => page,
        }
    }
}

/// A walk under way.
pub struct Walk {
    page_size: usize,
    pages: u32,
    reached: Reached,
    tasks: Vec<Task>,
    header: Option<FileHeader>,
    free_pages: u32,
    remains: Remains,
}

impl Walk {
    /// Begins at page 1 and at the roots that `sqlite_schema` names.
    pub fn new(page_size: usize, pages: u32, roots: &[u32]) -> Result<Self, Refused> {
        if !is_page_size(page_size) || pages == 0 {
            return Err(Refused { page: 1, flaw: Flaw::PageSize });
        }
        let mut walk = Self {
            page_size,
            pages,
            reached: Reached::new(pages),
            tasks: Vec::new(),
            header: None,
            free_pages: 0,
            remains: Remains::default(),
        };
        if let Some(page) = lock_page(page_size).filter(|page| *page <= pages) {
            walk.reach(page)?;
        }
        for page in roots.iter().rev().copied().chain([1]) {
            walk.follow(Task::Tree(TreeTask { page, parent: None, kind: None, depth: 1 }))?;
        }
        Ok(walk)
    }

    /// Returns the number of the page that [`take`](Self::take) is to be given next.
    pub fn wants(&self) -> Option<u32> {
        self.tasks.last().map(|task| task.page())
    }

    /// Reads the page that was wanted.
    pub fn take(&mut self, page: &[u8]) -> Result<(), Refused> {
        let Some(task) = self.tasks.pop() else { return Ok(()) };
        let refused = |flaw| Refused { page: task.page(), flaw };
        if page.len() != self.page_size {
            return Err(refused(Flaw::PageSize));
        }
        match task {
            Task::Tree(tree) => self.take_tree_page(page, tree),
            Task::Overflow(overflow) => self.take_overflow_page(page, overflow),
            Task::Trunk { page: number } => self.take_trunk(page, number),
            Task::Free { page: number, trunk } => {
                if page.iter().any(|byte| *byte != 0) {
                    self.note(Dirty::Free { page: number, trunk });
                }
                Ok(())
            }
        }
    }

    /// Returns what was found, once no page is wanted any more.
    pub fn finish(self) -> Result<Remains, Refused> {
        if let Some(page) = self.wants().or_else(|| self.reached.first_missing()) {
            return Err(Refused { page, flaw: Flaw::NotReached });
        }
        match self.header {
            Some(header) if header.free_pages == self.free_pages => Ok(self.remains),
            _ => Err(Refused { page: 1, flaw: Flaw::FreeCount }),
        }
    }

    fn take_tree_page(&mut self, page: &[u8], task: TreeTask) -> Result<(), Refused> {
        let TreeTask { page: number, parent, kind, depth } = task;
        let refused = |flaw| Refused { page: number, flaw };
        if number == 1 {
            let header = read_file_header(page).map_err(refused)?;
            self.header = Some(header);
            if let Some(page) = header.first_trunk {
                self.follow(Task::Trunk { page })?;
            }
        }
        let read = read_tree_page(page, number == 1).map_err(refused)?;
        if kind.is_some_and(|kind| kind != read.kind) {
            return Err(refused(Flaw::OtherKind));
        }
        if is_dirty(page, &read.unused) {
            self.note(Dirty::Tree { page: number, parent });
        }
        for Chain { head, bytes } in read.chains.into_iter().rev() {
            self.follow(Task::Overflow(OverflowTask { page: head, bytes, head, owner: number, parent }))?;
        }
        if read.children.is_empty() {
            return Ok(());
        }
        if depth == DEPTH_MAX {
            return Err(refused(Flaw::Depth));
        }
        // As many as there are pages at most, whose numbers fit.
        let id = InteriorId::try_from(self.remains.interiors.len()).map_err(|_| refused(Flaw::OutOfFile))?;
        self.remains.interiors.push(Interior { page: number, parent });
        let (parent, kind, depth) = (Some(id), Some(read.kind), depth + 1);
        for page in read.children.into_iter().rev() {
            self.follow(Task::Tree(TreeTask { page, parent, kind, depth }))?;
        }
        Ok(())
    }

    fn take_overflow_page(&mut self, page: &[u8], task: OverflowTask) -> Result<(), Refused> {
        let OverflowTask { page: number, bytes, head, owner, parent } = task;
        let read = read_overflow_page(page, bytes).map_err(|flaw| Refused { page: number, flaw })?;
        match read.next {
            Some(page) => {
                let bytes = read.bytes_left;
                return self.follow(Task::Overflow(OverflowTask { page, bytes, head, owner, parent }));
            }
            None if is_dirty(page, &[read.unused]) => self.note(Dirty::Chain { head, page: owner, parent }),
            None => {}
        }
        Ok(())
    }

    fn take_trunk(&mut self, page: &[u8], number: u32) -> Result<(), Refused> {
        let read = read_trunk_page(page).map_err(|flaw| Refused { page: number, flaw })?;
        if is_dirty(page, &[read.unused]) {
            self.note(Dirty::Trunk { page: number });
        }
        // Each is reached once, so there are no more than the file has pages.
        self.free_pages += 1;
        if let Some(page) = read.next {
            self.follow(Task::Trunk { page })?;
        }
        for page in read.leaves {
            self.follow(Task::Free { page, trunk: number })?;
            self.free_pages += 1;
        }
        Ok(())
    }

    fn follow(&mut self, task: Task) -> Result<(), Refused> {
        self.reach(task.page())?;
        self.tasks.push(task);
        Ok(())
    }

    fn reach(&mut self, page: u32) -> Result<(), Refused> {
        if page == 0 || self.pages < page {
            return Err(Refused { page, flaw: Flaw::OutOfFile });
        }
        if self.reached.mark(page) { Ok(()) } else { Err(Refused { page, flaw: Flaw::ReachedTwice }) }
    }

    fn note(&mut self, dirty: Dirty) {
        if self.remains.dirty.len() < DIRTY_MAX {
            self.remains.dirty.push(dirty);
        } else {
            self.remains.is_cut = true;
        }
    }
}

/// Returns the page that SQLite leaves alone in a file that long.
fn lock_page(page_size: usize) -> Option<u32> {
    u32::try_from(LOCK_BYTE / page_size as u64 + 1).ok()
}

/// A bit for each page.
struct Reached {
    bits: Vec<u64>,
    pages: u32,
}

impl Reached {
    fn new(pages: u32) -> Self {
        Self { bits: vec![0; pages as usize / 64 + 1], pages }
    }

    /// Marks a page from 1 to the last, and returns whether it was not marked yet.
    fn mark(&mut self, page: u32) -> bool {
        let bit = 1 << (page % 64);
        let word = &mut self.bits[page as usize / 64];
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn first_missing(&self) -> Option<u32> {
        (1..=self.pages).find(|page| self.bits[*page as usize / 64] & 1 << (page % 64) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 512;

    /// A file of 512-byte pages.
    fn file(pages: usize) -> Vec<Vec<u8>> {
        let mut file = vec![vec![0; SIZE]; pages];
        file[0][16] = 2;
        leaf(&mut file[0], 100, &[]);
        file
    }

    /// A leaf of a table, with these cells.
    fn leaf(page: &mut [u8], header: usize, cells: &[&[u8]]) {
        let mut start = page.len();
        page[header] = 13;
        page[header + 4] = u8::try_from(cells.len()).unwrap();
        for (at, cell) in (header + 8..).step_by(2).zip(cells) {
            start -= cell.len();
            page[start..start + cell.len()].copy_from_slice(cell);
            page[at..at + 2].copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
        }
        page[header + 5..header + 7].copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
    }

    fn interior(page: &mut [u8], child: u8, right: u8) {
        page[..14].copy_from_slice(&[5, 0, 0, 0, 1, 1, 251, 0, 0, 0, 0, right, 1, 251]);
        page[507..512].copy_from_slice(&[0, 0, 0, child, 1]);
    }

    fn free_list(file: &mut [Vec<u8>], trunk: u8, leaves: &[u8]) {
        file[0][35] = trunk;
        file[0][39] = u8::try_from(leaves.len()).unwrap() + 1;
        let page = &mut file[usize::from(trunk) - 1];
        page[7] = u8::try_from(leaves.len()).unwrap();
        for (leaf, at) in leaves.iter().zip((11..).step_by(4)) {
            page[at] = *leaf;
        }
    }

    fn walk(file: &[Vec<u8>], roots: &[u32]) -> Result<Remains, Refused> {
        let mut walk = Walk::new(SIZE, u32::try_from(file.len()).unwrap(), roots)?;
        while let Some(page) = walk.wants() {
            walk.take(&file[page as usize - 1])?;
        }
        walk.finish()
    }

    fn check(file: &[Vec<u8>], roots: &[u32], page: u32, flaw: Flaw) {
        assert_eq!(walk(file, roots).unwrap_err(), Refused { page, flaw });
    }

    /// A root with two leaves, the first of which has a cell with a chain of two pages; a trunk with a leaf.
    fn sound() -> Vec<Vec<u8>> {
        let mut file = file(8);
        interior(&mut file[1], 3, 4);
        // 39 + (1055 - 39) % 508 = 39 are local, the rest is on two pages.
        let mut cell = vec![0x88, 0x1f, 1];
        cell.extend([7; 39]);
        cell.extend([0, 0, 0, 5]);
        leaf(&mut file[2], 0, &[&cell]);
        leaf(&mut file[3], 0, &[&[2, 2, 7, 7]]);
        file[4] = vec![7; SIZE];
        file[4][..4].copy_from_slice(&[0, 0, 0, 6]);
        file[5] = vec![7; SIZE];
        file[5][..4].copy_from_slice(&[0; 4]);
        free_list(&mut file, 7, &[8]);
        file
    }

    #[test]
    fn a_sound_file_is_reached_whole() {
        assert!(walk(&sound(), &[2]).unwrap().is_clean());
    }

    #[test]
    fn each_kind_of_dirty_page_is_noted_with_the_way_to_it() {
        let mut dirty = sound();
        dirty[3][300] = 1;
        // One byte less of payload. 39 + (1054 - 39) % 508 = 546 is more than fits, so 39 are local and
        // 1015 are not: the last byte of the chain is unused.
        dirty[2][512 - 46..512 - 43].copy_from_slice(&[0x88, 0x1e, 1]);
        dirty[6][100] = 1;
        dirty[7][0] = 1;
        let remains = walk(&dirty, &[2]).unwrap();
        assert_eq!(remains.interiors, [Interior { page: 2, parent: None }]);
        let expected = [
            Dirty::Free { page: 8, trunk: 7 },
            Dirty::Trunk { page: 7 },
            Dirty::Chain { head: 5, page: 3, parent: Some(0) },
            Dirty::Tree { page: 4, parent: Some(0) },
        ];
        for dirty in expected {
            assert!(remains.dirty.contains(&dirty), "{dirty:?} is not in {:?}", remains.dirty);
        }
        assert_eq!(remains.dirty.len(), expected.len());
    }

    #[test]
    fn a_file_of_which_a_page_is_lost_or_shared_is_refused() {
        let bent = |bend: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut file = sound();
            bend(&mut file);
            file
        };
        check(&bent(&|file| file.push(vec![0; SIZE])), &[2], 9, Flaw::NotReached);
        check(&sound(), &[], 2, Flaw::NotReached);
        check(&sound(), &[2, 3], 3, Flaw::ReachedTwice);
        check(&sound(), &[9], 9, Flaw::OutOfFile);
        check(&bent(&|file| file[1][510] = 4), &[2], 4, Flaw::ReachedTwice);
        check(&bent(&|file| file[1][510] = 0), &[2], 0, Flaw::OutOfFile);
        check(&bent(&|file| file[3][7] = 1), &[2], 4, Flaw::Sum);
        check(&bent(&|file| file[4][3] = 0), &[2], 5, Flaw::Chain);
        check(&bent(&|file| file[5][3] = 8), &[2], 6, Flaw::Chain);
        check(&bent(&|file| file[0][39] = 3), &[2], 1, Flaw::FreeCount);
        check(&bent(&|file| file[6][3] = 7), &[2], 7, Flaw::ReachedTwice);
        check(&bent(&|file| file[6][7] = 200), &[2], 7, Flaw::FreeList);
        check(&bent(&|file| file[0][20] = 8), &[2], 1, Flaw::Reserved);
    }

    #[test]
    fn a_tree_of_two_kinds_is_refused() {
        let mut file = sound();
        file[3] = vec![0; SIZE];
        file[3][0] = 10;
        file[3][5] = 2;
        check(&file, &[2], 4, Flaw::OtherKind);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let mut file = file(45);
        for level in 0..21u8 {
            interior(&mut file[usize::from(1 + 2 * level)], 3 + 2 * level, 4 + 2 * level);
            leaf(&mut file[usize::from(2 + 2 * level)], 0, &[]);
        }
        leaf(&mut file[43], 0, &[]);
        check(&file, &[2], 40, Flaw::Depth);
    }

    /// A file of more than 1 GiB, whose pages are made as they are asked for.
    #[test]
    fn the_page_of_the_lock_byte_is_left_alone() {
        const SIZE: usize = 65_536;
        const LOCK_PAGE: u32 = 16_385;
        let pages = LOCK_PAGE + 10;
        let trunk = |next: u32, leaves: std::ops::RangeInclusive<u32>| {
            let leaves: Vec<u32> = leaves.filter(|page| *page != LOCK_PAGE).collect();
            let count = u32::try_from(leaves.len()).unwrap();
            let mut page: Vec<u8> =
                [next, count].iter().chain(&leaves).flat_map(|number| number.to_be_bytes()).collect();
            page.resize(SIZE, 0);
            page
        };
        let free = vec![0; SIZE];
        let read = |page: u32| match page {
            1 => {
                let mut first = vec![0; SIZE];
                first[17] = 1;
                first[35] = 2;
                // All but the first and the lock page are free.
                first[36..40].copy_from_slice(&(pages - 2).to_be_bytes());
                first[100] = 13;
                first
            }
            2 => trunk(3, 4..=15_000),
            3 => trunk(0, 15_001..=pages),
            LOCK_PAGE => panic!("the page of the lock byte was asked for"),
            _ => free.clone(),
        };
        let mut walk = Walk::new(SIZE, pages, &[]).unwrap();
        while let Some(page) = walk.wants() {
            walk.take(&read(page)).unwrap();
        }
        assert!(walk.finish().unwrap().is_clean());
        let refused = Refused { page: LOCK_PAGE, flaw: Flaw::ReachedTwice };
        assert_eq!(Walk::new(SIZE, pages, &[LOCK_PAGE]).err(), Some(refused));
    }
}
