//! An agent, as far as jobs go: presence, jobs, clients, and a question each moment whether a voter answers.

use std::sync::Mutex;
use std::time::Duration;

use pipes_job::{Jobs, Parts, key};
use pipes_raft::{Compare, Op, Txn};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::jobs::client::Client;
use crate::jobs::runs::Simulated;
use crate::jobs::seams::{Clocks, Drawn, Kept, Wishes};
use crate::jobs::seat::Seat;
use crate::life::alive;

/// How often it is asked whether a voter answers.
const ASK_EVERY: Duration = Duration::from_millis(700);
/// The rest after an error.
const REST: Duration = Duration::from_millis(100);
/// How long giving its lease back may take at a stop.
const GIVE_BACK: Duration = Duration::from_secs(1);

impl Seat {
    fn jobs(&self) -> Jobs {
        let wishes = self.shared.lock().ledger.wishes.subscribe();
        Jobs::new(Parts {
            store: self.store.clone(),
            node: self.node,
            runs: Box::new(Simulated {
                host: self.host,
                name: self.name.clone(),
                node: self.node,
                shared: self.shared.clone(),
            }),
            holders: Box::new(Kept {
                shared: self.shared.clone(),
                chance: Mutex::new(self.chance.part("holders")),
            }),
            clock: Box::new(Clocks {
                beginning: Instant::now(),
                shared: self.shared.clone(),
                ahead_ms: self.chance.part("wall").pick(&[0, 0, 5_000, 3_600_000]),
            }),
            chance: Box::new(Drawn(Mutex::new(self.chance.part("bits")))),
            workflows: Box::new(Wishes(wishes)),
        })
    }

    /// Writes the workflows, where nobody has.
    async fn define(&self) {
        for name in self.plan.terms.keys() {
            let wish = key::workflow(name);
            let txn = Txn {
                compares: vec![Compare::absent(wish.clone())],
                success: vec![Op::put(wish, "{}")],
                failure: Vec::new(),
            };
            while alive(&self.name, self.store.txn(txn.clone())).await.is_err() {
                sleep(REST).await;
            }
        }
    }

    async fn ask_voters(&self) {
        loop {
            let asked_ms = self.shared.lock().ledger.lived(self.host);
            let answer = alive(&self.name, self.store.get(key::presence(self.node))).await;
            if answer.is_ok() {
                self.shared.lock().ledger.is_answered(self.host, asked_ms);
            }
            sleep(ASK_EVERY).await;
        }
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(pipes_raft::sim::scoped(task))
}

/// Does what an agent does, until its host is to stop in order.
pub async fn live(seat: Seat) {
    seat.define().await;
    let jobs = seat.jobs();
    let mut stopping = seat.shared.lock().ledger.stopping.subscribe();
    let stopped = async {
        // The sender lives as long as the world.
        let _ = stopping.wait_for(|hosts| hosts.contains(&seat.host)).await;
    };
    let present = seat.clone();
    let present = spawn(async move { present.keep_present().await });
    let asking = seat.clone();
    spawn(async move { asking.ask_voters().await });
    let (looking, of) = (seat.clone(), jobs.clone());
    spawn(async move { looking.look_at_end(&of).await });
    for number in 0..seat.plan.clients {
        let chance = seat.chance.part(&format!("client {number}"));
        spawn(Client::new(&seat, jobs.clone(), chance).run());
    }
    jobs.run(stopped).await;
    present.abort();
    // Else its lease ends by itself.
    let _ = tokio::time::timeout(GIVE_BACK, seat.disappear()).await;
    seat.shared.lock().ledger.stopped.push(seat.host);
}
