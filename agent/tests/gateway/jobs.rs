//! Jobs over HTTP, with the procedures played.

use sha2::{Digest as _, Sha256};

use super::*;

const FORM: &str = "content-type: application/x-www-form-urlencoded";

/// Jobs of workflow `w`: `j1` succeeded with these bytes, `j2` failed, `j3` runs.
async fn served(result: &'static [u8]) -> Served {
    let served = Served::start(vec![workflow("w"), workflow("other")]).await;
    let hex = Sha256::digest(result)
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    served
        .answer("pipes.job.get", move |kwargs| {
            let id = keyword(kwargs, "id").unwrap().as_str().unwrap();
            let (state, status, bytes) = match id {
                "j1" => ("succeeded", 0.into(), result.len()),
                "j2" => ("failed", 3.into(), 0),
                "j3" => ("running", Value::Nil, 0),
                _ => return Answered::Error("pipes.error.not_found", "there is no such job"),
            };
            let result = map(vec![("bytes", bytes.into()), ("sha256", hex.as_str().into())]);
            Answered::Value(map(vec![
                ("id", id.into()),
                ("workflow", "w".into()),
                ("state", state.into()),
                ("status", status),
                ("result", if state == "running" { Value::Nil } else { result }),
            ]))
        })
        .await;
    served
        .answer("pipes.job.result", move |kwargs| {
            let from = keyword(kwargs, "from").unwrap().as_u64().unwrap() as usize;
            let parts = result[from..].chunks(3).map(<[u8]>::to_vec).collect();
            Answered::Bytes(parts, Value::Nil)
        })
        .await;
    served
}

/// Has every input become job `j1`; gives the inputs.
async fn submitted(served: &Served) -> mpsc::Receiver<Vec<(String, Value)>> {
    let (sender, inputs) = mpsc::channel(16);
    served
        .answer("pipes.job.submit", move |kwargs| {
            sender.try_send(kwargs.to_vec()).unwrap();
            Answered::Value(map(vec![("id", "j1".into()), ("state", "queued".into())]))
        })
        .await;
    inputs
}

