//! What an answer means for the job, and what its run is given.

use super::*;
use crate::workflow::daemon::record::Options;
use crate::workflow::daemon::record::Stage;
use pipes_job::record::Content;

fn answer(run: &Run, loss: Option<Loss>) -> Verdict {
    let mut payload = PayloadBuf::of(run).unwrap();
    if let Some(loss) = loss {
        loss.add_to(&mut payload);
    }
    ended(payload.as_payload()).verdict
}

#[test]
fn only_what_pipes_failed_is_lost() {
    let exited = Run {
        state: "failed".into(),
        exit: Some(3),
        ..Run::default()
    };
    assert_eq!(answer(&exited, None), Verdict::Exited(3));
    let mut over_limit = Run::default();
    over_limit.fail(LOST, "stage 1 (a) was ended on n1: too large".into());
    let verdict = answer(&over_limit, None);
    assert!(
        matches!(verdict, Verdict::Refused { status: LOST, .. }),
        "{verdict:?}"
    );
    for (loss, of_server) in [
        (Loss::Server, true),
        (Loss::Other, false),
        (Loss::BeforeStart, false),
    ] {
        let verdict = answer(&over_limit, Some(loss));
        assert!(
            matches!(verdict, Verdict::Lost { is_server, .. } if is_server == of_server),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_run_that_was_refused_is_tried_again_unless_it_would_be_refused_again() {
    let said = PayloadBuf::of_values(vec!["why".into()], None);
    let verdict = |uri| failed(uri, said.as_payload()).verdict;
    let refused = |status| Verdict::Refused {
        status,
        reason: "why".into(),
    };
    assert_eq!(verdict(uris::error::UNKNOWN_SERVICE), refused(127));
    assert_eq!(verdict(uris::error::SYNTAX), refused(LOST));
    assert!(matches!(verdict(uris::error::UNAVAILABLE), Verdict::Lost { .. }));
}

#[test]
fn a_run_is_given_the_jobs_definition_and_a_lonely_one_its_own_node() {
    let stage = Stage {
        service: "cat".into(),
        digest: "sha256:ab".into(),
        args: Vec::new(),
    };
    let mut definition = Definition {
        revision: 1,
        line: "cat | cat".into(),
        stages: vec![stage.clone(), stage],
        options: Options::default(),
    };
    let mut order = Order {
        job: "j1".into(),
        attempt: 2,
        workflow: "w".into(),
        definition: 1,
        input: Some(Vec::new()),
        content: Content {
            bytes: 0,
            sha256: String::new(),
            blob: false,
        },
        timeout: Some(Duration::from_millis(1_500)),
        is_alone: false,
    };
    let given = options(&definition, &order, "n2");
    assert_eq!(
        (given["job"].as_str(), given["attempt"].as_u64()),
        (Some("j1"), Some(2))
    );
    assert_eq!(given["timeout"].as_f64(), Some(1.5));
    assert_eq!(given["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(given["place"].as_map().map(Vec::len), Some(0));
    order.is_alone = true;
    let place = options(&definition, &order, "n2")["place"].clone();
    assert_eq!(
        (place["1"].as_str(), place["2"].as_str()),
        (Some("n2"), Some("n2"))
    );
    definition.options.place = [("1".into(), "n3".into())].into();
    let place = options(&definition, &order, "n2")["place"].clone();
    assert_eq!(
        (place["1"].as_str(), place["2"].as_str()),
        (Some("n3"), Some("n2")),
        "a place that was asked for is kept, and the rest is here"
    );
}
