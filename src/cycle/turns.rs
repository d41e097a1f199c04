//! Whose turn is next in a cycle: by this process's own list, or by the one that several workers share.
//!
//! Promise: of a shared list, what was taken is given back when it is over, and what has been asked for is waited for.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::task::JoinSet;

use super::Cycle;
use super::tasks::Task;
use crate::clock;
use crate::clock::Instant;
use crate::plan::PersonId;
use crate::plan::due::Due;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::turn::{Claimed, CyclePart, Turn, TurnsAsked};

/// So many turns are asked for together at most.
const TAKEN_MAX: usize = 64;
/// How soon it is asked again where others are at work on the last ones.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How often whoever leads looks for refusals that others were answered with.
const LOOK_FOR_REFUSED: Duration = Duration::from_mins(1);

/// The patients of a cycle whose turn has not come.
pub(super) enum Turns {
    /// All that are left.
    Own(VecDeque<Task>),
    /// As many as were taken of a list that is shared.
    Shared { waiting: VecDeque<Task>, asking: Box<Asking> },
}

type Answered = Result<Answer, StoreFailed>;

/// How far this process is with the list that is shared.
pub(super) struct Asking {
    /// A task of its own, so that it goes on while a round is held: others wait for its transaction.
    under_way: JoinSet<Answered>,
    over: Vec<PersonId>,
    /// How many were taken the last time.
    taken: usize,
    pause: Duration,
    ends: bool,
    looked_at: Instant,
    /// Refused patients that this process knows of.
    refused: HashSet<PersonId>,
}

/// What asking has brought.
pub(super) struct Answer {
    pub(super) claimed: Claimed,
    /// Patients that others were refused.
    pub(super) refused: Vec<Task>,
}

impl Turns {
    pub(super) fn own(tasks: Vec<Task>) -> Self {
        Self::Own(tasks.into())
    }

    pub(super) fn shared() -> Self {
        let asking = Asking {
            under_way: JoinSet::new(),
            over: Vec::new(),
            taken: 0,
            pause: Duration::ZERO,
            ends: false,
            looked_at: Instant::now(),
            refused: HashSet::new(),
        };
        Self::Shared { waiting: VecDeque::new(), asking: Box::new(asking) }
    }

    fn waiting(&self) -> &VecDeque<Task> {
        match self {
            Self::Own(waiting) | Self::Shared { waiting, .. } => waiting,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    pub(super) fn next(&mut self) -> Option<Task> {
        match self {
            Self::Own(waiting) | Self::Shared { waiting, .. } => waiting.pop_front(),
        }
    }

    /// Notes that nothing more is done about a patient in this turn.
    pub(super) fn is_over(&mut self, person: PersonId) {
        if let Self::Shared { asking, .. } = self {
            asking.over.push(person);
        }
    }

    /// Begins to ask for more where few are left, and tells at the same time what is over.
    pub(super) fn ask(&mut self, cycle: &Cycle, part: impl FnOnce() -> CyclePart) {
        let Self::Shared { waiting, asking } = self else { return };
        // Where few are given out, the others are to have some too.
        if asking.ends || !asking.under_way.is_empty() || waiting.len() > asking.taken / 2 {
            return;
        }
        let looks = asking.looked_at.elapsed() >= LOOK_FOR_REFUSED;
        if looks {
            asking.looked_at = Instant::now();
        }
        let asked = TurnsAsked { over: std::mem::take(&mut asking.over), part: part(), most: TAKEN_MAX };
        cycle.names.forget(&asked.over);
        asking.under_way.spawn(ask(cycle.clone(), asked, asking.pause, looks));
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self, Self::Shared { asking, .. } if !asking.under_way.is_empty())
    }

    /// Waits for what was asked for. Not to be called unless something was.
    pub(super) async fn answer(&mut self) -> Answered {
        let Self::Shared { asking, .. } = self else { return std::future::pending().await };
        let answer = match asking.under_way.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            None => return std::future::pending().await,
        };
        asking.ends |=
            !matches!(answer, Ok(Answer { claimed: Claimed::Turns(_) | Claimed::OthersAtWork, .. }));
        let waits = matches!(answer, Ok(Answer { claimed: Claimed::OthersAtWork, .. }));
        asking.pause = if waits { ASK_AGAIN } else { Duration::ZERO };
        answer
    }

