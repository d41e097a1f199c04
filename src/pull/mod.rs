//! One pull of one patient, walk by walk: pages in, batches out, [`Walked`] at a walk's end.
//!
//! Promise: what is stored is what was received, and the watermark moves only in the
//! transaction that ends a complete pull. Absent on purpose: opinions, which are in `plan`;
//! who is pulled beside it; and SQL.

mod context;
mod page;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use url::Url;

pub(crate) use self::context::{Pace, PullContext, PullPlan, PullRules, ResumePoint};
use self::page::{Page, PageRest};
use crate::clock;
use crate::clock::Instant;
use crate::healthex::meter::Budget;
use crate::healthex::page_stream::PageStream;
use crate::healthex::{FailureStage, RequestFailed};
use crate::plan::arrivals::Arrivals;
use crate::plan::completeness::{
    Coverage, ShortSince, ShortVerdict, Shortfall, Walk, WalkVerdict, judge_short, judge_walk,
};
use crate::plan::paging::{LinkRefused, PageEnd, Paging, Query, Step};
use crate::plan::resume::{Stumble, StumbleFacts, begins_again};
use crate::plan::row::{EntryRules, KeyHash};
use crate::plan::start::{pull_start, watermark_after};
use crate::plan::unreadable::{Unreadable, UnreadableVerdict};
use crate::plan::{PullMode, Timestamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{
    Batch, Brought, Completion, PullProgress, ShortNote, ShortfallChange, StoredBatch, SweepOutcome,
    SweepRequest, Tally, WalkMark,
};
use crate::warehouse::pull::{Fenced, PullCost, PullHead};

/// Different notes of one pull that are kept.
const NOTES_MAX: usize = 8;
/// Names of entries that a note tells.
const NAMES_TOLD: usize = 3;

/// Why a pull ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PullFailed {
    #[error(transparent)]
    Request(#[from] RequestFailed),
    #[error(transparent)]
    Link(#[from] LinkRefused),
    #[error("the record changed under every walk: {} resources seen{}; asked again later", .0.counted, promised(.0))]
    Unsteady(Shortfall),
    #[error("short: {}; what came is kept, and the rest is asked for again later", short(.shortfall))]
    Short { shortfall: Shortfall, since: ShortSince },
    #[error("another pull of this patient has taken over")]
    Superseded,
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

fn promised(shortfall: &Shortfall) -> String {
    shortfall.total.map_or_else(String::new, |total| format!(", {total} promised"))
}

fn short(shortfall: &Shortfall) -> String {
    let counted = shortfall.counted;
    match shortfall.total.filter(|total| *total > counted) {
        Some(total) => format!("{counted} of {total}"),
        None => format!("{counted}, and the server says that its answer is not complete"),
    }
}

impl PullFailed {
    /// Returns whether the server answered, and neither permitted nor refused.
    pub(crate) fn is_other_answer(&self) -> bool {
        matches!(self, Self::Request(failed) if failed.is_other_answer())
    }

    /// Returns what is noted of a pull that was short.
    pub(crate) fn short_note(&self) -> Option<ShortNote> {
        match self {
            Self::Short { shortfall, since } => {
                Some(ShortNote { by: missing(*shortfall), since: Some(*since) })
            }
            _ => None,
        }
    }
}

fn missing(shortfall: Shortfall) -> u64 {
    shortfall.total.unwrap_or_default().saturating_sub(shortfall.counted)
}

/// A walk that came to its last page, which is not stored yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Walked {
    rest: PageRest,
    /// The keys of the last page; `None` where all of the walk's are.
    keys: Option<Vec<KeyHash>>,
}

impl Walked {
    /// Returns whether entries are kept in memory until they are stored.
    pub(crate) fn holds_entries(&self) -> bool {
        !self.rest.is_empty()
    }
}

/// What became of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// The pull is over. `guarded` rows looked vanished and were not marked.
    Finished { guarded: Option<u64> },
    /// It is to be walked once more.
    Again,
}

/// A pull under way.
pub(crate) struct Pull<'c> {
    context: &'c PullContext,
    query: Query,
    first_url: Url,
    /// The page at hand.
    url: Url,
    entry_rules: EntryRules,
    budget: Budget,
    head: PullHead,
    /// Whether `head.started_at` is known: from the first answer, or from the pull that is resumed.
    has_started: bool,
    first_sent: Option<Timestamp>,
    cost: PullCost,
    tally: Tally,
    /// Finished walks of this pull, and the one under way.
    walks: Vec<Walk>,
    walk: Walk,
    /// What the walk under way has brought.
    arrivals: Arrivals,
    paging: Paging,
    renamed: bool,
    notes: Vec<String>,
    /// Attempts that ended at the link at hand without a new page.
    link_failures: u32,
    has_restarted: bool,
    short_since: Option<ShortSince>,
    /// The latest `meta.lastUpdated` of the walk under way.
    newest: Option<Timestamp>,
    since_ignored: u64,
}

