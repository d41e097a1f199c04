//! What else the program takes from the machine it runs on: its name, and what a simulation gives in its place,
//! chance and threads for work that blocks.

use tokio::task::JoinError;

/// Returns a number from 0 to 1.
pub(crate) fn chance() -> f64 {
    #[cfg(test)]
    if let Some(chance) = crate::simulation::stage::chance() {
        return chance;
    }
    rand::random()
}

/// Returns a number that nobody has had before.
pub(crate) fn unique() -> u128 {
    #[cfg(test)]
    if let Some(number) = crate::simulation::stage::unique() {
        return number;
    }
    rand::random()
}

/// Returns the machine's name, as others are told of it.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Runs work that blocks on a thread of its own. The error is its panic.
///
/// In a simulation there is no other thread: its clock would run ahead of it.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    if crate::simulation::stage::is_set() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
