//! Mistakes that the store, or the jobs over it, make when a simulation asks for one: it must be seen.

use std::cell::Cell;

/// A mistake. Who makes it asks [`is_mutant`] at the one place that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// openraft's `enable_leader_restore` stays on.
    LeaderRestored,
    /// Recovery takes the committed place as it was written, also where the entries end before it.
    CommittedAhead,
    /// A segment's first frame states the purge of memory, ahead of entries that wait.
    PurgedAhead,
    /// A restart purges the log up to what the state had applied, with no snapshot that covers it.
    PurgedToApplied,
    /// An append is answered without a sync.
    AppendUnsynced,
    /// A log that is opened is not synced, though a process that was killed may have left it so.
    OpenedUnsynced,
    /// A vote is answered without a sync.
    VoteUnsynced,
    /// A truncation is answered without a sync.
    TruncateUnsynced,
    /// A snapshot is renamed before it is synced.
    SnapshotUnsynced,
    /// A folder is not synced after a file in it was made or renamed.
    FolderUnsynced,
    /// The log is purged before the snapshot that covers it is on disk.
    PurgedBeforeSnapshot,
    /// A write is answered before a majority has it.
    AnsweredEarly,
    /// A linearizable read asks no quorum.
    ReadWithoutQuorum,
    /// A comparison is judged by the state before the batch it is applied with.
    ComparedEarly,
    /// Who follows expires leases too.
    FollowerExpires,
    /// A torn tail stays where it is, and frames are written after it.
    TailUncut,
    /// A frame's checksum is not looked at.
    ChecksumIgnored,
    /// One entry of a hundred is passed over by one member.
    EntrySkipped,
    /// The store's clock is what the last entry says, not the highest that any has said.
    ClockGoesBack,
    /// A job's result is written without a compare.
    ResultUncompared,
    /// An attempt goes on once another has its job.
    GoesOnUnowned,
    /// An attempt begins though its owner's life is over.
    BegunAfterLife,
    /// A job is taken from an owner whose life may go on.
    TakenFromTheLiving,
    /// An attempt begins though its record may not be written.
    BegunUnrecorded,
    /// An attempt goes on however long no voter answers.
    RunsCutOff,
    /// Who takes a job over does not see that it was cancelled.
    CancelForgotten,
    /// A submission does not compare that its key is new.
    KeyUncompared,
}

impl Mutant {
    /// All of them, by the name that a command line gives.
    pub const ALL: [(&'static str, Mutant); 27] = [
        ("leader-restored", Mutant::LeaderRestored),
        ("committed-ahead", Mutant::CommittedAhead),
        ("purged-ahead", Mutant::PurgedAhead),
        ("purged-to-applied", Mutant::PurgedToApplied),
        ("append-unsynced", Mutant::AppendUnsynced),
        ("opened-unsynced", Mutant::OpenedUnsynced),
        ("vote-unsynced", Mutant::VoteUnsynced),
        ("truncate-unsynced", Mutant::TruncateUnsynced),
        ("snapshot-unsynced", Mutant::SnapshotUnsynced),
        ("folder-unsynced", Mutant::FolderUnsynced),
        ("purged-before-snapshot", Mutant::PurgedBeforeSnapshot),
        ("answered-early", Mutant::AnsweredEarly),
        ("read-without-quorum", Mutant::ReadWithoutQuorum),
        ("compared-early", Mutant::ComparedEarly),
        ("follower-expires", Mutant::FollowerExpires),
        ("tail-uncut", Mutant::TailUncut),
        ("checksum-ignored", Mutant::ChecksumIgnored),
        ("entry-skipped", Mutant::EntrySkipped),
        ("clock-goes-back", Mutant::ClockGoesBack),
        ("result-uncompared", Mutant::ResultUncompared),
        ("goes-on-unowned", Mutant::GoesOnUnowned),
        ("begun-after-life", Mutant::BegunAfterLife),
        ("taken-from-the-living", Mutant::TakenFromTheLiving),
        ("begun-unrecorded", Mutant::BegunUnrecorded),
        ("runs-cut-off", Mutant::RunsCutOff),
        ("cancel-forgotten", Mutant::CancelForgotten),
        ("key-uncompared", Mutant::KeyUncompared),
    ];

    /// The mistake of this name.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, mutant)| *mutant)
    }
}

thread_local! {
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Has a mistake made in this thread's world, or none.
pub fn set_mutant(mutant: Option<Mutant>) {
    MUTANT.set(mutant);
}

/// Whether this is the mistake to make.
pub fn is_mutant(mutant: Mutant) -> bool {
    MUTANT.get() == Some(mutant)
}
