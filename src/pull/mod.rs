//! One pull of one patient: pages in, rows and progress out, until `plan` says that it is over.
//!
//! Promise: what is stored is what was received, and the watermark moves only in the
//! transaction that ends a complete pull. Absent on purpose: opinions; they are in `plan`.

mod order;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use chrono::TimeDelta;
use url::Url;

pub use self::order::{Means, Order, Pace, PullRules, Resume, Sink};
use crate::clock;
use crate::healthex::bundle::PageFacts;
use crate::healthex::client::{Budget, ENTRY_BYTES_MAX};
use crate::healthex::page_stream::PageStream;
use crate::healthex::{Reach, RequestFailed};
use crate::plan::completeness::{Coverage, Walk, WalkVerdict, judge_walk};
use crate::plan::paging::{LinkRefused, PageEnd, Paging, Query, Step, fhir_root};
use crate::plan::row::{EntryRules, KeyHash, Row, Sorted, SortedEntry, key_hash, sort_entry};
use crate::plan::{PullMode, Timestamp};
use crate::slot::Slot;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Batch, PlacedRow, Progress, PullEnd, PullFrame, Stored, Tally, WalkMark};
use crate::warehouse::pulls::PullRow;
use crate::warehouse::sweep::SweepRequest;
use crate::warehouse::{checkpoint, compare, page};

/// Deeper nesting is quarantined: nothing in FHIR comes near, and SQLite's JSON functions end at 1000.
const DEPTH_MAX: u32 = 120;
/// A link that failed in this many attempts of its patient is dropped.
const LINK_ATTEMPTS_MAX: u32 = 2;
/// Different notes of one pull that are kept.
const NOTES_MAX: usize = 8;

/// How a pull ended, and what it has cost and changed in any case.
#[derive(Debug)]
pub struct Pulled {
    pub row: PullRow,
    pub tally: Tally,
    pub started_at: Timestamp,
    pub ending: Ending,
}

#[derive(Debug)]
pub enum Ending {
    Finished {
        /// Entries may have been renamed: only a full pull can tell.
        renamed: bool,
        /// A sweep was held back.
        guarded: Option<u64>,
    },
    Failed(PullFailed),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum PullFailed {
    #[error(transparent)]
    Request(#[from] RequestFailed),
    #[error(transparent)]
    Link(#[from] LinkRefused),
    #[error(
        "the record changed under every walk: {distinct} resources seen, {total} promised; asked again later"
    )]
    Incomplete { total: u64, distinct: u64 },
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Gives `slot` back as soon as nothing but the end of the pull is left to be stored.
pub async fn pull(means: &Means, order: Order, slot: &mut Slot) -> Pulled {
    let now = clock::now();
    let mut pull = Pull::new(means, order, slot);
    let result = pull.run().await;
    let ending = match result {
        Ok(ending) => ending,
        Err(failed) => Ending::Failed(failed),
    };
    pull.count_cost();
    let started_at = pull.frame.as_ref().map_or(now, |frame| frame.started_at);
    Pulled { row: pull.row, tally: pull.tally, started_at, ending }
}

struct Pull<'m> {
    means: &'m Means,
    order: Order,
    query: Query,
    first_url: Url,
    entry_rules: EntryRules,
    budget: Budget,
    /// Known once the server has answered, or from the pull that is resumed.
    frame: Option<PullFrame>,
    first_sent: Option<Timestamp>,
    row: PullRow,
    tally: Tally,
    /// Finished walks of this pull, and the one under way.
    walks: Vec<Walk>,
    walk: Walk,
    paging: Paging,
    renamed: bool,
    notes: Vec<String>,
    /// Attempts that ended at the link at hand without a new page.
    link_failures: u32,
    slot: &'m mut Slot,
}

/// What of a page is not stored yet.
#[derive(Default)]
struct Rest {
    rows: Vec<PlacedRow>,
    quarantined: Vec<crate::plan::row::Quarantined>,
}

impl Rest {
    /// Of entries with one key only the one that wins is kept: the later `meta.lastUpdated`,
    /// else the later arrival.
    fn place(&mut self, row: Row, is_repeat: bool) {
        let is_same = |placed: &&mut PlacedRow| placed.row.table == row.table && placed.row.key == row.key;
        match self.rows.iter_mut().filter(|_| is_repeat).find(is_same) {
            Some(earlier) if row.is_older_than(earlier.row.last_updated.as_deref()) => {}
            Some(earlier) => earlier.row = row,
            None => self.rows.push(PlacedRow { row, is_repeat }),
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.quarantined.is_empty()
    }
}

/// A page that was read to its end.
struct Page {
    rest: Rest,
    keys: HashSet<KeyHash>,
    received: u64,
    facts: PageFacts,
}

impl<'m> Pull<'m> {
    fn new(means: &'m Means, order: Order, slot: &'m mut Slot) -> Self {
        let (api, rules) = (&means.api, means.rules);
        let query = Query {
            person: order.person.clone(),
            types: order.types.clone(),
            since: order.since,
            page_size: rules.page_size,
        };
        let first_url = query.first_url(api.base_url());
        let paging = Paging::start(query.clone(), api.base_url(), &first_url, 0, rules.pages_max);
        Self {
            means,
            first_url,
            entry_rules: EntryRules {
                fhir_root: fhir_root(api.base_url()),
                entry_bytes_max: ENTRY_BYTES_MAX as u64,
                depth_max: DEPTH_MAX,
            },
            budget: Budget::new(rules.bytes_max, Instant::now() + rules.time_max),
            frame: None,
            first_sent: None,
            row: PullRow::default(),
            tally: Tally::default(),
            walks: Vec::new(),
            walk: Walk::default(),
            paging,
            renamed: false,
            notes: Vec::new(),
            link_failures: 0,
            slot,
            query,
            order,
        }
    }

