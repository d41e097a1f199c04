//! The manual: a page for the program, one for each command, and one for the configuration.
//!
//! Promise: what an option or a key is for is said once, where the command line and the annotated
//! configuration say it. Absent on purpose: the README's how and why.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// A page, and where it goes below a folder of manual pages.
pub(crate) struct Page {
    /// Such as `man1/healthex-sync-sync.1`.
    pub(crate) path: String,
    pub(crate) text: Vec<u8>,
}

const CONFIG: &str = include_str!("../config/healthex-sync.toml");
const CONFIG_PAGE: &str = "healthex-sync.toml";

const EXIT_STATUSES: [(&str, &str); 6] = [
    ("0", "All done; a purge after a withdrawn consent is done work."),
    ("1", "Failed for another reason."),
    ("2", "Wrong usage or configuration; nothing was touched."),
    ("3", "Some patients failed, are held, not found or were not reached; the rest are done."),
    ("4", "The credentials were refused."),
    ("5", "The warehouse is in use by another process, or cannot be used."),
];

const CONFIGURATION_STATUS: [(&str, &str); 1] = [(
    "2",
    "Of any command, where the configuration cannot be used: all that is wrong is told at once, with the line of the file or the variable; nothing was touched.",
)];

const CONFIGURATION_EXAMPLES: [(&str, &str); 4] = [
    ("[roster]\nfiles = [\"roster.toml\"]", "The least: all else is as `healthex-sync init` writes it."),
    (
        "[sync]\nschedule = \"every 1h\"\nnot_between = \"08:00-18:00\"\ntimezone = \"Europe/Berlin\"",
        "Each hour, and not by day.",
    ),
    (
        "[warehouse]\nurl = \"postgres://healthex_worker@db.example/study\"",
        "A PostgreSQL server in place of a file.",
    ),
    ("HEALTHEX_SYNC__SYNC__CONCURRENCY=2 healthex-sync sync", "One key, for one command."),
];

const ENVIRONMENT: [(&str, &str); 10] = [
    ("HEALTHEX_TOKEN", "A ready JWT; comes before all other credentials."),
    ("HEALTHEX_API_KEY, HEALTHEX_API_SECRET", "The key and its secret, instead of files."),
    ("HEALTHEX_DB_PASSWORD", "The password of warehouse.url, instead of a file."),
    ("HEALTHEX_SYNC_CONFIG", "The configuration, where --config does not name one."),
    (
        "HEALTHEX_SYNC__SECTION__KEY",
        "Wins over a key of the configuration: HEALTHEX_SYNC__API__BASE_URL is api.base_url.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Where systemd hands over credentials; looked into before the configuration's folder.",
    ),
    (
        "STATE_DIRECTORY",
        "Where systemd has a service keep its own files, if the warehouse is on a server; else they are beside the configuration.",
    ),
    ("NO_COLOR", "No colours, where it is set and not empty."),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "Root certificates instead of the system's."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM", "Set by systemd, for run."),
];

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "Ends between two pages; what is stored stays, and the next cycle goes on there. A second one ends at once.",
    ),
    (
        "SIGHUP",
        "run reads configuration, credentials and rosters again, and keeps what it has where they cannot be used.",
    ),
];

