//! Clients that are slow, or say nothing: the only tests here that take as long as what they promise.

use super::*;

#[tokio::test]
async fn half_a_head_is_waited_for_ten_seconds_and_an_idle_connection_ends_without_a_word() {
    let served = Served::start(vec![workflow("w")]).await;
    let (slow, idle) = tokio::join!(
        served.exchange("GET /w/healthz HTTP/1.1\r\nhost:"),
        served.exchange("")
    );
    assert_eq!(
        (slow.status, slow.header("connection")),
        (408, Some("close")),
        "{slow:?}"
    );
    assert_eq!(slow.text(), "the request's head did not come in 10 seconds");
    assert_eq!((idle.status, idle.head.as_str()), (0, ""));
    served.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_thirty_seconds() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let half = |path: &str| {
        format!("POST /w{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 50000\r\n\r\nabc")
    };
    let before = tokio::time::Instant::now();
    let (query, pipe, ()) = tokio::join!(
        served.exchange(half("/")),
        served.exchange(half("/pipe")),
        async {
            let mut run = runs.next().await;
            run.part(Part::Credit(1_000)).await;
            assert_eq!(run.next().await, Said::Input(b"abc".to_vec()));
            assert_eq!(run.next().await, Said::Gone);
        }
    );
    assert_eq!((query.status, pipe.status), (408, 408));
    assert_eq!(
        query.text(),
        "nothing came for 30 seconds, and the rest of the body is missing\n"
    );
    let took = before.elapsed();
    assert!(took < Duration::from_secs(40), "{took:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up_and_a_stage_that_thinks_is_not() {
    let served = Served::start(vec![workflow("w"), workflow("other")]).await;
    let mut runs = served.runs();
    // One that is silent for longer than any client may be.
    let thinker = served.ask("POST /other/pipe", "abc");
    let thinking = async {
        let mut run = runs.next().await;
        let mut deaf = served.connect().await;
        deaf.write_all(request("POST /w/pipe", "abc").as_bytes())
            .await
            .unwrap();
        let mut flooding = runs.next().await;
        let before = tokio::time::Instant::now();
        let mut room = keyword(&flooding.kwargs, "credit").unwrap().as_u64().unwrap();
        loop {
            while room >= 10_000 {
                flooding.part(Part::Stdout(&[0; 10_000])).await;
                room -= 10_000;
            }
            match flooding.next().await {
                Said::Credit(bytes) => room += bytes,
                Said::Gone => break,
                other => panic!("{other:?}"),
            }
        }
        let took = before.elapsed();
        assert!(
            (Duration::from_secs(29)..Duration::from_secs(40)).contains(&took),
            "{took:?}"
        );
        run.part(Part::Stdout(b"thought")).await;
        run.finish(0, None).await;
    };
    let (response, ()) = tokio::join!(thinker, thinking);
    assert_eq!(response.chunks(), (b"thought".to_vec(), Some(String::new())));
    served.stop().await;
}

#[tokio::test]
async fn a_request_goes_on_when_its_port_goes_however_long_it_takes() {
    let served = Served::start(vec![]).await;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut own = workflow("own");
    own.port = Some(port);
    served.known.send_replace(all(vec![own.clone()]));
    let connected = async {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut stream = timeout(LIMIT, connected).await.expect("it is served");
    let mut runs = served.runs();
    stream
        .write_all(request("POST /pipe", "abc").as_bytes())
        .await
        .unwrap();
    let mut run = runs.next().await;
    own.port = None;
    served.known.send_replace(all(vec![own]));
    let gone = async { while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} };
    timeout(LIMIT, gone).await.expect("nobody new comes in");
    // Longer than a request may take where the agent stops.
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.part(Part::Stdout(b"all of it")).await;
    run.finish(0, None).await;
    let response = read_all(&mut stream).await;
    assert_eq!(response.chunks(), (b"all of it".to_vec(), Some(String::new())));
    served.stop().await;
}