    async fn run(&mut self) -> Result<Ending, PullFailed> {
        let mut url = match self.order.resume.take() {
            None => self.first_url.clone(),
            Some(resume) => self.resume(resume),
        };
        let mut may_restart = true;
        loop {
            self.slot.take_again().await;
            let at_first = url == self.first_url;
            match self.page_and_store(&url).await {
                Ok(Some(next)) => url = next,
                Ok(None) => return Ok(Ending::Finished { renamed: self.renamed, guarded: None }),
                Err(Stopped::Guarded(rows)) => {
                    return Ok(Ending::Finished { renamed: self.renamed, guarded: Some(rows) });
                }
                Err(Stopped::Failed(failed)) if !at_first && may_restart && self.begins_again(&failed) => {
                    may_restart = false;
                    self.restart().await?;
                    url = self.first_url.clone();
                }
                Err(Stopped::Failed(failed)) => return Err(failed),
            }
        }
    }

    fn resume(&mut self, resume: Resume) -> Url {
        let Resume { under_way, next_url, mut walks } = resume;
        self.frame = Some(PullFrame {
            person: self.order.person.clone(),
            mode: under_way.mode,
            types: under_way.types,
            started_at: under_way.started_at,
            since: under_way.since,
            is_resumed: true,
        });
        self.query.since = under_way.since;
        self.first_url = self.query.first_url(self.means.api.base_url());
        self.walk = walks.pop().unwrap_or_default();
        self.walks = walks;
        self.renamed = under_way.renamed;
        self.link_failures = under_way.link_failures;
        let pages_max = self.means.rules.pages_max;
        // A stored link passed the same test when it was stored; the base URL may have changed since.
        let url = Paging::start(self.query.clone(), self.means.api.base_url(), &self.first_url, 0, pages_max)
            .accept(&self.first_url, &next_url)
            .unwrap_or_else(|_| self.first_url.clone());
        if url == self.first_url {
            self.walk = Walk::default();
        }
        self.paging =
            Paging::start(self.query.clone(), self.means.api.base_url(), &url, self.walk.pages, pages_max);
        url
    }

