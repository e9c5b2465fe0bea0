//! The admin endpoints: alive, ready, metrics. Over HTTP on a loopback address, for looking only; nothing changes anything.
//!
//! One thread with its own small runtime, so that a slow scraper costs the event loops nothing but a short look at the node.

mod bounded;
mod metrics;

use core::net::SocketAddr;
use std::{
    io,
    net::TcpListener,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::oneshot;

use crate::{
    clock,
    server::StartError,
    shared::{Phase, Shared},
};

/// The endpoints while they are served. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    server: Whole,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The server, once it is whole: a member of a cluster waits until a majority has agreed on its start.
type Whole = Arc<OnceLock<Arc<Shared>>>;

const STARTING: &str =
    "starting: a majority of the members has not agreed on this start yet, the log says what is waited for\n";

const INDEX: &str = "lockstead node, admin endpoints (GET only)\n\
    /livez    200 while the node can make decisions\n\
    /readyz   200 while it grants locks, otherwise 503 and why\n\
    /metrics  Prometheus text\n";

impl Admin {
    /// Takes the address, and serves though there is no node yet.
    pub(crate) fn start(address: SocketAddr) -> Result<Admin, StartError> {
        Admin::serve(Admin::bind(address)?).map_err(StartError::System)
    }

    fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|error| StartError::Listen { key: "admin", at: address.to_string(), error })
    }

    fn serve(listener: TcpListener) -> io::Result<Admin> {
        let server = Whole::default();
        let whole = Arc::clone(&server);
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(async {
                let listener = bounded::Bounded::new(tokio::net::TcpListener::from_std(listener)?);
                let serve = axum::serve(listener, router(whole));
                tokio::select! {
                    done = async move { serve.await } => done,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!("the admin endpoints ended: {error}");
            }
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(serve)?;
        Ok(Admin { address, server, stop: Some(stop), thread: Some(thread) })
    }

    /// From here on they tell of this server.
    pub(crate) fn open(&self, server: &Arc<Shared>) {
        let _ = self.server.set(Arc::clone(server));
    }

    /// Where they are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(server: Whole) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(server)
}

async fn livez(State(server): State<Whole>) -> impl IntoResponse {
    let Some(shared) = server.get() else { return (StatusCode::OK, "ok, starting\n".to_owned()) };
    let core = shared.core.lock();
    match core.halted() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("halted: {why}\n")),
    }
}

async fn readyz(State(server): State<Whole>) -> impl IntoResponse {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    let Some(shared) = server.get() else { return unready(STARTING.to_owned()) };
    if shared.phase() != Phase::Serving {
        return unready("stopping\n".to_owned());
    }
    let core = shared.core.lock();
    if core.node.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let now = clock::now();
    if core.node.cluster_state().is_some() {
        let (slots, since) = core.node.recovering_slots();
        return unready(match since.filter(|_| now < core.node.authority()) {
            None => "no authority: a majority of the members cannot be reached, or has put this node out\n".to_owned(),
            Some(since) => format!(
                "taking over {slots} slots for {} ms now; holders of before bring their locks, other slots are served\n",
                now.since(since).as_millis()
            ),
        });
    }
    let left = core.node.status(now).frozen_for.as_millis();
    unready(format!(
        "frozen after a restart: holders of before take their locks back; nothing else is granted for {left} ms at most\n"
    ))
}

async fn metrics(State(server): State<Whole>) -> impl IntoResponse {
    let text = server.get().map_or_else(|| "lockstead_ready 0\n".to_owned(), |shared| metrics::text(shared));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
