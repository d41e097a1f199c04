//! What a cycle would do: the same questions to the server, and nothing written anywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rusqlite::Connection;

use super::confirm::budget;
use super::{EndedEarly, Plan, Summary, Task, Wishes, count_idle, pull_rules};
use crate::healthex::RequestFailed;
use crate::healthex::client::Api;
use crate::plan::PullMode;
use crate::plan::due::Due;
use crate::plan::paging::Query;
use crate::pull::{Ending, Order, PullFailed, Sink};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::slot::Slot;
use crate::stop::Stop;
use crate::warehouse::checkpoint::Listed;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::{checkpoint, tables};
use crate::{clock, pull};

/// What a dry run works with. `reader` is `None` where there is no warehouse yet.
pub struct Means {
    pub settings: Arc<Settings>,
    pub api: Arc<Api>,
    pub reader: Option<Connection>,
    pub stop: Stop,
}

pub async fn run(means: Means, roster: &Roster, wishes: &Wishes) -> Result<Summary, StoreFailed> {
    let begun = Instant::now();
    let Means { settings, api, reader, stop } = means;
    let mut known = HashMap::new();
    if let Some(reader) = &reader {
        let mut patients = checkpoint::all(reader)?;
        tables::find_rows(reader, patients.iter_mut())?;
        known.extend(patients.into_iter().map(|patient| (patient.person.clone(), patient)));
    }
    for patient in &roster.patients {
        let listed = Listed { person: patient.person.clone(), label: patient.label.clone() };
        known.entry(patient.person.clone()).or_insert_with(|| checkpoint::unknown(&listed));
    }
    let plan = Plan::new(&settings, roster, wishes, clock::now());
    let tasks = plan.tasks(known.into_values().collect());
    let mut summary = Summary::default();
    count_idle(&tasks, &mut summary);
    let pull_means = pull::Means {
        api: api.clone(),
        sink: Sink::DryRun(Arc::new(Mutex::new(reader))),
        rules: pull_rules(&settings),
        stop: stop.clone(),
        pace: Arc::default(),
    };
    let mut refused = Vec::new();
    for task in tasks {
        if summary.ended_early.is_some() || stop.is_asked() {
            summary.not_reached += u64::from(!matches!(task.due, Due::Nothing(_)));
            continue;
        }
        compare(&pull_means, task, &mut summary, &mut refused).await?;
    }
    ask_again(&api, refused, &stop, &mut summary).await;
    summary.patients.skipped += summary.not_reached;
    let (requests, bytes) = super::cost(&api);
    (summary.requests, summary.bytes, summary.took) = (requests, bytes, begun.elapsed());
    Ok(summary)
}

async fn compare(
    means: &pull::Means,
    task: Task,
    summary: &mut Summary,
    refused: &mut Vec<Task>,
) -> Result<(), StoreFailed> {
    let Due::Pull(mode) = task.due else {
        summary.patients.skipped += u64::from(task.due == Due::AskConsent);
        return Ok(());
    };
    let since = task.patient.standing.watermark.filter(|_| mode == PullMode::Incremental);
    let order =
        Order { person: task.patient.person.clone(), mode, types: task.types.clone(), since, resume: None };
    let pulled = pull::pull(means, order, &mut Slot::alone()).await;
    summary.resources += pulled.tally;
    summary.pages += pulled.row.pages;
    match pulled.ending {
        Ending::Finished { .. } => summary.patients.ok += 1,
        Ending::Failed(PullFailed::Request(RequestFailed::Forbidden)) => refused.push(task),
        Ending::Failed(PullFailed::Request(RequestFailed::PersonUnknown)) => summary.patients.not_found += 1,
        Ending::Failed(PullFailed::Store(failed)) => return Err(failed),
        Ending::Failed(failed) => {
            let name = &task.name;
            tracing::warn!(person = %name, "{name}: {failed}");
            summary.patients.failed += 1;
            if matches!(
                failed,
                PullFailed::Request(RequestFailed::TokenRefused | RequestFailed::CredentialsRefused { .. })
            ) {
                summary.ended_early = Some(EndedEarly::CredentialsRefused(failed.to_string()));
            }
        }
    }
    Ok(())
}

/// The refused are asked once more, as a cycle would; what it would then purge or hold is counted.
async fn ask_again(api: &Api, refused: Vec<Task>, stop: &Stop, summary: &mut Summary) {
    if refused.is_empty() {
        return;
    }
    let token = api.token_to_confirm_with(stop).await;
    for task in refused {
        let name = &task.name;
        match &token {
            Ok(Some(token)) => {
                let url = Query::of_consent(&task.patient.person).first_url(api.base_url());
                match api.ask_consent(&url, token, &budget(), stop).await {
                    Err(RequestFailed::Forbidden) => {
                        tracing::warn!(person = %name, "{name}: consent withdrawn (403 twice); a cycle would purge or hold it");
                        summary.patients.revoked += 1;
                    }
                    Ok(()) => summary.patients.ok += 1,
                    Err(failed) => {
                        tracing::warn!(person = %name, "{name}: refused (403), which could not be confirmed: {failed}");
                        summary.patients.failed += 1;
                    }
                }
            }
            Ok(None) => summary.patients.held += 1,
            Err(failed) => {
                tracing::warn!(person = %name, "{name}: refused (403), which could not be confirmed: {failed}");
                summary.patients.failed += 1;
            }
        }
    }
}
