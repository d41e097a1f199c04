//! Where connections live, and how who cannot wait for a future gets its answer.

use std::future::Future;
use std::sync::OnceLock;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

/// Connections are carried by threads of their own, so that they outlive whoever opened them.
const THREADS: usize = 2;

static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();

/// Returns what carries the connections. Made when it is first asked for.
pub(super) fn handle() -> std::io::Result<Handle> {
    let build =
        || Builder::new_multi_thread().worker_threads(THREADS).thread_name("database").enable_all().build();
    match RUNTIME.get_or_init(build) {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
    }
}

/// Waits for a future on a thread of its own, so that it may be asked anywhere.
pub(super) fn wait<T: Send>(future: impl Future<Output = T> + Send) -> std::io::Result<T> {
    let handle = handle()?;
    thread::scope(|scope| {
        let waiting = thread::Builder::new().name("database".to_owned());
        let waiting = waiting.spawn_scoped(scope, move || handle.block_on(future))?;
        waiting.join().map_err(|_| std::io::Error::other("a look at the database panicked"))
    })
}
