//! Tasks, and work that may wait for the disk: on a thread that may block.
//!
//! In a simulation nothing has a thread of its own: such work is a task like any other, held up as long as the
//! simulated disk says, and chance goes on from task to task.

use crate::Error;

/// What a task that openraft is begun from must be in.
#[cfg(not(sim))]
pub(crate) fn scoped<F: Future>(future: F) -> F {
    future
}

/// Does what may block, to its end, whether anybody waits for it or not. A panic is an error like any other.
#[cfg(not(sim))]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Disk(error.to_string()))?
}

#[cfg(sim)]
pub(crate) use crate::sim::scoped;

#[cfg(sim)]
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(scoped(future))
}

#[cfg(sim)]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn(async move {
        crate::sim::stall().await;
        let done = work();
        crate::sim::stall().await;
        done
    });
    done.await.map_err(|error| Error::Disk(error.to_string()))?
}