    /// Is it where the pull went on that is at fault, so that it begins again?
    fn begins_again(&self, failed: &PullFailed) -> bool {
        match failed {
            PullFailed::Request(
                RequestFailed::Rejected { status: 400 | 410 } | RequestFailed::PersonUnknown,
            ) => true,
            // Much may have changed on the server since the walk that was resumed began.
            PullFailed::Incomplete { .. } => self.frame.as_ref().is_some_and(|frame| frame.is_resumed),
            PullFailed::Request(RequestFailed::Rejected { .. } | RequestFailed::Transient { .. })
            | PullFailed::Link(_) => self.link_failures + 1 >= LINK_ATTEMPTS_MAX,
            _ => false,
        }
    }

    async fn restart(&mut self) -> Result<(), PullFailed> {
        self.note("what was interrupted could not be gone on with; the pull began again".to_owned());
        self.walks.clear();
        self.begin_walk();
        self.link_failures = 0;
        if let (Some(frame), Sink::Warehouse(warehouse)) = (self.frame.clone(), &self.means.sink) {
            warehouse.write(move |connection| checkpoint::begin_pull(connection, &frame)).await?;
        }
        Ok(())
    }

    fn begin_walk(&mut self) {
        self.walk = Walk::default();
        let pages_max = self.means.rules.pages_max;
        self.paging =
            Paging::start(self.query.clone(), self.means.api.base_url(), &self.first_url, 0, pages_max);
    }

    /// Fetches and wholly reads one page, again if it breaks off, and stores it with what it
    /// means for the pull. Returns the next page's URL.
    async fn page_and_store(&mut self, url: &Url) -> Result<Option<Url>, Stopped> {
        let page = self.page(url).await?;
        let entries = page.received;
        self.row.pages += 1;
        // All that the walk has seen are the keys of its first page, which may be a long answer.
        let of_page = (self.walk.pages > 0).then(|| page.keys.iter().copied().collect());
        self.walk.add_page(page.keys, page.received, page.facts.total);
        self.means.pace.note(self.walk.received, self.walk.total);
        let end =
            PageEnd { entries, next: page.facts.next.as_deref(), more_promised: self.walk.promises_more() };
        // Decided before it is stored: a page whose next link is refused is not kept.
        let step = self.paging.after_page(url, end).map_err(PullFailed::Link)?;
        let walk = self.mark();
        match step {
            Step::Fetch(next) => {
                let keys = self.keys_of_page(of_page);
                let progress = Progress::Next { url: next.to_string(), keys, walk };
                self.store(page.rest, progress).await?;
                self.link_failures = 0;
                Ok(Some(next))
            }
            Step::End => self.end_walk(page.rest, of_page).await,
        }
    }

    fn keys_of_page(&self, of_page: Option<Vec<KeyHash>>) -> Vec<KeyHash> {
        of_page.unwrap_or_else(|| self.walk.seen.iter().copied().collect())
    }

    fn mark(&self) -> WalkMark {
        WalkMark::of(&self.walk, u32::try_from(self.walks.len()).unwrap_or(u32::MAX).saturating_add(1))
    }

