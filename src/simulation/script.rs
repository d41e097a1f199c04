//! The script of a world: everything that will happen in it, from one seed.
//!
//! Promise: an event says all that it needs by itself, so that a script from which events, patients
//! or days are taken is a script again. Absent on purpose: doing any of it.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::weather::{Shape, Sky};

/// What a world is made of.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) patients: usize,
    pub(super) days: u32,
    /// In minutes.
    pub(super) every: u32,
    pub(super) page_size: u32,
    /// In days.
    pub(super) full_every: u32,
    pub(super) removes_leavers: bool,
    /// In minutes, where a study's consent records are read.
    pub(super) consents_every: Option<u32>,
    /// What each patient begins with is about so much.
    pub(super) entries: u32,
    pub(super) events: Vec<Event>,
}

/// Something that happens, at a minute since the beginning.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) minute: u32,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A new entry appears, which was made `late` minutes ago.
    Add {
        patient: usize,
        size: u32,
        late: u32,
    },
    /// An entry is corrected. `which` is taken modulo their number.
    Correct {
        patient: usize,
        which: u32,
        size: u32,
    },
    Remove {
        patient: usize,
        which: u32,
    },
    /// All entries but the Person, the Patient and so many more are gone.
    Empty {
        patient: usize,
        keeps: u32,
    },
    /// All entries come under new names.
    Recreate {
        patient: usize,
    },
    Withdraw {
        patient: usize,
    },
    Consent {
        patient: usize,
    },
    /// The patient's consent record says something else.
    Record {
        patient: usize,
        written: Written,
    },
    Unlist {
        patient: usize,
    },
    List {
        patient: usize,
    },
    /// The roster says that it is not to be pulled.
    Disable {
        patient: usize,
    },
    Enable {
        patient: usize,
    },
    /// The roster is cut off in its middle or lacks half of the patients, for so many minutes.
    HalfARoster {
        minutes: u32,
        is_cut: bool,
    },
    /// The roster asks for these types only, or, without any, for all.
    Types {
        patient: usize,
        types: &'static [&'static str],
    },
    /// An operator types `purge ID --yes`, so many milliseconds after a tick or at any time.
    Purge {
        patient: usize,
        in_cycle: Option<u32>,
    },
    /// An operator types `sync --patient ID`.
    Resume {
        patient: usize,
    },
    /// An operator types `purge --held --yes`.
    PurgeHeld,
    /// The configuration has another page size, and the daemon is told to read it again.
    Reload {
        page_size: u32,
    },
    /// The server or the way to it is as `sky` says, for so many minutes.
    Weather {
        minutes: u32,
        sky: Sky,
    },
    /// All tokens end.
    TokensEnd,
    OurClock {
        seconds: i64,
    },
    ServersClock {
        seconds: i64,
    },
    /// The process dies at the so-many-th await on the network, or commit, from now on.
    Crash {
        at: u32,
    },
    /// The same, but counted from the next refusal of somebody who was asked again.
    CrashAtARefusal {
        at: u32,
    },
    /// The same, but counted from when the next purge is about to be committed.
    CrashAtAPurge {
        at: u32,
    },
    Backup,
    /// The last backup is restored.
    Restore,
    /// The file may not grow, for so many minutes.
    DiskFull {
        minutes: u32,
    },
    /// Somebody reads the warehouse, for so many minutes.
    Reader {
        minutes: u32,
    },
}

/// What a consent record comes to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As HealthEx permits.
    AsPermitted,
    Withdrawn,
    Consented,
    /// It is gone.
    Nothing,
    EndsIn {
        minutes: u32,
    },
    /// A consent for a year.
    Renewed,
    /// It lets something else through.
    OtherScopes,
}

impl What {
    /// Whom it happens to; `None` where it is to nobody in particular.
    pub(super) fn patient(self) -> Option<usize> {
        match self {
            Self::Add { patient, .. }
            | Self::Correct { patient, .. }
            | Self::Remove { patient, .. }
            | Self::Recreate { patient }
            | Self::Empty { patient, .. }
            | Self::Withdraw { patient }
            | Self::Consent { patient }
            | Self::Record { patient, .. }
            | Self::Unlist { patient }
            | Self::List { patient }
            | Self::Types { patient, .. }
            | Self::Purge { patient, .. }
            | Self::Resume { patient }
            | Self::Disable { patient }
            | Self::Enable { patient } => Some(patient),
            _ => None,
        }
    }
}

/// What the roster may ask for.
const TYPES: [&[&str]; 6] = [
    &[],
    &[],
    &["Observation"],
    &["Condition", "Observation"],
    &["Patient", "Person", "Procedure"],
    &["Condition", "Observation", "Patient", "Procedure"],
];

