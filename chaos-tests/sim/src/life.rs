//! What a process does while it lives.

use pipes_sim_seam::disk;

/// Does something to its end while a host's process lives. One that ended within an operation on its disk does nothing
/// more, though its tasks go on to the end of the step.
pub async fn alive<T>(host: &str, doing: impl Future<Output = T>) -> T {
    if !disk::is_off(host) {
        let done = doing.await;
        if !disk::is_off(host) {
            return done;
        }
    }
    std::future::pending().await
}