impl<'c> Pull<'c> {
    pub(crate) fn new(context: &'c PullContext, plan: PullPlan) -> Self {
        let (api, rules) = (&context.api, context.rules);
        let PullPlan { person, mode, types, since, resume, short_since } = plan;
        let query = Query { person: person.clone(), types: types.clone(), since, page_size: rules.page_size };
        let first_url = query.first_url(api.base_url());
        let paging = Paging::start(query.clone(), api.base_url(), &first_url, 0, rules.pages_max);
        let head =
            PullHead { person, mode, types, started_at: clock::now(), since, is_resumed: resume.is_some() };
        let mut pull = Self {
            context,
            url: first_url.clone(),
            first_url,
            entry_rules: page::entry_rules(api.base_url()),
            budget: Budget::new(rules.bytes_max, Instant::now() + rules.time_max).named(&context.name),
            head,
            has_started: false,
            first_sent: None,
            cost: PullCost::default(),
            tally: Tally::default(),
            walks: Vec::new(),
            walk: Walk::default(),
            arrivals: Arrivals::default(),
            paging,
            renamed: false,
            notes: Vec::new(),
            link_failures: 0,
            has_restarted: false,
            short_since,
            newest: None,
            since_ignored: 0,
            query,
        };
        if let Some(resume) = resume {
            pull.resume(resume);
        }
        pull
    }

    /// Returns what the pull is, with the time of its start.
    pub(crate) fn head(&self) -> &PullHead {
        &self.head
    }

    /// Returns what the pull has cost so far.
    pub(crate) fn cost(&self) -> PullCost {
        let mut cost = self.cost;
        cost.requests = self.budget.meter.requests.load(Ordering::Relaxed);
        cost.bytes = self.budget.meter.bytes.load(Ordering::Relaxed);
        cost
    }

    /// Returns what the pull has changed so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns whether entries may have been renamed, which only a full pull can tell.
    pub(crate) fn met_renamed_entries(&self) -> bool {
        self.renamed
    }

    /// Returns how many pulls in a row have brought everything, whatever was asked for.
    pub(crate) fn since_ignored(&self) -> u64 {
        self.since_ignored
    }

