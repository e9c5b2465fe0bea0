//! The admin endpoints: alive, ready, metrics. Over HTTP on a loopback address, for looking only; nothing changes anything.
//!
//! One thread with its own small runtime, so that a slow scraper costs the event loops nothing but a short look at the node.

mod bounded;
mod metrics;

use core::net::SocketAddr;
use std::{
    io,
    net::TcpListener,
    sync::Arc,
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const INDEX: &str = "lockstead node, admin endpoints (GET only)\n\
    /livez    200 while the node can make decisions\n\
    /readyz   200 while it grants locks, otherwise 503 and why\n\
    /metrics  Prometheus text\n";

impl Admin {
    /// Takes the address.
    pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|error| StartError::Listen { at: address.to_string(), error })
    }

    /// Serves.
    pub(crate) fn start(listener: TcpListener, shared: Arc<Shared>) -> io::Result<Admin> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(async {
                let listener = bounded::Bounded::new(tokio::net::TcpListener::from_std(listener)?);
                let serve = axum::serve(listener, router(shared));
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
        Ok(Admin { address, stop: Some(stop), thread: Some(thread) })
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

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn livez(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let core = shared.core.lock();
    match core.halted() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("halted: {why}\n")),
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
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

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&shared))
}
