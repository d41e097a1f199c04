//! A warehouse on trial: opened over a candidate, and pulled into by hand.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Candidate, Kept};
use crate::plan::arrivals::Arrivals;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::WalkCounts;
use crate::plan::roster::RosterPatient;
use crate::plan::row::{KeyHash, Quarantined, Row, row_of};
use crate::plan::state::Event;
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter, parse_stamp};
use crate::warehouse::page::{
    Batch, Completion, IncomingRow, PullProgress, ShortfallChange, StoredBatch, SweepRequest, WalkMark,
};
use crate::warehouse::patient::RosterReading;
use crate::warehouse::place::{Close, OtherServer};
use crate::warehouse::pull::{Fenced, Lease, PullCost, PullEnded, PullHead, PullOutcome, Setback};
use crate::warehouse::report::VerifyDepth;
use crate::warehouse::{Reader, Warehouse};

/// Whose word a purge is.
pub(super) const BY: &str = "an-operator";

pub(super) const BASE_URL: &str = "https://api.example.org";

/// A moment so long ago that no clock shows it.
pub(in crate::warehouse) fn at(seconds: i64) -> Timestamp {
    parse_stamp("2001-02-03T04:05:06Z").unwrap() + crate::time::TimeDelta::seconds(seconds)
}

pub(in crate::warehouse) fn person(id: &str) -> PersonId {
    PersonId::parse(id).unwrap()
}

/// A laboratory result, which is a row of an analysts' table too.
pub(in crate::warehouse) fn observation(number: u32) -> Row {
    observation_that(number, "is as at first")
}

pub(super) fn observation_that(number: u32, text: &str) -> Row {
    let resource = format!(
        r#"{{"resourceType":"Observation","id":"o{number}","status":"final","valueString":"{text}",
            "category":[{{"coding":[{{"code":"laboratory"}}]}}]}}"#
    );
    row_of(&format!("Observation/{number}"), &resource).unwrap()
}