/// What a command is used for, with words of its own.
const EXAMPLES: [(&str, &[(&str, &str)]); 20] = [
    ("demo", &[("healthex-sync demo", "The main job with made-up patients, in ./healthex-demo.")]),
    (
        "init",
        &[("mkdir study && chmod 700 study && healthex-sync init study", "The first files of a study.")],
    ),
    (
        "check",
        &[
            ("healthex-sync check", "What a cycle needs, and one request."),
            ("healthex-sync check --offline", "The same without the network."),
        ],
    ),
    (
        "sync",
        &[
            ("healthex-sync sync", "One cycle now."),
            ("healthex-sync sync --patient study-0001 --full", "One patient, pulled in full."),
            (
                "healthex-sync sync --dry-run --json | jq .patients",
                "What a cycle would do, without doing it.",
            ),
        ],
    ),
    (
        "run",
        &[("healthex-sync --config /etc/healthex-sync/healthex-sync.toml run", "As the unit starts it.")],
    ),
    (
        "status",
        &[
            ("healthex-sync status --watch", "Who stands where, renewed."),
            (
                "healthex-sync status --json | jq '.patients[] | select(.state != \"active\")'",
                "Who needs a look.",
            ),
        ],
    ),
    (
        "purge",
        &[
            ("healthex-sync purge study-0001 --yes", "Erases one patient."),
            (
                "healthex-sync purge --held --yes --expect 3",
                "Erases who is held and still refused, if they are three.",
            ),
        ],
    ),
    (
        "scrub",
        &[
            ("healthex-sync scrub", "Removes the last bytes of purged patients from the warehouse's file."),
            (
                "HEALTHEX_SYNC__WAREHOUSE__URL=postgres://healthex_owner@db.example/study healthex-sync scrub",
                "Writes the tables anew that may have held them, each night from a timer.",
            ),
        ],
    ),
    (
        "verify",
        &[("healthex-sync verify --deep", "Whether rows, tables and each page of the file are sound.")],
    ),
    (
        "audit",
        &[
            (
                "healthex-sync audit study-0001",
                "When a patient was purged, and which copies may still have it.",
            ),
            ("healthex-sync audit --verify", "Whether the ledger of purges is whole."),
        ],
    ),
    (
        "backup",
        &[("healthex-sync backup /srv/backup/warehouse-$(date +%F).db", "A copy while it is in use.")],
    ),
    (
        "restore",
        &[(
            "healthex-sync restore /srv/backup/warehouse-2026-11-01.db --yes",
            "Puts a copy in place; purges since are carried out on it.",
        )],
    ),
    (
        "migrate",
        &[
            (
                "healthex-sync migrate --print | sudo -u postgres psql study",
                "Makes schema, tables and roles in the database study.",
            ),
            (
                "HEALTHEX_SYNC__WAREHOUSE__URL=postgres://healthex_owner@db.example/study healthex-sync migrate",
                "The same, or a newer version's schema, as the schema's owner.",
            ),
        ],
    ),
    (
        "views",
        &[
            ("healthex-sync views", "The analysts' tables."),
            ("healthex-sync views run ages.json > ages.csv", "The rows of a ViewDefinition of your own."),
        ],
    ),
    (
        "export",
        &[
            ("healthex-sync export --format parquet out", "All analysts' tables."),
            ("healthex-sync export --format ndjson --patient study-0001 out", "What is held of one patient."),
        ],
    ),
    (
        "reload",
        &[("systemctl reload healthex-sync", "Has run of healthex-sync read its configuration again.")],
    ),
    (
        "roster",
        &[
            (
                "healthex-sync roster --csv roster.csv",
                "The patients of files and studies, as a file to edit.",
            ),
            (
                "healthex-sync roster publish",
                "The files here count for all workers, also where others replaced them.",
            ),
        ],
    ),
    (
        "completions",
        &[("healthex-sync completions bash > /etc/bash_completion.d/healthex-sync", "For bash.")],
    ),
    (
        "man",
        &[
            ("healthex-sync man sync | man -l -", "One page."),
            ("healthex-sync man --to /usr/local/share/man", "All of them."),
        ],
    ),
    (
        "sandbox",
        &[("healthex-sync sandbox --patients 100 --seed 7", "A HealthEx with a hundred made-up patients.")],
    ),
];

/// Renders all pages, the program's own first.
pub(crate) fn pages() -> io::Result<Vec<Page>> {
    let mut program = Cli::command();
    program.build();
    let mut pages = vec![Page { path: "man1/healthex-sync.1".to_owned(), text: program_page(&program)? }];
    for command in commands_of(&program) {
        let path = format!("man1/healthex-sync-{}.1", command.get_name());
        pages.push(Page { path, text: command_page(command)? });
    }
    pages.push(Page { path: format!("man5/{CONFIG_PAGE}.5"), text: configuration_page()? });
    Ok(pages)
}

/// Returns the page of a command, of the configuration by its file's name, or of the program.
pub(crate) fn page(name: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    let is_it = |page: &Page| match name {
        None => page.path == "man1/healthex-sync.1",
        Some(CONFIG_PAGE) => page.path.starts_with("man5/"),
        Some(name) => page.path == format!("man1/healthex-sync-{name}.1"),
    };
    Ok(pages()?.into_iter().find(is_it).map(|page| page.text))
}

