//! A server to test against, and a way to cut connections to it.

use core::net::SocketAddr;
use std::sync::Arc;

use lockstead_server::{Running, Server, ServerConfig};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct TestServer {
    dir: tempfile::TempDir,
    running: Option<Running>,
    address: SocketAddr,
    durable: bool,
}

impl TestServer {
    /// A server with a data directory.
    pub(crate) fn start() -> TestServer {
        TestServer::new(true)
    }

    /// A server that forgets everything.
    pub(crate) fn ephemeral() -> TestServer {
        TestServer::new(false)
    }

    fn new(durable: bool) -> TestServer {
        let dir = tempfile::tempdir().expect("a folder");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = TestServer { dir, running: None, address: any, durable };
        server.run();
        server
    }

    fn run(&mut self) {
        let config = ServerConfig {
            client_tcp: Some(self.address),
            client_unix: Some(self.dir.path().join("run").join("client.sock")),
            data: self.durable.then(|| self.dir.path().join("data")),
            ..ServerConfig::default()
        };
        let running = Server::start(config).expect("it starts");
        self.address = running.client_tcp().expect("asked for");
        self.running = Some(running);
    }

    pub(crate) fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().expect("a clean stop");
        }
        self.run();
    }

    pub(crate) fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().expect("a clean stop");
        }
    }

    pub(crate) fn tcp_address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn tcp(&self) -> String {
        format!("tcp://{}", self.address)
    }

    pub(crate) fn unix(&self) -> String {
        format!("unix:{}", self.dir.path().join("run").join("client.sock").display())
    }
}

/// A relay whose connections can be cut.
pub(crate) struct Cut {
    address: SocketAddr,
    /// How often it was cut; the highest number means for good.
    cuts: Arc<watch::Sender<u32>>,
}

impl Cut {
    pub(crate) async fn before(server: SocketAddr) -> Cut {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let cuts = Arc::new(watch::Sender::new(0));
        let watching = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = watching.subscribe();
                if *cut.borrow_and_update() == u32::MAX {
                    return;
                }
                tokio::spawn(async move {
                    let Ok(mut node) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut node) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Cut { address, cuts }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts what stands; new connections are let through.
    pub(crate) fn now(&self) {
        self.cuts.send_modify(|n| *n += 1);
    }

    pub(crate) fn for_good(&self) {
        self.cuts.send_modify(|n| *n = u32::MAX);
    }
}