pub(super) const HOUR: u32 = 60;
pub(super) const DAY: u32 = 24 * HOUR;
/// With two steps of the server's clock, it is less than `sync.overlap`.
const LATE_MAX: u32 = 9;

/// Makes up a world of so many patients and days.
pub(super) fn script(seed: u64, patients: usize, days: u32, every: u32) -> Script {
    let (dice, events) = (StdRng::seed_from_u64(seed), Vec::new());
    let mut author = Author { dice, patients, days, every, consents_every: None, events };
    let page_size = author.some_page_size();
    let full_every = *[1, 1, 2, 7].choose(&mut author.dice).unwrap_or(&7);
    let removes_leavers = author.dice.random_bool(0.5);
    let entries = *[5, 10, 60].choose(&mut author.dice).unwrap_or(&5);
    let some_while = *[15, 60, 60, 6 * HOUR].choose(&mut author.dice).unwrap_or(&HOUR);
    author.consents_every = author.dice.random_bool(0.5).then_some(some_while);
    author.write();
    let consents_every = author.consents_every;
    let mut events = author.events;
    events.retain(|event| event.minute < days * DAY);
    events.sort_by_key(|event| event.minute);
    Script {
        seed,
        patients,
        days,
        every,
        page_size,
        full_every,
        removes_leavers,
        consents_every,
        entries,
        events,
    }
}

struct Author {
    dice: StdRng,
    patients: usize,
    days: u32,
    every: u32,
    consents_every: Option<u32>,
    events: Vec<Event>,
}

impl Author {
    fn write(&mut self) {
        for day in 0..self.days {
            self.edits(day);
            self.consents(day);
            if let Some(consents_every) = self.consents_every {
                self.records(day, consents_every);
            }
            self.roster(day);
            self.operators(day);
            self.weather(day);
            self.machine(day);
        }
    }

    fn at(&mut self, day: u32) -> u32 {
        // The first hour is for the first cycle.
        (day * DAY + self.dice.random_range(0..DAY)).max(HOUR)
    }

    fn add(&mut self, minute: u32, what: What) {
        self.events.push(Event { minute, what });
    }

    fn someone(&mut self) -> usize {
        self.dice.random_range(0..self.patients)
    }

    /// How often something happens on a day that happens so many times on average.
    fn times(&mut self, average: f64) -> u32 {
        let whole = average.floor();
        let more = self.dice.random_bool(average - whole);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
        let whole = whole as u32;
        whole + u32::from(more)
    }

    fn share(&self, of_each: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let patients = self.patients as f64;
        patients * of_each
    }

    fn some_page_size(&mut self) -> u32 {
        *[0, 3, 7, 20, 500].choose(&mut self.dice).unwrap_or(&7)
    }

    fn edits(&mut self, day: u32) {
        for _ in 0..self.times(self.share(0.5)) {
            let (minute, patient) = (self.at(day), self.someone());
            let (which, size) = (self.dice.random(), self.some_size());
            let what = match self.dice.random_range(0..60) {
                0..17 => What::Add { patient, size, late: 0 },
                17..19 => What::Add { patient, size, late: self.dice.random_range(1..LATE_MAX) },
                19..23 => {
                    self.add_behind_a_cycle(minute, patient, size);
                    continue;
                }
                23..41 => What::Correct { patient, which, size },
                41..50 => What::Remove { patient, which },
                50..57 => What::Empty { patient, keeps: *[0, 0, 1, 4].choose(&mut self.dice).unwrap_or(&0) },
                _ => What::Recreate { patient },
            };
            self.add(minute, what);
        }
        // What is new is what the next page lacks.
        if self.dice.random_bool(0.2) {
            let (minute, salt) = (self.at(day), self.dice.random());
            let minutes = self.every + 5;
            self.add(minute, What::Weather { minutes, sky: Sky { shape: Shape::HidesOnce, salt } });
            for patient in 0..self.patients {
                let size = self.some_size();
                self.add(minute, What::Add { patient, size, late: 0 });
            }
        }
    }

    /// An entry that was made before a cycle, and is seen only after it.
    fn add_behind_a_cycle(&mut self, minute: u32, patient: usize, size: u32) {
        let after = self.dice.random_range(0..LATE_MAX - 1);
        let late = self.dice.random_range(after + 1..LATE_MAX);
        self.add(minute / self.every * self.every + after, What::Add { patient, size, late });
    }

    /// A few are larger than a page of the file.
    fn some_size(&mut self) -> u32 {
        if self.dice.random_bool(0.05) {
            self.dice.random_range(2000..20_000)
        } else {
            self.dice.random_range(0..600)
        }
    }

