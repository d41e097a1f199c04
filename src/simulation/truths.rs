//! What is always true, each property named after the sentence that it holds.
//!
//! Promise: judged from outside, by what the server truly held and was asked, the file, and what an
//! operator was told. Shares no rule with `plan`, so that the two can disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::by_hand::Orders;
use super::by_records::Bounds;
use super::heard::Heard;
use super::look::{Look, Patient, Purge};
use super::moment::{CLOCK_MAX, DAY, FAILURE_DELAY_MAX, Moment, Untrue, untrue};
use super::network::{Answered, With};
use super::operators::OPERATOR;
use super::people::{ByHand, Entry, Person};
use super::readings::Readings;
use super::records::{Reading, Said};
use super::refusals::ConsentPurges;
use super::stage::Told;
use super::wording::lasting;
use super::{by_hand, by_records, sweeps};
use crate::time::{TimeDelta, Timestamp};

/// The settings that a world's daemon has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) every: TimeDelta,
    pub(super) removes_leavers: bool,
    pub(super) full_every: TimeDelta,
    /// How often the records of a study are read, if they are.
    pub(super) consents_every: Option<TimeDelta>,
}

/// What has been seen so far.
pub(super) struct Truths {
    rules: Rules,
    heard: Heard,
    readings: Readings,
    /// The list of purges that was looked at last.
    looked_at: Rc<Vec<Purge>>,
    /// Purges that were judged.
    judged: BTreeSet<(String, Timestamp)>,
    consent_purges: ConsentPurges,
    /// Problems that an operator was told of, and that are not over.
    open: BTreeMap<&'static str, String>,
    /// Problems that were told in an earlier life of the process. It keeps what it told with the cycle, so
    /// that a death in between, or a backup put back, lets them be told once more, or be over once more.
    told_before: BTreeSet<&'static str>,
    /// Somebody was released from being held since that was told last, and may be held again.
    has_released: bool,
    /// Every problem that was ever told, and when it last was.
    told: BTreeMap<&'static str, Timestamp>,
    unlisted_since: BTreeMap<String, Timestamp>,
    /// When it was told last, in this life, whose consent runs out.
    expiring_told_at: Option<Timestamp>,
    pub(super) orders: Orders,
    /// When who is not refused or held was last seen so, in this life.
    unrefused: BTreeMap<String, Timestamp>,
    /// When who is refused, held or not to be pulled was last seen so: it does not count as behind.
    not_pulled: BTreeMap<String, Timestamp>,
}