#[tokio::test]
async fn a_query_is_answered_with_the_id_of_its_job() {
    let served = served(b"out").await;
    let mut inputs = submitted(&served).await;
    let form = format!("POST /w/\n{FORM}");
    let multipart = "POST /w\ncontent-type: multipart/form-data; boundary=xx";
    let parts = "--xx\r\ncontent-disposition: form-data; name=\"more\"\r\n\r\n1\r\n\
        --xx\r\ncontent-disposition: form-data; name=\"query\"; filename=\"a\"\r\n\r\nexact\r\n--xx--\r\n";
    for (head, body, input) in [
        (form.as_str(), "query=some_data", "some_data\n"),
        (&form, "query=a%26b+c&x=1", "a&b c\n"),
        (&form, "as it is", "as it is"),
        ("PUT /w/", "query=raw", "query=raw"),
        ("POST /w", "", ""),
        (multipart, parts, "exact"),
    ] {
        let response = served.ask(head, body).await;
        assert_eq!(
            (response.status, response.text().as_str()),
            (202, "Job ID: j1\n"),
            "{head} {body}"
        );
        let base = if head.contains("/w/") { "" } else { "w/" };
        assert_eq!(
            response.header("location"),
            Some(format!("{base}jobs/j1/").as_str())
        );
        let kwargs = inputs.recv().await.unwrap();
        assert_eq!(
            keyword(&kwargs, "input").unwrap().as_slice(),
            Some(input.as_bytes()),
            "{head} {body}"
        );
        assert_eq!(keyword(&kwargs, "workflow").unwrap().as_str(), Some("w"));
    }
    let response = served
        .ask("POST /w/\naccept: application/json\nidempotency-key: k1", "a")
        .await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (202, r#"{"id":"j1"}"#)
    );
    assert_eq!(
        keyword(&inputs.recv().await.unwrap(), "key").unwrap().as_str(),
        Some("k1")
    );
    let response = served.ask(multipart, "--xx\r\n\r\n\r\n--xx--\r\n").await;
    assert_eq!(response.status, 400, "{response:?}");
    // Neither its boundary nor the end of a head comes: the parser would keep it all.
    for endless in [
        "no boundary ".repeat(400_000),
        format!("--xx\r\na: {}", "b".repeat(4_800_000)),
    ] {
        let response = served.ask(multipart, &endless).await;
        assert_eq!(response.status, 400, "{response:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_job_gets_its_result() {
    let served = served(b"out").await;
    let _inputs = submitted(&served).await;
    let response = served.ask("POST /w/?wait=5", "a").await;
    assert_eq!((response.status, response.text().as_str()), (200, "out"));
    assert_eq!(response.header("pipes-status"), Some("0"));
    assert_eq!(response.header("location"), Some("jobs/j1/"));
    assert_eq!(served.ask("POST /w/?wait=soon", "a").await.status, 400);
    served.stop().await;
}

#[tokio::test]
async fn what_a_waited_for_job_came_to_is_told_when_it_failed() {
    let served = served(b"out").await;
    served
        .answer("pipes.job.submit", |kwargs| {
            let input = keyword(kwargs, "input").unwrap().as_slice().unwrap();
            let id = std::str::from_utf8(input).unwrap();
            Answered::Value(map(vec![("id", id.into())]))
        })
        .await;
    let response = served.ask("POST /w/?wait=5", "j2").await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (502, "job j2 failed with status 3\n")
    );
    assert_eq!(response.header("pipes-status"), Some("3"));
    let response = served.ask("POST /w/?wait=0", "j3").await;
    assert_eq!((response.status, response.text().as_str()), (202, "Job ID: j3\n"));
    served.stop().await;
}

#[tokio::test]
async fn a_long_input_goes_on_as_it_is_taken() {
    const LENGTH: usize = 5_000_000;
    let served = Served::start(vec![workflow("w")]).await;
    let mut sessions = served.router.serve_calls("pipes", "pipes.job.submit", 4);
    let client = async {
        let mut stream = served.connect().await;
        let head =
            format!("PUT /w/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![7; LENGTH]).await.unwrap();
        read_all(&mut stream).await
    };
    let taken = async {
        let (mut reader, mut writer) = Connection::welcomed(sessions.recv().await.unwrap().stream).split();
        let (mut came, mut room) = (0, 0_u64);
        loop {
            let message = reader.next().await.unwrap();
            let Some(Message::Invocation {
                request,
                details,
                payload,
                ..
            }) = message
            else {
                panic!("{message:?}");
            };
            let bytes = payload::bytes_arg(payload).unwrap_or_default();
            assert!(
                bytes.len() as u64 <= room,
                "no more comes than there is credit for"
            );
            room -= bytes.len() as u64;
            came += bytes.len();
            let (callee, is_last) = (Callee { request }, !details.progress);
            if is_last {
                let id = PayloadBuf::of_values(vec![map(vec![("id", "j9".into())])], None);
                callee.result(&mut writer, id.as_payload());
                writer.flush().await.unwrap();
                return came;
            }
            if room == 0 {
                room = 100_000;
                callee.part(&mut writer, Part::Credit(room).encode().as_payload());
                writer.flush().await.unwrap();
            }
        }
    };
    let (response, came) = tokio::join!(client, taken);
    assert_eq!(
        (response.status, response.text().as_str(), came),
        (202, "Job ID: j9\n", LENGTH)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_job_is_shown_at_its_own_workflow_alone() {
    let served = served(b"out").await;
    for path in ["/w/jobs/j1/", "/w/jobs/j1"] {
        let response = served.ask(&format!("GET {path}"), "").await;
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, Some("application/json"))
        );
        assert!(
            response
                .text()
                .starts_with(r#"{"id":"j1","workflow":"w","state":"succeeded","status":0,"#)
        );
    }
    for path in [
        "/other/jobs/j1/",
        "/w/jobs/j9/",
        "/other/jobs/j1/result",
        "/w/jobs/j9/result",
    ] {
        assert_eq!(served.ask(&format!("GET {path}"), "").await.status, 404, "{path}");
    }
    assert_eq!(served.ask("DELETE /other/jobs/j1/", "").await.status, 404);
    let response = served.ask("GET /w/jobs/j9/\naccept: application/json", "").await;
    assert_eq!(response.text(), r#"{"error":"there is no such job"}"#);
    served.stop().await;
}

#[tokio::test]
async fn a_result_comes_whole_or_in_part_and_only_once_it_is_there() {
    let served = served(b"0123456789").await;
    let get = |more: &str| format!("GET /w/jobs/j1/result\n{more}");
    let whole = served.ask(&get("accept: */*"), "").await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    for (name, value) in [
        ("content-length", "10"),
        ("pipes-status", "0"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("cache-control", "no-store"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    let etag = whole.header("etag").unwrap();
    assert_eq!(etag.len(), 66);
    let part = served.ask(&get("range: bytes=4-8"), "").await;
    assert_eq!((part.status, part.text().as_str()), (206, "45678"));
    assert_eq!(
        (part.header("content-range"), part.header("content-length")),
        (Some("bytes 4-8/10"), Some("5"))
    );
    let beyond = served.ask(&get("range: bytes=10-"), "").await;
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */10"))
    );
    let same = served.ask(&get(&format!("if-none-match: {etag}")), "").await;
    assert_eq!(
        (same.status, same.text().as_str(), same.header("etag")),
        (304, "", Some(etag))
    );
    let head = served.ask("HEAD /w/jobs/j1/result/", "").await;
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        (Some("10"), Some(etag))
    );
    let failed = served.ask("GET /w/jobs/j2/result", "").await;
    assert_eq!(
        (
            failed.status,
            failed.header("pipes-status"),
            failed.header("content-length")
        ),
        (200, Some("3"), Some("0"))
    );
    let unfinished = served.ask("GET /w/jobs/j3/result", "").await;
    assert_eq!(unfinished.status, 409, "{unfinished:?}");
    served.stop().await;
}

#[tokio::test]
async fn jobs_are_listed_for_those_who_may_see_them() {
    let (mut listed, mut guarded) = (workflow("listed"), workflow("guarded"));
    listed.definition.options.list = true;
    // The SHA-256 of `secret`.
    guarded.token_sha256 = Some("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".into());
    let served = Served::start(vec![workflow("w"), listed, guarded]).await;
    served
        .answer("pipes.job.list", |kwargs| {
            let shown = format!("{kwargs:?}");
            Answered::Value(map(vec![
                ("jobs", Value::Array(vec![shown.into()])),
                ("next", Value::Nil),
            ]))
        })
        .await;
    // The SHA-256 of `operator`.
    let operators = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23";
    served
        .answer("pipes.token.check", move |kwargs| {
            let asked = keyword(kwargs, "sha256").unwrap().as_str();
            Answered::Value((asked == Some(operators)).into())
        })
        .await;
    let ask = async |head: &str| {
        let response = served.ask(head, "").await;
        (response.status, response.text())
    };
    for (workflow, status) in [("w", 200), ("guarded", 200), ("listed", 200)] {
        let head = format!("GET /{workflow}/jobs/\nauthorization: Bearer operator");
        assert_eq!(ask(&head).await.0, status, "{workflow}");
    }
    let other = "POST /guarded/\nauthorization: Bearer operator";
    assert_eq!(ask(other).await.0, 401, "for the listing alone");
    assert_eq!(ask("GET /w/jobs/\nauthorization: Bearer wrong").await.0, 403);
    assert_eq!(ask("GET /w/jobs/").await.0, 403);
    assert_eq!(ask("GET /guarded/jobs/").await.0, 401);
    assert_eq!(
        ask("GET /guarded/jobs/\nauthorization: Bearer wrong").await.0,
        401
    );
    assert_eq!(
        ask("GET /guarded/jobs/\nauthorization: Bearer secret").await.0,
        200
    );
    let (status, text) = ask("GET /listed/jobs?state=failed&limit=5000&after=j1").await;
    assert_eq!(status, 200);
    for said in ["failed", "1000", "j1", r#""next":null"#] {
        assert!(text.contains(said), "{said} in {text}");
    }
    for wrong in ["state=lost", "limit=0", "limit=x"] {
        assert_eq!(ask(&format!("GET /listed/jobs/?{wrong}")).await.0, 400, "{wrong}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_behind_its_request_has_its_answer() {
    let served = served(b"out").await;
    let mut inputs = submitted(&served).await;
    let exchange = async |octets: String| {
        let mut stream = served.connect().await;
        stream.write_all(octets.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        read_all(&mut stream).await
    };
    let accepted = exchange(request("POST /w/", "abc")).await;
    assert_eq!((accepted.status, accepted.text().as_str()), (202, "Job ID: j1\n"));
    assert!(inputs.recv().await.is_some());
    let job = exchange(request("GET /w/jobs/j1/?wait=1", "")).await;
    assert_eq!(job.status, 200);
    assert_eq!(exchange(request("GET /w/jobs/j1/result", "")).await.text(), "out");
    // A body that ends too soon is none.
    let broken = "POST /w/ HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
    assert_eq!(exchange(broken.into()).await.status, 400);
    served.stop().await;
}

#[tokio::test]
async fn head_describes_the_whole_result_whatever_part_is_asked_for() {
    let served = served(b"0123456789").await;
    let head = served.ask("HEAD /w/jobs/j1/result\nrange: bytes=2-4", "").await;
    assert_eq!(
        (
            head.status,
            head.header("content-length"),
            head.header("content-range")
        ),
        (200, Some("10"), None)
    );
    served.stop().await;
}
