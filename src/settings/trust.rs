//! Whose files are used: those of this account and of root, which nobody else can write.
//!
//! What they say is done to patients' records and decides where keys are sent, so a stranger's file
//! is refused before a word of it is used. A group counts as others, unless it is a private group:
//! one of its owner's name, without other members, as `umask 002` supposes. Absent on purpose: the
//! folders above, and access control lists.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::geteuid;

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distrust {
    /// It belongs to neither this account nor root.
    Foreign,
    /// So many can write it.
    Writable { by_group: bool, by_others: bool },
}

/// Owner, group and mode of a file.
#[derive(Clone, Copy)]
struct Ownership {
    owner: u32,
    group: u32,
    mode: u32,
}

impl Ownership {
    fn of(found: &Metadata) -> Self {
        Self { owner: found.uid(), group: found.gid(), mode: found.mode() & 0o7777 }
    }

    /// Judges it for the account `me`. `is_private` says whether a group is one account's alone.
    fn distrust(self, me: u32, is_private: impl Fn(u32, u32) -> bool) -> Option<Distrust> {
        let Self { owner, group, mode } = self;
        if owner != me && owner != 0 {
            return Some(Distrust::Foreign);
        }
        let by_others = mode & 0o002 != 0;
        let by_group = mode & 0o020 != 0 && !is_private(group, owner) && !is_private(group, me);
        (by_group || by_others).then_some(Distrust::Writable { by_group, by_others })
    }
}

/// Returns why a file or folder is not used, and the command that mends it.
pub(super) fn refusal(path: &Path, found: &Metadata) -> Option<String> {
    let ownership = Ownership::of(found);
    let me = geteuid().as_raw();
    let distrust = ownership.distrust(me, is_private_group)?;
    let Ownership { owner, group, mode } = ownership;
    let (name, shell) = (path.display(), quoted(path));
    let (as_owner, owner) = (quoted(Path::new(&account(owner))), account(owner));
    Some(match distrust {
        Distrust::Foreign if me == 0 => format!(
            "{name}: belongs to {owner} (mode {mode:04o}), and root uses no file of another account; run this as its owner: sudo -u {as_owner} healthex-sync …, or make it root's: chown root {shell}"
        ),
        Distrust::Foreign => format!(
            "{name}: belongs to {owner} (mode {mode:04o}), and only files of your own and of root are used; if what it says can be trusted: sudo chown {me} {shell}"
        ),
        Distrust::Writable { by_group: true, by_others: true } => format!(
            "{name}: others can write it (owner {owner}, mode {mode:04o}); look whether it still says what it should, and: chmod go-w {shell}"
        ),
        Distrust::Writable { by_group: true, .. } => format!(
            "{name}: the group {} can write it (owner {owner}, mode {mode:04o}); look whether it still says what it should, and: chmod g-w {shell}",
            group_name(group)
        ),
        Distrust::Writable { .. } => format!(
            "{name}: others can write it (owner {owner}, mode {mode:04o}); look whether it still says what it should, and: chmod o-w {shell}"
        ),
    })
}

/// Returns why a file that nobody named is not used: one in the current folder may be anybody's.
pub(super) fn refusal_unnamed(path: &Path, found: &Metadata) -> Option<String> {
    refusal(path, found).or_else(|| {
        let name = path.display();
        (found.uid() != geteuid().as_raw()).then(|| {
            format!(
                "./{name}: belongs to {} (mode {:04o}), and in the current folder only a file of your own is used unnamed; if it is the one you mean: --config {name}",
                account(found.uid()),
                found.mode() & 0o7777
            )
        })
    })
}

/// Returns why a secret is not used: others may not read it either, but a group of the owner's choice.
pub(super) fn refusal_of_secret(path: &Path, found: &Metadata) -> Option<String> {
    refusal(path, found).or_else(|| {
        let Ownership { owner, mode, .. } = Ownership::of(found);
        (mode & 0o007 != 0).then(|| {
            format!(
                "{}: everyone on this machine can read it (owner {}, mode {mode:04o}); chmod 600 {}",
                path.display(),
                account(owner),
                quoted(path)
            )
        })
    })
}

