//! Names that stand for others: a keyed hash of an id, and a distance by which a person's dates are moved.
//!
//! Promise: the same key gives the same pseudonyms in every export, so that tables and exports go together; without
//! the key nobody can tell whose they are, not even with a list of all ids. Absent on purpose: what has to be
//! renamed and what left out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rustix::fs::OFlags;
use sha2::Sha256;

use crate::plan::resource_type::ResourceType;
use crate::plan::row::hex;
use crate::time::Day;

const KEY_BYTES: usize = 32;
/// Of SHA-256.
const BLOCK_BYTES: usize = 64;

/// The longest distance that dates are moved by, in days: a year, so that seasons are blurred too.
const DAYS_MAX: u64 = 365;

/// What makes pseudonyms.
pub(crate) struct Pseudonyms {
    key: [u8; KEY_BYTES],
    dates: Dates,
}

/// What becomes of dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dates {
    AsTheyAre,
    /// All of a person's are moved back by the same number of days.
    Shifted,
}

/// What a pseudonym stands for. The same text is another pseudonym in each.
#[derive(Clone, Copy, Debug)]
enum Domain {
    Person,
    Id,
    Key,
    Days,
    Fingerprint,
}

impl Pseudonyms {
    pub(crate) fn new(key: [u8; KEY_BYTES], dates: Dates) -> Self {
        Self { key, dates }
    }

    /// Reads the key from a file that is its owner's alone, or makes one where there is none.
    pub(crate) fn from_file(path: &Path, dates: Dates) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
            Ok(file) => Ok(Self::new(read_key(path, file)?, dates)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Self::new(make_key(path).map_err(failed)?, dates))
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) fn dates(&self) -> Dates {
        self.dates
    }

    /// Returns by what two exports can be told to be of one key, which says nothing of the key.
    pub(crate) fn fingerprint(&self) -> String {
        hex(&self.hash(Domain::Fingerprint, "")[..8])
    }

    pub(crate) fn person(&self, person_id: &str) -> String {
        self.name(Domain::Person, person_id)
    }

    /// Returns what stands for the id of a resource, in itself and in references to it.
    pub(crate) fn id(&self, id: &str) -> String {
        self.name(Domain::Id, id)
    }

    pub(crate) fn key(&self, key: &str) -> String {
        self.name(Domain::Key, key)
    }

    /// Returns a reference to the same thing by its pseudonym; `None` where that cannot be made out.
    pub(crate) fn reference(&self, reference: &str) -> Option<String> {
        if reference.contains('?') {
            return None;
        }
        if let Some(contained) = reference.strip_prefix('#') {
            return Some(format!("#{}", self.id(contained)));
        }
        if let Some(uuid) = reference.strip_prefix("urn:uuid:") {
            return Some(format!("urn:uuid:{}", self.id(uuid)));
        }
        let current = reference.split("/_history/").next().unwrap_or(reference);
        let mut parts = current.rsplit('/');
        let (id, type_name) = (parts.next()?, parts.next()?);
        let known = ResourceType::by_name(type_name)?;
        (!id.is_empty()).then(|| format!("{}/{}", known.name, self.id(id)))
    }

    /// Returns a date or a time as it is to be told, at the precision it has; `None` of what is neither.
    pub(crate) fn date(&self, person_id: &str, text: &str) -> Option<String> {
        let date_length = text.find(['T', ' ']).unwrap_or(text.len());
        let (date, time) = text.split_at(date_length);
        let is_time = |byte: u8| byte.is_ascii_digit() || b"T :.+-Z".contains(&byte);
        if time.len() > TIME_LENGTH_MAX || !time.bytes().all(is_time) {
            return None;
        }
        let whole = match date.len() {
            4 => format!("{date}-07-01"),
            7 => format!("{date}-15"),
            10 => date.to_owned(),
            _ => return None,
        };
        let whole = Day::parse(&whole)?;
        if !time.is_empty() && date.len() < 10 {
            return None;
        }
        let told = match self.dates {
            Dates::AsTheyAre => whole,
            Dates::Shifted => whole.before(self.days_back(person_id)),
        };
        // As precise as it was.
        told.to_string().get(..date.len()).map(|told| format!("{told}{time}"))
    }

    /// Returns the time at which a machine had something, as it is to be told. Beside dates that are moved
    /// it would tell by how much: others know when records were fetched.
    pub(crate) fn machine_time(&self, person_id: &str, text: &str) -> Option<String> {
        match self.dates {
            Dates::AsTheyAre => self.date(person_id, text),
            Dates::Shifted => None,
        }
    }

    fn days_back(&self, person_id: &str) -> u64 {
        let hash = self.hash(Domain::Days, person_id);
        let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        1 + number % DAYS_MAX
    }

    /// 128 bits, written as a UUID: short enough for a FHIR id, and what stands behind `urn:uuid:`.
    fn name(&self, domain: Domain, text: &str) -> String {
        let hex = hex(&self.hash(domain, text)[..16]);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    fn hash(&self, domain: Domain, text: &str) -> [u8; 32] {
        // HMAC fills a shorter key up with zeros.
        let mut block = [0; BLOCK_BYTES];
        block[..KEY_BYTES].copy_from_slice(&self.key);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        mac.update(format!("{domain:?}\0").as_bytes());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Longer than any time with a fraction and an offset.
const TIME_LENGTH_MAX: usize = 32;

fn read_key(path: &Path, file: File) -> Result<[u8; KEY_BYTES], String> {
    let name = path.display();
    let found = file.metadata().map_err(|error| format!("{name}: {error}"))?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!("{name}: others can read this key; chmod 600 {name}"));
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))?;
    let bytes: Option<Vec<u8>> = (text.trim().len() == 2 * KEY_BYTES)
        .then(|| text.trim().as_bytes().chunks(2))
        .into_iter()
        .flatten()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    key.ok_or_else(|| format!("{name}: is no key of pseudonyms, which has 64 hexadecimal digits"))
}