fn commands_of(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set())
}

fn program_page(program: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let page = clap_mangen::Man::new(program.clone());
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    section(&mut out, "COMMANDS")?;
    for command in commands_of(program) {
        entry(&mut out, &format!("healthex-sync-{}(1)", command.get_name()), &about(command))?;
    }
    list(&mut out, "EXIT STATUS", &EXIT_STATUSES)?;
    list(&mut out, "ENVIRONMENT", &ENVIRONMENT)?;
    list(&mut out, "SIGNALS", &SIGNALS)?;
    list(
        &mut out,
        "FILES",
        &[
            (
                "./healthex-sync.toml, /etc/healthex-sync/healthex-sync.toml",
                "The configuration; init writes one with every key.",
            ),
            (
                "warehouse.db",
                "The warehouse, with its WAL, its locks, its ledger of purges (.purges) and its register of copies (.copies) beside it.",
            ),
        ],
    )?;
    section(&mut out, "EXAMPLES")?;
    for name in ["demo", "check", "sync", "status"] {
        examples(&mut out, name)?;
    }
    section(&mut out, "SEE ALSO")?;
    writeln!(out, "{}", escape(&format!("{CONFIG_PAGE}(5), sqlite3(1), systemctl(1)")))?;
    Ok(out)
}

fn command_page(command: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if commands_of(command).next().is_some() {
        section(&mut out, "COMMANDS")?;
        for inner in commands_of(command) {
            writeln!(out, ".SS {}\n{}", escape(inner.get_name()), escape(&about(inner)))?;
            let arguments = inner.get_arguments();
            for argument in arguments.filter(|one| !one.is_global_set() && one.get_id() != "help") {
                let long = argument.get_long().map(|long| format!("--{long}"));
                let name = long.unwrap_or_else(|| argument.get_id().to_string().to_uppercase());
                entry(&mut out, &name, &argument.get_help().map(ToString::to_string).unwrap_or_default())?;
            }
        }
    }
    list(&mut out, "EXIT STATUS", &EXIT_STATUSES)?;
    list(&mut out, "ENVIRONMENT", &ENVIRONMENT)?;
    list(&mut out, "SIGNALS", if command.get_name() == "run" { &SIGNALS } else { &SIGNALS[..1] })?;
    section(&mut out, "EXAMPLES")?;
    examples(&mut out, command.get_name())?;
    section(&mut out, "SEE ALSO")?;
    writeln!(out, "{}", escape(&format!("healthex-sync(1), {CONFIG_PAGE}(5)")))?;
    Ok(out)
}

/// Renders the annotated configuration that `init` writes.
fn configuration_page() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    writeln!(out, ".TH {} 5 \"\" \"healthex-sync {}\"", escape(CONFIG_PAGE), env!("CARGO_PKG_VERSION"))?;
    section(&mut out, "NAME")?;
    writeln!(out, "{} \\- the configuration of healthex\\-sync", escape(CONFIG_PAGE))?;
    section(&mut out, "DESCRIPTION")?;
    let mut is_behind_key = false;
    for line in CONFIG.lines() {
        match line.trim() {
            "" => {}
            text if text.starts_with('[') => {
                if text == "[api]" {
                    section(&mut out, "KEYS")?;
                }
                writeln!(out, ".SS {}", escape(text))?;
            }
            text => {
                if let Some(remark) = text.strip_prefix("# ") {
                    // It is about the keys to come.
                    let begin = if std::mem::take(&mut is_behind_key) { ".PP\n" } else { "" };
                    writeln!(out, "{begin}{}", escape(remark))?;
                } else {
                    is_behind_key = true;
                    let (key, remark) = text.split_once(" # ").unwrap_or((text, ""));
                    entry(&mut out, key.trim(), remark.trim())?;
                }
            }
        }
    }
    list(
        &mut out,
        "FILES",
        &[
            (
                "./healthex-sync.toml",
                "Used unnamed only if it belongs to the account that runs healthex-sync.",
            ),
            ("/etc/healthex-sync/healthex-sync.toml", "Used where there is none in the current folder."),
        ],
    )?;
    list(&mut out, "EXIT STATUS", &CONFIGURATION_STATUS)?;
    list(&mut out, "ENVIRONMENT", &ENVIRONMENT)?;
    list(&mut out, "SIGNALS", &SIGNALS[1..])?;
    section(&mut out, "EXAMPLES")?;
    CONFIGURATION_EXAMPLES.iter().try_for_each(|(lines, what)| example(&mut out, lines, what))?;
    section(&mut out, "NOTES")?;
    let notes = "A configuration, roster, key or view that others can write, or that belongs to neither root nor the \
                 account that runs healthex-sync, is refused, with the command that mends it.";
    writeln!(out, "{}", escape(notes))?;
    section(&mut out, "SEE ALSO")?;
    writeln!(out, "{}", escape("healthex-sync(1), healthex-sync-check(1), healthex-sync-run(1)"))?;
    Ok(out)
}