    async fn end_walk(&mut self, rest: Rest, of_page: Option<Vec<KeyHash>>) -> Result<Option<Url>, Stopped> {
        let walk = self.mark();
        let coverage = match judge_walk(&self.walk, &self.walks) {
            WalkVerdict::Complete(coverage) => coverage,
            WalkVerdict::WalkAgain => {
                let keys = self.keys_of_page(of_page);
                self.store(rest, Progress::WalkAgain { keys, walk }).await?;
                return Ok(Some(self.walk_again()));
            }
            WalkVerdict::Incomplete { total, distinct } => {
                // What was received is kept; that it is all, nobody can say.
                self.store(rest, Progress::Partial).await?;
                return Err(PullFailed::Incomplete { total, distinct }.into());
            }
        };
        let may_sweep = match coverage {
            Coverage::Whole => true,
            Coverage::Uncounted => false,
            Coverage::TotalIsOff { total, distinct, may_sweep } => {
                self.note(format!(
                    "the server counts {total} and sent {distinct} twice over; taken as complete"
                ));
                may_sweep
            }
        };
        let mode = self.frame.as_ref().map_or(self.order.mode, |frame| frame.mode);
        let sweeps = may_sweep && mode == PullMode::Full;
        let seen = Arc::new(if sweeps { self.take_seen() } else { Vec::new() });
        let sweep =
            sweeps.then(|| SweepRequest { seen: seen.clone(), pages: self.walk.pages, walk: walk.number });
        let note = (!self.notes.is_empty()).then(|| self.notes.join("; "));
        let started_at = self.frame.as_ref().map_or_else(clock::now, |frame| frame.started_at);
        let overlap = TimeDelta::from_std(self.means.rules.overlap).unwrap_or_default();
        // A single page is not walked again for the sweep.
        let keys = of_page.unwrap_or_default();
        let end = PullEnd { watermark: started_at - overlap, note, sweep, keys, walk };
        if rest.is_empty() {
            // Waiting for the disk, it holds nothing; the next patient can be asked meanwhile.
            self.slot.give_back();
        }
        let stored = self.store(rest, Progress::End(end)).await?;
        if stored.walk_again {
            self.put_seen_back(Arc::unwrap_or_clone(seen));
            return Ok(Some(self.walk_again()));
        }
        match stored.guarded {
            Some(rows) => Err(Stopped::Guarded(rows)),
            None => Ok(None),
        }
    }

    fn walk_again(&mut self) -> Url {
        let walk = std::mem::take(&mut self.walk);
        self.walks.push(walk);
        self.begin_walk();
        self.first_url.clone()
    }

    /// What each walk has seen, for the sweep, without a copy: an answer may be long.
    fn take_seen(&mut self) -> Vec<HashSet<KeyHash>> {
        self.walks.iter_mut().chain([&mut self.walk]).map(|walk| std::mem::take(&mut walk.seen)).collect()
    }

    fn put_seen_back(&mut self, seen: Vec<HashSet<KeyHash>>) {
        for (walk, seen) in self.walks.iter_mut().chain([&mut self.walk]).zip(seen) {
            walk.seen = seen;
        }
    }

    async fn page(&mut self, url: &Url) -> Result<Page, PullFailed> {
        let mut attempts = self.means.api.attempts();
        loop {
            let failed = match self.try_page(url).await {
                Ok(page) => return Ok(page),
                Err(PullFailed::Request(failed)) => failed,
                Err(failed) => return Err(failed),
            };
            if self.budget.ends <= Instant::now() {
                return Err(RequestFailed::LimitReached { what: "sync.time_max" }.into());
            }
            attempts.wait(failed, &self.means.api, &self.means.stop).await?;
        }
    }

    async fn try_page(&mut self, url: &Url) -> Result<Page, PullFailed> {
        let Means { api, stop, .. } = self.means;
        let first_sent = *self.first_sent.get_or_insert_with(clock::now);
        let mut stream = api.open_page(url, &self.budget, stop).await?;
        if self.frame.is_none() {
            self.frame = Some(self.begin(first_sent, &stream));
        }
        let mut rest = Rest::default();
        let mut keys = HashSet::new();
        let mut received = 0;
        while let Some(entries) = stream.next_batch(api, &self.budget, stop).await? {
            // Only the last batch waits for what the page says of itself.
            if !rest.is_empty() {
                self.store(std::mem::take(&mut rest), Progress::Partial).await?;
            }
            for entry in entries {
                let sorted = sort_entry(entry, &self.entry_rules);
                received += u64::from(self.take_entry(sorted, &mut rest, &mut keys)?);
            }
            self.means.pace.note(self.walk.received + received, self.walk.total);
        }
        let facts = stream.finish()?;
        Ok(Page { rest, keys, received, facts })
    }

