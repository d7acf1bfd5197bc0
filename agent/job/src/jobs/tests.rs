//! Jobs over a store of one node: two agents, runs that do as their input says.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Error;
use crate::jobs::{Found, Question, Request, Which};
use crate::key;
use crate::record::{DoneState, OpenState};
use crate::submit::Input;
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_with_its_stages_status_and_its_result_and_none_of_its_keys_stays_open() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let (good, bad, big) = tokio::join!(
        agent.submit("echo hello"),
        agent.submit("exit 3"),
        agent.submit("big")
    );
    assert_eq!(
        agent.ended(&good).await,
        (DoneState::Succeeded, Some(0), 1, "hello".into())
    );
    assert_eq!(
        agent.ended(&bad).await,
        (DoneState::Failed, Some(3), 1, "partial".into())
    );
    assert_eq!(agent.ended(&big).await.0, DoneState::Succeeded);
    assert_eq!(
        (
            world.keys("/pipes/jobs/open/").await,
            world.keys("/pipes/jobs/done/w/").await
        ),
        (0, 3)
    );
    let digest = format!("sha256:{}", "ab".repeat(32));
    let named = key::blob_named_by(&digest, &key::result(&big));
    assert!(world.node.store().get(named).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_job_and_with_other_input_a_conflict() {
    let world = World::new().await;
    let (one, two) = (world.agent(1).await, world.agent(2).await);
    let submitted = futures::future::join_all((0..20).map(|number| {
        let agent = if number % 2 == 0 { &one } else { &two };
        agent.with_key("echo same", Some("k"))
    }));
    let ids: BTreeSet<String> = submitted
        .await
        .into_iter()
        .map(|accepted| accepted.unwrap().id)
        .collect();
    assert_eq!(ids.len(), 1);
    let refused = two.with_key("echo other", Some("k")).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict(id) if ids.contains(&id)));
    let known = one.with_key("echo same", Some("k")).await.unwrap();
    assert!(known.was_known);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_an_agent_that_died_go_on_elsewhere_with_the_next_attempt() {
    let world = World::new().await;
    let (one, two) = (world.agent(1).await, world.agent(2).await);
    world.change(|terms| terms.at_once = 1);
    let running = one.submit("hang").await;
    one.running(&running).await;
    let waiting = one.submit("echo later").await;
    world.kill(one).await;
    let job = two.running(&running).await;
    assert_eq!((job.open.attempt, job.open.losses), (2, 1));
    assert_eq!(job.open.owner.unwrap().node, 2);
    two.jobs.cancel(&running).await.unwrap();
    assert_eq!(two.ended(&running).await.0, DoneState::Cancelled);
    assert_eq!(
        two.ended(&waiting).await,
        (DoneState::Succeeded, Some(0), 1, "later".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_life_ended_while_it_stood_still_lets_go_of_what_another_took() {
    let world = World::new().await;
    let one = world.agent(1).await;
    let id = one.submit("hang").await;
    one.running(&id).await;
    // It goes on, and knows nothing of it yet; the other takes the job at once.
    let two = world.agent(2).await;
    world.end_of(1).await;
    assert_eq!(two.running(&id).await.open.attempt, 2);
    for _ in 0..2_000 {
        if one.jobs.queue().running().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(one.jobs.queue().running().count(), 0, "its attempt was killed");
    let job = two.running(&id).await;
    assert_eq!(job.open.losses, 0, "no server ended, and it says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_whose_agent_hears_nothing_ends_with_that_agents_life_and_not_before() {
    let world = World::new().await;
    let (one, two) = (world.agent(1).await, world.agent(2).await);
    let id = one.submit("hang").await;
    one.running(&id).await;
    one.task.abort();
    let _ = one.task.await;
    two.jobs.cancel(&id).await.unwrap();
    let Found::Open(job) = two.jobs.look(&id).await.unwrap() else {
        panic!("it ended while its owner lived");
    };
    let end = crate::state::End::cancelled(None);
    let lives = crate::claim::is_gone(job.open.owner.unwrap());
    let refused = two.jobs.end_if(&job, &end, Some(lives)).await.unwrap();
    assert!(matches!(refused, crate::claim::Outcome::Found(_)), "{refused:?}");
    world.end_of(1).await;
    assert_eq!(two.ended(&id).await.0, DoneState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_in_order_hands_over_and_that_is_no_loss() {
    let world = World::new().await;
    let one = world.agent(1).await;
    let id = one.submit("hang").await;
    one.running(&id).await;
    one.stop.send(()).unwrap();
    one.task.await.unwrap();
    let two = world.agent(2).await;
    world.end_of(1).await;
    let job = two.running(&id).await;
    assert_eq!((job.open.attempt, job.open.losses), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_life_of_the_same_node_takes_what_its_former_one_left() {
    let world = World::new().await;
    let one = world.agent(1).await;
    world.change(|terms| terms.at_once = 1);
    let running = one.submit("hang").await;
    one.running(&running).await;
    let waiting = one.submit("echo x").await;
    one.task.abort();
    let _ = one.task.await;
    // Killed and back within its lease: the presence now hangs on another.
    let again = world.agent(1).await;
    world.change(|terms| terms.at_once = 2);
    assert_eq!(again.ended(&waiting).await.0, DoneState::Succeeded);
    assert_eq!(again.running(&running).await.open.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pipes_lost_and_what_may_be_retried_is_tried_again() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let id = agent.submit("lost 2").await;
    assert_eq!(
        agent.ended(&id).await,
        (DoneState::Succeeded, Some(0), 3, "at last".into())
    );
    world.change(|terms| terms.retries = 1);
    let id = agent.submit("exit 7").await;
    assert_eq!(
        agent.ended(&id).await,
        (DoneState::Failed, Some(7), 2, "partial".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_workflow_takes_nothing_and_an_unknown_one_is_not_found() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let request = Request {
        workflow: "none".into(),
        key: None,
        input: Input::Small(Vec::new()),
        retry_of: None,
    };
    assert!(matches!(
        agent.jobs.submit(request).await,
        Err(Error::NoWorkflow(_))
    ));
    world.change(|terms| terms.at_once = 1);
    let first = agent.submit("hang").await;
    agent.running(&first).await;
    let queued = agent.submit("echo x").await;
    world.change(|terms| terms.is_running = false);
    assert!(matches!(
        agent.with_key("echo y", None).await,
        Err(Error::Stopped(_))
    ));
    let waits_again = |job: &Found| matches!(job, Found::Open(job) if job.open.state == OpenState::Queued);
    for _ in 0..2_000 {
        if waits_again(&agent.jobs.look(&first).await.unwrap()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        waits_again(&agent.jobs.look(&first).await.unwrap()),
        "after the grace it is queued"
    );
    let Found::Done { done, .. } = agent.jobs.cancel(&queued).await.unwrap() else {
        panic!("a job that waits is over as soon as it is cancelled");
    };
    assert_eq!((done.state, done.attempt), (DoneState::Cancelled, 0));
    assert!(matches!(agent.jobs.look("j1").await, Err(Error::NoJob(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_leaves_no_key() {
    let world = World::new().await;
    world.change(|terms| terms.keep = Duration::ZERO);
    let agent = world.agent(1).await;
    let small = agent.with_key("echo x", Some("k")).await.unwrap().id;
    let big = agent.submit("big").await;
    for _ in 0..2_000 {
        if world.keys("/pipes/jobs/").await + world.keys("/pipes/blobs/").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        (
            world.keys("/pipes/jobs/").await,
            world.keys("/pipes/blobs/").await
        ),
        (0, 0)
    );
    for id in [small, big] {
        assert!(matches!(agent.jobs.look(&id).await, Err(Error::NoJob(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_later_version_keep_no_other_from_expiring() {
    let world = World::new().await;
    let unreadable = 300;
    for number in 0..unreadable {
        let id = format!("j{number:026}");
        world.put(key::id(&id), "w").await;
        world.put(key::done("w", &id), "of a later version").await;
        world.put(key::expiry(number, &id), "").await;
    }
    world.change(|terms| terms.keep = Duration::ZERO);
    let agent = world.agent(1).await;
    let id = agent.submit("echo x").await;
    for _ in 0..2_000 {
        if agent.jobs.look(&id).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(agent.jobs.look(&id).await, Err(Error::NoJob(_))));
    assert_eq!(world.keys("/pipes/jobs/done/").await, unreadable as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_finished_jobs_than_are_kept_the_oldest_go() {
    let world = World::new().await;
    let one = world.agent(1).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let id = one.submit(&format!("echo {number}")).await;
        one.ended(&id).await;
        ids.push(id);
    }
    // By the time in them, and in the same millisecond by chance.
    ids.sort();
    one.jobs.keep_newest("w", 5).await.unwrap();
    assert_eq!(world.keys("/pipes/jobs/done/").await, 5);
    one.jobs.keep_newest("w", 2).await.unwrap();
    assert!(one.jobs.look(&ids[2]).await.is_err());
    for id in &ids[3..] {
        one.ended(id).await;
    }
    for prefix in ["done", "ids", "input", "result", "expiry"] {
        assert_eq!(world.keys(&format!("/pipes/jobs/{prefix}/")).await, 2, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_come_in_pages_and_an_id_is_found_by_its_end() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(agent.submit(&format!("echo {number}")).await);
    }
    for id in &ids {
        agent.ended(id).await;
    }
    let hangs = agent.submit("hang").await;
    agent.running(&hangs).await;
    for workflow in [Some("w".to_owned()), None] {
        let mut question = Question {
            workflow,
            which: Which::All,
            limit: 3,
            after: None,
        };
        let mut listed = Vec::new();
        loop {
            let page = agent.jobs.list(&question).await.unwrap();
            assert!(page.jobs.len() <= 3);
            listed.extend(page.jobs.iter().map(|job| job.id().to_owned()));
            match page.next {
                Some(next) => question.after = Some(next),
                None => break,
            }
        }
        let mut all = [ids.clone(), vec![hangs.clone()]].concat();
        all.sort();
        assert_eq!(listed, all);
    }
    let question = Question {
        workflow: Some("w".into()),
        which: Which::Open(OpenState::Running),
        limit: 10,
        after: None,
    };
    let page = agent.jobs.list(&question).await.unwrap();
    assert_eq!(
        page.jobs.iter().map(Found::id).collect::<Vec<_>>(),
        [hangs.as_str()]
    );
    assert_eq!(agent.jobs.find(&hangs[10..]).await.unwrap(), Ok(hangs.clone()));
    assert!(matches!(agent.jobs.find("j0").await.unwrap(), Err(several) if several.len() == 2));
    assert!(agent.jobs.find("zzz").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_ends_where_no_voter_answers_and_another_begins_when_one_does() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let id = agent.submit("hang").await;
    agent.running(&id).await;
    // As if a read had failed for a minute; the next one tells otherwise.
    agent.jobs.0.is_cut_off.send_replace(true);
    for _ in 0..2_000 {
        if world.begun().contains(&(id.clone(), 2)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(agent.running(&id).await.open.losses, 0);
    assert_eq!(world.begun().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_due_where_none_may_begin_is_waited_for_at_rest() {
    let world = World::new().await;
    world.change(|terms| terms.retries = 1);
    let agent = world.agent(1).await;
    let id = agent.submit("exit 7").await;
    while !world.begun().contains(&(id.clone(), 1)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Its rest of 1 s is over meanwhile.
    let before = world.sleeps();
    for _ in 0..150 {
        agent.jobs.0.is_cut_off.send_replace(true);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let slept = world.sleeps() - before;
    assert!(slept < 500, "it went to sleep {slept} times in 1.5 s");
    assert_eq!(
        agent.ended(&id).await,
        (DoneState::Failed, Some(7), 2, "partial".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_acceptance_was_not_heard_is_done_all_the_same() {
    let world = World::new().await;
    let agent = world.agent(1).await;
    let done = agent.submit("echo x").await;
    agent.ended(&done).await;
    // Written as this agent's, and nobody told its queue; a node that comes has it look.
    let lease = world
        .node
        .store()
        .get(key::presence(1))
        .await
        .unwrap()
        .unwrap()
        .lease;
    for (id, state) in [
        ("j00000000000000000000000001", "queued"),
        ("j00000000000000000000000002", "running"),
    ] {
        let open = format!(
            r#"{{"owner":{{"node":1,"lease":{lease}}},"state":"{state}","attempt":3,"submitted":0,"input":{{"bytes":6,"sha256":""}}}}"#
        );
        let store = world.node.store();
        store.put(key::input(id), "echo y", None).await.unwrap();
        store.put(key::id(id), "w", None).await.unwrap();
        store.put(key::open("w", id), open, None).await.unwrap();
    }
    world.appear(2).await;
    for id in ["j00000000000000000000000001", "j00000000000000000000000002"] {
        assert_eq!(
            agent.ended(id).await,
            (DoneState::Succeeded, Some(0), 4, "y".into())
        );
    }
}
