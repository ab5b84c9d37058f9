//! The front: one thread, one runtime and one listening socket a core, sharing a port; a second
//! one for TLS, if that is wanted.
//!
//! A connection stays on the thread that accepted it, and so do its requests, so that policies can
//! be called without a lock. The bound on connections is shared; a worker that meets it waits
//! before it accepts again, and the kernel's queue holds the rest.

pub mod access_log;
pub mod answer;
pub mod ask;
pub mod authority;
pub mod below;
pub mod body;
pub mod cache_status;
pub mod carry;
pub mod catch_up;
pub mod coding;
pub mod conditional;
pub mod connections;
pub mod counting;
pub mod exchange;
pub mod fetch;
pub mod fields;
pub mod fill;
pub mod forwarded;
pub mod h1;
pub mod h2;
pub mod heads;
pub mod intake;
pub mod interim;
pub mod lag;
pub mod miss;
pub mod origin;
pub mod outlook;
pub mod pass;
pub mod primary_key;
pub mod protocol;
pub mod purging;
pub mod range;
pub mod ranged;
pub mod recorder;
pub mod refused;
pub mod shown;
pub mod site;
pub mod slices;
pub mod stand_in;
pub mod storing;
pub mod tagging;
pub mod tls;
pub mod transport;
pub mod verdict;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain as Family, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use connections::{ConnectionLimits, Connections, SWEEP};
use protocol::Accepted;
use worker::{Edge, Worker};

/// Connections the kernel holds for each worker until they are accepted.
const BACKLOG: i32 = 4096;
/// After a failed accept (no more files, above all) a worker rests instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the front is started with.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where it listens for TLS, and what it negotiates.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Threads.
    pub workers: usize,
    /// Connections at once, of all workers.
    pub connections: usize,
    /// Bounds on each connection.
    pub limits: ConnectionLimits,
    /// How long connections get to end when the front is stopped.
    pub drain: Duration,
}

/// The running front.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    stop: watch::Sender<Stop>,
    workers: Vec<JoinHandle<()>>,
}

/// The sockets of one worker.
struct Sockets {
    plain: std::net::TcpListener,
    tls: Option<(std::net::TcpListener, Arc<ServerConfig>)>,
}

/// Where the front cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct CannotListen {
    /// Where.
    pub address: SocketAddr,
    /// Whether TLS was to be spoken there.
    pub tls: bool,
    /// Why not.
    pub source: io::Error,
}

/// How far the front is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Drain,
}

