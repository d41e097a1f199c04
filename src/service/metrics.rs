//! Metrics for Prometheus, in its text format 0.0.4.
//!
//! Counters are of this process; gauges are set at each scrape. No label names a patient.

use std::ops::AddAssign;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::problems::Problem;
use super::process_metrics::ProcessMetrics;
use super::state::ServiceState;
use crate::cycle::Summary;
use crate::cycle::progress::Progress;
use crate::healthex::meter::{Meter, RequestKind};
use crate::plan::Timestamp;
use crate::plan::state::{HeldWhy, PatientState, PurgeReason};
use crate::plan::verdict::CycleVerdict;
use crate::warehouse::report::Overview;
use crate::warehouse::turn::ServerCosts;
use crate::warehouse::workers_told::WorkerIs;

/// From a cycle in which nothing happened to a first full pull of many.
const DURATION_BUCKETS: [f64; 12] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14_400.0, 43_200.0];

/// From a page that was ready to one that HealthEx has to gather.
const REQUEST_BUCKETS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// From a transaction on this machine to a server that restarts.
const DATABASE_BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

/// Answers that show something of the server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GoodAnswers {
    /// It answers about patients.
    pub(super) about_patients: u64,
    /// It takes the credentials, whoever was asked about.
    pub(super) of_records: u64,
}

impl AddAssign for GoodAnswers {
    fn add_assign(&mut self, more: Self) {
        self.about_patients += more.about_patients;
        self.of_records += more.of_records;
    }
}

pub(super) struct Metrics {
    registry: Registry,
    cycles: IntCounterVec,
    cycle_duration: Histogram,
    ticks_skipped: IntCounter,
    pulls: IntCounterVec,
    requests: IntCounterVec,
    resources: IntCounterVec,
    request_duration: Histogram,
    retries: IntCounter,
    received: IntCounter,
    patients: IntGaugeVec,
    watermark_age: IntGauge,
    held: IntGauge,
    held_why: IntGaugeVec,
    purges: IntCounterVec,
    unscrubbed: IntGauge,
    unscrubbed_age: IntGauge,
    late_purges: IntGauge,
    quarantined: IntGauge,
    since_ignored: IntGauge,
    short: IntGauge,
    workers: IntGaugeVec,
    leases_lost: IntCounter,
    lease_takeovers: IntCounter,
    database_up: IntGauge,
    database_time: Histogram,
    cycle_open_age: IntGauge,
    expiring: IntGauge,
    last_success: IntGauge,
    last_good: IntGauge,
    needs_a_person: IntGauge,
    pub(super) roster_stale: IntGauge,
    next_tick: IntGauge,
    under_way: IntGauge,
    progress: IntGaugeVec,
    problems: IntGaugeVec,
    warehouse: IntGaugeVec,
    disk_free: Gauge,
    process: ProcessMetrics,
}

/// Makes metrics and registers them.
struct MetricFactory(Registry);

impl MetricFactory {
    fn register<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<M>,
    ) -> prometheus::Result<M> {
        let metric = made?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(format!("healthex_sync_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(format!("healthex_sync_{name}"), help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(format!("healthex_sync_{name}"), help);
        self.register(Histogram::with_opts(options.buckets(buckets.to_vec())))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(format!("healthex_sync_{name}"), help), labels))
    }
}