    /// The earlier of our clock and the server's, so that neither being wrong makes a gap.
    fn begin(&self, first_sent: Timestamp, stream: &PageStream) -> PullFrame {
        let answered_after = TimeDelta::from_std(stream.answered_after).unwrap_or_default();
        let by_server = stream.server_date.map(|date| date - answered_after);
        let started_at = by_server.map_or(first_sent, |by_server| by_server.min(first_sent));
        PullFrame {
            person: self.order.person.clone(),
            mode: self.order.mode,
            types: self.order.types.clone(),
            started_at: Timestamp::from_timestamp(started_at.timestamp(), 0).unwrap_or(started_at),
            since: self.order.since,
            is_resumed: false,
        }
    }

    /// Puts an entry where it belongs; true if it counts towards `total`.
    fn take_entry(
        &mut self,
        entry: SortedEntry,
        rest: &mut Rest,
        keys: &mut HashSet<KeyHash>,
    ) -> Result<bool, PullFailed> {
        let row = match entry.sorted {
            Sorted::Outcome(outcome) => {
                let issues = outcome.issues.join(", ");
                if outcome.is_error {
                    return Err(broken_page(&format!("it holds an error outcome ({issues})")));
                }
                self.note(format!("outcome {issues}"));
                let Some(row) = outcome.row else { return Ok(false) };
                Sorted::Row(row)
            }
            sorted => sorted,
        };
        match row {
            Sorted::Row(row) => {
                self.row.entries += 1;
                let key = key_hash(&row.key);
                let is_repeat = !keys.insert(key) || self.walk.seen.contains(&key);
                rest.place(row, is_repeat);
            }
            Sorted::Quarantined(entry) => {
                self.row.entries += 1;
                keys.insert(key_hash(&entry.key));
                rest.quarantined.push(entry);
            }
            Sorted::NoResource | Sorted::Outcome(_) => {
                keys.extend(entry.identity);
                self.note("an entry without a resource".to_owned());
            }
            Sorted::Unreadable(_) => return Err(broken_page("an entry is not JSON")),
        }
        Ok(true)
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn count_cost(&mut self) {
        self.row.requests = self.budget.meter.requests.load(Ordering::Relaxed);
        self.row.bytes = self.budget.meter.bytes.load(Ordering::Relaxed);
    }

    async fn store(&mut self, rest: Rest, progress: Progress) -> Result<Stored, PullFailed> {
        self.count_cost();
        let Some(frame) = self.frame.clone() else {
            return Err(StoreFailed::Superseded.into());
        };
        let mut batch = Batch { rows: rest.rows, quarantined: rest.quarantined, progress };
        let stored = match &self.means.sink {
            Sink::Warehouse(warehouse) => {
                let (row, tables) = (self.row, warehouse.analyst_tables());
                warehouse
                    .write(move |connection| {
                        page::store(connection, &tables, &frame, row, &batch, clock::now())
                    })
                    .await?
            }
            Sink::DryRun(reader) => {
                // What an earlier walk has brought has been compared.
                let walked = |key| self.walks.iter().any(|walk| walk.seen.contains(&key));
                batch.rows.retain(|placed| !walked(key_hash(&placed.row.key)));
                let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                compare::store_nothing(reader.as_ref(), &frame, &batch, clock::now())?
            }
        };
        self.row.id = Some(stored.pull_id);
        self.tally += stored.tally;
        self.renamed |= stored.renamed;
        Ok(stored)
    }
}

/// Why the road ended before its end.
enum Stopped {
    Failed(PullFailed),
    /// It ended well, but a sweep was held back.
    Guarded(u64),
}

impl<E: Into<PullFailed>> From<E> for Stopped {
    fn from(failed: E) -> Self {
        Self::Failed(failed.into())
    }
}

fn broken_page(what: &str) -> PullFailed {
    let what = format!("the answer is not usable: {what}");
    RequestFailed::Transient { what, retry_after: None, reach: Reach::Answered }.into()
}
