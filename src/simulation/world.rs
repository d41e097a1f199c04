//! A world: a folder with a configuration, a server with its patients, and what happens to them.

use std::collections::BTreeSet;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::ledger::Ledger;
use super::life;
use super::look::{Look, Onlooker};
use super::moment::{Moment, Untrue};
use super::network::Network;
use super::operators::UnderWay;
use super::people::{ByHand, Person, persons_in};
use super::records::Record;
use super::script::{Script, What, person};
use super::stage;
use super::stage::Stage;
use super::truths::{Rules, Truths, nothing_is_made_up};
use super::weather::Sky;
use crate::clock;
use crate::sandbox::{InProcess, Sandbox};
use crate::time::{TimeDelta, Timestamp};
use crate::warehouse::place::Place;
use crate::warehouse::report::VerifyDepth;
use crate::warehouse::{Reader, restore};

pub(super) const BASE_URL: &str = "http://healthex.invalid";

/// A Wednesday.
const BEGINS: i64 = 1_800_403_200;

/// Something that is over at a minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    Weather(Sky),
    HalfARoster { is_cut: bool },
    DiskFull,
    Reader,
}

pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) stage: Arc<Stage>,
    pub(super) script: Script,
    pub(super) place: Place,
    pub(super) people: Vec<Person>,
    pub(super) truths: Truths,
    next_event: usize,
    pub(super) endings: Vec<(u32, Ending)>,
    pub(super) reader: Option<Connection>,
    pub(super) onlooker: Onlooker,
    ledger: Ledger,
    pub(super) backup: Option<PathBuf>,
    pub(super) calm_since: Option<Timestamp>,
    pub(super) commits_since: Option<Timestamp>,
    /// Removals that wait for the end of a walk.
    pub(super) put_off: Vec<What>,
    /// What operators have typed and has not come to its end.
    pub(super) commands: FuturesUnordered<UnderWay>,
    pub(super) next_check: u32,
    /// So many purges were looked for in the bytes of the file.
    scrubbed: usize,
    /// After the script, calm weather follows.
    ends_at: u32,
    is_calm_for_good: bool,
}

/// As long as it may take until everybody was asked again who waits.
const CALM_MINUTES: u32 = 36 * 60;

/// Why the daemon is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    Restore,
    End,
}

impl World {
    pub(super) fn new(script: Script, roots: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("simulated-").tempdir_in(roots).unwrap();
        let begins = Timestamp::from_timestamp(BEGINS, 0).unwrap_or_default();
        let persons: Vec<String> = (0..script.patients).map(person).collect();
        let network = Network::new(InProcess::new(BASE_URL, stage::true_time), persons.clone());
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let stage = Stage::new(script.seed, begins, network, files);
        write_configuration(folder.path(), &script);
        let settings = super::life::settings(folder.path());
        let place = super::life::place(&settings);
        let rules = Rules {
            every: TimeDelta::minutes(i64::from(script.every)),
            removes_leavers: script.removes_leavers,
            full_every: TimeDelta::days(i64::from(script.full_every)),
            consents_every: script.consents_every.map(|every| TimeDelta::minutes(i64::from(every))),
        };
        let people = persons.into_iter().map(|id| Person::new(id, begins)).collect();
        Self {
            folder,
            stage,
            place,
            people,
            truths: Truths::new(rules),
            next_event: 0,
            endings: Vec::new(),
            reader: None,
            onlooker: Onlooker::default(),
            ledger: Ledger::default(),
            backup: None,
            calm_since: Some(begins),
            commits_since: Some(begins),
            put_off: Vec::new(),
            commands: FuturesUnordered::new(),
            next_check: 0,
            scrubbed: 0,
            ends_at: script.days * 24 * 60,
            is_calm_for_good: false,
            script,
        }
    }

    /// Lets everybody move in; with the stage set, because the server's clock is asked.
    pub(super) fn settle_in(&mut self) {
        for (number, person) in (0_u32..).zip(&mut self.people) {
            let server = &self.stage.network.server;
            person.settle_in(server, self.script.entries / 2 + number * 7 % self.script.entries);
            if self.script.consents_every.is_some() {
                let record = Record::new(self.stage.true_time());
                server.change_consent(&person.id, |consent| record.write(consent));
                // Some are on the roster by their records alone.
                (person.record, person.is_in_file) = (Some(record), number % 2 == 0);
            }
        }
        self.write_roster();
    }

    pub(super) fn minute(&self) -> u32 {
        u32::try_from((self.stage.true_time().timestamp() - BEGINS) / 60).unwrap_or_default()
    }