    /// Fetches and stores page after page, and comes back with the last one.
    pub(crate) async fn walk(&mut self) -> Result<Walked, PullFailed> {
        loop {
            match self.page_and_store().await {
                Ok(None) => {}
                Ok(Some(walked)) => return Ok(walked),
                Err(failed) if self.begins_again(&failed) => self.restart().await?,
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Stores the last page of a walk and, if the walks show that they have seen everything, the
    /// end of the pull.
    pub(crate) async fn end_walk(&mut self, walked: Walked) -> Result<WalkEnd, PullFailed> {
        let Walked { rest, keys } = walked;
        let page_size = self.query.page_size;
        match judge_walk(&self.walk, &self.walks, self.head.mode, page_size) {
            WalkVerdict::Complete(coverage) => {
                let shortfall = self.note_coverage(coverage);
                self.finish(rest, keys, coverage.may_sweep(), shortfall).await
            }
            WalkVerdict::WalkAgain => {
                let (keys, walk) = (self.all_if_none(keys), self.mark());
                self.store(rest, PullProgress::WalkAgain { keys, walk }).await?;
                self.walk_again();
                Ok(WalkEnd::Again)
            }
            WalkVerdict::Unsteady(shortfall) => self.give_up(rest, PullFailed::Unsteady(shortfall)).await,
            WalkVerdict::Short(shortfall) => {
                match judge_short(self.short_since, self.walk.fingerprint(), clock::now()) {
                    ShortVerdict::Fails(since) => {
                        self.give_up(rest, PullFailed::Short { shortfall, since }).await
                    }
                    ShortVerdict::Believed(since) => {
                        self.note(format!(
                            "short: {}, the same for 24 hours; taken for all there is",
                            short(&shortfall)
                        ));
                        let note = ShortNote { by: missing(shortfall), since: Some(since) };
                        self.finish(rest, keys, false, ShortfallChange::Note(note)).await
                    }
                }
            }
        }
    }

    /// Keeps what was received; that it is all, nobody can say.
    async fn give_up(&mut self, rest: PageRest, failed: PullFailed) -> Result<WalkEnd, PullFailed> {
        self.store(rest, PullProgress::Partial).await?;
        if !self.begins_again(&failed) {
            return Err(failed);
        }
        self.restart().await?;
        Ok(WalkEnd::Again)
    }

    /// Notes what is odd about a complete pull, and returns what it does to an earlier shortfall.
    fn note_coverage(&mut self, coverage: Coverage) -> ShortfallChange {
        let counts = |shortfall: Shortfall| {
            let (total, counted) = (shortfall.total.unwrap_or_default(), shortfall.counted);
            format!("the server counts {total} and sent {counted} twice over")
        };
        match coverage {
            Coverage::Whole | Coverage::SameTwice => ShortfallChange::Clear,
            Coverage::Uncounted => ShortfallChange::Keep,
            Coverage::TotalIsOff(shortfall) => {
                self.note(format!("{}; taken as complete", counts(shortfall)));
                ShortfallChange::Clear
            }
            Coverage::TotalMoves(shortfall) => {
                let counts = counts(shortfall);
                self.note(format!("{counts}, with another total on each page; taken as complete, nothing is marked as deleted"));
                ShortfallChange::Keep
            }
            Coverage::CountsOtherwise(shortfall) => {
                let counts = counts(shortfall);
                self.note(format!(
                    "{counts}, to its last page; taken as complete, nothing is marked as deleted"
                ));
                ShortfallChange::Note(ShortNote { by: missing(shortfall), since: None })
            }
        }
    }

    async fn finish(
        &mut self,
        rest: PageRest,
        keys: Option<Vec<KeyHash>>,
        may_sweep: bool,
        shortfall: ShortfallChange,
    ) -> Result<WalkEnd, PullFailed> {
        let walk = self.mark();
        let sweeps = may_sweep && !self.walk.counts.hides_any && self.head.mode == PullMode::Full;
        let seen = Arc::new(if sweeps { self.take_seen() } else { Vec::new() });
        let completion = Completion {
            watermark: watermark_after(self.head.started_at, self.context.rules.overlap),
            note: (!self.notes.is_empty()).then(|| self.notes.join("; ")),
            sweep: sweeps.then(|| SweepRequest {
                seen: seen.clone(),
                walk: walk.number,
                arrived: self.arrivals.count().map(|count| count.saturating_sub(self.tally.quarantined)),
            }),
            keys,
            walk,
            shortfall,
            brought: (!self.head.is_resumed)
                .then_some(Brought { entries: self.walk.counts.received, newest: self.newest }),
        };
        let stored = self.store(rest, PullProgress::End(completion)).await?;
        match stored.sweep {
            SweepOutcome::Done => Ok(WalkEnd::Finished { guarded: None }),
            SweepOutcome::Guarded(rows) => Ok(WalkEnd::Finished { guarded: Some(rows) }),
            SweepOutcome::WalkAgain => {
                self.put_seen_back(Arc::unwrap_or_clone(seen));
                self.walk_again();
                Ok(WalkEnd::Again)
            }
        }
    }

    fn resume(&mut self, resume: ResumePoint) {
        let ResumePoint { unfinished, next_url, mut walks } = resume;
        let api = &self.context.api;
        self.head.mode = unfinished.mode;
        self.head.started_at = unfinished.started_at;
        self.head.since = unfinished.since;
        self.has_started = true;
        self.query.since = unfinished.since;
        self.first_url = self.query.first_url(api.base_url());
        self.walk = walks.pop().unwrap_or_default();
        self.walks = walks;
        self.renamed = unfinished.renamed;
        self.link_failures = unfinished.link_failures;
        let pages_max = self.context.rules.pages_max;
        // A stored link passed the same test when it was stored; the base URL may have changed since.
        self.url = Paging::start(self.query.clone(), api.base_url(), &self.first_url, 0, pages_max)
            .accept(&self.first_url, &next_url)
            .unwrap_or_else(|_| self.first_url.clone());
        if self.url == self.first_url {
            self.walk = Walk::default();
        } else {
            self.arrivals = Arrivals::unknown();
        }
        self.paging =
            Paging::start(self.query.clone(), api.base_url(), &self.url, self.walk.counts.pages, pages_max);
    }

    fn begins_again(&self, failed: &PullFailed) -> bool {
        begins_again(StumbleFacts {
            stumble: stumble(failed),
            at_first_page: self.url == self.first_url,
            has_restarted: self.has_restarted,
            is_resumed: self.head.is_resumed,
            link_failures: self.link_failures,
        })
    }

    async fn restart(&mut self) -> Result<(), PullFailed> {
        self.note("what was interrupted could not be gone on with; the pull began again".to_owned());
        self.has_restarted = true;
        self.walks.clear();
        self.begin_walk();
        self.link_failures = 0;
        match self.context.warehouse.restart_pull(&self.head).await? {
            Fenced::Kept(()) => Ok(()),
            Fenced::Superseded => Err(PullFailed::Superseded),
        }
    }

    fn begin_walk(&mut self) {
        self.walk = Walk::default();
        self.arrivals = Arrivals::default();
        self.newest = None;
        self.url = self.first_url.clone();
        let (base_url, pages_max) = (self.context.api.base_url(), self.context.rules.pages_max);
        self.paging = Paging::start(self.query.clone(), base_url, &self.first_url, 0, pages_max);
    }

    fn walk_again(&mut self) {
        let walk = std::mem::take(&mut self.walk);
        self.walks.push(walk);
        self.begin_walk();
    }

    /// Fetches and wholly reads one page, again if it breaks off. Stores it with what it means
    /// for the pull, unless it is the last.
    async fn page_and_store(&mut self) -> Result<Option<Walked>, PullFailed> {
        let url = self.url.clone();
        let page = self.page(&url).await?;
        let entries = page.counts.received;
        self.cost.pages += 1;
        // All that the walk has seen are the keys of its first page, which may be a long answer.
        let keys = (self.walk.counts.pages > 0).then(|| page.counts.keys.iter().copied().collect());
        self.newest = self.newest.max(page.newest);
        self.arrivals.append(page.arrivals);
        self.walk.add_page(page.counts);
        self.context.pace.note(self.walk.counts.received, self.walk.counts.total);
        let next = page.next.as_deref();
        let end = PageEnd { entries, next, more_promised: self.walk.promises_more() };
        // Decided before it is stored: a page whose next link is refused is not kept.
        match self.paging.after_page(&url, end)? {
            Step::Fetch(next) => {
                let (keys, walk) = (self.all_if_none(keys), self.mark());
                self.store(page.rest, PullProgress::Next { url: next.to_string(), keys, walk }).await?;
                self.link_failures = 0;
                self.url = next;
                Ok(None)
            }
            Step::End => Ok(Some(Walked { rest: page.rest, keys })),
        }
    }

    fn all_if_none(&self, keys: Option<Vec<KeyHash>>) -> Vec<KeyHash> {
        keys.unwrap_or_else(|| self.walk.seen.iter().copied().collect())
    }

    fn mark(&self) -> WalkMark {
        WalkMark::of(&self.walk, u32::try_from(self.walks.len()).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Returns what each walk has seen, for the sweep, without a copy: an answer may be long.
    fn take_seen(&mut self) -> Vec<HashSet<KeyHash>> {
        self.walks.iter_mut().chain([&mut self.walk]).map(|walk| std::mem::take(&mut walk.seen)).collect()
    }

    fn put_seen_back(&mut self, seen: Vec<HashSet<KeyHash>>) {
        for (walk, seen) in self.walks.iter_mut().chain([&mut self.walk]).zip(seen) {
            walk.seen = seen;
        }
    }

    async fn page(&mut self, url: &Url) -> Result<Page, PullFailed> {
        let mut attempts = self.context.api.attempts();
        let mut unreadable = Unreadable::default();
        loop {
            let mut read = None;
            let failed = match self.try_page(url).await {
                Ok(page) if page.unreadable.is_empty() => return Ok(page),
                Ok(page) => {
                    unreadable.judge(&page.unreadable.keys().copied().collect(), true);
                    read = Some(page);
                    not_usable("an entry is not JSON")
                }
                Err(PullFailed::Request(failed)) => failed,
                Err(failed) => return Err(failed),
            };
            if self.budget.ends <= Instant::now() {
                return Err(RequestFailed::LimitReached { what: "sync.time_max" }.into());
            }
            match (attempts.wait(failed, &self.context.stop).await, read) {
                (Ok(()), _) => {}
                (Err(RequestFailed::Transient { .. }), Some(page))
                    if is_the_servers(&mut unreadable, &page) =>
                {
                    return Ok(self.keep_readable(page));
                }
                (Err(failed), _) => return Err(failed.into()),
            }
        }
    }

    /// Puts apart the entries of a page that no attempt could read.
    fn keep_readable(&mut self, mut page: Page) -> Page {
        let named: Vec<&str> =
            page.unreadable.values().take(NAMES_TOLD).map(|entry| entry.key.as_str()).collect();
        let (entries, named) = (page.unreadable.len(), named.join(", "));
        self.note(format!("{entries} entries that are not JSON are in quarantine: {named}"));
        page.quarantine_unreadable();
        page
    }

    async fn try_page(&mut self, url: &Url) -> Result<Page, PullFailed> {
        let PullContext { api, stop, .. } = self.context;
        let first_sent = *self.first_sent.get_or_insert_with(clock::now);
        let mut stream = api.open_page(url, &self.budget, stop).await?;
        self.start(first_sent, &stream);
        let mut page = Page::default();
        while let Some(entries) = stream.next_batch(&api.meter, &self.budget, stop).await? {
            // Only the last batch waits for what the page says of itself.
            if !page.rest.is_empty() {
                self.store(std::mem::take(&mut page.rest), PullProgress::Partial).await?;
            }
            for entry in entries {
                let taken =
                    page.take(entry, &self.entry_rules, &self.walk).map_err(|what| not_usable(&what))?;
                self.cost.entries += u64::from(taken.is_stored);
                if let Some(note) = taken.note {
                    self.note(note);
                }
            }
            if stream.holds_others_up() {
                if !page.rest.is_empty() {
                    self.store(std::mem::take(&mut page.rest), PullProgress::Partial).await?;
                }
                stream.let_others_go_on();
            }
            let counts = self.walk.counts;
            self.context.pace.note(counts.received + page.counts.received, counts.total);
        }
        let facts = stream.finish()?;
        page.counts.total = facts.total;
        page.next = facts.next;
        Ok(page)
    }

    fn start(&mut self, first_sent: Timestamp, stream: &PageStream) {
        if !std::mem::replace(&mut self.has_started, true) {
            self.head.started_at = pull_start(first_sent, stream.server_date, stream.answered_after);
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    async fn store(&mut self, rest: PageRest, progress: PullProgress) -> Result<StoredBatch, PullFailed> {
        let is_mostly_changes = self.tally.unchanged <= self.tally.inserted + self.tally.updated;
        let PageRest { rows, quarantined } = rest;
        let batch = Batch { rows, quarantined, progress, is_mostly_changes };
        let warehouse = &self.context.warehouse;
        let stored = match warehouse.store_page(&self.head, self.cost(), batch, clock::now()).await? {
            Fenced::Kept(stored) => stored,
            Fenced::Superseded => return Err(PullFailed::Superseded),
        };
        self.cost.row = stored.row;
        self.tally += stored.tally;
        self.renamed |= stored.renamed;
        self.since_ignored = stored.since_ignored;
        Ok(stored)
    }
}

/// Returns what is at fault, for the question whether the pull begins again.
fn stumble(failed: &PullFailed) -> Stumble {
    match failed {
        PullFailed::Request(RequestFailed::Rejected { status: 400 | 410 } | RequestFailed::PersonUnknown) => {
            Stumble::LinkGone
        }
        PullFailed::Request(RequestFailed::Rejected { .. } | RequestFailed::Transient { .. })
        | PullFailed::Link(_) => Stumble::PageFailed,
        PullFailed::Unsteady(_) | PullFailed::Short { .. } => Stumble::Incomplete,
        PullFailed::Request(_) | PullFailed::Superseded | PullFailed::Store(_) => Stumble::Other,
    }
}

fn not_usable(what: &str) -> RequestFailed {
    let what = format!("the answer is not usable: {what}");
    RequestFailed::Transient { what, retry_after: None, stage: FailureStage::Answered }
}

fn is_the_servers(unreadable: &mut Unreadable, page: &Page) -> bool {
    let attempt = page.unreadable.keys().copied().collect();
    unreadable.judge(&attempt, false) == UnreadableVerdict::Quarantine
}