impl MetricFactory {
    fn build_info(&self) -> prometheus::Result<()> {
        let build =
            self.gauges("build_info", "Always 1; the label says which version runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "a list, one metric after the other")]
    pub(super) fn new() -> prometheus::Result<Self> {
        let make = MetricFactory(Registry::new());
        let gauge = |name: &str, help: &str| make.gauge(&format!("healthex_sync_{name}"), help);
        make.build_info()?;
        let metrics = Self {
            cycles: make.counters("cycles_total", "Cycles by how they ended.", &["outcome"])?,
            cycle_duration: make.histogram(
                "cycle_duration_seconds",
                "How long cycles took.",
                &DURATION_BUCKETS,
            )?,
            ticks_skipped: make
                .counter("ticks_skipped_total", "Ticks of the schedule that were left out.")?,
            pulls: make.counters("pulls_total", "Patients a cycle dealt with, by outcome.", &["outcome"])?,
            requests: make.counters(
                "requests_total",
                "Requests by kind and by status; 0: no answer.",
                &["kind", "status"],
            )?,
            resources: make.counters("resources_total", "Resources by what became of them.", &["change"])?,
            request_duration: make.histogram(
                "request_duration_seconds",
                "From a request for a page to the head of its answer.",
                &REQUEST_BUCKETS,
            )?,
            retries: make
                .counter("retries_total", "Requests that were sent again after a failure that may pass.")?,
            received: make.counter("received_bytes_total", "Bodies received, decompressed.")?,
            patients: make.gauges("patients", "Patients in the warehouse by state.", &["state"])?,
            watermark_age: gauge(
                "watermark_oldest_age_seconds",
                "Since when changes of an active or failing patient may be missing, the longest; without sync.overlap.",
            )?,
            held: gauge(
                "purges_held",
                "Patients that are held: refused or withdrawn, and not purged unasked.",
            )?,
            held_why: make.gauges("held", "Patients that are held, by why.", &["why"])?,
            purges: make.counters("purges_total", "Patients that were purged, by reason.", &["reason"])?,
            unscrubbed: gauge("purges_unscrubbed", "Purges whose last bytes are not gone yet.")?,
            late_purges: gauge(
                "purges_over_deadline",
                "Purges that took longer than consent.deadline, from the refusal to the last byte.",
            )?,
            unscrubbed_age: gauge(
                "purges_unscrubbed_oldest_age_seconds",
                "How long the oldest of them has waited.",
            )?,
            since_ignored: gauge(
                "since_ignored_patients",
                "Patients whose server sends everything, whatever _since says.",
            )?,
            short: gauge("short_patients", "Patients of whom the server counts more than it sends.")?,
            leases_lost: make.counter(
                "leases_lost_total",
                "Patients that others took over while this process was dealing with them.",
            )?,
            lease_takeovers: make.counter(
                "lease_takeovers_total",
                "Patients that this process took over from one that was silent.",
            )?,
            database_up: gauge("database_up", "Whether the warehouse could be read for this scrape.")?,
            database_time: make.histogram(
                "database_seconds",
                "Transactions of a warehouse on a server, with the waiting for one that is away.",
                &DATABASE_BUCKETS,
            )?,
            workers: make.gauges(
                "workers",
                "Processes that share the roster, by what they are at.",
                &["is"],
            )?,
            cycle_open_age: gauge(
                "cycle_open_age_seconds",
                "How long ago the cycle under way began, by whomever; 0: none is, or it is this process's alone.",
            )?,
            expiring: gauge("consents_expiring", "Consents that run out within roster.consent_warning.")?,
            quarantined: gauge("quarantined_entries", "Entries that are not what they claim to be.")?,
            last_success: gauge(
                "last_success_timestamp_seconds",
                "When a cycle last got through its patients, whatever they came to; 0: never.",
            )?,
            last_good: gauge(
                "last_good_timestamp_seconds",
                "When a cycle was last wholly good, of those that are remembered; 0: none.",
            )?,
            needs_a_person: gauge(
                "needs_a_person",
                "1 where a problem is open, a patient is failing, not found, refused or held, or the last cycle failed.",
            )?,
            next_tick: gauge("next_tick_timestamp_seconds", "When the next cycle is due.")?,
            under_way: gauge("cycle_under_way", "1 while a cycle runs.")?,
            progress: make.gauges(
                "cycle_progress_patients",
                "Patients of the cycle under way.",
                &["part"],
            )?,
            roster_stale: gauge(
                "roster_stale",
                "1 where the roster files here are an old copy, and the warehouse's roster is gone by.",
            )?,
            problems: make.gauges("problem", "1 where something needs a person.", &["problem"])?,
            warehouse: make.gauges("warehouse_bytes", "Size of the warehouse's files.", &["file"])?,
            disk_free: make.register(Gauge::new(
                "healthex_sync_disk_free_bytes",
                "Room on the disk of the warehouse, for this account; NaN where it is a server's.",
            ))?,
            process: ProcessMetrics::register(&make.0)?,
            registry: make.0,
        };
        metrics.initialise_counters();
        Ok(metrics)
    }

    /// Makes every label appear with zero: a counter that is missing until its first event
    /// cannot be alerted on.
    fn initialise_counters(&self) {
        for outcome in CycleVerdict::NAMES {
            self.cycles.with_label_values(&[outcome]);
        }
        for outcome in ["ok", "revoked", "held", "not_found", "failed", "interrupted"] {
            self.pulls.with_label_values(&[outcome]);
        }
        for change in ["inserted", "updated", "unchanged", "deleted", "quarantined"] {
            self.resources.with_label_values(&[change]);
        }
        for reason in PurgeReason::ALL {
            self.purges.with_label_values(&[reason.as_str()]);
        }
    }

    pub(super) fn count_cycle(&self, summary: &Summary, verdict: &CycleVerdict) {
        // What others did, they count.
        let (patients, tally, others) = (summary.patients, summary.resources, &summary.by_others);
        let own = |count: u64, others: u64| count.saturating_sub(others);
        self.cycles.with_label_values(&[verdict.as_str()]).inc();
        self.cycle_duration.observe(summary.took.as_secs_f64());
        let pulls = [
            ("ok", own(patients.ok, others.ok)),
            ("revoked", patients.revoked),
            ("held", patients.held),
            ("not_found", own(patients.not_found, others.not_found)),
            ("failed", own(patients.failed, others.failed)),
            ("interrupted", summary.not_reached),
        ];
        for (outcome, count) in pulls {
            self.pulls.with_label_values(&[outcome]).inc_by(count);
        }
        let changes = [
            ("inserted", own(tally.inserted, others.resources.inserted)),
            ("updated", own(tally.updated, others.resources.updated)),
            ("unchanged", own(tally.unchanged, others.resources.unchanged)),
            ("deleted", own(tally.deleted, others.resources.deleted)),
            ("quarantined", own(tally.quarantined, others.resources.quarantined)),
        ];
        for (change, count) in changes {
            self.resources.with_label_values(&[change]).inc_by(count);
        }
        for purge in &summary.purged {
            self.purges.with_label_values(&[purge.reason.as_str()]).inc();
        }
        self.received.inc_by(own(summary.bytes, others.bytes));
    }

    pub(super) fn count_skipped(&self, ticks: u64) {
        self.ticks_skipped.inc_by(ticks);
    }

    pub(super) fn count_costs(&self, costs: &ServerCosts) {
        self.leases_lost.inc_by(costs.leases_lost);
        self.lease_takeovers.inc_by(costs.leases_taken_over);
        for took in &costs.transactions {
            self.database_time.observe(took.as_secs_f64());
        }
    }

    /// Moves the meter's answers here, and returns those that show something.
    pub(super) fn count_answers(&self, meter: &Meter) -> GoodAnswers {
        let mut good = GoodAnswers::default();
        for took in meter.take_answer_times() {
            self.request_duration.observe(took.as_secs_f64());
        }
        self.retries.inc_by(meter.take_retries());
        for ((request, status), count) in meter.take_answers() {
            let kind = match request {
                RequestKind::Token => "token",
                RequestKind::Page => "page",
                RequestKind::Records => "records",
            };
            self.requests.with_label_values(&[kind, &status.to_string()]).inc_by(count);
            let is_answer = matches!(status, 200..=499) && !matches!(status, 408 | 425 | 429);
            match request {
                RequestKind::Page if is_answer => good.about_patients += count,
                RequestKind::Records if matches!(status, 200..=299) => good.of_records += count,
                RequestKind::Token | RequestKind::Page | RequestKind::Records => {}
            }
        }
        good
    }

    /// Returns the text of one scrape.
    pub(super) fn render(
        &self,
        state: &ServiceState,
        progress: &Progress,
        overview: Option<&Overview>,
        now: Timestamp,
    ) -> String {
        self.last_success.set(state.last_well_end.map_or(0, Timestamp::timestamp));
        self.last_good.set(state.last_good_end().map_or(0, Timestamp::timestamp));
        self.needs_a_person.set(i64::from(state.needs_a_person()));
        self.next_tick.set(state.next_tick.map_or(0, Timestamp::timestamp));
        self.under_way.set(i64::from(state.running_since.is_some()));
        let shown = if state.running_since.is_some() { progress.clone() } else { Progress::default() };
        self.progress.with_label_values(&["done"]).set(to_gauge(shown.done));
        self.progress.with_label_values(&["total"]).set(to_gauge(shown.total));
        for problem in Problem::ALL {
            let is_one = state.problems.contains_key(&problem);
            self.problems.with_label_values(&[problem.as_str()]).set(i64::from(is_one));
        }
        self.database_up.set(i64::from(overview.is_some()));
        if let Some(overview) = overview {
            self.set_overview(overview, now);
        }
        self.process.update(state.started_at);
        let mut text = Vec::new();
        if let Err(failed) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("the metrics cannot be written: {failed}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn set_overview(&self, overview: &Overview, now: Timestamp) {
        let age = |since: Option<Timestamp>| since.map_or(0, |since| (now - since).num_seconds().max(0));
        let count = |state: &str| to_gauge(overview.states.get(state).copied().unwrap_or_default());
        for state in PatientState::ALL.map(PatientState::as_str) {
            self.patients.with_label_values(&[state]).set(count(state));
        }
        self.held.set(count("held"));
        for why in HeldWhy::ALL {
            let held = overview.held.iter().filter(|(kind, _)| kind.why == why).map(|(_, count)| count);
            self.held_why.with_label_values(&[why.as_str()]).set(to_gauge(held.sum()));
        }
        self.watermark_age.set(age(overview.complete_up_to));
        self.unscrubbed.set(to_gauge(overview.unscrubbed));
        self.late_purges.set(to_gauge(overview.late_purges));
        self.unscrubbed_age.set(age(overview.oldest_unscrubbed));
        self.quarantined.set(to_gauge(overview.quarantined));
        self.since_ignored.set(to_gauge(overview.since_ignored));
        self.short.set(to_gauge(overview.short));
        let told = overview.workers.clone().unwrap_or_default();
        for is in [WorkerIs::Leading, WorkerIs::AtWork, WorkerIs::Waiting] {
            let count = told.workers.iter().filter(|worker| worker.is == is).count();
            self.workers.with_label_values(&[&is.as_str().replace(' ', "_")]).set(to_gauge(count as u64));
        }
        self.cycle_open_age.set(age(told.cycle.and_then(|cycle| cycle.started_at)));
        self.expiring.set(to_gauge(overview.expiring.total));
        // A number would be taken for what is free. Whole megabytes do for a disk.
        let megabytes = overview.disk_free.map(|bytes| u32::try_from(bytes / 1_000_000).unwrap_or(u32::MAX));
        self.disk_free.set(megabytes.map_or(f64::NAN, |megabytes| f64::from(megabytes) * 1_000_000.0));
        for size in &overview.bytes {
            self.warehouse.with_label_values(&[size.file]).set(to_gauge(size.bytes));
        }
    }
}

fn to_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
