//! A self-contained minute: an origin, the edge with shipped policies, clients over real sockets,
//! and a policy swapped while they run.
//!
//! Everything is the real thing: the edge is the one that `serve` runs, and it is told and asked
//! through its admin API. Every number that is shown was measured, and what is claimed is checked:
//! the first expectation that does not hold ends the demo as a failure.

mod burst;
mod origin;
mod story;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use tokio::runtime::{Builder, LocalOptions};

use crate::client::Client;
use crate::config::{Config, ListenAddress, PolicyChoice, Site, TimeSpan};
use crate::server::Server;
use crate::tasks::Tasks;
use origin::{Content, Origin};
use story::{ReaderGone, Story};

/// Runs it. Goes on until Ctrl-C if standard output is a terminal.
///
/// # Errors
/// Something could not be started, or did not come out as it should.
pub fn run() -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("no runtime for origin and admin API")?;
    let shown = runtime.block_on(show());
    // Connections that rest in origin and admin API are not waited for.
    runtime.shutdown_background();
    match shown {
        // Whoever reads has seen enough.
        Err(error) if error.is::<ReaderGone>() => Ok(()),
        shown => shown,
    }
}

async fn show() -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let content = Arc::new(Content::generate());
    let origin = Origin::start(Arc::clone(&content), &tasks)
        .await
        .context("the origin cannot listen")?;
    let config = configuration(origin.address)?;
    let mut server = Server::open(&config)?;
    let admin = server.listen_admin(&config, &tasks).await?;
    let story = Story {
        origin,
        content,
        edge: server.listen()?.http,
        admin,
        client: Client::new(admin.into(), None),
        out: io::stdout(),
    };
    // Told from another thread, because this one serves what is told about.
    let told = tokio::task::spawn_blocking(move || story.tell()).await?;
    if told.is_ok() && io::stdout().is_terminal() {
        tokio::signal::ctrl_c().await?;
    }
    tokio::task::spawn_blocking(move || server.stop()).await?;
    told
}

/// One site in front of the origin, all on free ports of this machine.
fn configuration(origin: SocketAddr) -> anyhow::Result<Config> {
    let rules = json!(["/assets/*=1h", "/files/*=1d"]);
    let mut freshness = PolicyChoice::named("ttl-by-path");
    freshness.params.insert("rules".to_owned(), rules);
    let mut site = Site::catch_all(format!("http://{origin}").parse()?);
    site.policy.freshness = freshness;
    let mut config = Config::default();
    config.sites.push(site);
    config.listen.http = ListenAddress::loopback(0);
    config.admin.listen = ListenAddress::loopback(0);
    config.limits.drain = TimeSpan::seconds(1);
    Ok(config)
}
