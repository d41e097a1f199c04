//! The lines of `check`: each ok, or FAILED and what to do.

use std::io::Write;

use serde::Serialize;

use super::ExitStatus;

pub(super) struct Checks<'o> {
    out: &'o mut dyn Write,
    /// Told all at once at the end, where they are told as JSON.
    kept: Option<Vec<CheckJson>>,
    status: ExitStatus,
}

#[derive(Serialize)]
struct CheckJson {
    check: String,
    ok: bool,
    detail: String,
}

impl<'o> Checks<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Self { out, kept: None, status: ExitStatus::Done }
    }

    pub(super) fn as_json(out: &'o mut dyn Write) -> Self {
        Self { out, kept: Some(Vec::new()), status: ExitStatus::Done }
    }

    pub(super) fn ok(&mut self, what: &str, detail: &str) -> std::io::Result<()> {
        self.tell(what, detail, true)
    }

    /// Reports a failure. The first one decides the exit status.
    pub(super) fn failed(&mut self, what: &str, why: &str, status: ExitStatus) -> std::io::Result<()> {
        if self.status == ExitStatus::Done {
            self.status = status;
        }
        self.tell(what, why, false)
    }

    fn tell(&mut self, what: &str, detail: &str, ok: bool) -> std::io::Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.push(CheckJson { check: what.to_owned(), ok, detail: detail.to_owned() });
            return Ok(());
        }
        writeln!(self.out, "{:6}  {what:13}  {detail}", if ok { "ok" } else { "FAILED" })?;
        self.out.flush()
    }

    /// Prints what was kept, and returns the exit status.
    pub(super) fn end(self) -> anyhow::Result<ExitStatus> {
        let Self { out, kept, status } = self;
        if let Some(checks) = kept {
            let all = serde_json::json!({
                "ok": status == ExitStatus::Done,
                "exit_status": status as u8,
                "checks": checks,
            });
            writeln!(out, "{all}")?;
        }
        Ok(status)
    }
}
