//! The network: messages with the times at which they arrive, and what becomes of those that do not.
//!
//! Messages of one connection (from, to, class) keep their order; those of different ones do not. A link is one way:
//! cut both ways, nothing passes; cut one way, requests arrive and their answers do not, or the other way round. A
//! link that hangs keeps what it is given until it is open again, and may then deliver it, however late that is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipes_raft::{Class, Peer, Transport, TransportError};
use pipes_sim_seam::Chance;
use tokio::sync::oneshot;

use crate::life::alive;

/// The host at an address: they have consecutive ports.
pub const PORT: u16 = 7000;

/// How long a connection may be deaf before the mesh ends it.
const DEAF_MS: u64 = 5_000;

type Sent = Result<Vec<u8>, TransportError>;

/// How a link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// Messages pass.
    #[default]
    Open,
    /// Whoever sends is told at once that nothing passes.
    Refused,
    /// Messages wait.
    Hanging,
}

/// A message that has arrived.
pub enum Arrived {
    /// A request for a host's node.
    Request(Request),
    /// An answer for whoever asked.
    Answer(Vec<u8>, oneshot::Sender<Sent>),
}

/// A request that a host shall answer.
pub struct Request {
    /// Who asks.
    pub from: usize,
    /// Who shall answer.
    pub to: usize,
    /// The connection.
    pub class: Class,
    /// What is asked.
    pub bytes: Vec<u8>,
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Sent>,
}

struct Parcel {
    from: usize,
    to: usize,
    content: Arrived,
}

/// Messages under way.
pub struct Net {
    now_ms: u64,
    sequence: u64,
    chance: Chance,
    delay_ms_max: u64,
    loss: u64,
    links: BTreeMap<(usize, usize), Link>,
    under_way: BTreeMap<(u64, u64), Parcel>,
    held: Vec<Parcel>,
    /// When the last message of each connection arrives.
    latest: BTreeMap<(usize, usize, u8), u64>,
    /// Whoever waits for an answer that a host works on, by that host and the order of asking.
    asking: BTreeMap<(usize, u64), oneshot::Sender<Sent>>,
    /// Whoever waits for an answer that was lost in silence, and when the connection is found deaf.
    unanswered: Vec<(u64, oneshot::Sender<Sent>)>,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages lost.
    pub lost: u64,
}

/// The network, for the world and all transports.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Net>>);

impl Network {
    /// One without a message.
    pub fn new(chance: Chance, delay_ms_max: u64, loss: u64) -> Network {
        Network(Arc::new(Mutex::new(Net {
            now_ms: 0,
            sequence: 0,
            chance,
            delay_ms_max,
            loss,
            links: BTreeMap::new(),
            under_way: BTreeMap::new(),
            held: Vec::new(),
            latest: BTreeMap::new(),
            asking: BTreeMap::new(),
            unanswered: Vec::new(),
            delivered: 0,
            lost: 0,
        })))
    }

    /// What is under way.
    pub fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport of a host.
    pub fn wire(&self, own: usize) -> Wire {
        Wire {
            own,
            network: self.clone(),
        }
    }
}

