//! What happens to a world: an event of its script, and the end of what lasts for a while.

use std::fs;
use std::time::Duration;

use super::look::Look;
use super::moment::{CLOCK_MAX, DAY};
use super::operators;
use super::operators::{Done, Typed};
use super::people::{ByHand, Person};
use super::records::YEAR;
use super::script;
use super::script::{Event, What, Written};
use super::weather::{Shape, Sky};
use super::wording::moment;
use super::world::{Ending, Halt, World, open_reader, write_configuration};
use crate::clock;
use crate::sandbox::InProcess;
use crate::time::{TimeDelta, Timestamp};
use crate::warehouse::Reader;

impl World {
    pub(super) fn happens(&mut self, event: &Event) -> Option<Halt> {
        tracing::debug!("{event}");
        let now = self.stage.true_time();
        self.calm_again();
        match event.what {
            What::Add { patient, size, late } => {
                let late = TimeDelta::minutes(i64::from(late));
                self.at(patient, |person, server| person.add(server, size, late));
            }
            What::Correct { patient, which, size } => {
                self.at(patient, |person, server| person.correct(server, which, size));
            }
            What::Remove { .. } | What::Empty { .. } | What::Recreate { .. } => self.put_off.push(event.what),
            What::Withdraw { patient } => self.consent(patient, false, now),
            What::Consent { patient } => self.consent(patient, true, now),
            What::Record { patient, written } => self.write_record(patient, written, now),
            What::Unlist { patient } => self.list(patient, false, now),
            What::List { patient } => self.list(patient, true, now),
            What::Disable { patient } => self.enable(patient, false, now),
            What::Enable { patient } => self.enable(patient, true, now),
            What::Types { patient, types } => self.ask_for(patient, types, now),
            What::Purge { patient, in_cycle } => self.order_purge(patient, in_cycle, now),
            What::Resume { patient } => self.resume(patient, now),
            What::PurgeHeld => {
                self.truths.orders.note_held();
                self.type_in(Typed::PurgeHeld, None);
            }
            What::HalfARoster { minutes, is_cut } => {
                self.for_a_while(minutes, Ending::HalfARoster { is_cut });
                self.write_roster();
            }
            What::Reload { page_size } => {
                self.script.page_size = page_size;
                write_configuration(self.folder.path(), &self.script);
                self.stage.hang_up();
            }
            What::Weather { minutes, sky } => {
                self.for_a_while(minutes, Ending::Weather(sky));
                self.look_up();
            }
            What::TokensEnd => self.server().expire_tokens(),
            What::OurClock { seconds } => {
                self.stage.step_clock(TimeDelta::seconds(seconds));
                self.disturbed();
            }
            What::ServersClock { seconds } => self.server().set_clock_offset(TimeDelta::seconds(seconds)),
            What::Crash { at } => self.stage.die_in(at),
            What::CrashAtAPurge { at } => self.stage.die_at_a_purge(at),
            What::CrashAtARefusal { at } => self.stage.die_after_a_refusal(at),
            What::Backup => self.back_up(),
            What::Restore => return self.backup.is_some().then_some(Halt::Restore),
            What::DiskFull { minutes } => {
                self.stage.set_disk_full(true);
                self.commits_since = None;
                self.for_a_while(minutes, Ending::DiskFull);
            }
            What::Reader { minutes } => {
                self.reader = open_reader(self.place.path());
                self.for_a_while(minutes, Ending::Reader);
            }
        }
        None
    }

    fn at(&mut self, patient: usize, change: impl FnOnce(&mut Person, &InProcess)) {
        if let Some(person) = self.people.get_mut(patient) {
            change(person, &self.stage.network.server);
        }
    }

    fn consent(&mut self, patient: usize, stands: bool, now: Timestamp) {
        if let Some(person) = self.people.get_mut(patient)
            && person.has_consented != stands
        {
            (person.has_consented, person.consent_since) = (stands, now);
            if let Some(record) = person.record.as_mut().filter(|record| record.consented.is_none()) {
                record.since = now;
            }
            self.stage.network.server.set_withdrawn(&person.id, !stands);
        }
        self.follow_listings(now);
    }

