//! `backup` copies the warehouse while it is in use, and `restore` puts a copy in its place.

use std::io::Write;
use std::path::Path;

use super::{Context, ExitStatus, location, place, progress, runtime};
use crate::cli::{BackupArgs, RestoreArgs};
use crate::clock;
use crate::settings::Complaints;
use crate::stop::Stop;
use crate::warehouse::failure::{CopyFailed, RestoreFailed};
use crate::warehouse::place::folder_of;
use crate::warehouse::purge::CarriedOut;
use crate::warehouse::report::{BackedUp, CopyKind, PatientCopy, Restored, Steps};
use crate::warehouse::{Reader, restore as restore_warehouse};

pub(super) fn backup(
    context: &Context<'_>,
    args: &BackupArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let reader = Reader::open(&location(&settings)?)?;
    expect_free(&args.file)?;
    let copy = PatientCopy { kind: CopyKind::Backup, place: &args.file, person: None };
    reader.begin_copy(&copy, clock::now())?;
    let made = with_bar(|told| reader.backup(&args.file, clock::now, told));
    reader.end_copy(&copy, made.is_ok(), clock::now())?;
    let BackedUp { bytes, unscrubbed } = made??;
    if let Some(why) = &unscrubbed {
        tracing::warn!("bytes of purged patients are in the copy still: {why}");
    }
    if args.json {
        let told = serde_json::json!({
            "file": std::path::absolute(&args.file)?,
            "bytes": bytes,
            "holds_bytes_of_purged_patients": unscrubbed.is_some(),
        });
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{} bytes in {}", bytes, args.file.display())?;
    }
    Ok(ExitStatus::Done)
}

/// Refuses a place before anything is noted.
fn expect_free(file: &Path) -> anyhow::Result<()> {
    if file.symlink_metadata().is_ok() {
        return Err(Complaints::one(CopyFailed::Exists(file.to_owned()).to_string()).into());
    }
    let folder = folder_of(file);
    if !folder.is_dir() {
        return Err(Complaints::one(format!("{}: there is no such folder", folder.display())).into());
    }
    Ok(())
}

/// Runs `work` with a bar on a terminal, until it ends or a signal asks it to.
fn with_bar<T>(work: impl FnOnce(&mut dyn FnMut(Steps) -> bool) -> T) -> anyhow::Result<T> {
    let bar = progress::steps(0, "pages");
    // The signals are heard by a thread of the runtime while this one copies.
    let runtime = runtime()?;
    let stop = runtime.block_on(async { Stop::on_signals() })?;
    let done = work(&mut |steps: Steps| {
        bar.set_length(steps.of as u64);
        bar.set_position(steps.done as u64);
        !stop.is_asked()
    });
    bar.finish_and_clear();
    Ok(done)
}

pub(super) fn restore(
    context: &Context<'_>,
    args: &RestoreArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    if !args.yes {
        return Err(Complaints::one("a restore takes the warehouse's place: add --yes".to_owned()).into());
    }
    let place = place(&settings)?;
    let restored = with_bar(|told| restore_warehouse(&place, &args.file, clock::now, told))?;
    let restored = restored.map_err(error_of)?;
    if args.json {
        writeln!(out, "{}", as_json(place.path(), &restored))?;
    } else {
        say_restored(place.path(), &args.file, &restored, out)?;
    }
    if restored.ledger_was_missing {
        tracing::warn!(
            "there was no ledger of purges: who was purged after the backup was made is not known, and may be back"
        );
    }
    match restored.ledger_fault {
        Some(fault) => {
            tracing::error!("{fault}");
            Ok(ExitStatus::Failed)
        }
        None => Ok(ExitStatus::Done),
    }
}

fn as_json(warehouse: &Path, restored: &Restored) -> serde_json::Value {
    let purged = restored.purged.iter().map(|CarriedOut { person, reason, rows }| {
        serde_json::json!({ "person_id": person.as_str(), "reason": reason.as_str(), "rows": rows })
    });
    serde_json::json!({
        "warehouse": warehouse,
        "former": restored.former,
        "purged": purged.collect::<Vec<_>>(),
        "ledger_was_missing": restored.ledger_was_missing,
        "ledger_fault": restored.ledger_fault.as_ref().map(ToString::to_string),
    })
}

fn say_restored(
    warehouse: &Path,
    file: &Path,
    restored: &Restored,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let Restored { purged, former, .. } = restored;
    writeln!(out, "{} is restored from {}", warehouse.display(), file.display())?;
    for CarriedOut { person, reason, rows } in purged {
        writeln!(out, "{person}: purged once more ({}): {rows} rows removed", reason.as_str())?;
    }
    if purged.is_empty() {
        writeln!(out, "the ledger has no purge that the restored file did not know")?;
    } else {
        writeln!(out, "the last bytes of these are gone from it")?;
    }
    if let Some(former) = former {
        writeln!(
            out,
            "the former file is {}, with all that it held; remove it when nobody needs it",
            former.display()
        )?;
    }
    Ok(())
}

/// Returns the failure whose kind decides the exit status.
fn error_of(failed: RestoreFailed) -> anyhow::Error {
    match failed {
        RestoreFailed::Open(failed) => failed.into(),
        RestoreFailed::Store(failed) => failed.into(),
        failed => failed.into(),
    }
}