/// Reads a file that nobody else can have written.
pub(crate) fn read_trusted(path: &Path, bytes_max: u64) -> Result<String, String> {
    read_if(path, bytes_max, refusal)
}

/// Reads a file unless `refusal` has something against it.
pub(super) fn read_if(
    path: &Path,
    bytes_max: u64,
    refusal: impl Fn(&Path, &Metadata) -> Option<String>,
) -> Result<String, String> {
    let failed = |error| format!("{}: cannot be read: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    if let Some(why) = refusal(path, &file.metadata().map_err(failed)?) {
        return Err(why);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{}: larger than {} MB", path.display(), bytes_max / 1024 / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return format!("{}:1: is UTF-16; save it as UTF-8", path.display());
        }
        let line = 1 + memchr::memchr_iter(b'\n', &bytes[..at]).count();
        format!("{}:{line}: a letter is not UTF-8, but perhaps Latin-1; save it as UTF-8", path.display())
    })
}

/// Returns what is wrong with a folder and with each file in it that ends so.
pub(super) fn folder_refusals(folder: &Path, extension: &str) -> Vec<String> {
    let refused = |path: &Path| path.metadata().ok().and_then(|found| refusal(path, &found));
    let mut refusals: Vec<String> = refused(folder).into_iter().collect();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    refusals.extend(
        files
            .filter(|file| file.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)))
            .filter_map(|file| refused(&file)),
    );
    refusals.sort();
    refusals
}

/// Returns whether a group has the name of an account and no member but that account.
fn is_private_group(group: u32, account: u32) -> bool {
    let (Ok(Some(group)), Ok(Some(user))) =
        (Group::from_gid(Gid::from_raw(group)), User::from_uid(Uid::from_raw(account)))
    else {
        return false;
    };
    group.name == user.name && group.mem.iter().all(|member| *member == user.name)
}

fn account(id: u32) -> String {
    match User::from_uid(Uid::from_raw(id)) {
        Ok(Some(user)) => user.name,
        _ => format!("#{id}"),
    }
}

fn group_name(id: u32) -> String {
    match Group::from_gid(Gid::from_raw(id)) {
        Ok(Some(group)) => group.name,
        _ => id.to_string(),
    }
}

/// Returns a path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@%,=".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_used_if_only_this_account_or_root_can_have_written_it() {
        // Each account has the group of its own number to itself.
        let check = |me: u32, (owner, group, mode): (u32, u32, u32), expected: Option<Distrust>| {
            let found = Ownership { owner, group, mode }.distrust(me, |group, account| group == account);
            assert_eq!(found, expected, "{owner}:{group} {mode:o} for {me}");
        };
        let writable = |by_group, by_others| Some(Distrust::Writable { by_group, by_others });
        check(1000, (1000, 1000, 0o644), None);
        check(1000, (0, 0, 0o644), None);
        check(1000, (1001, 1000, 0o644), Some(Distrust::Foreign));
        check(0, (1000, 1000, 0o600), Some(Distrust::Foreign));
        // `umask 002` and a private group, the owner's or mine.
        check(1000, (1000, 1000, 0o664), None);
        check(1000, (0, 1000, 0o660), None);
        check(1000, (1000, 50, 0o664), writable(true, false));
        check(1000, (1000, 1000, 0o666), writable(false, true));
        check(1000, (0, 50, 0o666), writable(true, true));
    }

    #[test]
    fn a_name_is_told_as_a_shell_takes_it() {
        assert_eq!(quoted(Path::new("/etc/a-b.toml")), "/etc/a-b.toml");
        assert_eq!(quoted(Path::new("/it's here; rm")), r"'/it'\''s here; rm'");
    }
}