    pub(super) fn server(&self) -> &InProcess {
        &self.stage.network.server
    }

    /// Writes the roster, or the half of it that there is now.
    pub(super) fn write_roster(&mut self) {
        let half = self.endings.iter().find_map(|(_, ending)| match ending {
            Ending::HalfARoster { is_cut } => Some(*is_cut),
            _ => None,
        });
        let mut listed: Vec<&Person> = self.people.iter().filter(|person| person.is_in_file).collect();
        if half == Some(false) {
            listed.truncate(listed.len().div_ceil(2));
        }
        let table = |person: &&Person| {
            let Person { id, is_enabled, types, .. } = person;
            let types = if types.is_empty() { String::new() } else { format!("types = {types:?}\n") };
            format!("[[patient]]\nid = {id:?}\nlabel = \"study-{id}\"\nenabled = {is_enabled}\n{types}")
        };
        let mut text = listed.iter().map(table).collect::<String>();
        if half == Some(true) {
            // In the middle of a word: what can be read, and lacks something, is another roster.
            text.truncate(text.len() / 2);
            text.push_str("\nlabel = \"");
        } else {
            // One that is cut off cannot be read, or lists fewer for some hours.
            let now = self.stage.true_time();
            let listed: Vec<String> = listed.into_iter().map(|person| person.id.clone()).collect();
            for person in &mut self.people {
                let is_listed = listed.contains(&person.id);
                self.truths.note_listed(&person.id, is_listed, now);
                if person.is_in_file && !is_listed {
                    // Its record may list it all the same, and knows nothing of what the file says.
                    person.listed_since = now;
                }
            }
        }
        fs::write(self.folder.path().join("roster.toml"), text).unwrap();
    }