fn about(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

fn examples(out: &mut impl Write, command: &str) -> io::Result<()> {
    for (_, examples) in EXAMPLES.iter().filter(|(name, _)| *name == command) {
        for (line, what) in *examples {
            example(out, line, what)?;
        }
    }
    Ok(())
}

fn example(out: &mut impl Write, lines: &str, what: &str) -> io::Result<()> {
    writeln!(out, ".PP\n{}\n.PP\n.RS 4\n.nf", escape(what))?;
    lines.lines().try_for_each(|line| writeln!(out, "{}", escape(line)))?;
    writeln!(out, ".fi\n.RE")
}

fn list(out: &mut impl Write, title: &str, entries: &[(&str, &str)]) -> io::Result<()> {
    section(out, title)?;
    entries.iter().try_for_each(|(name, text)| entry(out, name, text))
}

fn section(out: &mut impl Write, title: &str) -> io::Result<()> {
    writeln!(out, ".SH {title}")
}

fn entry(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(name), escape(text))
}

/// Escapes text for roff, to which a leading dot or quote begins a request, a plain dash is a hyphen,
/// and what is not ASCII has a number.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            letter if letter.is_ascii() => escaped.push(letter),
            letter => {
                // A String takes whatever is written.
                let _ = write!(escaped, "\\[u{:04X}]", u32::from(letter));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_an_example_and_each_example_a_command() {
        let program = Cli::command();
        let commands: Vec<&str> = commands_of(&program).map(Command::get_name).collect();
        for command in &commands {
            assert!(EXAMPLES.iter().any(|(name, _)| name == command), "{command} has no example");
        }
        for (name, examples) in EXAMPLES {
            assert!(commands.contains(&name), "{name} is no command");
            for (line, _) in examples {
                assert!(line.contains("healthex-sync"), "{line}");
            }
        }
    }

    #[test]
    fn each_example_of_the_configuration_has_keys_that_there_are() {
        for (lines, _) in CONFIGURATION_EXAMPLES.iter().filter(|(lines, _)| lines.starts_with('[')) {
            let example: toml::Table = lines.parse().unwrap();
            for key in example.values().flat_map(|section| section.as_table().unwrap().keys()) {
                let begins = format!("{key} = ");
                assert!(
                    CONFIG.lines().any(|line| line.trim_start_matches("# ").starts_with(&begins)),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn each_command_that_tells_something_tells_it_as_json_too() {
        // A show, a daemon with a log, and what is for shells and for man.
        const WITHOUT: [&str; 4] = ["demo", "run", "completions", "man"];
        let has_json =
            |command: &Command| command.get_arguments().any(|argument| argument.get_id() == "json");
        for command in commands_of(&Cli::command()) {
            let name = command.get_name();
            assert_eq!(has_json(command), !WITHOUT.contains(&name), "{name}");
            for inner in commands_of(command) {
                assert!(has_json(inner), "{name} {}", inner.get_name());
            }
        }
    }

    #[test]
    fn the_page_of_the_configuration_has_every_section_and_key() {
        let page = String::from_utf8(page(Some("healthex-sync.toml")).unwrap().unwrap()).unwrap();
        for line in CONFIG.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(" = ").next().unwrap();
            assert!(page.contains(&escape(name)), "{name}: {page}");
        }
        assert!(page.contains(".SS [sync]") && page.contains("Retry\\-After is respected"), "{page}");
    }
}