    fn list(&mut self, patient: usize, is_listed: bool, now: Timestamp) {
        if self.people.get(patient).is_some_and(|person| person.is_in_file != is_listed) {
            self.change_listing(patient, now, |person| person.is_in_file = is_listed);
        }
        self.write_roster();
    }

    fn ask_for(&mut self, patient: usize, types: &'static [&'static str], now: Timestamp) {
        self.at(patient, |person, server| {
            if person.types != types {
                (person.types, person.types_since) = (types, now);
                person.doubt_all(server);
            }
        });
        self.write_roster();
    }

    fn order_purge(&mut self, patient: usize, in_cycle: Option<u32>, now: Timestamp) {
        let Some(person) = self.people.get_mut(patient) else { return };
        if person.by_hand == ByHand::Untouched {
            person.by_hand = ByHand::Ordered(now);
        }
        self.truths.orders.note(&person.id, now);
        self.type_in(Typed::Purge { patient }, in_cycle);
    }

    /// Has a patient pulled again that an operator has had purged, if the roster is for it.
    fn resume(&mut self, patient: usize, now: Timestamp) {
        let Some(person) = self.people.get_mut(patient) else { return };
        if person.by_hand != ByHand::Untouched && person.is_listed(now) && !person.is_disabled() {
            person.by_hand = ByHand::Ordered(now);
            self.type_in(Typed::Resume { patient }, None);
        }
    }

    /// Has an operator type a command, so many milliseconds into the next cycle or now.
    fn type_in(&mut self, typed: Typed, in_cycle: Option<u32>) {
        let after = in_cycle.map_or(0, |millis| {
            let period = u64::from(self.script.every) * 60_000;
            let now = u64::try_from(self.stage.true_time().timestamp_millis()).unwrap_or_default();
            period - now % period + u64::from(millis)
        });
        let after = Duration::from_millis(after);
        let person = match typed {
            Typed::Purge { patient } | Typed::Resume { patient } => script::person(patient),
            Typed::PurgeHeld => String::new(),
        };
        let command = operators::type_in(typed, person, self.folder.path(), &self.place, after);
        self.commands.push(command);
    }

    /// Takes in what an operator was told.
    pub(super) fn is_done(&mut self, done: &Done) {
        match done.typed {
            Typed::Purge { patient } => {
                if let Some(person) = self.people.get_mut(patient).filter(|_| done.has_worked) {
                    (person.by_hand, person.walk_goes_on) = (ByHand::Purged(done.at), false);
                    self.truths.orders.note_done(&person.id);
                }
            }
            Typed::PurgeHeld => self.truths.orders.note_held_done(),
            Typed::Resume { .. } => {}
        }
        // Before the next cycle, whose answers could be taken for what the command went by.
        self.next_check = self.minute();
    }

    fn enable(&mut self, patient: usize, is_enabled: bool, now: Timestamp) {
        if self.people.get(patient).is_some_and(|person| person.is_enabled != is_enabled) {
            self.change_listing(patient, now, |person| person.is_enabled = is_enabled);
        }
        self.write_roster();
    }

    fn change_listing(&mut self, patient: usize, now: Timestamp, change: impl FnOnce(&mut Person)) {
        self.at(patient, |person, server| person.change_listing(server, now, change));
        self.follow_listings(now);
    }

    /// Follows who is on the roster: a consent runs out by itself.
    pub(super) fn follow_listings(&mut self, now: Timestamp) {
        // What the records do not list any more is noticed when they are read.
        let late = TimeDelta::minutes(i64::from(self.script.consents_every.unwrap_or_default() * 2));
        for person in &mut self.people {
            person.follow_listing(now, DAY - CLOCK_MAX - late);
        }
    }

    /// Writes into a patient's consent record.
    fn write_record(&mut self, patient: usize, written: Written, now: Timestamp) {
        let Some(mut record) = self.people.get(patient).and_then(|person| person.record) else { return };
        match written {
            Written::AsPermitted => (record.is_there, record.consented) = (true, None),
            Written::Withdrawn => (record.is_there, record.consented) = (true, Some(false)),
            Written::Consented => (record.is_there, record.consented) = (true, Some(true)),
            Written::Nothing => record.is_there = false,
            Written::EndsIn { minutes } => {
                record.ends_at = Some(now + TimeDelta::minutes(i64::from(minutes)));
            }
            Written::Renewed => {
                (record.is_there, record.consented, record.ends_at) = (true, None, Some(now + YEAR));
            }
            Written::OtherScopes if !record.is_there => return,
            Written::OtherScopes => record.scopes_since = now,
        }
        if written != Written::OtherScopes {
            record.since = now;
        }
        self.change_listing(patient, now, |person| person.record = Some(record));
        self.at(patient, |person, server| {
            server.change_consent(&person.id, |consent| record.write(consent));
        });
    }

    fn for_a_while(&mut self, minutes: u32, ending: Ending) {
        self.endings.push((self.minute() + minutes, ending));
        self.disturbed();
    }

    pub(super) fn disturbed(&mut self) {
        self.calm_since = None;
        self.calm_again();
    }

    /// Notes that nothing is wrong any more, if so.
    fn calm_again(&mut self) {
        let is_calm = self.endings.is_empty() && self.stage.clock_offset().is_zero();
        if !is_calm {
            self.calm_since = None;
        } else if self.calm_since.is_none() {
            self.calm_since = Some(self.stage.true_time());
        }
    }

    /// Ends what is over.
    pub(super) fn end(&mut self, minute: u32) {
        let (over, left) = self.endings.drain(..).partition(|(at, _)| *at <= minute);
        self.endings = left;
        let over: Vec<(u32, Ending)> = over;
        for (_, ending) in over {
            tracing::debug!("over: {ending:?} at {}", moment(minute));
            match ending {
                Ending::Weather(_) => {}
                Ending::HalfARoster { .. } => self.write_roster(),
                Ending::DiskFull => self.stage.set_disk_full(false),
                Ending::Reader => self.reader = None,
            }
        }
        self.commit_again();
        self.look_up();
        self.calm_again();
    }

    /// Has the weather that there is now.
    fn look_up(&self) {
        let skies = self.endings.iter().filter_map(|(_, ending)| match ending {
            Ending::Weather(sky) => Some(*sky),
            _ => None,
        });
        let skies: Vec<Sky> = skies.collect();
        let is_refused = skies.iter().any(|sky| sky.shape == Shape::KeyBroken);
        self.server().reject_credentials(is_refused);
        if is_refused {
            self.server().expire_tokens();
        }
        self.stage.network.set_skies(skies);
    }

    /// Nothing is removed under a walk: if as much is added, the server's count cannot show what slid
    /// through the offsets, and only the next full pull finds it.
    pub(super) fn remove_what_waits(&mut self, look: &Look) {
        let waiting = std::mem::take(&mut self.put_off);
        for what in waiting {
            let Some(person) = what.patient().and_then(|patient| self.people.get_mut(patient)) else {
                continue;
            };
            let is_under_way = look.patients.get(&person.id).is_some_and(|patient| patient.is_under_way);
            let server = &self.stage.network.server;
            match what {
                _ if is_under_way || person.walk_goes_on => self.put_off.push(what),
                What::Remove { which, .. } => person.remove(server, which),
                What::Empty { keeps, .. } => person.empty(server, keeps),
                _ => person.recreate(server),
            }
        }
    }

    fn back_up(&mut self) {
        let Ok(reader) = Reader::open(&self.place.location) else { return };
        let file = self.folder.path().join("backup.db");
        let _ = fs::remove_file(&file);
        self.backup = reader.backup(&file, clock::now, |_| true).is_ok().then_some(file);
    }
}
