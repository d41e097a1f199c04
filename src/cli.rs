//! The command line: names, arguments and help texts. Reads no file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::warehouse;

/// What `--version` says: of which commit this is, and what it reads and writes.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ncommit {}\nschema {}\nSQLite {}",
        env!("CARGO_PKG_VERSION"),
        env!("HEALTHEX_SYNC_COMMIT"),
        warehouse::schema_version(),
        warehouse::engine_version()
    )
});

/// Keeps a SQLite warehouse in step with the FHIR R4 records of consented HealthEx patients.
///
/// Exit status: 0 all done, 1 failed for another reason, 2 wrong usage or configuration,
/// 3 some patients failed, are held, not found or were not reached, 4 the credentials were
/// refused, 5 the warehouse is in use or cannot be used.
#[derive(Debug, Parser)]
#[command(name = "healthex-sync", version, long_version = LONG_VERSION.as_str(), max_term_width = 100)]
pub struct Cli {
    /// The configuration; else $`HEALTHEX_SYNC_CONFIG`, ./healthex-sync.toml or /etc/healthex-sync/healthex-sync.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours, and the bars' too
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job with made-up patients: no account, no set-up
    Demo {
        /// Where the demo's warehouse, configuration and keys go
        #[arg(default_value = "healthex-demo")]
        dir: PathBuf,
    },
    /// Write an annotated healthex-sync.toml and roster.toml; never overwrites
    Init(InitArgs),
    /// Check all that `run` needs: configuration, roster, warehouse, credentials, one request, alerts
    Check(CheckArgs),
    /// Run one cycle now
    Sync(SyncArgs),
    /// Run cycles on the schedule until SIGTERM or SIGINT
    Run,
    /// One line a patient, and totals
    Status(StatusArgs),
    /// Have a running `run` read configuration and rosters again; exit status 2 if they cannot be used
    Reload {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the patients of the roster's files and of the studies, and where each comes from
    Roster(RosterArgs),
    /// Remove everything of a patient, as after a withdrawn consent
    Purge(PurgeArgs),
    /// Remove the last bytes of purged patients now; on a PostgreSQL server as the owner of its tables
    Scrub(ScrubArgs),
    /// Check that the warehouse is sound
    Verify(VerifyArgs),
    /// Print the purge log: what an auditor asks for
    Audit(AuditArgs),
    /// Copy the warehouse into one file, while it is in use
    Backup(BackupArgs),
    /// Put a backup in the warehouse's place while nothing runs; purges in the ledger are carried out on it
    Restore(RestoreArgs),
    /// Make the schema of a warehouse on a PostgreSQL server, or bring it to this program's version; as its owner
    Migrate(MigrateArgs),
    /// List the analysts' tables, or run or rebuild their views
    Views(ViewsArgs),
    /// Write resources (ndjson, bundle) or the analysts' tables (csv, parquet) as files
    Export(ExportArgs),
    /// Print shell completions
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual: the program's, a command's, or healthex-sync.toml's
    Man {
        /// A command, or healthex-sync.toml
        page: Option<String>,
        /// Write all pages below this folder instead, into man1 and man5
        #[arg(long, value_name = "DIR", conflicts_with = "page")]
        to: Option<PathBuf>,
    },
    /// Run a simulated HealthEx server (key sandbox-key, secret sandbox-secret)
    Sandbox(SandboxArgs),
}

#[derive(Debug, Args)]
pub struct InitArgs {
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SyncArgs {
    /// Only this patient, by id or label (repeatable), even if disabled, revoked or waiting
    #[arg(long = "patient", value_name = "ID")]
    pub patients: Vec<String>,
    /// Pull in full, and find what vanished
    #[arg(long)]
    pub full: bool,
    /// Read and compare, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The summary as one JSON object, the only thing on stdout
    #[arg(long)]
    pub json: bool,
    /// Adopt another `api.base_url`: keep the rows, clear the watermarks, pull in full
    #[arg(long)]
    pub new_server: bool,
    /// Purge the patients that left the roster even if they are too many at once
    #[arg(long)]
    pub allow_shrunk_roster: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RosterArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Write a roster file that can be edited and used; without FILE to stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", conflicts_with = "json")]
    pub csv: Option<PathBuf>,
    #[command(subcommand)]
    pub action: Option<RosterAction>,
}

#[derive(Debug, Subcommand)]
pub enum RosterAction {
    /// Have all workers of a warehouse on a server go by the files that are here, also where they were replaced before
    Publish {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Leave the network out
    #[arg(long)]
    pub offline: bool,
    /// Send a test by `alert.command` and `alert.webhook_url`, and fetch the heartbeat
    #[arg(long, conflicts_with = "offline")]
    pub send_test_alert: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Renew it every two seconds
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Only patients in this state (repeatable), and `disabled` for those the roster disables
    #[arg(long = "state", value_name = "STATE", value_parser = STATES)]
    pub states: Vec<String>,
    /// Only this patient, by label or id (repeatable); `study-*` is all that begin so
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
}

/// The states of a patient.
const STATES: [&str; 9] =
    ["new", "active", "failing", "not_found", "refused", "held", "revoked", "paused", "disabled"];

#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The patient, by id or label
    #[arg(required_unless_present = "held", conflicts_with = "held")]
    pub id: Option<String>,
    /// All held patients: asked again first, and purged if they are still refused
    #[arg(long)]
    pub held: bool,
    /// With --held: purge nobody unless so many would be purged
    #[arg(long, value_name = "N", requires = "held", conflicts_with = "id")]
    pub expect: Option<usize>,
    /// Needed: a purge cannot be taken back
    #[arg(long)]
    pub yes: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Look at every page of the file too, for bytes of what was deleted or replaced
    #[arg(long)]
    pub deep: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only this patient, by id or label, with how long each purge took and the copies made while there were rows
    pub id: Option<String>,
    /// A JSON array; of the ledger one object
    #[arg(long)]
    pub json: bool,
    /// Walk the chain of the ledger of purges instead
    #[arg(long, conflicts_with = "id")]
    pub verify: bool,
    /// Begin another ledger with the purges that the warehouse knows, where it is lost or damaged
    #[arg(long, conflicts_with_all = ["id", "verify"])]
    pub new_ledger: bool,
}

#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A file that is not there yet
    pub file: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `backup` has written
    pub file: PathBuf,
    /// Needed: the file takes the warehouse's place
    #[arg(long)]
    pub yes: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Print the statements instead, for somebody who carries them out in psql; asks no server
    #[arg(long, conflicts_with = "json")]
    pub print: bool,
    /// Divide each table of resources into so many parts by patient, where they are not there yet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=256))]
    pub partitions: Option<u32>,
    /// Move the rows, checkpoints and log of purges of this file into it; goes on where it was cut off
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    pub from: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ViewsArgs {
    /// List them as a JSON array
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub action: Option<ViewsAction>,
}

#[derive(Debug, Subcommand)]
pub enum ViewsAction {
    /// Build all tables anew from the resources
    Apply {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say what the columns of the tables that are kept hold, and where it is from
    Describe {
        /// Only this one, kept or not
        table: Option<String>,
        /// An array of objects instead
        #[arg(long)]
        json: bool,
    },
    /// Print the rows of a ViewDefinition over the warehouse as CSV; stores nothing
    Run {
        /// A ViewDefinition (SQL on FHIR v2, JSON)
        file: PathBuf,
        /// An array of objects instead
        #[arg(long)]
        json: bool,
        /// Several values where one is wanted are an error, as the standard says
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ExportArgs {
    /// ndjson: the resources, a file a type; csv: the analysts' tables; parquet: both; bundle: a FHIR Bundle a person
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// A folder that is not there yet, or empty; it appears whole or not at all
    pub dir: PathBuf,
    /// Only this patient, by id or label
    #[arg(long, value_name = "ID")]
    pub patient: Option<String>,
    /// Only these tables or types (`lab_results,Observation`; repeatable)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Only what changed since a time (`2026-11-01T00:00:00Z`), a day, or an earlier export in this folder; what vanished is in deleted/, who was purged in purged.json
    #[arg(long, value_name = "TIME|DIR")]
    pub since: Option<String>,
    /// Without names, addresses, identifiers and texts, and with other ids; see the README for what that is not
    #[arg(long)]
    pub pseudonymous: bool,
    /// Move all dates of a person back by a number of days that only the key tells
    #[arg(long, requires = "pseudonymous", conflicts_with = "since")]
    pub shift_dates: bool,
    /// The key of pseudonyms; made where there is none [default: beside the warehouse]
    #[arg(long, value_name = "FILE", requires = "pseudonymous")]
    pub key_file: Option<PathBuf>,
    /// CSV that a spreadsheet may open: no formulas, no control characters
    #[arg(long)]
    pub safe: bool,
    /// Begin another file (`NAME.2.parquet`) when one has grown so large
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    pub split: String,
    /// What was written as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Ndjson,
    Csv,
    Parquet,
    Bundle,
}

#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Needed to listen on an address that other machines reach: whoever knows the key reads all
    #[arg(long)]
    pub public: bool,
    /// Serve a folder of FHIR Bundles (.json) and NDJSON, plain or .gz
    #[arg(long, value_name = "DIR", conflicts_with_all = ["patients", "seed"])]
    pub data: Option<PathBuf>,
    /// How many made-up patients
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub patients: usize,
    /// The same seed makes the same patients
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Misbehave as this file says
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Say where it listens, and whom it serves, as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Returns the completions that a shell sources.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "healthex-sync", &mut text);
    text
}
