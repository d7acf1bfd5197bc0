//! What a record becomes, case by case.

use super::*;
use crate::record::Content;

const OWN: Owner = Owner { node: 2, lease: 22 };

fn terms() -> Terms {
    Terms {
        is_running: true,
        definition: 4,
        at_once: 16,
        retries: 2,
        timeout: Some(Duration::from_secs(10)),
        keep: Duration::from_secs(60),
        grace: Duration::from_secs(30),
    }
}

fn open() -> Open {
    Open::accepted(
        Some(Owner { node: 1, lease: 11 }),
        5,
        Content {
            bytes: 0,
            sha256: String::new(),
            blob: false,
        },
    )
}

fn running() -> Open {
    begun(&open(), OWN, 4, 1_000)
}

fn again(next: Next) -> (Open, Duration) {
    match next {
        Next::Again(open, rest) => (open, rest),
        Next::Over(end) => panic!("it is over: {end:?}"),
    }
}

fn over(next: Next) -> End {
    match next {
        Next::Over(end) => end,
        Next::Again(open, _) => panic!("it goes on: {open:?}"),
    }
}

fn lost(is_server: bool) -> Verdict {
    Verdict::Lost {
        why: "a link broke".into(),
        is_server,
    }
}

#[test]
fn an_attempt_has_the_next_number_and_the_definition_of_the_first() {
    let first = running();
    assert_eq!(
        (first.attempt, first.definition, first.owner),
        (1, Some(4), Some(OWN))
    );
    let second = begun(&first, OWN, 5, 2_000);
    assert_eq!(
        (second.attempt, second.definition, second.started),
        (2, Some(4), Some(2_000))
    );
}

#[test]
fn status_0_succeeds_and_another_fails_after_its_retries() {
    let took = Duration::from_millis(30);
    let end = over(after(&running(), &Verdict::Exited(0), took, &terms()));
    assert_eq!(
        (end.state, end.status, end.reason),
        (DoneState::Succeeded, Some(0), None)
    );

    let (once, rest) = again(after(&running(), &Verdict::Exited(3), took, &terms()));
    assert_eq!(
        (rest, once.failures, once.spent, once.state),
        (Duration::from_secs(1), 1, 1_030, OpenState::Queued)
    );
    let (twice, rest) = again(after(&once, &Verdict::Exited(3), took, &terms()));
    assert_eq!((rest, twice.failures), (Duration::from_secs(2), 2));
    let end = over(after(&twice, &Verdict::Exited(3), took, &terms()));
    assert_eq!((end.state, end.status), (DoneState::Failed, Some(3)));
}

#[test]
fn what_pipes_lost_is_tried_again_until_its_time_is_over() {
    let (mut open, mut rests) = (running(), Vec::new());
    let terms = Terms {
        timeout: Some(Duration::from_secs(600)),
        ..terms()
    };
    for _ in 0..12 {
        let (next, rest) = again(after(&open, &lost(false), Duration::from_millis(10), &terms));
        rests.push(rest);
        open = next;
    }
    assert_eq!((open.failures, open.losses), (0, 0));
    assert_eq!(rests[..3], [100, 200, 400].map(Duration::from_millis));
    assert_eq!(rests[11], Duration::from_secs(30));
    let end = over(after(&open, &lost(false), Duration::from_secs(600), &terms));
    assert_eq!((end.state, end.status), (DoneState::Failed, Some(TIMEOUT)));
}

#[test]
fn rests_are_of_a_jobs_time() {
    let terms = Terms {
        timeout: Some(Duration::from_secs(2)),
        retries: 9,
        ..terms()
    };
    let took = Duration::from_millis(10);
    let (once, rest) = again(after(&running(), &Verdict::Exited(3), took, &terms));
    assert_eq!(rest, Duration::from_secs(1));
    assert_eq!(once.left(&terms), Some(Duration::from_millis(990)));
    // The next rest is longer than what is left.
    let end = over(after(
        &begun(&once, OWN, 4, 2_000),
        &Verdict::Exited(3),
        took,
        &terms,
    ));
    assert_eq!(end.status, Some(TIMEOUT));
    assert_eq!(end.reason.as_deref(), Some("the timeout ran out; last, status 3"));
}

#[test]
fn a_job_whose_output_finds_no_room_again_and_again_fails_for_it() {
    let verdict = Verdict::NoRoom {
        why: "no room".into(),
    };
    let terms = Terms {
        timeout: None,
        ..terms()
    };
    let (mut open, mut tries) = (running(), 0);
    let end = loop {
        match after(&open, &verdict, Duration::ZERO, &terms) {
            Next::Again(next, _) => open = next,
            Next::Over(end) => break end,
        }
        tries += 1;
        assert!(tries < 100, "it is tried for ever");
    };
    assert_eq!(
        (end.status, end.reason.as_deref(), tries),
        (Some(LOST), Some("no room"), NO_ROOM_MAX)
    );
}

#[test]
fn a_loss_is_taken_back_once_by_who_was_not_lost() {
    let ours = running();
    let (theirs, _) = again(taken(&ours, Owner { node: 3, lease: 33 }, 2_000));
    assert_eq!(theirs.losses, 1);
    let after = absolved(&ours, &theirs).unwrap();
    assert_eq!((after.losses, after.owner), (0, theirs.owner));
    assert_eq!(absolved(&ours, &after), None);
}

#[test]
fn a_job_that_ends_its_servers_is_alone_and_then_failed() {
    let soon = 1_000 + 1_000;
    let (once, _) = again(taken(&running(), OWN, soon));
    assert_eq!(
        (once.losses, once.is_alone(), once.state),
        (1, false, OpenState::Queued)
    );
    assert_eq!(once.spent, 1_000, "what was lost took of its time");
    let (twice, _) = again(taken(&begun(&once, OWN, 4, 1_000), OWN, soon));
    assert!(twice.is_alone());
    let end = over(taken(&begun(&twice, OWN, 4, 1_000), OWN, soon));
    assert_eq!((end.state, end.status), (DoneState::Failed, Some(LOST)));
    assert!(end.reason.unwrap().contains("3 servers"));
    // The same where the server of a stage is lost, not the owner.
    let end = over(after(&twice, &lost(true), Duration::from_secs(5), &terms()));
    assert_eq!(end.status, Some(LOST));
}

#[test]
fn a_job_is_not_blamed_for_what_it_did_not_do() {
    let late = 1_000 + 67_000;
    let (open, _) = again(taken(&running(), OWN, late));
    assert_eq!(open.losses, 0, "it had run for long");
    let (open, _) = again(taken(&super::tests::open(), OWN, 2_000));
    assert_eq!(open.losses, 0, "it had not begun");
    let let_go = handed_over(&running(), Duration::from_secs(1));
    assert_eq!((let_go.owner, let_go.losses, let_go.spent), (None, 0, 1_000));
    let (open, _) = again(taken(&let_go, OWN, 2_000));
    assert_eq!((open.losses, open.owner, open.attempt), (0, Some(OWN), 1));
}

#[test]
fn what_was_cancelled_is_never_tried_again() {
    let open = marked(&running());
    for verdict in [
        Verdict::Exited(143),
        Verdict::Exited(0),
        lost(true),
        Verdict::Stopped,
    ] {
        let end = over(after(&open, &verdict, Duration::ZERO, &terms()));
        assert_eq!(end.state, DoneState::Cancelled, "{verdict:?}");
    }
    assert_eq!(over(taken(&open, OWN, 2_000)), End::cancelled(None));
}
