//! The running process: owns every part, starts them in order, and stops them in order.
//!
//! The admin API listens first, so that health can be asked while the rest starts; clients are
//! accepted last. SIGHUP reloads, SIGTERM and SIGINT drain, a second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::Admin;
use crate::config::{
    self, ByteSize, Certificate, Config, ConfigError, Loaded, Unusable, read_token,
};
use crate::control::{Control, NotArranged};
use crate::front::connections::ConnectionLimits;
use crate::front::tls::{self, Certificates};
use crate::front::{Front, FrontSettings};
use crate::policy::hook::Hook;
use crate::tasks::Tasks;

/// A running edge.
#[derive(Debug)]
pub struct Server {
    control: Arc<Control>,
    front: Option<Front>,
    ready: Arc<AtomicBool>,
    settings: FrontSettings,
    certificates: Option<Arc<Certificates>>,
}

/// Where a running edge can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// By clients.
    pub http: std::net::SocketAddr,
    /// By clients with TLS.
    pub https: Option<std::net::SocketAddr>,
}

impl Server {
    /// Opens the policies and builds the sites. Nothing listens yet.
    ///
    /// # Errors
    /// A directory, a policy or a limit of the system stands against it.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let files = raise_file_limit();
        let control = Control::open(config).map_err(configured)?;
        let limits = &config.limits;
        let connections = limits
            .connections
            .map_or(files / 5 * 4, config::Count::length);
        let certificates = match config.listen.tls.https {
            Some(_) => Some(Arc::new(Certificates::new(&Certificate::read_all(
                &config.listen.tls,
            )?))),
            None => None,
        };
        let tls = match (config.listen.tls.https, &certificates) {
            (Some(https), Some(certificates)) => {
                let config = tls::server_config(Arc::clone(certificates));
                Some((https.0, config.context("no TLS")?))
            }
            _ => None,
        };
        let settings = FrontSettings {
            listen: config.listen.http.0,
            tls,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            connections,
            limits: ConnectionLimits {
                head_bytes: limits.request_head.length(),
                fields: limits.request_fields.length(),
                head: limits.head.duration(),
                idle: limits.client_idle.duration(),
            },
            drain: limits.drain.duration(),
        };
        Ok(Self {
            control,
            front: None,
            ready: Arc::default(),
            settings,
            certificates,
        })
    }

    /// What an operator can do to it.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Serves the admin API from now on, on the runtime of the caller. Where it listens.
    ///
    /// # Errors
    /// The address cannot be bound, or the token cannot be read.
    pub async fn listen_admin(
        &self,
        config: &Config,
        tasks: &Tasks,
    ) -> anyhow::Result<std::net::SocketAddr> {
        let wanted = config.admin.listen.0;
        let listener = TcpListener::bind(wanted)
            .await
            .map_err(|error| cannot_listen("admin.listen", wanted, &error))?;
        let address = listener.local_addr()?;
        let token = config
            .admin
            .token_file
            .as_deref()
            .map(read_token)
            .transpose();
        let admin = Admin {
            control: Arc::clone(&self.control),
            token: token.map_err(|error| Unusable {
                key: "admin.token_file".to_owned(),
                clause: error.to_string(),
            })?,
            address,
            upload_bytes: config.limits.policy_upload.length(),
            ready: Arc::clone(&self.ready),
        };
        let connections = tasks.clone();
        tasks.spawn(admin.serve(listener, connections));
        Ok(address)
    }

    /// Accepts clients from now on. Where it listens.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub fn listen(&mut self) -> anyhow::Result<Addresses> {
        let front = Front::start(self.control.edge(), &self.settings).map_err(|error| {
            let key = match error.tls {
                true => "listen.tls.https",
                false => "listen.http",
            };
            cannot_listen(key, error.address, &error.source)
        })?;
        let addresses = Addresses {
            http: front.address(),
            https: front.tls_address(),
        };
        self.front = Some(front);
        self.ready.store(true, Ordering::Release);
        Ok(addresses)
    }

    /// Lets requests in flight end, then stops everything. Blocks.
    pub fn stop(mut self) {
        self.ready.store(false, Ordering::Release);
        if let Some(front) = self.front.take() {
            front.stop();
        }
        if let Some(log) = &self.control.edge().access_log {
            log.finish();
        }
        if let Some(recorder) = &self.control.edge().recorder {
            recorder.finish();
        }
        self.control.stop();
    }
}