impl Net {
    /// Sets a link, one way. One that is opened again delivers what it kept, or has lost it.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.links.insert((from, to), link);
        if link != Link::Open {
            return;
        }
        let (released, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|parcel| (parcel.from, parcel.to) == (from, to));
        self.held = held;
        let is_reset = self.chance.is(500);
        for parcel in released {
            if is_reset {
                self.lose(parcel);
            } else {
                self.put(1, parcel);
            }
        }
    }

    /// Opens all links, and loses nothing from now on.
    pub fn heal(&mut self) {
        self.loss = 0;
        for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
            self.set_link(from, to, Link::Open);
        }
    }

    /// How a link is.
    pub fn link(&self, from: usize, to: usize) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    fn send(&mut self, from: usize, to: usize, class: u8, content: Arrived) {
        let delay = self.chance.between(0, self.delay_ms_max);
        // Now and then one takes much longer.
        let delay = if self.chance.is(10) { delay * 10 } else { delay };
        let earliest = self.latest.get(&(from, to, class)).copied().unwrap_or(0);
        let at = (self.now_ms + 1 + delay).max(earliest);
        self.latest.insert((from, to, class), at);
        self.put(at - self.now_ms, Parcel { from, to, content });
    }

    fn put(&mut self, in_ms: u64, parcel: Parcel) {
        self.sequence += 1;
        self.under_way
            .insert((self.now_ms + in_ms, self.sequence), parcel);
    }

    /// Loses a message: its sender learns that it is unknown, or nothing.
    fn lose(&mut self, parcel: Parcel) {
        self.lost += 1;
        let (Arrived::Request(Request { reply, .. }) | Arrived::Answer(_, reply)) = parcel.content;
        if self.chance.is(500) {
            let _ = reply.send(Err(TransportError::Unknown("the connection broke".into())));
        } else {
            self.unanswered.push((self.now_ms + DEAF_MS, reply));
        }
    }

    /// Goes on to `now_ms`; gives what has arrived, but what is for hosts that stand still.
    pub fn arrived(&mut self, now_ms: u64, stands_still: impl Fn(usize) -> bool) -> Vec<Arrived> {
        self.now_ms = now_ms;
        for (due_ms, reply) in std::mem::take(&mut self.unanswered) {
            if due_ms > now_ms {
                self.unanswered.push((due_ms, reply));
            } else {
                let _ = reply.send(Err(TransportError::Unknown("the connection is deaf".into())));
            }
        }
        let mut arrived = Vec::new();
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= now_ms
        {
            let parcel = entry.remove();
            if stands_still(parcel.to) {
                self.put(5, parcel);
                continue;
            }
            match self.link(parcel.from, parcel.to) {
                Link::Hanging => self.held.push(parcel),
                Link::Refused => self.lose(parcel),
                Link::Open if self.loss > 0 && self.chance.is(self.loss) => self.lose(parcel),
                Link::Open => {
                    self.delivered += 1;
                    arrived.push(parcel.content);
                }
            }
        }
        arrived
    }

    /// Keeps who waits for an answer of host `to`, under a number for [`Net::answer`].
    pub fn keep(&mut self, to: usize, reply: oneshot::Sender<Sent>) -> u64 {
        self.sequence += 1;
        self.asking.insert((to, self.sequence), reply);
        self.sequence
    }

    /// Sends an answer of host `from` back to host `to`, which waits under `number`.
    pub fn answer(&mut self, from: usize, to: usize, class: Class, bytes: Vec<u8>, number: u64) {
        if let Some(reply) = self.asking.remove(&(from, number)) {
            self.send(from, to, class as u8 + 8, Arrived::Answer(bytes, reply));
        }
    }

    /// Tells all who wait for answers of a host that it has ended, in the order of their asking: tokio drops a
    /// runtime's tasks in an order that other runtimes of the process have a part in.
    pub fn ended(&mut self, host: usize) {
        self.asking.retain(|(of, _), _| *of != host);
    }
}

/// The transport of one host.
pub struct Wire {
    own: usize,
    network: Network,
}

/// The address of a host.
pub fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], PORT + number as u16))
}

#[async_trait::async_trait]
impl Transport for Wire {
    async fn call(&self, to: &Peer, class: Class, bytes: Vec<u8>, timeout: Duration) -> Sent {
        alive(&format!("n{}", self.own), std::future::ready(())).await;
        let (reply, answer) = oneshot::channel();
        let to = usize::from(to.address.port().saturating_sub(PORT));
        {
            let mut net = self.network.lock();
            if net.link(self.own, to) == Link::Refused {
                return Err(TransportError::NotSent("the link is cut".into()));
            }
            let from = self.own;
            let request = Request {
                from,
                to,
                class,
                bytes,
                reply,
            };
            net.send(from, to, class as u8, Arrived::Request(request));
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(TransportError::Unknown("the peer ended".into())),
            Err(_) => Err(TransportError::Unknown("no answer in time".into())),
        }
    }
}
