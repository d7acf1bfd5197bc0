//! Each phase's end by the clock, the run's own, and what comes of them.

use super::*;
use crate::workflow::coordinator::attempt::tests::{Table, plan};

/// What is due at the end of the phase that an attempt is in, and not a moment before.
fn at_its_end(table: &Table<'_>, limit: Duration) -> Option<Due> {
    let begun = Instant::now();
    let mut deadlines = Deadlines::new(begun, None);
    deadlines.enter(table.attempt.phase, 0, begun);
    assert_eq!(deadlines.next(&table.attempt), begun + limit);
    let before = begun + limit - Duration::from_millis(1);
    assert_eq!(deadlines.due(&table.attempt, before), None);
    deadlines.due(&table.attempt, begun + limit)
}

fn unavailable(node: u64, why: &'static str) -> Option<Due> {
    let node = Some(node);
    Some(Due::Unavailable { node, why })
}

#[tokio::test]
async fn every_phase_but_running_has_an_end_by_the_clock() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let silent = unavailable(1, "a node did not answer in time");
    assert_eq!(at_its_end(&table, RESERVE_FIRST), silent);
    table.connect();
    let late = unavailable(2, "a replica was not ready in 10 s");
    assert_eq!(at_its_end(&table, CONNECT_MAX), late);
    table.run_connected();
    assert_eq!(at_its_end(&table, NEVER), None);
    table.attempt.phase = Phase::Ending;
    assert_eq!(at_its_end(&table, END_MAX), Some(Due::Over));
    table.attempt.phase = Phase::Failing;
    assert_eq!(at_its_end(&table, KILL_MAX), Some(Due::Over));
    table.attempt.phase = Phase::Freeing;
    assert_eq!(at_its_end(&table, FREE_MAX), Some(Due::Over));
}

#[tokio::test]
async fn nodes_that_are_asked_in_turn_may_take_their_time_once_they_have_said_a_word() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.attempt.in_turn = true;
    let silent = unavailable(1, "a node did not answer in time");
    assert_eq!(at_its_end(&table, RESERVE_FIRST), silent);
    table.attempt.silent.clear();
    assert_eq!(at_its_end(&table, NEVER), None);
}

#[tokio::test]
async fn replicas_that_were_asked_for_in_turn_have_to_get_ready_like_any_others() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.attempt.in_turn = true;
    table.connect();
    let late = unavailable(2, "a replica was not ready in 10 s");
    assert_eq!(at_its_end(&table, CONNECT_MAX), late);
}

#[tokio::test]
async fn a_stage_whose_files_come_further_is_waited_for() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.connect();
    let begun = Instant::now();
    let mut deadlines = Deadlines::new(begun, None);
    deadlines.enter(table.attempt.phase, table.attempt.steps(), begun);
    let later = begun + CONNECT_MAX - Duration::from_secs(1);
    table.lay();
    deadlines.enter(table.attempt.phase, table.attempt.steps(), later);
    assert_eq!(deadlines.due(&table.attempt, begun + CONNECT_MAX), None);
    assert!(deadlines.due(&table.attempt, later + CONNECT_MAX).is_some());
}

#[tokio::test]
async fn another_attempt_has_its_whole_time() {
    let plan = plan();
    let table = Table::of(&plan);
    let begun = Instant::now();
    let mut deadlines = Deadlines::new(begun, None);
    deadlines.enter(Phase::Reserving, 1, begun);
    let again = begun + RESERVE_FIRST;
    assert!(deadlines.due(&table.attempt, again).is_some());
    deadlines.begin(again);
    deadlines.enter(Phase::Reserving, 1, again);
    assert_eq!(deadlines.due(&table.attempt, again), None);
    assert_eq!(deadlines.next(&table.attempt), again + 2 * RESERVE_FIRST);
}

#[tokio::test]
async fn a_timeout_terminates_once_and_kills_after_its_grace() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let mut deadlines = Deadlines::new(begun, Some(second));
    deadlines.enter(Phase::Running, 1, begun);
    assert_eq!(deadlines.next(&table.attempt), begun + second);
    assert_eq!(
        deadlines.due(&table.attempt, begun + second),
        Some(Due::Terminate)
    );
    assert_eq!(deadlines.ended(), Ended::Timeout);
    let kill_at = begun + second + TIMEOUT_GRACE;
    assert_eq!(deadlines.next(&table.attempt), kill_at);
    assert_eq!(deadlines.due(&table.attempt, kill_at), Some(Due::Kill));
    assert_eq!(deadlines.due(&table.attempt, kill_at + second), None);
}

#[tokio::test]
async fn who_ended_a_run_first_ended_it() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    let begun = Instant::now();
    let mut deadlines = Deadlines::new(begun, Some(Duration::from_secs(1)));
    deadlines.enter(Phase::Running, 1, begun);
    deadlines.terminate(Ended::Stopped, begun, Duration::from_secs(30));
    let timeout = begun + Duration::from_secs(1);
    assert_eq!(deadlines.due(&table.attempt, timeout), None);
    assert_eq!(deadlines.ended(), Ended::Stopped);
}

#[test]
fn a_timeout_beyond_the_clock_is_none() {
    let deadlines = Deadlines::new(Instant::now(), Some(Duration::MAX));
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(deadlines.while_waiting(later), later);
    assert!(!deadlines.is_timed_out(later));
}

#[tokio::test]
async fn each_node_that_is_asked_in_turn_has_its_whole_time() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.attempt.in_turn = true;
    let begun = Instant::now();
    let mut deadlines = Deadlines::new(begun, None);
    deadlines.enter(Phase::Reserving, 1, begun);
    // The first one let it wait for a slot; now the second is asked, and has said nothing yet.
    let second = begun + Duration::from_secs(60);
    deadlines.enter(Phase::Reserving, 2, second);
    assert_eq!(deadlines.due(&table.attempt, second), None);
    assert_eq!(deadlines.next(&table.attempt), second + RESERVE_FIRST);
}

#[tokio::test]
async fn each_time_that_a_node_says_nothing_the_next_ones_may_take_longer() {
    let plan = plan();
    let table = Table::of(&plan);
    let mut now = Instant::now();
    let mut deadlines = Deadlines::new(now, None);
    let mut limits = Vec::new();
    for _ in 0..7 {
        deadlines.begin(now);
        deadlines.enter(Phase::Reserving, 1, now);
        let next = deadlines.next(&table.attempt);
        limits.push((next - now).as_millis());
        now = next;
        assert!(matches!(
            deadlines.due(&table.attempt, now),
            Some(Due::Unavailable { .. })
        ));
    }
    assert_eq!(limits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
}
