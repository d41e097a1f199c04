//! A patient's place among those that are dealt with at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Held while there is anything to ask the server or to keep in memory.
#[derive(Debug)]
pub struct Slot {
    among: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Waits until one of those that `among` has is free.
    pub async fn take(among: &Arc<Semaphore>) -> Self {
        let mut slot = Self { among: among.clone(), permit: None };
        slot.take_again().await;
        slot
    }

    /// Of someone who is alone; not taken yet.
    pub fn alone() -> Self {
        Self { among: Arc::new(Semaphore::new(1)), permit: None }
    }

    /// Waits for a slot if this one is not held.
    pub async fn take_again(&mut self) {
        if self.permit.is_none() {
            // No semaphore of ours is ever closed.
            self.permit = self.among.clone().acquire_owned().await.ok();
        }
    }

    pub fn give_back(&mut self) {
        self.permit = None;
    }
}
