//! What is refused, and how; which ports there are.

use super::*;

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_have_one_answer_each() {
    let (mut stopped, unready) = (workflow("stopped"), workflow("unready"));
    stopped.wish = Wish::Stopped;
    let served = Served::start(vec![workflow("w"), stopped, unready]).await;
    for (head, status) in [
        ("GET /", 404),
        ("GET /none/", 404),
        ("POST /none/pipe", 404),
        ("GET /w/", 404),
        ("GET /w/openapi.json", 404),
        ("GET /w/nothing/", 404),
        ("GET /w/healthz", 200),
        ("GET /w/healthz/", 200),
        ("HEAD /w/readyz", 200),
        ("GET /stopped/healthz", 200),
        ("GET /stopped/readyz", 503),
        ("GET /unready/readyz", 503),
        ("POST /stopped/", 503),
        ("PUT /stopped/pipe", 503),
        ("GET /w/pipe", 405),
        ("DELETE /w/", 405),
        ("PATCH /w/jobs/j1", 405),
        ("BREW /w/jobs/", 405),
    ] {
        let response = served.ask(head, "").await;
        assert_eq!(response.status, status, "{head}: {response:?}");
    }
    let refused = served.ask("GET /w/pipe/", "").await;
    assert_eq!(refused.header("allow"), Some("POST, PUT, OPTIONS"));
    assert_eq!(refused.text(), "GET is nothing to do here: POST, PUT, OPTIONS\n");
    let options = served.ask("OPTIONS /w/jobs/j1/", "").await;
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET, HEAD, DELETE, OPTIONS")),
        "{options:?}"
    );
    let json = served
        .ask("GET /unready/readyz\naccept: application/json", "")
        .await;
    assert_eq!(json.text(), r#"{"error":"stage 1 (cat) has no replica"}"#);
    served.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_let_in_by_their_origin_alone() {
    let mut open = workflow("open");
    open.definition.options.cors = vec!["http://good.example".into()];
    open.token_sha256 = Some("ab".into());
    let served = Served::start(vec![workflow("w"), open]).await;
    let own = served.address;
    for (head, status) in [
        (format!("GET /w/readyz\norigin: http://{own}"), 200),
        ("GET /w/readyz\norigin: http://evil.example".into(), 403),
        ("POST /w/\norigin: null".into(), 403),
        ("POST /open/\norigin: http://evil.example".into(), 403),
        ("POST /open/\norigin: http://good.example".into(), 401),
    ] {
        assert_eq!(served.ask(&head, "").await.status, status, "{head}");
    }
    let asked = served
        .ask(
            "OPTIONS /open/\norigin: http://good.example\naccess-control-request-method: PUT",
            "",
        )
        .await;
    assert_eq!(asked.status, 204);
    assert_eq!(
        asked.header("access-control-allow-origin"),
        Some("http://good.example")
    );
    assert!(
        asked
            .header("access-control-allow-methods")
            .unwrap()
            .contains("PUT")
    );
    served.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent_or_as_it_comes() {
    let mut small = workflow("small");
    small.definition.options.body = Some(10);
    let served = Served::start(vec![small]).await;
    let expecting = "POST /small/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n";
    let response = served.exchange(expecting).await;
    assert!(response.head.starts_with("HTTP/1.1 413 "), "{response:?}");
    assert_eq!(
        response.text(),
        "the body is longer than the 10 bytes that workflow small takes\n"
    );
    let chunked = "POST /small/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        8\r\n12345678\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(served.exchange(chunked).await.status, 413);
    served.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_and_nothing_behind_them_is_read() {
    let served = Served::start(vec![workflow("w")]).await;
    let smuggled = "GET /w/healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    for (request, status) in [
        ("GET /w/healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /w/healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /w/healthz HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n", 400),
        (
            "GET /w/healthz HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\n",
            400,
        ),
        ("GET /w/healthz HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n", 400),
        ("GET /w/healthz HTTP/9.9\r\nhost: a\r\n\r\n", 400),
        ("GET  /w/healthz HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            400,
        ),
        (
            "POST /w/pipe HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n", 400),
    ] {
        let response = served.exchange(format!("{request}{smuggled}")).await;
        assert_eq!(response.status, status, "{request:?}: {response:?}");
        let answers =
            response.head.matches("HTTP/1.1 ").count() + response.text().matches("HTTP/1.1 ").count();
        // Where a head is whole and only its meaning refused, what follows is another request.
        let follows = request.contains("host: b") || request == "GET /w/healthz HTTP/1.1\r\n\r\n";
        assert_eq!(answers, if follows { 2 } else { 1 }, "{request:?}: {response:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_body_with_a_length_as_well_as_chunks_is_refused_and_nothing_behind_it_is_read() {
    let served = Served::start(vec![workflow("w")]).await;
    let (chunked, length) = ("transfer-encoding: chunked\r\n", "content-length: 4\r\n");
    for headers in [format!("{chunked}{length}"), format!("{length}{chunked}")] {
        let request = format!(
            "POST /w/ HTTP/1.1\r\nhost: a\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\nGET /w/healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let response = served.exchange(request).await;
        assert_eq!(
            (response.status, response.text().as_str()),
            (
                400,
                "a body has a Content-Length or a Transfer-Encoding, never both\n"
            )
        );
    }
    let bad = "POST /w/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n";
    assert_eq!(served.exchange(bad).await.status, 400);
    // One request's is no other's.
    let mut stream = served.connect().await;
    for headers in [chunked, "content-length: 5\r\n"] {
        let request = format!("POST /w/nothing HTTP/1.1\r\nhost: a\r\n{headers}\r\n0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 404");
        let mut rest = [0; 4_096];
        assert!(stream.read(&mut rest).await.unwrap() > 0);
    }
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_on_loopback_by_a_name_that_others_may_own() {
    let served = Served::start(vec![workflow("w")]).await;
    let ask = async |host: &str| {
        let request = format!("GET /w/readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        served.exchange(request).await.status
    };
    assert_eq!(ask("rebound.example").await, 403);
    assert_eq!(
        ask(&format!("rebound.example:{}", served.address.port())).await,
        403
    );
    assert_eq!(ask(&served.address.to_string()).await, 200);
    assert_eq!(ask("localhost").await, 200);
    served.stop().await;
}

#[tokio::test]
async fn a_page_that_may_send_requests_reads_why_they_are_refused() {
    let mut open = workflow("open");
    open.definition.options.cors = vec!["http://good.example".into()];
    open.token_sha256 = Some("ab".into());
    let mut stopped = workflow("stopped");
    stopped.definition.options.cors = open.definition.options.cors.clone();
    stopped.wish = Wish::Stopped;
    let served = Served::start(vec![open, stopped]).await;
    for (head, status) in [
        ("POST /open/", 401),
        ("POST /stopped/", 503),
        ("GET /stopped/none", 404),
    ] {
        let response = served
            .ask(&format!("{head}\norigin: http://good.example"), "")
            .await;
        assert_eq!(
            (response.status, response.header("access-control-allow-origin")),
            (status, Some("http://good.example")),
            "{head}"
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn a_head_is_no_longer_than_heads_are() {
    let served = Served::start(vec![workflow("w")]).await;
    let head = |length: usize| {
        format!(
            "GET /w/healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n",
            "y".repeat(length)
        )
    };
    assert_eq!(served.exchange(head(60_000)).await.status, 200);
    assert_eq!(served.exchange(head(70_000)).await.status, 431);
    let many = format!(
        "GET /w/healthz HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "a: 1\r\n".repeat(200)
    );
    assert_eq!(served.exchange(many).await.status, 431);
    served.stop().await;
}

#[tokio::test]
async fn a_workflow_has_so_many_requests_at_once_and_the_others_go_on() {
    let served = Served::start(vec![workflow("w"), workflow("other")]).await;
    let mut runs = served.router.serve_calls("pipes", "pipes.run.start", 300);
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = served.connect().await;
        stream
            .write_all(request("POST /w/pipe", "a").as_bytes())
            .await
            .unwrap();
        held.push((stream, timeout(LIMIT, runs.recv()).await.unwrap()));
    }
    let refused = served.ask("POST /w/pipe", "a").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(served.ask("GET /other/healthz", "").await.status, 200);
    drop(held);
    let freed = async { while served.ask("GET /w/healthz", "").await.status != 200 {} };
    timeout(LIMIT, freed).await.expect("places are given back");
    served.stop().await;
}

#[tokio::test]
async fn a_workflows_own_port_comes_and_goes_with_it_and_says_why_it_is_taken() {
    let served = Served::start(vec![]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut own = workflow("own");
    own.port = Some(port);
    served.known.send_replace(all(vec![own, workflow("w")]));
    let why = async {
        loop {
            match served.endpoints.why_down("own") {
                Some(why) => return why,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let why = timeout(LIMIT, why).await.expect("a reason");
    assert!(
        why.starts_with(&format!("port {port} of 127.0.0.1 is taken by ")),
        "{why}"
    );
    assert_eq!(
        served.ask("GET /w/healthz", "").await.status,
        200,
        "the common port serves all the same"
    );
    drop(taken);
    let up = async {
        while served.endpoints.why_down("own").is_some() {
            tokio::task::yield_now().await
        }
    };
    timeout(LIMIT, up).await.expect("it is tried again");
    let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream
        .write_all(request("GET /readyz", "").as_bytes())
        .await
        .unwrap();
    assert_eq!(read_all(&mut stream).await.text(), "ok\n");
    served.known.send_replace(all(vec![workflow("w")]));
    let gone = async { while TcpStream::connect(at).await.is_ok() {} };
    timeout(LIMIT, gone).await.expect("it goes with the workflow");
    served.stop().await;
}

#[tokio::test]
async fn a_port_moves_to_another_address_at_once() {
    let served = Served::start(vec![]).await;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let at = |bind: &str| Workflow {
        port: Some(port),
        bind: Some(bind.parse().unwrap()),
        ..workflow("own")
    };
    let answers = async |address: &str| {
        let asked = async {
            loop {
                if let Ok(mut stream) = TcpStream::connect((address, port)).await {
                    let asked = stream.write_all(request("GET /healthz", "").as_bytes()).await;
                    if asked.is_ok() && read_all(&mut stream).await.status == 200 {
                        return;
                    }
                }
                assert_eq!(served.endpoints.why_down("own"), None);
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, asked).await.expect("it is served")
    };
    let refuses = async |address: &str| {
        let refused = async {
            while TcpStream::connect((address, port)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, refused).await.expect("it is closed there");
    };
    served.known.send_replace(all(vec![at("0.0.0.0")]));
    answers("127.0.0.2").await;
    served.known.send_replace(all(vec![at("127.0.0.1")]));
    refuses("127.0.0.2").await;
    answers("127.0.0.1").await;
    served.known.send_replace(all(vec![at("0.0.0.0")]));
    answers("127.0.0.2").await;
    served.stop().await;
}
