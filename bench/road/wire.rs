//! Reads with bare reqwest from the same server: the limit of the wire, and proof that it is not
//! the server that is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use reqwest::header::{ACCEPT, AUTHORIZATION};

use crate::process;
use crate::process::Cost;
use crate::server::Server;

/// As many threads as the program has.
const WORKERS: usize = 2;

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap()
}

/// Fetches all URLs, `at_once` at a time, and drops what it reads. Returns how many bytes came.
pub(crate) fn read_and_drop(urls: Vec<String>, at_once: usize) -> (usize, Cost) {
    let urls = Arc::new(urls);
    let next = Arc::new(AtomicUsize::new(0));
    process::measure(|| {
        runtime().block_on(async {
            let client = Client::builder().no_proxy().build().unwrap();
            let lanes = (0..at_once).map(|_| {
                let (client, urls, next) = (client.clone(), urls.clone(), next.clone());
                tokio::spawn(async move {
                    let mut bytes = 0;
                    while let Some(url) = urls.get(next.fetch_add(1, Ordering::Relaxed)) {
                        bytes += read(&client, url).await;
                    }
                    bytes
                })
            });
            let mut bytes = 0;
            for lane in lanes.collect::<Vec<_>>() {
                bytes += lane.await.unwrap();
            }
            bytes
        })
    })
}

async fn read(client: &Client, url: &str) -> usize {
    let request = client.get(url).header(ACCEPT, "application/json");
    let mut answer = request.header(AUTHORIZATION, Server::authorization()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    bytes
}
