//! Zeroes what a look has found, a slice at a time, each a short transaction of its own.
//!
//! Promise: no page is touched whose place in the file is not as the look found it. Between a look
//! and a slice others may have written, so the way down from the root to the page is gone again,
//! under the lock; what is no longer where it was is left to the next look.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::database::{Reader, checkpoint, page_size, roots, write};
use super::page::{
    Chain, TreeKind, TreePage, TrunkPage, is_dirty, read_file_header, read_overflow_page, read_tree_page,
    read_trunk_page, zero,
};
use super::walk::{DEPTH_MAX, Dirty, Interior, InteriorId, Remains};
use crate::clock::Instant;
use crate::warehouse::failure::StoreFailed;

/// How much of the work one transaction does.
#[derive(Clone, Copy, Debug)]
pub(super) struct SliceLimits {
    pub(super) pages_max: usize,
    pub(super) time_max: Duration,
}

impl Default for SliceLimits {
    fn default() -> Self {
        Self { pages_max: 4000, time_max: Duration::from_millis(200) }
    }
}

/// The WAL may grow to this while a reader keeps it from being emptied.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    /// Where in the remains the next slice begins.
    pub(super) end: usize,
    pub(super) zeroed: u64,
    /// Pages that others have put elsewhere since the look.
    pub(super) moved: u64,
    /// A reader keeps the WAL, which has grown to its limit.
    pub(super) wal_is_held: bool,
}

/// Zeroes what `remains` has from `start` on, until a limit is reached.
pub(super) fn zero_slice(
    connection: &Connection,
    remains: &Remains,
    start: usize,
    limits: SliceLimits,
) -> Result<Slice, StoreFailed> {
    let mut slice = Slice { end: start, ..Slice::default() };
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let began = Instant::now();
    let mut ways = Ways::new(&transaction, remains)?;
    for dirty in remains.dirty.iter().skip(start).take(limits.pages_max) {
        if began.elapsed() >= limits.time_max && slice.end > start {
            break;
        }
        match ways.find(*dirty)? {
            Found::Dirty { page, bytes } => {
                write(&transaction, page, &bytes)?;
                slice.zeroed += 1;
            }
            Found::Clean => {}
            Found::Moved => slice.moved += 1,
        }
        slice.end += 1;
    }
    drop(ways);
    transaction.commit()?;
    let held = checkpoint(connection)?.held_frames * page_size(connection)? as u64;
    slice.wal_is_held = WAL_BYTES_MAX < held;
    Ok(slice)
}

enum Found {
    /// And its bytes as they are to be.
    Dirty {
        page: u32,
        bytes: Vec<u8>,
    },
    Clean,
    Moved,
}

/// An interior page that is where the look found it.
struct Known {
    kind: TreeKind,
    children: HashSet<u32>,
}

/// The ways down to the pages of a look, gone again in one transaction.
struct Ways<'c> {
    reader: Reader<'c>,
    remains: &'c Remains,
    roots: HashSet<u32>,
    interiors: HashMap<InteriorId, Option<Rc<Known>>>,
    /// The trunks of the list of free pages, once somebody has asked.
    trunks: Option<HashSet<u32>>,
    leaves: HashMap<u32, HashSet<u32>>,
}

impl<'c> Ways<'c> {
    fn new(transaction: &'c Transaction<'_>, remains: &'c Remains) -> Result<Self, StoreFailed> {
        Ok(Self {
            reader: Reader::new(transaction)?,
            remains,
            roots: roots(transaction)?.into_iter().chain([1]).collect(),
            interiors: HashMap::new(),
            trunks: None,
            leaves: HashMap::new(),
        })
    }

    fn find(&mut self, dirty: Dirty) -> Result<Found, StoreFailed> {
        match dirty {
            Dirty::Tree { page, parent } => match self.tree_page(page, parent)? {
                Some(read) => self.judge(page, &read.unused),
                None => Ok(Found::Moved),
            },
            Dirty::Chain { head, page, parent } => {
                let owner = self.tree_page(page, parent)?;
                let chains = owner.map(|owner| owner.chains).unwrap_or_default();
                match chains.into_iter().find(|chain| chain.head == head) {
                    Some(chain) => self.find_end(chain),
                    None => Ok(Found::Moved),
                }
            }
            Dirty::Trunk { page } => match self.trunk(page)? {
                Some(trunk) => self.judge(page, &[trunk.unused]),
                None => Ok(Found::Moved),
            },
            Dirty::Free { page, trunk } => {
                if !self.is_leaf_of(page, trunk)? {
                    return Ok(Found::Moved);
                }
                let length = self.reader.read(page, <[u8]>::len)?.unwrap_or(0);
                self.judge(page, std::slice::from_ref(&(0..length)))
            }
        }
    }