    fn consents(&mut self, day: u32) {
        for _ in 0..self.times(self.share(0.02)) {
            let (minute, patient) = (self.at(day), self.someone());
            self.withdraw(minute, patient);
        }
        // An expiry that was forgotten: many within an hour, or one after the other within a day.
        if self.dice.random_bool(0.08) {
            let minute = self.at(day);
            let (share, within) = if self.dice.random_bool(0.5) { (0.3, HOUR) } else { (0.9, 18 * HOUR) };
            for patient in 0..self.patients {
                if self.dice.random_bool(share) {
                    let later = self.dice.random_range(0..within);
                    self.withdraw(minute + later, patient);
                }
            }
        }
    }

    fn withdraw(&mut self, minute: u32, patient: usize) {
        self.add(minute, What::Withdraw { patient });
        let for_minutes = match self.dice.random_range(0..100) {
            0..21 => self.dice.random_range(1..3 * HOUR),
            21..70 => self.dice.random_range(HOUR..6 * DAY),
            70..90 => self.dice.random_range(6 * DAY..40 * DAY),
            // For good.
            _ => return,
        };
        self.add(minute + for_minutes, What::Consent { patient });
    }

    fn records(&mut self, day: u32, consents_every: u32) {
        for _ in 0..self.times(self.share(0.08)) {
            let (minute, patient) = (self.at(day), self.someone());
            self.contradict(minute, patient);
        }
        for _ in 0..self.times(self.share(0.04)) {
            let (minute, patient) = (self.at(day), self.someone());
            let (written, back) = match self.dice.random_range(0..3) {
                0 => (Written::OtherScopes, None),
                1 => (Written::Nothing, Some(self.some_while())),
                _ => {
                    let minutes = self.some_while();
                    // The renewal may be too late.
                    let renewed = minutes / 2 + self.some_while();
                    if self.dice.random_bool(0.7) {
                        self.add(minute + minutes, What::Withdraw { patient });
                        self.add(minute + renewed.max(minutes + 1), What::Consent { patient });
                    }
                    (Written::EndsIn { minutes }, Some(renewed))
                }
            };
            self.add(minute, What::Record { patient, written });
            if let Some(back) = back {
                self.add(minute + back, What::Record { patient, written: Written::Renewed });
            }
        }
        if self.dice.random_bool(0.5) {
            // For one reading at least.
            let (minute, minutes) = (self.at(day), self.some_while().max(consents_every + self.every));
            let shape = *Shape::OF_RECORDS.choose(&mut self.dice).unwrap_or(&Shape::RecordsFail);
            let sky = Sky { shape, salt: self.dice.random() };
            self.add(minute, What::Weather { minutes, sky });
        }
    }

    /// The record and HealthEx say two things, for a while or for good.
    fn contradict(&mut self, minute: u32, patient: usize) {
        let mut ends = minute + self.some_while();
        let is_for_good = self.dice.random_bool(0.2);
        if self.dice.random_bool(0.6) {
            self.add(minute, What::Record { patient, written: Written::Withdrawn });
            if self.dice.random_bool(0.3) {
                ends = ends.max(self.fall_silent(minute, patient));
            }
            // It was HealthEx that was late.
            if self.dice.random_bool(0.3) {
                self.add(ends, What::Withdraw { patient });
            } else if !is_for_good {
                self.add(ends, What::Record { patient, written: Written::AsPermitted });
            }
        } else {
            self.add(minute, What::Record { patient, written: Written::Consented });
            self.add(minute + 1, What::Withdraw { patient });
            if !is_for_good {
                let written = Written::AsPermitted;
                let what = if self.dice.random_bool(0.5) {
                    What::Consent { patient }
                } else {
                    What::Record { patient, written }
                };
                self.add(ends, what);
            }
        }
    }

    /// The records do not say anew what they have said of a patient, whom HealthEx may refuse meanwhile.
    /// Returns when they speak again.
    fn fall_silent(&mut self, minute: u32, patient: usize) -> u32 {
        let from = minute + self.dice.random_range(HOUR..14 * HOUR);
        let shapes = [Shape::RecordsFail, Shape::RecordsForbidden, Shape::RecordsOfOneFail];
        let shape = *shapes.choose(&mut self.dice).unwrap_or(&Shape::RecordsFail);
        let (minutes, salt) = (self.dice.random_range(12 * HOUR..45 * HOUR), self.dice.random());
        self.add(from, What::Weather { minutes, sky: Sky { shape, salt } });
        let during = from + self.dice.random_range(0..minutes);
        if self.dice.random_bool(0.5) {
            self.add(during, What::Withdraw { patient });
        }
        from + minutes
    }

