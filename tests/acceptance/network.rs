//! What goes wrong on the way to HealthEx, said with host, port and what mends it; proxies, certificates
//! of one's own, and ways in clear.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{fs, thread};

use crate::world::{Running, World, faketime, pipe, tool};

fn world() -> World {
    World::with_patients(["anna"]).set("api.max_attempts", "1")
}

/// Copies what comes until either side has ended.
fn relay(from: TcpStream, to: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    };
    let back = (to.try_clone().unwrap(), from.try_clone().unwrap());
    thread::spawn(move || copy(back.0, back.1));
    thread::spawn(move || copy(from, to));
}

/// A proxy that leads all requests to one server, and tells the first line of each connection.
fn proxy_to(server: &str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, lines) = mpsc::channel();
    let server = server.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut first = [0; 512];
            let length = stream.peek(&mut first).unwrap_or(0);
            let text = String::from_utf8_lossy(&first[..length]).into_owned();
            let _ = sender.send(text.lines().next().unwrap_or_default().to_owned());
            relay(stream, TcpStream::connect(&server).unwrap());
        }
    });
    (address, lines)
}

fn place_of(world: &World) -> String {
    world.sandbox.base_url().trim_start_matches("http://").to_owned()
}

#[test]
fn a_proxy_comes_from_the_key_or_from_the_environment() {
    let world = world();
    let (proxy, asked) = proxy_to(&place_of(&world));
    let is_asked = || 0 < asked.try_iter().filter(|line| line.contains(" http://127.0.0.1:")).count();
    world.run(["sync"]).exits(0);
    assert!(!is_asked());
    world.change_setting("api.proxy", &format!("\"http://{proxy}\""));
    world.run(["sync"]).exits(0);
    assert!(is_asked(), "the proxy of the key was not asked");
    world.change_setting("api.proxy", r#""environment""#);
    let run_with = |variables: &[(&str, &str)]| {
        let mut command = world.command(["sync"]);
        command.envs(variables.iter().copied());
        crate::world::Running::start(&mut command).ended()
    };
    run_with(&[("ALL_PROXY", &proxy)]).exits(0);
    assert!(is_asked(), "the proxy of the environment was not asked");
    run_with(&[("ALL_PROXY", &proxy), ("NO_PROXY", "127.0.0.1")]).exits(0);
    // For https:// alone.
    run_with(&[("HTTPS_PROXY", &proxy)]).exits(0);
    world.change_setting("api.proxy", r#""none""#);
    run_with(&[("ALL_PROXY", &proxy)]).exits(0);
    assert!(!is_asked(), "a proxy that was not to be asked");

    world.change_setting("api.proxy", r#""http://anna:canary@127.0.0.1:1""#);
    world
        .run(["check"])
        .exits(3)
        .says("127.0.0.1:1 refuses the connection")
        .says("api.proxy")
        .says_nothing_of("canary");
    world.change_setting("api.proxy", r#""socks5://127.0.0.1:1""#);
    world.run(["check"]).exits(2).says("api.proxy: is not the URL of an HTTP proxy");
}

#[test]
fn a_base_url_that_cannot_be_meant_is_refused() {
    let world = world().set("api.base_url", r#""http://192.0.2.1:8080""#);
    let refused = world.run(["sync"]).exits(2);
    refused.says("in clear to 192.0.2.1:8080").says("api.allow_http = true").says("healthex-sync.toml:");
    let mut by_variable = world.command(["check", "--offline"]);
    by_variable.env("HEALTHEX_SYNC__API__BASE_URL", "http://192.0.2.2");
    Running::start(&mut by_variable)
        .ended()
        .exits(2)
        .says("HEALTHEX_SYNC__API__BASE_URL: http:// would send");
    world.change_setting("api.allow_http", "true");
    world.run(["check", "--offline"]).exits(0);
    for wrong in [r#""https://api.example/FHIR/R4""#, r#""https://api.example/x/fhir/r4/""#] {
        world.change_setting("api.base_url", wrong);
        world.run(["sync"]).exits(2).says("api.base_url: must not end in /FHIR/R4");
    }
    world.change_setting("api.base_url", r#""http://localhost:1""#);
    world.change_setting("api.allow_http", "false");
    world.run(["check", "--offline"]).exits(0);
}

#[test]
fn each_failure_names_host_and_port_and_what_mends_it() {
    let world = world();
    let place = place_of(&world);
    world.change_setting("api.base_url", r#""http://127.0.0.1:1""#);
    world
        .run(["check"])
        .exits(3)
        .says("127.0.0.1:1 refuses the connection; is it up, and is the port in api.base_url");
    world.change_setting("api.base_url", &format!("\"https://{place}\""));
    world
        .run(["check"])
        .exits(3)
        .says(&format!("{place} does not speak TLS; check scheme and port of api.base_url"));
    world.change_setting("api.base_url", r#""https://name.invalid""#);
    world.change_setting("api.connect_timeout", r#""30s""#);
    world.run(["check"]).exits(3).says("the name name.invalid cannot be resolved");

    // A portal has a page for whatever is asked.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let page = "<html>Log in</html>";
            let length = page.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
            );
        }
    });
    world.change_setting("api.base_url", &format!("\"http://{portal}\""));
    let told = format!(
        "the token endpoint of {portal} sent a web page and no token; is a portal or a proxy on the way?"
    );
    world.run(["check"]).exits(3).says(&told);
    world.change_setting("api.base_url", &format!("\"http://{place}\""));
    world.fault("kind = 'html_200'");
    world.run(["sync"]).exits(3).says("it is a web page; is a portal or a proxy on the way?");
}

/// Speaks TLS before the server of a world, with a certificate of an issuer of its own. Dropped, it ends.
struct TlsFront {
    child: Child,
    port: u16,
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FRONT: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(plain):
    try:
        client = context.wrap_socket(plain, server_side=True)
    except OSError:
        return
    server = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

impl TlsFront {
    /// Starts one, whose issuer's certificate is then `ca.pem`.
    fn start(world: &World) -> Option<Self> {
        let (openssl, python) = (tool("openssl")?, tool("python3")?);
        world.write("san", "subjectAltName=IP:127.0.0.1");
        for arguments in [
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=issuer",
            "req -newkey rsa:2048 -nodes -keyout front.key -out front.csr -subj /CN=front",
            "x509 -req -in front.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile san -out front.pem",
        ] {
            let mut command = Command::new(&openssl);
            let (is_made, said) = pipe(command.args(arguments.split(' ')).current_dir(world.path("")), "");
            assert!(is_made, "{said}");
        }
        let port = world.sandbox.base_url().rsplit(':').next().unwrap().to_owned();
        let mut child = Command::new(python)
            .args(["-c", FRONT, "front.pem", "front.key", &port])
            .current_dir(world.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { child, port: line.trim().parse().unwrap() })
    }
}

#[test]
fn an_issuer_of_ones_own_is_trusted_by_its_file() {
    let world = world();
    let Some(front) = TlsFront::start(&world) else { return };
    let place = format!("127.0.0.1:{}", front.port);
    world.change_setting("api.base_url", &format!("\"https://{place}\""));
    world
        .run(["check"])
        .exits(3)
        .says(&format!("the certificate of {place} is of an unknown issuer"))
        .says("api.ca_file");
    world.change_setting("api.ca_file", r#""ca.pem""#);
    world.run(["sync"]).exits(0).says("1 ok");
    if let Some(library) = faketime() {
        let mut command = world.command(["check"]);
        command.env("LD_PRELOAD", library).env("FAKETIME", "+4000d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        crate::world::Running::start(&mut command)
            .ended()
            .says(&format!("the certificate of {place} has expired"));
    }
    fs::write(world.path("ca.pem"), "nothing").unwrap();
    world.run(["sync"]).exits(2).says("api.ca_file: ").says("holds no certificate in PEM");
    world.change_setting("api.ca_file", r#""nowhere.pem""#);
    world.run(["sync"]).exits(2).says("nowhere.pem: cannot be read");
}

#[test]
fn each_request_is_logged_at_debug_with_its_patient_and_no_secret() {
    let world = World::with_record(25);
    world.write_roster("[[patient]]\nid = \"anna\"\nlabel = \"study-0001\"\n");
    world.fault("kind = 'status', status = 503, person = 'anna', times = 1");
    let ran = world.run(["-v", "sync"]).exits(0);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(" /FHIR/R4/Person/")).collect();
    assert_eq!(lines.len(), 4, "{ran}");
    assert!(
        lines[0].contains("GET") && lines[0].contains("503") && lines[0].contains("attempt=1"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains("200") && lines[1].contains("attempt=2"), "{}", lines[1]);
    for line in &lines {
        assert!(line.contains("study-0001") && line.contains("ms") && !line.contains("anna"), "{line}");
    }
    assert!(ran.stderr.contains("POST /v1/auth/token 201"), "{ran}");
    world.run(["sync"]).says_nothing_of("/FHIR/R4/");
}

#[test]
fn whoever_has_a_label_is_logged_by_it_whatever_is_asked() {
    let world = World::with_patients(["anna", "ben"]);
    world.write_roster(
        "[[patient]]\nid = \"anna\"\nlabel = \"one\"\n[[patient]]\nid = \"ben\"\nlabel = \"two\"\n",
    );
    world.run(["sync"]).exits(0);
    world.sandbox.withdraw("ben");
    let ran = world.run(["-v", "sync", "--patient", "two"]).exits(0);
    let asked = |name: &str, answer: &str| {
        let is_it = |line: &&str| line.contains(&format!("person={name} ")) && line.contains(answer);
        ran.stderr.lines().filter(is_it).count()
    };
    // Pulled, then asked again; who bears witness is asked before and after that.
    assert_eq!((asked("two", " 403"), asked("one", " 200")), (2, 2), "{ran}");
    assert!(!ran.stderr.contains("anna") && !ran.stderr.contains("ben"), "{ran}");
}