fn make_key(path: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut key).map_err(std::io::Error::other)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", hex(&key)).as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonyms(key: u8, dates: Dates) -> Pseudonyms {
        Pseudonyms::new([key; KEY_BYTES], dates)
    }

    #[test]
    fn a_pseudonym_depends_on_the_key_and_on_what_it_stands_for() {
        let one = pseudonyms(1, Dates::AsTheyAre);
        assert_eq!(one.id("o1"), pseudonyms(1, Dates::Shifted).id("o1"));
        assert_ne!(one.id("o1"), pseudonyms(2, Dates::AsTheyAre).id("o1"));
        assert_ne!(one.id("anna"), one.person("anna"));
        assert_ne!(one.fingerprint(), pseudonyms(2, Dates::AsTheyAre).fingerprint());
    }

    #[test]
    fn a_reference_leads_to_the_pseudonym_of_its_target() {
        let one = pseudonyms(1, Dates::AsTheyAre);
        let id = one.id("p");
        for (reference, expected) in [
            ("Patient/p", Some(format!("Patient/{id}"))),
            ("https://hospital.example/fhir/Patient/p/_history/3", Some(format!("Patient/{id}"))),
            ("urn:uuid:p", Some(format!("urn:uuid:{id}"))),
            ("#p", Some(format!("#{id}"))),
            ("Practitioner?identifier=npi|123", None),
            ("Smith/p", None),
            ("Dr Smith", None),
            ("Patient/", None),
        ] {
            assert_eq!(one.reference(reference), expected, "{reference}");
        }
    }

    #[test]
    fn dates_of_a_person_move_together_and_keep_their_precision() {
        let as_they_are = pseudonyms(1, Dates::AsTheyAre);
        for text in ["2024", "2024-03", "2024-03-01", "2024-03-01T08:30:00.123+02:00", "2024-03-01 08:30:00"]
        {
            assert_eq!(as_they_are.date("anna", text).as_deref(), Some(text));
        }
        for text in ["", "yesterday", "2024-13-01", "2024-03-01T Smith", "2024-03T08:00", "20240301"] {
            assert_eq!(as_they_are.date("anna", text), None, "{text}");
        }
        let shifted = pseudonyms(1, Dates::Shifted);
        let day = |text: &str| {
            let told = shifted.date("anna", text).unwrap();
            Day::parse(&told[..10]).unwrap().since_1970()
        };
        assert_eq!(day("2024-03-02") - day("2024-02-28T23:59:00Z"), 3);
        let back = Day::of(2024, 3, 2).unwrap().since_1970() - day("2024-03-02");
        assert!((1..=365).contains(&back), "{back}");
        assert!(shifted.date("anna", "2024-02-28T23:59:00Z").unwrap().ends_with("T23:59:00Z"));
        assert_eq!(shifted.date("anna", "2024").unwrap().len(), 4);
        let fetched = "2026-11-27T03:44:38Z";
        assert_eq!(shifted.machine_time("anna", fetched), None);
        assert_eq!(as_they_are.machine_time("anna", fetched).as_deref(), Some(fetched));
        let far = |person: &str| shifted.date(person, "2024-03-02");
        assert!(["ben", "cleo", "dan", "eve"].iter().any(|person| far(person) != far("anna")));
    }

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept/key");
        let made = Pseudonyms::from_file(&path, Dates::AsTheyAre).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Pseudonyms::from_file(&path, Dates::AsTheyAre).unwrap().id("x"), made.id("x"));
        let read = || Pseudonyms::from_file(&path, Dates::AsTheyAre).map(drop).unwrap_err();
        std::fs::write(&path, "short").unwrap();
        assert!(read().contains("64 hexadecimal digits"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read().contains("chmod 600"));
    }
}