    /// Goes on with the script and looks whether all is true, until the daemon is to be stopped.
    pub(super) async fn go_on(&mut self) -> Result<Halt, Untrue> {
        loop {
            let end = self.ends_at;
            let event = self.script.events.get(self.next_event).map_or(end, |event| event.minute);
            let ending = self.endings.iter().map(|(minute, _)| *minute).min().unwrap_or(end);
            let next = event.min(ending).min(self.next_check).min(end);
            let at = BEGINS + i64::from(next) * 60;
            // Half a minute late, so that a tick of the same minute comes first.
            let wait = at * 1000 + 30_000 - self.stage.true_time().timestamp_millis();
            let sleep = clock::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or_default()));
            tokio::select! {
                biased;
                Some(done) = self.commands.next() => {
                    if self.stage.has_died() {
                        // It was told by files that are thrown away.
                        std::future::pending::<()>().await;
                    }
                    self.is_done(&done);
                    continue;
                }
                () = sleep => {}
            }
            if next == ending {
                self.end(next);
            }
            if next == event && next < end {
                let event = self.script.events[self.next_event].clone();
                self.next_event += 1;
                if self.happens(&event) == Some(Halt::Restore) {
                    self.commands.clear();
                    return Ok(Halt::Restore);
                }
            }
            if next == self.next_check {
                self.next_check = (next / self.script.every + 1) * self.script.every;
                self.check()?;
            }
            if next >= end && self.is_calm_for_good {
                return Ok(Halt::End);
            }
            if next >= end {
                self.calm_down();
            }
        }
    }

    /// Puts the last backup in the warehouse's place, while no daemon runs.
    pub(super) fn restore(&mut self) -> Result<(), Untrue> {
        self.nobody_reads();
        let Some(file) = &self.backup else { return Ok(()) };
        if let Err(failed) = restore(&self.place, file, clock::now, |_| true) {
            return Err(Untrue { truth: "a backup can be restored", shows: failed.to_string() });
        }
        self.anew()?;
        self.people.iter_mut().for_each(Person::forget_sweeps);
        // Who was paused, refused or held in the backup is so again.
        if let Some(look) = self.onlooker.look(self.place.path()) {
            let now = self.stage.true_time();
            self.truths.go_by_the_backup(&look, now);
            for person in &mut self.people {
                let patient = look.patients.get(&person.id);
                if patient.is_some_and(|patient| patient.state == "paused") {
                    person.by_hand = ByHand::Ordered(now);
                }
                person.is_contradicted_by_backup =
                    patient.is_some_and(|patient| patient.is_held_as("contradicted"));
            }
        }
        self.scrubbed = 0;
        self.disturbed();
        Ok(())
    }

    fn nobody_reads(&mut self) {
        (self.reader, self.onlooker) = (None, Onlooker::default());
        self.ledger = Ledger::default();
        self.commands.clear();
    }

    /// Takes it that nothing is known of what the warehouse holds: the process is another one.
    fn anew(&mut self) -> Result<(), Untrue> {
        self.truths.a_problem_is_told_once_and_again_when_it_is_over(self.stage.take_told())?;
        self.truths.begin_life();
        // A cycle begins with the process: what it purges is judged before the next one asks again.
        self.next_check = self.minute() + 1;
        let starts = |_: &Timestamp| !self.has_cut_roster();
        self.commits_since = self.commits_since.filter(starts).map(|_| self.stage.true_time());
        for person in &mut self.people {
            person.doubt_all(&self.stage.network.server);
        }
        Ok(())
    }

    fn has_cut_roster(&self) -> bool {
        let is_cut = |ending: &Ending| matches!(ending, Ending::HalfARoster { is_cut: true });
        self.endings.iter().any(|(_, ending)| is_cut(ending))
    }

    /// Takes it that the process commits once it is started again, where nothing is in its way any more.
    pub(super) fn commit_again(&mut self) {
        let is_full = self.endings.iter().any(|(_, ending)| *ending == Ending::DiskFull);
        if self.commits_since.is_none() && !is_full && !self.has_cut_roster() {
            self.commits_since = Some(self.stage.true_time() + life::RESTART_AFTER * 2);
        }
    }

    /// The process has died, and whoever read its files as well.
    pub(super) fn bury(&mut self) -> Result<(), Untrue> {
        self.nobody_reads();
        self.stage.bury();
        self.anew()?;
        self.disturbed();
        Ok(())
    }

    /// Checks all that is true at any moment, and once a day what takes longer.
    pub(super) fn check(&mut self) -> Result<(), Untrue> {
        let now = self.stage.true_time();
        self.follow_listings(now);
        let answered = self.stage.network.take_answered();
        self.truths.hear(answered, &mut self.people, now);
        let readings = self.stage.network.take_readings();
        self.truths.read(readings, &mut self.people, self.commits_since.is_some(), now);
        self.truths.a_problem_is_told_once_and_again_when_it_is_over(self.stage.take_told())?;
        let Some(look) = self.onlooker.look(self.place.path()) else { return Ok(()) };
        for person in &mut self.people {
            let has_rows = look.patients.get(&person.id).is_some_and(|patient| patient.holds_rows);
            if person.had_rows && !has_rows {
                person.doubt_all(&self.stage.network.server);
            }
            person.had_rows = has_rows;
        }
        let is_daily = (self.minute() / self.script.every).is_multiple_of(24 * 60 / self.script.every);
        if is_daily {
            for person in &mut self.people {
                person.doubt_all(&self.stage.network.server);
            }
        }
        self.ledger.read_on(self.place.path());
        let moment = Moment {
            now,
            calm_since: self.calm_since,
            commits_since: self.commits_since,
            server: &self.stage.network.server,
            stage: &self.stage,
            look: &look,
            ledger: &self.ledger,
        };
        self.truths.hold(&moment, &mut self.people)?;
        self.no_byte_of_a_purged_patient_is_left(&look)?;
        if is_daily {
            nothing_is_made_up(&look, &self.people)?;
            self.verify()?;
        }
        self.remove_what_waits(&look);
        Ok(())
    }

    /// "No byte of the patient's resources is then left in any file of the warehouse."
    fn no_byte_of_a_purged_patient_is_left(&mut self, look: &Look) -> Result<(), Untrue> {
        let is_clean = look.purges.iter().all(|purge| purge.is_scrubbed);
        if !is_clean || self.scrubbed == look.purges.len() {
            return Ok(());
        }
        self.scrubbed = look.purges.len();
        let mut files = Vec::new();
        for suffix in ["", "-wal"] {
            let mut path = self.place.path().as_os_str().to_owned();
            path.push(suffix);
            files.push(fs::read(path).unwrap_or_default());
        }
        let holds_rows = |person: &str| look.patients.get(person).is_some_and(|patient| patient.holds_rows);
        let gone: BTreeSet<&str> = look
            .purges
            .iter()
            .map(|purge| purge.person.as_str())
            .filter(|person| !holds_rows(person))
            .collect();
        match files.iter().flat_map(|file| persons_in(file)).find(|person| gone.contains(person)) {
            None => Ok(()),
            Some(person) => Err(Untrue {
                truth: "after a purge no byte is left in any file of the warehouse",
                shows: person.to_owned(),
            }),
        }
    }

    /// "Analysts' tables equal a fresh build", and whatever else `verify` knows.
    pub(super) fn verify(&self) -> Result<(), Untrue> {
        let Ok(reader) = Reader::open(&self.place.location) else { return Ok(()) };
        let findings = reader.verify(&self.place.views, VerifyDepth::Rows, clock::now()).unwrap();
        let mut wrong = findings.wrong;
        wrong.extend(reader.ledger(None).unwrap().fault.map(|fault| fault.to_string()));
        match wrong.first() {
            None => Ok(()),
            Some(first) => Err(Untrue {
                truth: "verify finds nothing, and every table is as if made anew",
                shows: first.clone(),
            }),
        }
    }

    /// Ends all bad weather, and whatever else is wrong.
    pub(super) fn calm_down(&mut self) {
        self.end(u32::MAX);
        self.stage.step_clock(-self.stage.clock_offset());
        self.stage.live_on();
        self.disturbed();
        self.is_calm_for_good = true;
        self.ends_at += CALM_MINUTES;
    }

    /// Returns a problem that an operator was told of and that is not over, but for patients who are
    /// held and have indeed withdrawn: that is for the operator to say.
    pub(super) fn open_problem(&self) -> Option<String> {
        let look = self.onlooker.look(self.place.path())?;
        let is_held =
            |person: &&Person| look.patients.get(&person.id).is_some_and(|patient| patient.state == "held");
        let mut held = self.people.iter().filter(is_held).peekable();
        let now = self.stage.true_time();
        let has_ended = |person: &Person| !person.has_consented || person.has_ended_by_record(now);
        let is_theirs_to_say = held.peek().is_some() && held.all(has_ended);
        let mut open =
            self.truths.open_problems().filter(|(problem, _)| **problem != "held" || !is_theirs_to_say);
        open.next().map(|(problem, text)| format!("{problem}: {text}"))
    }

    /// Takes it that everybody is to be pulled whom the roster lists, and returns who was purged by an operator.
    pub(super) fn resumed(&mut self) -> Vec<String> {
        let now = self.stage.true_time();
        let is_resumed = |person: &&mut Person| {
            person.is_listed(now) && !person.is_disabled() && person.by_hand != ByHand::Untouched
        };
        let resumed = self.people.iter_mut().filter(is_resumed).map(|person| {
            person.by_hand = ByHand::Untouched;
            person.id.clone()
        });
        resumed.collect()
    }

    /// Looks at everything as it is now.
    pub(super) fn judge<T: Default>(
        &self,
        truth: impl FnOnce(&Moment<'_>, &[Person]) -> Result<T, Untrue>,
    ) -> Result<T, Untrue> {
        let Some(look) = self.onlooker.look(self.place.path()) else { return Ok(T::default()) };
        let moment = Moment {
            now: self.stage.true_time(),
            calm_since: self.calm_since,
            commits_since: self.commits_since,
            server: &self.stage.network.server,
            stage: &self.stage,
            look: &look,
            ledger: &self.ledger,
        };
        truth(&moment, &self.people)
    }
}

