//! A connection that can be cut: a relay on loopback between a store and its etcd.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Relays until it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: String,
    cut: AtomicBool,
    done: AtomicBool,
    open: Mutex<HashMap<u64, Vec<TcpStream>>>,
}

impl Proxy {
    /// `target` is `HOST:PORT`.
    pub(super) fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: target.to_owned(),
            cut: AtomicBool::new(false),
            done: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            for (number, client) in (0_u64..).zip(listener.incoming().map_while(Result::ok)) {
                if serving.done.load(Ordering::SeqCst) {
                    return;
                }
                if !serving.cut.load(Ordering::SeqCst) {
                    // One that fails is closed by being dropped.
                    let _ = serving.relay(number, client);
                }
            }
        });
        Proxy { address, state }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("etcd://{}", self.address)
    }

    /// Breaks every connection, and accepts none that lasts.
    pub(super) fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        self.state.close_all();
    }

    pub(super) fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.done.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn relay(self: &Arc<Self>, number: u64, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = vec![client.try_clone()?, server.try_clone()?];
        self.open.lock().unwrap().insert(number, ends);
        if self.cut.load(Ordering::SeqCst) {
            self.close_all();
        }
        for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    fn close_all(&self) {
        for (_, ends) in self.open.lock().unwrap().drain() {
            for end in ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}