pub(super) fn condition(number: u32) -> Row {
    let resource = format!(r#"{{"resourceType":"Condition","id":"c{number}"}}"#);
    row_of(&format!("Condition/{number}"), &resource).unwrap()
}

pub(super) fn quarantined(key: &str) -> Quarantined {
    Quarantined {
        key: key.to_owned(),
        reason: "is no resource",
        entry: b"{}".to_vec(),
        is_named: true,
        table: None,
        id: None,
    }
}

pub(super) fn keys(rows: &[Row]) -> Vec<KeyHash> {
    rows.iter().map(|row| row.identity().hash()).collect()
}

pub(super) fn mark(number: u32, pages: u64, received: u64) -> WalkMark {
    let counts = WalkCounts { pages, received, total: Some(received), ..WalkCounts::default() };
    WalkMark { number, counts }
}

/// What a whole page of these rows, which another follows, has brought.
pub(super) fn next(rows: &[Row], walk: WalkMark) -> PullProgress {
    PullProgress::Next { url: link(walk.counts.pages + 1), keys: keys(rows), walk }
}

/// Where a page is.
pub(super) fn link(page: u64) -> String {
    format!("{BASE_URL}/page/{page}")
}

/// The end of a pull that does not sweep.
pub(in crate::warehouse) fn end(rows: &[Row], watermark: Timestamp) -> PullProgress {
    let walk = mark(1, 1, rows.len() as u64);
    PullProgress::End(completion(watermark, None, rows, walk))
}

/// The end of a full pull whose walk, the last one, had this many pages and saw these rows.
pub(super) fn end_with_sweep(seen: &[&[Row]], pages: u64) -> PullProgress {
    let number = u32::try_from(seen.len()).unwrap();
    let last = seen[seen.len() - 1];
    let sets: Vec<HashSet<KeyHash>> = seen.iter().map(|rows| keys(rows).into_iter().collect()).collect();
    let mut arrivals = Arrivals::default();
    for row in last {
        arrivals.add(row.identity());
    }
    let sweep = SweepRequest { seen: Arc::new(sets), walk: number, arrived: arrivals.count() };
    let walk = mark(number, pages, last.len() as u64);
    PullProgress::End(completion(at(0), Some(sweep), last, walk))
}

fn completion(watermark: Timestamp, sweep: Option<SweepRequest>, rows: &[Row], walk: WalkMark) -> Completion {
    let shortfall = ShortfallChange::Clear;
    Completion { watermark, note: None, sweep, keys: Some(keys(rows)), walk, shortfall, brought: None }
}

pub(in crate::warehouse) fn batch(rows: &[Row], progress: PullProgress) -> Batch {
    let rows = rows.iter().map(|row| IncomingRow { row: row.clone(), is_repeat: false }).collect();
    Batch { rows, quarantined: Vec::new(), progress, is_mostly_changes: true }
}

pub(super) fn setback(event: Event) -> Setback {
    Setback {
        event,
        error: Some("what an operator is told".to_owned()),
        next_attempt_at: Some(at(9_000)),
        was_answered: false,
        was_permitted: false,
        breaks_row: false,
        forgets_pull: false,
        short: None,
    }
}

/// A pull as its worker knows it.
pub(in crate::warehouse) struct Pull {
    pub(in crate::warehouse) head: PullHead,
    pub(in crate::warehouse) cost: PullCost,
}

impl Pull {
    pub(super) fn new(person: &PersonId, mode: PullMode, started_at: Timestamp) -> Self {
        let since = (mode == PullMode::Incremental).then(|| at(-3_600));
        let types = TypeFilter::default();
        let head = PullHead { person: person.clone(), mode, types, started_at, since, is_resumed: false };
        Self { head, cost: PullCost::default() }
    }

    pub(in crate::warehouse) fn full(person: &PersonId, started_at: Timestamp) -> Self {
        Self::new(person, PullMode::Full, started_at)
    }

    pub(super) fn ended(&self, outcome: PullOutcome, setback: Option<Setback>) -> PullEnded {
        let error = Some("why it ended".to_owned());
        let (head, cost) = (self.head.clone(), self.cost);
        let is_marked = head.is_resumed || cost.row.is_some();
        PullEnded { head, cost, is_marked, outcome, error, setback }
    }
}

#[track_caller]
pub(super) fn kept<T>(answer: Fenced<T>) -> T {
    match answer {
        Fenced::Kept(answer) => answer,
        Fenced::Superseded => panic!("superseded"),
    }
}

/// Returns everybody, as the cycle that has begun found them.
pub(super) async fn everybody(warehouse: &Warehouse) -> Vec<Lease> {
    let mut patients = Vec::new();
    warehouse.visit_patients(|patient| patients.push(Lease::alone(patient))).await.unwrap();
    patients
}

/// A line of a roster.
pub(in crate::warehouse) fn listed(id: &str) -> RosterPatient {
    person(id).into()
}

pub(in crate::warehouse) struct Trial<C> {
    pub(in crate::warehouse) candidate: C,
    /// `None` between two openings.
    warehouse: Option<Arc<Warehouse>>,
}

impl<C: Candidate> Trial<C> {
    /// A new warehouse, and a cycle in it that has begun with these patients.
    pub(in crate::warehouse) async fn with<const N: usize>(persons: [&str; N]) -> Self {
        let mut trial = Self { candidate: C::new(BASE_URL), warehouse: None };
        trial.open();
        trial.begin_cycle(&persons, at(0)).await;
        trial
    }

    fn open(&mut self) {
        let opened = Warehouse::open(self.candidate.place(), OtherServer::Refuse, at(0)).unwrap();
        self.warehouse = Some(Arc::new(opened));
    }

    pub(in crate::warehouse) fn warehouse(&self) -> &Warehouse {
        self.warehouse.as_deref().unwrap()
    }

    /// Closes the warehouse.
    pub(in crate::warehouse) fn close(&mut self) {
        self.warehouse.take().unwrap().close(Close::Settle);
    }

    pub(in crate::warehouse) fn reopen(&mut self) {
        if let Some(warehouse) = self.warehouse.take() {
            warehouse.close(Close::Settle);
        }
        self.open();
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::open(&self.candidate.place().location).unwrap()
    }

    pub(in crate::warehouse) fn kept(&self) -> Kept {
        self.candidate.kept()
    }

    /// Begins a cycle, and returns everybody as it finds them.
    pub(in crate::warehouse) async fn begin_cycle(&self, persons: &[&str], now: Timestamp) -> Vec<Lease> {
        let line = |id: &&str| RosterPatient { label: Some(format!("label-{id}")), ..listed(id) };
        let roster = RosterReading::of_files(persons.iter().map(line).collect());
        self.warehouse().begin_cycle(roster, now).await.unwrap();
        self.everybody().await
    }

    pub(super) async fn everybody(&self) -> Vec<Lease> {
        everybody(self.warehouse()).await
    }

    pub(super) async fn checkpoint(&self, person: &PersonId) -> Checkpoint {
        self.warehouse().claim(person).await.unwrap().unwrap().checkpoint
    }

    /// Stores a batch of a pull.
    pub(super) async fn answer(&self, pull: &mut Pull, batch: Batch, now: Timestamp) -> Fenced<StoredBatch> {
        let is_whole = !matches!(batch.progress, PullProgress::Partial);
        pull.cost.pages += u64::from(is_whole);
        pull.cost.requests += 1;
        pull.cost.entries += batch.rows.len() as u64;
        let answer = self.warehouse().store_page(&pull.head, pull.cost, batch, now).await.unwrap();
        if let Fenced::Kept(stored) = &answer {
            pull.cost.row = stored.row;
        }
        answer
    }

    /// Stores a batch that is to be kept.
    pub(in crate::warehouse) async fn store(
        &self,
        pull: &mut Pull,
        batch: Batch,
        now: Timestamp,
    ) -> StoredBatch {
        kept(self.answer(pull, batch, now).await)
    }

    /// Pulls these rows in full, in one page.
    pub(in crate::warehouse) async fn pull(&self, person: &PersonId, rows: &[Row], now: Timestamp) {
        let mut pull = Pull::full(person, now);
        self.store(&mut pull, batch(rows, end(rows, now)), now).await;
    }

    pub(super) async fn end(&self, ended: PullEnded, now: Timestamp) {
        kept(self.warehouse().end_pull(ended, now).await.unwrap());
    }

    #[track_caller]
    pub(super) fn assert_sound(&self) {
        let found = self.reader().verify(&self.candidate.place().views, VerifyDepth::Rows, at(0)).unwrap();
        assert!(found.is_sound(), "{:?}", found.wrong);
    }
}