impl Front {
    /// Binds, and starts the workers.
    ///
    /// # Errors
    /// An address cannot be bound, or a thread cannot be made.
    pub fn start(edge: &Arc<Edge>, settings: &FrontSettings) -> Result<Self, CannotListen> {
        let count = settings.workers.max(1);
        let refused = |address, tls| {
            move |source| CannotListen {
                address,
                tls,
                source,
            }
        };
        let (address, plain) =
            bind(settings.listen, count).map_err(refused(settings.listen, false))?;
        let mut sockets: Vec<_> = plain
            .into_iter()
            .map(|plain| Sockets { plain, tls: None })
            .collect();
        let mut tls_address = None;
        if let Some((wanted, config)) = &settings.tls {
            let (address, listeners) = bind(*wanted, count).map_err(refused(*wanted, true))?;
            tls_address = Some(address);
            for (sockets, listener) in sockets.iter_mut().zip(listeners) {
                sockets.tls = Some((listener, Arc::clone(config)));
            }
        }
        let (stop, stopped) = watch::channel(Stop::No);
        let places = Arc::new(Semaphore::new(
            settings.connections.min(Semaphore::MAX_PERMITS),
        ));
        let mut workers = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.into_iter().enumerate() {
            let (edge, stopped) = (Arc::clone(edge), stopped.clone());
            let places = Arc::clone(&places);
            let thread = std::thread::Builder::new().name(format!("larder-worker-{number}"));
            let settings = settings.clone();
            let started = thread.spawn(move || run(edge, socket, &settings, &places, stopped));
            workers.push(started.map_err(refused(address, false))?);
        }
        Ok(Self {
            address,
            tls_address,
            stop,
            workers,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Accepts nothing more, lets requests in flight end for as long as the settings say, and
    /// waits for the workers.
    pub fn stop(self) {
        self.stop.send_replace(Stop::Drain);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// One socket a worker, all on the same port, and where that is.
fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // Sockets that share a port may belong to two processes, so a first one that does not share
    // finds out whether the port is taken.
    let probe = listener(address, Sharing::No)?;
    let address = SocketAddr::new(address.ip(), probe.local_addr()?.port());
    drop(probe);
    let listeners: io::Result<_> = (0..count)
        .map(|_| listener(address, Sharing::Yes))
        .collect();
    Ok((address, listeners?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Yes,
    No,
}

fn listener(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Family::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Yes)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if sharing == Sharing::Yes {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

fn run(
    edge: Arc<Edge>,
    sockets: Sockets,
    settings: &FrontSettings,
    places: &Arc<Semaphore>,
    stopped: watch::Receiver<Stop>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a worker has no runtime"),
    };
    runtime.block_on(async {
        let listening = Listening::on(sockets);
        match listening {
            Ok(listening) => serve(edge, listening, settings, places, stopped).await,
            Err(error) => tracing::error!(%error, "a worker cannot listen"),
        }
    });
    // Whatever is left was given its time.
    runtime.shutdown_background();
}

/// The sockets of one worker, on its runtime.
struct Listening {
    plain: TcpListener,
    tls: Option<(TcpListener, TlsAcceptor)>,
}

impl Listening {
    fn on(sockets: Sockets) -> io::Result<Self> {
        let tls = sockets.tls.map(|(socket, config)| {
            Ok::<_, io::Error>((TcpListener::from_std(socket)?, TlsAcceptor::from(config)))
        });
        Ok(Self {
            plain: TcpListener::from_std(sockets.plain)?,
            tls: tls.transpose()?,
        })
    }
}

async fn serve(
    edge: Arc<Edge>,
    listening: Listening,
    settings: &FrontSettings,
    places: &Arc<Semaphore>,
    mut stopped: watch::Receiver<Stop>,
) {
    let worker = Rc::new(Worker::new(edge));
    let connections = Rc::new(Connections::default());
    let limits = settings.limits;
    let mut sweeping = std::pin::pin!(async {
        loop {
            tokio::time::sleep(SWEEP).await;
            let ended = connections.sweep(&limits);
            worker.edge.metrics.connections_timed_out.add(ended);
        }
    });
    let mut lagging = std::pin::pin!(lag::watch(&worker.edge.metrics.lag_seconds));
    let accepting = Accepting {
        worker: &worker,
        connections: &connections,
        limits,
        places,
    };
    let plain = accepting.run(&listening.plain, None);
    let tls = async {
        match &listening.tls {
            Some((listener, acceptor)) => accepting.run(listener, Some(acceptor)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = &mut sweeping => {}
        () = &mut lagging => {}
        () = plain => {}
        () = tls => {}
        _ = stopped.wait_for(|stop| *stop == Stop::Drain) => {}
    }
    drop(listening);
    connections.drain();
    // Deadlines hold while draining: one slow client must not hold up a restart.
    let drained = tokio::select! {
        () = &mut sweeping => false,
        () = &mut lagging => false,
        idle = tokio::time::timeout(settings.drain, worker.tasks.idle()) => idle.is_ok(),
    };
    if !drained {
        let left = worker.tasks.running();
        tracing::warn!(
            left,
            "connections and fetches were given up at the end of the drain time"
        );
    }
}

/// Accepts the clients of one worker.
struct Accepting<'a> {
    worker: &'a Rc<Worker>,
    connections: &'a Rc<Connections>,
    limits: ConnectionLimits,
    places: &'a Arc<Semaphore>,
}

impl Accepting<'_> {
    async fn run(&self, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
        let metrics = &self.worker.edge.metrics;
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    // One connection at a time may wait here; the kernel's queue holds the rest.
                    let Ok(place) = Arc::clone(self.places).acquire_owned().await else {
                        return;
                    };
                    metrics.connections.increment();
                    if let Err(error) = transport::prepare(&stream) {
                        tracing::debug!(%error, "a client left at once");
                    }
                    let accepted = Accepted {
                        stream,
                        address: client.ip().to_canonical(),
                        tls: tls.cloned(),
                    };
                    let (worker, connections) =
                        (Rc::clone(self.worker), Rc::clone(self.connections));
                    let edge = Arc::clone(&self.worker.edge);
                    let served = protocol::serve(worker, connections, self.limits, accepted);
                    self.worker.tasks.spawn(async move {
                        served.await;
                        drop(place);
                        edge.metrics.connections_closed.increment();
                    });
                }
                Err(error) => {
                    metrics.accept_errors.increment();
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