impl Truths {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            heard: Heard::default(),
            readings: Readings::default(),
            looked_at: Rc::default(),
            judged: BTreeSet::new(),
            consent_purges: ConsentPurges::default(),
            open: BTreeMap::new(),
            told_before: BTreeSet::new(),
            told: BTreeMap::new(),
            has_released: false,
            unlisted_since: BTreeMap::new(),
            expiring_told_at: None,
            orders: Orders::default(),
            unrefused: BTreeMap::new(),
            not_pulled: BTreeMap::new(),
        }
    }

    /// Takes in what was asked and answered since the last call.
    pub(super) fn hear(&mut self, answered: Vec<Answered>, persons: &mut [Person], now: Timestamp) {
        for answer in &answered {
            let Some(person) = persons.iter_mut().find(|person| person.id == answer.person) else { continue };
            person.was_refused |= answer.with == With::Refusal;
            if !answer.is_question {
                person.walk_goes_on = answer.with == With::Bundle && answer.has_next;
                if answer.forgets {
                    // The next full pull finds it.
                    person.forgotten_until = answer.at + TimeDelta::days(9);
                }
            }
        }
        self.heard.add(answered, now);
    }

    /// Takes in what was read of the records since the last call, which could be stored if there was room.
    pub(super) fn read(
        &mut self,
        readings: Vec<Reading>,
        persons: &mut [Person],
        has_room: bool,
        now: Timestamp,
    ) {
        for reading in readings {
            for person in persons.iter_mut() {
                person.has_ended |= reading.said_of(&person.id) == Some(Said::Ended);
            }
            self.readings.add(vec![reading], has_room, now);
            for person in persons.iter_mut() {
                let is_purged = person.was_in_file && person.by_hand != ByHand::Untouched;
                if is_purged && self.was_off_the_roster_for_a_day(&person.id) {
                    person.by_hand = ByHand::Ordered(now);
                }
            }
        }
    }

    /// Returns whether who was in the file, and is listed again by the last answer of the records, is new, though an
    /// operator has purged it: an answer that has lost few patients is believed.
    fn was_off_the_roster_for_a_day(&self, person: &str) -> bool {
        let by_records = self.readings.is_listed_again(person);
        let lacked = by_records.zip(self.unlisted_since.get(person));
        lacked.is_some_and(|((from, to), by_file)| to - from.max(*by_file) >= DAY - CLOCK_MAX)
    }

    /// A backup was put back: what it knows of refusals and records is what the program goes by.
    pub(super) fn go_by_the_backup(&mut self, look: &Look, now: Timestamp) {
        self.readings.restore(look, now);
        for patient in look.patients.values() {
            let Some(at) = patient.waits_refused_since() else { continue };
            let person = patient.person.clone();
            let (is_question, has_next, forgets) = (false, false, false);
            let known =
                Answered { at, person, token: None, is_question, with: With::Refusal, has_next, forgets };
            self.heard.add(vec![known], at);
        }
    }

    pub(super) fn note_listed(&mut self, person: &str, is_listed: bool, now: Timestamp) {
        if is_listed {
            self.unlisted_since.remove(person);
        } else {
            self.unlisted_since.entry(person.to_owned()).or_insert(now);
        }
    }

    /// The process is another one.
    pub(super) fn begin_life(&mut self) {
        self.open.clear();
        self.expiring_told_at = None;
        self.unrefused.clear();
        self.told_before = self.told.keys().copied().collect();
    }

    /// Checks all that is true at any moment.
    pub(super) fn hold(&mut self, moment: &Moment<'_>, persons: &mut [Person]) -> Result<(), Untrue> {
        if !Rc::ptr_eq(&self.looked_at, &moment.look.purges) {
            for purge in moment.look.purges.iter() {
                self.a_purge_is_by_the_rules(moment, purge)?;
            }
            self.looked_at = moment.look.purges.clone();
        }
        for person in persons.iter_mut() {
            let Some(patient) = moment.patient(person) else { continue };
            Self::the_watermark_never_passes_what_is_missing(moment, person, patient)?;
            Self::nothing_of_a_purged_patient_remains(moment, patient)?;
            person.has_ended |= self.readings.have_ended(&person.id, moment.now);
            Self::held_has_a_reason(person, patient)?;
            self.has_released |= person.was_held && patient.state != "held";
            if patient.is_refused_or_held() || !person.is_pulled(moment.now) {
                self.not_pulled.insert(person.id.clone(), moment.now);
            }
            person.was_held = patient.state == "held";
            self.nobody_is_refused_by_another_answer(moment, patient)?;
            self.no_refusal_is_forgotten(moment, patient)?;
            Self::freshness_never_claims_more_than_is_so(moment, patient)?;
            sweeps::a_suspicious_sweep_waits_a_day(moment, person, patient)?;
            Self::deletions_were_looked_for_when_it_says_so(moment, person, patient)?;
            self.a_full_pull_is_made_as_often_as_said(moment, person, patient)?;
            self.a_withdrawal_is_purged_within_its_bound(moment, person, patient)?;
            self.who_is_permitted_is_back(moment, person, patient)?;
            self.who_is_disabled_is_not_pulled(moment, person)?;
            by_hand::a_purge_by_hand_stands(moment, person, patient, &self.heard)?;
            if let Some(read_each) = self.rules.consents_every {
                let bounds = Bounds { every: self.rules.every, read_each };
                by_records::hold(moment, person, patient, bounds, &self.heard, &self.readings)?;
            }
            self.orders.settle(moment, person, patient, self.rules.every);
        }
        self.orders.end();
        Self::ledger_log_and_state_agree(moment)
    }

    /// "The watermark never passes a resource that is known to be missing."
    fn the_watermark_never_passes_what_is_missing(
        moment: &Moment<'_>,
        person: &mut Person,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        let look = moment.look;
        if patient.holds_rows {
            person.unseen.retain(|key, entry| {
                look.resource(entry.table, &patient.person, key).as_deref() != Some(&entry.resource)
            });
        }
        let Some(watermark) = patient.watermark else { return Ok(()) };
        // "As far as the server's own count can show": what was never sent is not known to be missing.
        // Nor was what the last complete pull has not asked for.
        let is_excused = |key: &str| {
            !patient.is_of(key) || moment.now < person.forgotten_until && !look.has_row(&patient.person, key)
        };
        let missing = |(key, entry): &(&String, &Entry)| entry.changed_at < watermark && !is_excused(key);
        match person.unseen.iter().find(missing) {
            None => Ok(()),
            Some((key, entry)) => untrue(
                "the watermark never passes a resource that is known to be missing",
                format!("{}: at {watermark}, and {key} of {} is not stored", person.id, entry.changed_at),
            ),
        }
    }

    /// "A purge removes every row of that patient in every table."
    fn nothing_of_a_purged_patient_remains(moment: &Moment<'_>, patient: &Patient) -> Result<(), Untrue> {
        let is_purged = patient.state == "revoked";
        if patient.holds_rows && !is_purged || !moment.look.holds_rows(&patient.person) {
            return Ok(());
        }
        if is_purged {
            return untrue("a purge removes every row of its patient", patient.person.clone());
        }
        untrue("who holds rows is known to hold them", patient.person.clone())
    }

    /// "Held has a reason."
    fn held_has_a_reason(person: &Person, patient: &Patient) -> Result<(), Untrue> {
        if patient.state == "held" && patient.held_why.is_none() {
            return untrue("held has a reason", patient.person.clone());
        }
        if patient.is_refused_or_held() && !person.was_refused && !person.has_ended {
            let shows = format!("{} is {}, and HealthEx never refused it", patient.person, patient.state);
            return untrue("who is refused or held was refused, or its record has ended", shows);
        }
        Ok(())
    }

    /// "Refused is a 403 as above": not a limiter's, and no proxy's page.
    fn nobody_is_refused_by_another_answer(
        &mut self,
        moment: &Moment<'_>,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        let looked_at = match self.unrefused.get(&patient.person) {
            _ if !patient.is_refused_or_held() => {
                self.unrefused.insert(patient.person.clone(), moment.now);
                return Ok(());
            }
            Some(looked_at) => *looked_at,
            // It may be so since another life.
            None => return Ok(()),
        };
        self.unrefused.remove(&patient.person);
        // What had arrived by then may have been stored only after it.
        let since = looked_at - TimeDelta::minutes(1);
        let mut lately = self.heard.of(&patient.person).rev().take_while(|answer| answer.at > since);
        if self.readings.have_ended_since(&patient.person, since, moment.now)
            || lately.any(|answer| answer.with == With::Refusal)
        {
            return Ok(());
        }
        let shows = format!("{} is {}, and was not refused since {looked_at}", patient.person, patient.state);
        untrue("nobody is refused by a limiter, or by a proxy's page", shows)
    }

    /// "Committed the moment it arrives. No restart forgets it."
    fn no_refusal_is_forgotten(&self, moment: &Moment<'_>, patient: &Patient) -> Result<(), Untrue> {
        let Some(since) = moment.commits_since else { return Ok(()) };
        let mut told = self.heard.of(&patient.person).rev().filter(|answer| answer.with != With::Other);
        // A witness is asked a question too, which is not about its own consent.
        let mut refused_at = None;
        let permitted_at = told.find_map(|answer| match answer.with {
            With::Refusal => {
                refused_at = (!answer.is_question).then_some(answer.at).or(refused_at);
                None
            }
            _ => Some(answer.at),
        });
        let Some(refused_at) = refused_at.filter(|at| since < *at) else { return Ok(()) };
        let is_acted_on =
            |purge: &Purge| purge.person == patient.person && purge.purged_at > refused_at - CLOCK_MAX;
        // Who is off the roster after its purge is forgotten, and listed again it is new.
        if moment.look.purges.iter().any(is_acted_on) {
            return Ok(());
        }
        // Permitted when asked again, and refused right after it: that is its filter.
        let is_filter = permitted_at.is_some_and(|at| refused_at - at < TimeDelta::minutes(10));
        if is_filter || !["active", "failing", "not_found"].contains(&patient.state.as_str()) {
            return Ok(());
        }
        let shows = format!(
            "{} was refused at {refused_at}, nothing else was answered since, and it is {}",
            patient.person, patient.state
        );
        untrue("no refusal is forgotten before another answer", shows)
    }

    /// "`freshness` leaves a purged patient out", and counts what is there.
    fn freshness_never_claims_more_than_is_so(moment: &Moment<'_>, patient: &Patient) -> Result<(), Untrue> {
        const TRUTH: &str = "freshness never claims more than is so";
        let Some((is_complete, resources)) = patient.fresh else { return Ok(()) };
        if is_complete && patient.last_success_at.is_none() {
            return untrue(TRUTH, format!("{} is complete and was never pulled", patient.person));
        }
        // Counting is dear; the patients take turns.
        let turn = moment.now.timestamp() / 60 % 8 == i64::from(patient.person.as_bytes()[3] % 8);
        if turn {
            let rows = moment.look.count_rows(&patient.person);
            if rows != resources {
                return untrue(
                    TRUTH,
                    format!("{} has {rows} rows, and freshness counts {resources}", patient.person),
                );
            }
        }
        Ok(())
    }

    /// "`freshness.deletions_seen_at` tells since when deletions have not been looked for."
    fn deletions_were_looked_for_when_it_says_so(
        moment: &Moment<'_>,
        person: &mut Person,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        let look = moment.look;
        person.removed.retain(|key, _| look.is_live(&patient.person, key));
        let Some(seen_at) = patient.deletions_seen_at else { return Ok(()) };
        // It is by our clock, which may be ahead.
        let is_missed = |(key, removed_at): &(&String, &Timestamp)| {
            patient.is_of(key) && **removed_at < seen_at - CLOCK_MAX
        };
        match person.removed.iter().find(is_missed) {
            None => Ok(()),
            Some((key, removed_at)) => untrue(
                "deletions were looked for when freshness.deletions_seen_at says so",
                format!("{}: {key} was removed at {removed_at}, and is there at {seen_at}", person.id),
            ),
        }
    }

    /// "A full pull that also finds what vanished": `sync.full_every`.
    fn a_full_pull_is_made_as_often_as_said(
        &self,
        moment: &Moment<'_>,
        person: &Person,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        let Some(last) =
            patient.last_full_at.filter(|_| patient.state == "active" && person.is_pulled(moment.now))
        else {
            return Ok(());
        };
        let bound = FAILURE_DELAY_MAX + self.rules.every * 3;
        if moment.now - last <= self.rules.full_every + CLOCK_MAX + bound || moment.calm_for(person) <= bound
        {
            return Ok(());
        }
        untrue(
            "a full pull is made once sync.full_every has passed",
            format!("{}: the last one was at {last}", person.id),
        )
    }

    /// "By itself the program purges nobody …": each clause of that, by what the server was asked.
    fn a_purge_is_by_the_rules(&mut self, moment: &Moment<'_>, purge: &Purge) -> Result<(), Untrue> {
        let key = (purge.person.clone(), purge.purged_at);
        if purge.is_carried_out || !self.judged.insert(key) {
            return Ok(());
        }
        match purge.reason.as_str() {
            "operator" => self.orders.a_purge_was_ordered(moment, purge, self.rules.every),
            "consent_revoked" if purge.by == OPERATOR => {
                self.orders.who_is_held_is_asked_again(moment, purge, &self.heard)
            }
            "consent_revoked" => self.consent_purges.a_refusal_is_believed_on_evidence_only(
                moment,
                purge,
                &self.heard,
                &self.readings,
            ),
            "roster" => self.a_leaver_was_lacked_for_long(moment, purge),
            _ => untrue("nobody is purged but by the stated rules", format!("{purge:?}")),
        }
    }

    fn a_leaver_was_lacked_for_long(&self, moment: &Moment<'_>, purge: &Purge) -> Result<(), Untrue> {
        let by_records = self.readings.lacked_since(&purge.person, moment.now);
        let since = match (self.unlisted_since.get(&purge.person), self.rules.consents_every) {
            (Some(by_file), None) => Some(*by_file),
            (Some(by_file), Some(_)) => by_records.map(|by_records| by_records.max(*by_file)),
            (None, _) => None,
        };
        let lacked = since.map(|since| moment.now - since);
        if self.rules.removes_leavers && lacked.is_some_and(|lacked| lacked >= DAY - CLOCK_MAX) {
            return Ok(());
        }
        let lacked = lacked.map_or_else(|| "no time".to_owned(), lasting);
        let shows = format!("{} was purged, missing for {lacked}", purge.person);
        untrue("a patient is purged once every reading has lacked it for roster.removed_after", shows)
    }

    /// "A withdrawal that is missed cannot be excused."
    fn a_withdrawal_is_purged_within_its_bound(
        &self,
        moment: &Moment<'_>,
        person: &Person,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        if person.has_consented || !patient.holds_rows || patient.state == "held" {
            return Ok(());
        }
        // Whom HealthEx did not know is asked as rarely as one that is not pulled.
        let is_asked_often = person.is_pulled(moment.now) && patient.state != "not_found";
        let asked_each = if is_asked_often { self.rules.every } else { DAY.max(self.rules.every) };
        let bound = asked_each * 3 + FAILURE_DELAY_MAX + TimeDelta::hours(1);
        let calm_for = moment.calm_for(person);
        if calm_for <= bound {
            return Ok(());
        }
        let shows = format!("{} withdrew {} ago and is {}", person.id, lasting(calm_for), patient.state);
        untrue("every withdrawal is purged within its bound", shows)
    }

    /// "A mistake heals by itself", and nobody is held who is permitted.
    fn who_is_permitted_is_back(
        &self,
        moment: &Moment<'_>,
        person: &Person,
        patient: &Patient,
    ) -> Result<(), Untrue> {
        if !person.has_consented || !person.is_pulled(moment.now) || patient.state == "active" {
            return Ok(());
        }
        // Asked at least every `consent.recheck`, and once the records are read.
        let read_each = self.rules.consents_every.unwrap_or_default();
        let bound = DAY + self.rules.every * 3 + FAILURE_DELAY_MAX + read_each;
        let calm_for = moment.calm_for(person);
        if calm_for <= bound {
            return Ok(());
        }
        let why = patient.held_why.as_deref().or(patient.purge_reason.as_deref()).unwrap_or("nothing");
        let shows = format!(
            "{} has been permitted for {} and is {} ({why})",
            person.id,
            lasting(calm_for),
            patient.state
        );
        untrue("who is permitted is back, and held by nobody", shows)
    }

    /// "`enabled = false`: the patient is shown as disabled and not pulled."
    fn who_is_disabled_is_not_pulled(&self, moment: &Moment<'_>, person: &Person) -> Result<(), Untrue> {
        // What was under way goes on, and a roster that cannot be read is the one before.
        let bound = self.rules.every + FAILURE_DELAY_MAX;
        if !person.is_disabled() || moment.now - person.listed_since <= bound {
            return Ok(());
        }
        let mut late =
            self.heard.of(&person.id).rev().take_while(|answer| answer.at > person.listed_since + bound);
        match late.find(|answer| !answer.is_question) {
            None => Ok(()),
            Some(answer) => {
                let shows = format!(
                    "{} is disabled since {}, and was pulled at {}",
                    person.id, person.listed_since, answer.at
                );
                untrue("who is disabled is not pulled", shows)
            }
        }
    }

    /// "Ledger, `purge_log` and state agree."
    fn ledger_log_and_state_agree(moment: &Moment<'_>) -> Result<(), Untrue> {
        const TRUTH: &str = "ledger, purge_log and state agree";
        // What a dead process has left is carried out once another one can start.
        let has_started = moment.commits_since.is_some_and(|since| since <= moment.now);
        for patient in moment.look.patients.values() {
            let is_purged = moment.ledger.is_purged.get(&patient.person).copied().unwrap_or_default();
            // A pull that has begun anew counts as holding rows before it does.
            if has_started && is_purged && moment.look.holds_rows(&patient.person) {
                return untrue(TRUTH, format!("the ledger says that {} is purged", patient.person));
            }
        }
        let mut logged: BTreeMap<&str, usize> = BTreeMap::new();
        for purge in moment.look.purges.iter() {
            *logged.entry(&purge.person).or_default() += 1;
        }
        for (person, count) in logged {
            let of_ledger = moment.ledger.purges.get(person).copied().unwrap_or_default();
            if of_ledger < count {
                return untrue(
                    TRUTH,
                    format!("{count} purges of {person} are logged, the ledger has {of_ledger}"),
                );
            }
        }
        Ok(())
    }

    /// "Alerts once a problem and again when over."
    pub(super) fn a_problem_is_told_once_and_again_when_it_is_over(
        &mut self,
        told: Vec<Told>,
    ) -> Result<(), Untrue> {
        const TRUTH: &str = "a problem is told once, and again when it is over";
        for Told { at, phase, problem, text } in told {
            match phase {
                "problem" => {
                    let before = self.open.insert(problem, text.clone());
                    let told_at = self.told.insert(problem, at);
                    let was_out = |(person, seen): (&String, &Timestamp)| {
                        text.contains(person.as_str()) && told_at.is_some_and(|told_at| told_at < *seen)
                    };
                    let may_be_again = match problem {
                        "held" => std::mem::take(&mut self.has_released),
                        "stale" => self.not_pulled.iter().any(was_out),
                        _ => false,
                    };
                    if before.is_some_and(|before| before == text) && !may_be_again {
                        return untrue(TRUTH, format!("{problem} twice at {at}: {text}"));
                    }
                }
                "over" => {
                    let before = self.open.remove(problem);
                    if before.is_none() && !self.told_before.contains(problem) {
                        return untrue(TRUTH, format!("{problem} is over at {at}, and nobody heard of it"));
                    }
                }
                // "In one alert a day", by our clock. Another life may not know of it.
                _ if problem == "expiring" => {
                    let before = self.expiring_told_at.replace(at);
                    if before.is_some_and(|before| at - before < DAY - CLOCK_MAX) {
                        return untrue(
                            "consents that run out are told once a day",
                            format!("{before:?} and {at}"),
                        );
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns problems that are not over.
    pub(super) fn open_problems(&self) -> impl Iterator<Item = (&&'static str, &String)> {
        self.open.iter()
    }
}

/// "Equality, when faults stop": all that the server holds, and nothing else.
pub(super) fn the_warehouse_equals_the_server(moment: &Moment<'_>, persons: &[Person]) -> Result<(), Untrue> {
    const TRUTH: &str = "when faults stop, the warehouse equals the server within two cycles";
    for person in persons.iter().filter(|person| person.has_consented && person.is_pulled(moment.now)) {
        let Some(patient) = moment.patient(person) else {
            return untrue(TRUTH, format!("{} is not known", person.id));
        };
        if patient.state != "active" {
            let why = patient.held_why.as_deref().unwrap_or("no reason told");
            return untrue(TRUTH, format!("{} is {} ({why})", person.id, patient.state));
        }
        let (have, want) = (moment.look.rows(&person.id), person.wanted(moment.server));
        let missing = want.iter().find(|(key, entry)| have.get(*key) != Some(&entry.resource));
        if let Some((key, _)) = missing {
            return untrue(TRUTH, format!("{} lacks {key}, or has an old one", person.id));
        }
        // What is not asked for any more stays as it is.
        if let Some(key) = have.keys().find(|key| person.asks_for(key) && !want.contains_key(*key)) {
            return untrue(TRUTH, format!("{} still has {key}", person.id));
        }
    }
    Ok(())
}

/// What the server never held is not in the warehouse.
pub(super) fn nothing_is_made_up(look: &Look, persons: &[Person]) -> Result<(), Untrue> {
    for person in persons {
        if let Some((key, _)) = look.rows(&person.id).iter().find(|(_, text)| !person.was_ever(text)) {
            return untrue("what is stored is what was received", format!("{}: {key}", person.id));
        }
    }
    Ok(())
}