pub(super) fn open_reader(path: &Path) -> Option<Connection> {
    if !path.exists() {
        return None;
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.execute_batch("BEGIN; SELECT count(*) FROM checkpoint").ok()?;
    Some(connection)
}

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// Writes what the daemon is configured by.
pub(super) fn write_configuration(folder: &Path, script: &Script) {
    let [key, secret] = ["api-key", "api-secret"].map(|name| folder.join(name));
    write_private(&key, "sandbox-key");
    write_private(&secret, "sandbox-secret");
    let on_removed = if script.removes_leavers { "purge" } else { "keep" };
    let Script { every, page_size, full_every, consents_every, .. } = script;
    let studies = consents_every.map_or_else(String::new, |every| {
        format!("roster.studies = [{:?}]\nroster.consents_every = \"{every}m\"\n", Sandbox::STUDY)
    });
    let schedule =
        if *every < 60 { format!("0 */{every} * * * *") } else { format!("0 0 */{} * * *", every / 60) };
    let settings = format!(
        "api.base_url = {BASE_URL:?}\napi.allow_http = true\napi.api_key_file = {key:?}\napi.api_secret_file = {secret:?}\n\
         alert.command = [\"told\"]\nwarehouse.path = \"files/warehouse.db\"\n\
         sync.schedule = {schedule:?}\nsync.page_size = {page_size}\nsync.full_every = \"{full_every}d\"\n\
         roster.on_removed = {on_removed:?}\n{studies}"
    );
    fs::write(folder.join("healthex-sync.toml"), settings).unwrap();
}
