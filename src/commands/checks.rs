//! The lines of `check`: each says what was looked at, and ok or what to do.

use std::io::Write;

use super::ExitStatus;

pub(super) struct Checks<'o> {
    out: &'o mut dyn Write,
    status: ExitStatus,
}

impl<'o> Checks<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Self { out, status: ExitStatus::Done }
    }

    /// Returns the exit status by what has been reported.
    pub(super) fn status(&self) -> ExitStatus {
        self.status
    }

    pub(super) fn ok(&mut self, what: &str, detail: &str) -> std::io::Result<()> {
        writeln!(self.out, "ok      {what:13}  {detail}")
    }

    /// Reports a failure. The first one decides the exit status.
    pub(super) fn failed(&mut self, what: &str, why: &str, status: ExitStatus) -> std::io::Result<()> {
        if self.status == ExitStatus::Done {
            self.status = status;
        }
        writeln!(self.out, "FAILED  {what:13}  {why}")
    }
}
