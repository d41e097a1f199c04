//! Why a server cannot be used, in the words of whoever has to mend it: exit status 5, and nothing half done.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;

use super::cluster::Cluster;
use super::database::Database;
use crate::support::skip;
use crate::world::{World, tool};

#[test]
fn a_server_without_the_schema_is_told_apart_from_one_with_another() {
    let world = World::with_patients(["anna"]);
    let Some(database) = Database::empty() else { return };
    database.take(&world);
    // The role is the whole server's, and made with the first schema on it.
    let Some(other) = Database::migrated(&world) else { return };
    world.run(["sync"]).exits(5).says("has no warehouse of this version").says("run `healthex-sync migrate`");
    world.run(["check", "--offline"]).exits(5).says("run `healthex-sync migrate`");
    database.migrate(&world, &[]).exits(0);
    world.run(["sync"]).exits(0);
    other.take(&world);
    other.exec("INSERT INTO healthex.migration (version) VALUES (19)");
    world.run(["sync"]).exits(5).says("schema version 19, and this healthex-sync knows 18");
}

#[test]
fn a_role_that_may_not_write_is_told_what_it_lacks() {
    let world = World::with_patients(["anna"]);
    let Some(database) = Database::of(&world) else { return };
    database.exec("REVOKE INSERT, DELETE ON healthex.observation, healthex.pull FROM healthex_worker");
    let ran = world.run(["sync"]).exits(5);
    let ran =
        ran.says("healthex_worker may not DELETE on observation, pull, nor INSERT on observation, pull");
    ran.says("healthex-sync migrate");
    world.run(["check", "--offline"]).exits(5).says("FAILED  rights").says("INSERT on observation, pull");
    database.migrate(&world, &[]).exits(0);
    world.run(["sync"]).exits(0);

    database.exec("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN");
    world.change_setting("warehouse.url", &format!("{:?}", database.url("stranger")));
    world.run(["sync"]).exits(5).says("GRANT healthex_worker TO stranger");
    database.exec("GRANT healthex_worker TO stranger");
    world.run(["sync"]).exits(0);
    database.exec("REVOKE healthex_worker FROM stranger; DROP ROLE stranger");
}

#[test]
fn what_keeps_the_program_out_is_said_with_what_mends_it() {
    let world = World::with_patients(["anna"]);
    let Some(database) = Database::of(&world) else { return };
    let nobody = database.cluster.url("nobody", &database.name);
    let nothing = database.cluster.url("healthex_worker", "nothing");
    let silent = "postgres://healthex_worker@127.0.0.1:1/study".to_owned();
    let socket = "postgres://healthex_worker@/study?host=/nowhere".to_owned();
    let unknown = "postgres://healthex_worker@no-such-host.invalid/study".to_owned();
    for (url, says) in [
        (nobody, "role \"nobody\" does not exist (28000)"),
        (nothing, "database \"nothing\" does not exist (3D000); make it with `createdb`"),
        (silent, "nobody listens there (connection refused)"),
        (socket, "its socket is not there"),
        (unknown, "its name is not known here"),
    ] {
        world.change_setting("warehouse.url", &format!("{url:?}"));
        world.run(["sync"]).exits(5).says(says);
        world.run(["check", "--offline"]).exits(5).says(says);
    }
    database.take(&world);
    let alter = format!("ALTER ROLE healthex_worker IN DATABASE {}", database.name);
    database.exec(&format!("{alter} SET default_transaction_read_only = on"));
    world.run(["sync"]).exits(5).says("read-only for healthex_worker");
    database.exec(&format!("{alter} RESET default_transaction_read_only"));
    world.run(["sync"]).exits(0);
}

/// An address of this machine that is not the loopback: nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    if address.is_loopback() || address.is_unspecified() {
        skip("this machine has no address beside the loopback");
        return None;
    }
    Some(address)
}

/// Gives a server a certificate for an address, and asks those who come to it for a password. Returns its issuer's.
fn with_certificate(cluster: &Cluster, address: IpAddr) -> Option<String> {
    let openssl = tool("openssl")?;
    let data = cluster.folder.as_ref().unwrap().join("data");
    let made = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", &format!("subjectAltName=IP:{address}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", data.join("server.key").to_str()?, "-out", data.join("server.crt").to_str()?])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["server.key", "server.crt"] {
        let owner = fs::metadata(&data).unwrap();
        let (uid, gid) =
            (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
        std::os::unix::fs::chown(data.join(name), Some(uid), Some(gid)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(data.join(name), mode).unwrap();
    }
    let access = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    fs::write(data.join("pg_hba.conf"), format!("{access}\nhostssl all all all scram-sha-256\n")).unwrap();
    let settings = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    fs::write(data.join("postgresql.conf"), format!("{settings}\nssl = on\n")).unwrap();
    Some(fs::read_to_string(data.join("server.crt")).unwrap())
}

#[test]
fn another_machine_has_to_prove_itself_and_is_told_the_password_by_tls_alone() {
    let world = World::with_patients(["anna"]);
    let Some(database) = Database::empty() else { return };
    let Some(address) = own_address() else { return };
    drop(database);
    let Some(cluster) = Cluster::start("-c listen_addresses=*") else { return };
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let database = Database { cluster, name: "postgres".to_owned() };
    database.migrate(&world, &[]).exits(0);
    let far = format!("postgres://healthex_worker@{address}:{}/postgres", cluster.port);
    world.remove_setting("warehouse.path");
    world.change_setting("warehouse.url", &format!("{far:?}"));
    world
        .run(["sync"])
        .exits(5)
        .says("the server offers no TLS, and nothing goes to another machine in clear");

    let Some(certificate) = with_certificate(cluster, address) else { return };
    cluster.restart("fast");
    world.write("db.pem", &certificate);
    let told = world.run(["sync"]).exits(5);
    told.says("nobody who is trusted here has issued the server's certificate").says("warehouse.ca_file");
    world.change_setting("warehouse.ca_file", r#""db.pem""#);
    let told = world.run(["sync"]).exits(5).says("the server asks for a password");
    told.says(&world.path("db-password").display().to_string());

    database.exec("ALTER ROLE healthex_worker PASSWORD 'canary-word'");
    world.write_private("db-password", "another-word");
    world.run(["sync"]).exits(5).says("the password is refused (28P01)").says_nothing_of("another-word");
    world.write_private("db-password", "canary-word");
    world.run(["sync"]).exits(0).says_nothing_of("canary-word");
    world.run(["check", "--offline"]).says("TLSv1.3").says_nothing_of("canary-word");

    // Through another name than the certificate's.
    let url = format!(
        "postgres://healthex_worker@localhost.localdomain:{}/postgres?hostaddr={address}",
        cluster.port
    );
    world.change_setting("warehouse.url", &format!("{url:?}"));
    world.run(["sync"]).exits(5).says("for another name than that in warehouse.url");
}
