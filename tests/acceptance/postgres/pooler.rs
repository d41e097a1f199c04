//! Through a pooler that lends each transaction another connection.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::database::Database;
use crate::support::skip;
use crate::world::{World, wait_until};

struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one that has two connections to a server for all of its clients. Skips aloud where it is not installed.
    fn before(database: &Database) -> Option<Self> {
        let program = "/usr/sbin/pgbouncer";
        if !fs::exists(program).unwrap() {
            skip("PgBouncer is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let users = folder.path().join("users");
        fs::write(&users, "\"healthex_worker\" \"\"\n").unwrap();
        let configuration = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 2\n",
            server = database.cluster.port,
            users = users.display(),
        );
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new(program);
        command.arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.uid(65_534).gid(65_534);
        }
        let child = command.spawn().unwrap();
        wait_until("PgBouncer listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { child, port, _folder: folder })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cycles_go_through_a_pgbouncer_that_lends_out_by_the_transaction() {
    let world = World::generated(4).set("sync.page_size", "50").set("sync.concurrency", "4");
    let Some(database) = Database::of(&world) else { return };
    let Some(pooler) = Pooler::before(&database) else { return };
    let url = format!("postgres://healthex_worker@127.0.0.1:{}/{}", pooler.port, database.name);
    world.change_setting("warehouse.url", &format!("{url:?}"));
    // Of what is prepared by name, the connection that is lent next knows nothing.
    world.run(["sync"]).exits(5).says("set warehouse.prepared = false");

    world.change_setting("warehouse.prepared", "false");
    let told = world.run(["sync", "--json"]).exits(0).json();
    let stored = database.count("SELECT sum(resources) FROM healthex.live_resources");
    assert_eq!(told["resources"]["inserted"], stored);
    world.run(["sync", "--full"]).exits(0).says("unchanged");
    assert_eq!(database.count("SELECT sum(inserted) FROM healthex.pull"), stored);
    world.run(["sync", "--dry-run"]).exits(0).says("nothing was written");
    world.run(["check", "--offline"]).says("the server has another port than warehouse.url");
}
