//! What the warehouse keeps of consent records, for commands that look without asking HealthEx.

use super::location;
use crate::clock;
use crate::plan::records::{Clocks, KeptConsents, RecordsNow, take_over};
use crate::settings::Settings;
use crate::warehouse::Reader;
use crate::warehouse::failure::OpenFailed;

/// Returns what the warehouse keeps of consent records; nothing where there is no warehouse yet.
pub(super) fn kept_consents(settings: &Settings) -> anyhow::Result<KeptConsents> {
    match Reader::open(&location(settings)?) {
        Ok(reader) => Ok(reader.consents()?),
        Err(OpenFailed::Missing(_)) => Ok(KeptConsents::default()),
        Err(failed) => Err(failed.into()),
    }
}

/// Returns where the records stand by what is kept.
pub(super) fn kept_records(settings: &Settings, kept: KeptConsents) -> RecordsNow {
    let wanted = settings.roster.wanted_records(settings.consent.hold, false);
    take_over(kept, wanted, Vec::new(), Clocks::of(clock::now(), None)).1
}