    pub(super) fn take(&mut self, cycle: &Cycle, turns: Vec<Turn>) {
        if let Self::Shared { waiting, asking } = self {
            asking.taken = turns.len();
            waiting.extend(turns.into_iter().map(|turn| task_of(cycle, turn)));
        }
    }

    /// Asks for no more.
    pub(super) fn end(&mut self) {
        if let Self::Shared { asking, .. } = self {
            asking.ends = true;
        }
    }

    /// Returns the refused ones that this process did not know of.
    pub(super) fn unknown(&mut self, refused: Vec<Task>) -> Vec<Task> {
        let Self::Shared { asking, .. } = self else { return Vec::new() };
        refused.into_iter().filter(|task| asking.refused.insert(task.person().clone())).collect()
    }

    /// Notes a patient that this process was refused.
    pub(super) fn is_refused(&mut self, person: &PersonId) {
        if let Self::Shared { asking, .. } = self {
            asking.refused.insert(person.clone());
        }
    }

    /// Returns the refused patients that this process knows of.
    pub(super) fn refused(&mut self) -> HashSet<PersonId> {
        match self {
            Self::Own(_) => HashSet::new(),
            Self::Shared { asking, .. } => std::mem::take(&mut asking.refused),
        }
    }

    /// Tells what is over, and waits until that is noted.
    pub(super) async fn settle(mut self, cycle: &Cycle, part: CyclePart) -> Result<(), StoreFailed> {
        if self.is_asking() {
            // What it brings is left to others.
            self.answer().await?;
        }
        if let (Self::Shared { asking, .. }, Some(shared)) = (&mut self, cycle.warehouse.shared()) {
            let over = std::mem::take(&mut asking.over);
            shared.claim_turns(TurnsAsked { over, part, most: 0 }, clock::now()).await?;
        }
        Ok(())
    }
}

async fn ask(cycle: Cycle, asked: TurnsAsked, pause: Duration, looks: bool) -> Answered {
    if !pause.is_zero() {
        clock::sleep(pause).await;
    }
    let Some(shared) = cycle.warehouse.shared() else {
        return Ok(Answer { claimed: Claimed::NothingLeft, refused: Vec::new() });
    };
    let claimed = shared.claim_turns(asked, clock::now()).await?;
    let refused = if looks && shared.leads() { refused_by_others(&cycle).await? } else { Vec::new() };
    Ok(Answer { claimed, refused })
}

/// Returns the patients of a shared cycle that were refused, by whomever they were asked.
pub(super) async fn refused_by_others(cycle: &Cycle) -> Result<Vec<Task>, StoreFailed> {
    let Some(shared) = cycle.warehouse.shared() else { return Ok(Vec::new()) };
    Ok(shared.refused_in_turns().await?.into_iter().map(|turn| task_of(cycle, turn)).collect())
}

/// Returns what others are to know of a task; `None` of one that is not pulled or asked alone.
pub(super) fn turn_of(task: Task) -> Option<Turn> {
    let mode = match task.due {
        Due::Pull(mode) => Some(mode),
        Due::AskConsent => None,
        Due::AskAgain(_) | Due::Nothing(_) => return None,
    };
    Some(Turn { lease: task.lease, mode, types: task.types, consents: task.consents })
}

fn task_of(cycle: &Cycle, turn: Turn) -> Task {
    let Turn { lease, mode, types, consents } = turn;
    cycle.names.learn(&lease);
    let name = cycle.names.of(lease.person());
    Task { name, types, due: mode.map_or(Due::AskConsent, Due::Pull), lease, record: None, consents }
}
