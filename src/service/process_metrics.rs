//! What this process uses, by the kernel, under the names that Prometheus' own clients give it.

use std::fs;

use prometheus::{Counter, IntGauge, Registry};

use crate::plan::Timestamp;

pub(super) struct ProcessMetrics {
    cpu: Counter,
    memory: IntGauge,
    open_files: IntGauge,
    start_time: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            cpu: Counter::new("process_cpu_seconds_total", "CPU time, user and system.")?,
            memory: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
            open_files: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            start_time: IntGauge::new("process_start_time_seconds", "When this process started.")?,
        };
        registry.register(Box::new(metrics.cpu.clone()))?;
        for gauge in [&metrics.memory, &metrics.open_files, &metrics.start_time] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }

    /// Reads `/proc`; what it does not tell stays as it was.
    pub(super) fn update(&self, started_at: Timestamp) {
        self.start_time.set(started_at.timestamp());
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat))
        {
            // Of two scrapes at once both may add; the next one adds less.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        if let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) {
            let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
            self.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(i64::try_from(open.count()).unwrap_or(i64::MAX));
        }
    }
}

/// Reads the ticks in user and in system mode, which stand behind the name in brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok().map(f64::from);
    let a_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((ticks(11)? + ticks(12)?) / f64::from(a_second))
}