    fn roster(&mut self, day: u32) {
        for _ in 0..self.times(self.share(0.02)) {
            let (minute, patient) = (self.at(day), self.someone());
            self.add(minute, What::Unlist { patient });
            let back = minute + self.dice.random_range(10..3 * DAY);
            self.add(back, What::List { patient });
        }
        if self.dice.random_bool(0.05) {
            let (minute, minutes) = (self.at(day), self.dice.random_range(1..3 * HOUR));
            let is_cut = self.dice.random_bool(0.5);
            self.add(minute, What::HalfARoster { minutes, is_cut });
        }
        for _ in 0..self.times(self.share(0.01)) {
            let (minute, patient) = (self.at(day), self.someone());
            self.add(minute, What::Disable { patient });
            let back = minute + self.dice.random_range(10..5 * DAY);
            self.add(back, What::Enable { patient });
        }
        for _ in 0..self.times(self.share(0.04)) {
            let (minute, patient) = (self.at(day), self.someone());
            let types = TYPES.choose(&mut self.dice).copied().unwrap_or_default();
            self.add(minute, What::Types { patient, types });
        }
        if self.dice.random_bool(0.1) {
            let (minute, page_size) = (self.at(day), self.some_page_size());
            self.add(minute, What::Reload { page_size });
        }
    }

    fn operators(&mut self, day: u32) {
        for _ in 0..self.times(self.share(0.02)) {
            let (minute, patient) = (self.at(day), self.someone());
            let in_cycle = self.dice.random_bool(0.7).then(|| self.dice.random_range(0..4000));
            self.add(minute, What::Purge { patient, in_cycle });
            // A few are never pulled again.
            if self.dice.random_bool(0.8) {
                let back = minute + self.dice.random_range(10..3 * DAY);
                self.add(back, What::Resume { patient });
            }
        }
        if self.dice.random_bool(0.1) {
            let minute = self.at(day);
            self.add(minute, What::PurgeHeld);
        }
    }

    fn weather(&mut self, day: u32) {
        for _ in 0..self.times(0.5) {
            let minute = self.at(day);
            let minutes = self.some_while();
            let shapes: &[Shape] = if self.dice.random_bool(0.3) { &Shape::REFUSING } else { &Shape::ALL };
            let shape = *shapes.choose(&mut self.dice).unwrap_or(&Shape::Down);
            let sky = Sky { shape, salt: self.dice.random() };
            self.add(minute, What::Weather { minutes, sky });
        }
        if self.dice.random_bool(0.1) {
            let minute = self.at(day);
            self.add(minute, What::TokensEnd);
        }
    }

    fn some_while(&mut self) -> u32 {
        match self.dice.random_range(0..10) {
            0..6 => self.dice.random_range(5..90),
            6..9 => self.dice.random_range(HOUR..12 * HOUR),
            _ => self.dice.random_range(12 * HOUR..3 * DAY),
        }
    }

    fn machine(&mut self, day: u32) {
        for _ in 0..self.times(0.4) {
            let (minute, at) = (self.at(day), self.dice.random_range(1..60));
            self.add(minute, What::Crash { at });
        }
        if self.dice.random_bool(0.3) {
            let (minute, at) = (self.at(day), self.dice.random_range(1..8));
            self.add(minute, What::CrashAtARefusal { at });
        }
        if self.dice.random_bool(0.3) {
            let (minute, at) = (self.at(day), self.dice.random_range(1..6));
            self.add(minute, What::CrashAtAPurge { at });
        }
        if self.dice.random_bool(0.06) {
            let minute = self.at(day);
            let seconds = self.dice.random_range(-5400..5400);
            self.add(minute, What::OurClock { seconds });
            let back = minute + self.some_while();
            self.add(back, What::OurClock { seconds: -seconds });
        }
        if self.dice.random_bool(0.06) {
            let minute = self.at(day);
            // Twice that is less than `sync.overlap`.
            let seconds = self.dice.random_range(-1500..1500);
            self.add(minute, What::ServersClock { seconds });
        }
        if self.dice.random_bool(0.1) {
            let minute = self.at(day);
            self.add(minute, What::Backup);
        }
        if self.dice.random_bool(0.04) {
            let minute = self.at(day);
            self.add(minute, What::Restore);
        }
        if self.dice.random_bool(0.04) {
            let (minute, minutes) = (self.at(day), self.some_while());
            self.add(minute, What::DiskFull { minutes });
        }
        if self.dice.random_bool(0.08) {
            let (minute, minutes) = (self.at(day), self.some_while());
            self.add(minute, What::Reader { minutes });
        }
    }
}

/// The name of a patient, as it is in the roster too.
pub(super) fn person(patient: usize) -> String {
    format!("p{patient:03}")
}