/// Runs the edge until it is told to stop. `reload` makes the configuration again.
///
/// # Errors
/// It could not be started. A port in use and a policy that cannot run are [`Unusable`].
pub fn serve(
    config: &Config,
    reload: impl Fn() -> Result<Loaded, ConfigError>,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("no runtime for the admin API")?;
    runtime.block_on(async {
        // Before anything can be announced: until then a signal would end the process.
        let mut signals = Signals::new()?;
        let mut server = Server::open(config)?;
        let tasks = Tasks::default();
        let admin = server.listen_admin(config, &tasks).await?;
        let addresses = server.listen()?;
        announce(&server, config, addresses, admin);
        wait(&server, &reload, &mut signals).await;
        server.ready.store(false, Ordering::Release);
        tracing::info!("draining: no new connections, requests in flight may end");
        let stopping = tokio::task::spawn_blocking(move || server.stop());
        tokio::select! {
            stopped = stopping => stopped.context("stopping failed")?,
            () = signals.stop() => tracing::warn!("stopped at once"),
        }
        Ok::<(), anyhow::Error>(())
    })?;
    // What still drains after a second signal is not waited for.
    runtime.shutdown_background();
    Ok(())
}

fn announce(server: &Server, config: &Config, addresses: Addresses, admin: std::net::SocketAddr) {
    let http = addresses.http;
    match addresses.https {
        Some(https) => {
            tracing::info!("listening on http://{http}, https://{https}, admin on http://{admin}");
        }
        None => tracing::info!("listening on http://{http}, admin on http://{admin}"),
    }
    for tier in server.control.tier_states() {
        let size = tier.capacity.map(ByteSize::new);
        let capacity = size.map_or_else(|| "unbounded".to_owned(), |size| size.to_string());
        let (name, state) = (tier.name, tier.state);
        match tier.reason {
            None => tracing::info!(%capacity, state, "{name} tier"),
            Some(reason) => tracing::warn!(%capacity, state, reason, "{name} tier"),
        }
    }
    match &config.data_dir {
        Some(dir) => tracing::info!(data_dir = %dir.display(), "policies are kept"),
        None => {
            tracing::warn!("no data_dir: uploaded policies and activations end with this process");
        }
    }
    for site in &config.sites {
        let active = |hook| server.control.active(&site.name, hook);
        tracing::info!(
            site = %site.name, origin = %site.origin, keying = active(Hook::Keying),
            freshness = active(Hook::Freshness), eviction = active(Hook::Eviction), "site"
        );
    }
}

/// The signals that this process answers.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the signal to stop, and reloads on the way.
async fn wait(
    server: &Server,
    reload: &impl Fn() -> Result<Loaded, ConfigError>,
    signals: &mut Signals,
) {
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return,
            _ = signals.terminate.recv() => return,
            _ = signals.hangup.recv() => match reload() {
                Err(error) => tracing::error!(%error, "not reloaded; the old configuration stays"),
                Ok(loaded) => match reloaded(server, loaded).await {
                    Ok(()) => tracing::info!("reloaded"),
                    Err(error) => {
                        tracing::error!(%error, "not reloaded; the old configuration stays");
                    }
                },
            },
        }
    }
}

/// Reloads where it may block: a change that is being made may be compiling.
async fn reloaded(server: &Server, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, sources } = loaded;
    let control = Arc::clone(&server.control);
    let certificates = server.certificates.clone();
    let reload = move || {
        let read = certificates.map(|used| {
            let read = Certificate::read_all(&config.listen.tls)?;
            Ok::<_, Unusable>((used, read))
        });
        let read = read.transpose()?;
        control
            .reload(&config)
            .map_err(|error| configured(error.into()))?;
        // Without certificates nobody could connect any more; that is for the next start.
        if let Some((used, read)) = read.filter(|(_, read)| !read.is_empty()) {
            used.replace(&read);
        }
        Ok(())
    };
    let reloaded: anyhow::Result<()> = tokio::task::spawn_blocking(reload).await?;
    reloaded.map_err(|error| match error.downcast::<Unusable>() {
        Ok(unusable) => ConfigError::Invalid(vec![sources.locate(&unusable)]).into(),
        Err(error) => error,
    })
}

fn configured(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<NotArranged>() {
        Ok(NotArranged::Configured(unusable)) => unusable.into(),
        Ok(other) => other.into(),
        Err(error) => error,
    }
}

fn cannot_listen(key: &str, address: std::net::SocketAddr, error: &std::io::Error) -> Unusable {
    let clause = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; choose another port, or stop it")
        }
        _ => format!("cannot listen on {address}: {error}"),
    };
    Unusable {
        key: key.to_owned(),
        clause,
    }
}

/// Raises the limit of open files as far as it goes: each client, and each origin connection, is
/// one. What it is then.
fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX).min(1 << 20)
}