    /// Reads a page of which each on the way down from the root still names the next.
    fn tree_page(&mut self, page: u32, parent: Option<InteriorId>) -> Result<Option<TreePage>, StoreFailed> {
        self.tree_page_at(page, parent, 1)
    }

    fn tree_page_at(
        &mut self,
        page: u32,
        parent: Option<InteriorId>,
        height: u8,
    ) -> Result<Option<TreePage>, StoreFailed> {
        let kind = match parent {
            None if self.roots.contains(&page) => None,
            None => return Ok(None),
            Some(id) => match self.interior(id, height)? {
                Some(known) if known.children.contains(&page) => Some(known.kind),
                _ => return Ok(None),
            },
        };
        let read = self.reader.read(page, |bytes| read_tree_page(bytes, page == 1))?;
        Ok(read.and_then(Result::ok).filter(|read| kind.is_none_or(|kind| kind == read.kind)))
    }

    fn interior(&mut self, id: InteriorId, height: u8) -> Result<Option<Rc<Known>>, StoreFailed> {
        if let Some(known) = self.interiors.get(&id) {
            return Ok(known.clone());
        }
        let Some(Interior { page, parent }) = self.remains.interiors.get(id as usize).copied() else {
            return Ok(None);
        };
        if height == DEPTH_MAX {
            return Ok(None);
        }
        let known =
            self.tree_page_at(page, parent, height + 1)?.map(|TreePage { kind, children, .. }| {
                Rc::new(Known { kind, children: children.into_iter().collect() })
            });
        self.interiors.insert(id, known.clone());
        Ok(known)
    }

    /// Goes to the last page of a chain, the only one that may have bytes to spare.
    fn find_end(&mut self, chain: Chain) -> Result<Found, StoreFailed> {
        let Chain { head: mut page, mut bytes } = chain;
        // Each page has some of the bytes, so the chain has an end.
        loop {
            let read = self.reader.read(page, |content| read_overflow_page(content, bytes))?;
            let Some(Ok(read)) = read else { return Ok(Found::Moved) };
            match read.next {
                Some(next) => (page, bytes) = (next, read.bytes_left),
                None => return self.judge(page, &[read.unused]),
            }
        }
    }

    /// Reads a page that the list of free pages still names as a trunk.
    fn trunk(&mut self, page: u32) -> Result<Option<TrunkPage>, StoreFailed> {
        if self.trunks.is_none() {
            let mut trunks = HashSet::new();
            let header = self.reader.read(1, read_file_header)?;
            let mut next = header.and_then(Result::ok).and_then(|header| header.first_trunk);
            while let Some(page) = next.filter(|page| trunks.insert(*page)) {
                let trunk = self.reader.read(page, read_trunk_page)?;
                next = trunk.and_then(Result::ok).and_then(|trunk| trunk.next);
            }
            self.trunks = Some(trunks);
        }
        if !self.trunks.as_ref().is_some_and(|trunks| trunks.contains(&page)) {
            return Ok(None);
        }
        Ok(self.reader.read(page, read_trunk_page)?.and_then(Result::ok))
    }

    fn is_leaf_of(&mut self, page: u32, trunk: u32) -> Result<bool, StoreFailed> {
        if !self.leaves.contains_key(&trunk) {
            let leaves = self.trunk(trunk)?.map(|trunk| trunk.leaves).unwrap_or_default();
            self.leaves.insert(trunk, leaves.into_iter().collect());
        }
        Ok(self.leaves.get(&trunk).is_some_and(|leaves| leaves.contains(&page)))
    }

    fn judge(&mut self, page: u32, unused: &[Range<usize>]) -> Result<Found, StoreFailed> {
        let judged = self.reader.read(page, |content| {
            if !is_dirty(content, unused) {
                return Found::Clean;
            }
            let mut bytes = content.to_vec();
            zero(&mut bytes, unused);
            Found::Dirty { page, bytes }
        })?;
        Ok(judged.unwrap_or(Found::Moved))
    }
}
