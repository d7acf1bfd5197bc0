//! `/pipe`: a run, streamed.

use super::*;

const POST: &str = "POST /w/pipe\ncontent-type: text/plain";

#[tokio::test]
async fn a_run_is_called_as_the_workflow_says_and_its_first_byte_makes_the_head() {
    let mut defined = workflow("w");
    defined.definition.options.timeout = Some(2.5);
    let served = Served::start(vec![defined]).await;
    let mut runs = served.runs();
    let (response, ()) = tokio::join!(served.ask(POST, "abc"), async {
        let mut run = runs.next().await;
        assert_eq!(keyword(&run.kwargs, "line").unwrap().as_str(), Some("cat | sort"));
        assert_eq!(
            keyword(&run.kwargs, "stdin").unwrap().as_slice(),
            Some(&b"abc"[..])
        );
        assert_eq!(keyword(&run.kwargs, "eof").unwrap().as_bool(), Some(true));
        let options = keyword(&run.kwargs, "options").unwrap().as_map().unwrap();
        let option = |name: &str| {
            options
                .iter()
                .find(|(key, _)| key.as_str() == Some(name))
                .map(|(_, value)| value)
        };
        assert_eq!(option("timeout").unwrap().as_f64(), Some(2.5));
        assert_eq!(option("versions").unwrap().as_array().unwrap().len(), 2);
        run.part(Part::Begun("r1")).await;
        run.part(Part::Stdout(b"out")).await;
        run.part(Part::Stderr {
            stage: 1,
            bytes: b"err",
        })
        .await;
        run.part(Part::Stdout(b"put")).await;
        run.finish(0, None).await;
    });
    assert_eq!((response.status, response.header("pipes-run")), (200, Some("r1")));
    assert_eq!(response.header("pipes-status"), None);
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.chunks(), (b"output".to_vec(), Some(String::new())));
    served.stop().await;
}

#[tokio::test]
async fn a_run_that_ends_before_its_first_byte_has_its_status_in_the_head() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    for (exit, message, status, said) in [
        (0, None, 200, ""),
        (3, None, 502, "the run ended with status 3 (cat 0, sort 3)\n"),
        (125, Some("server n2 was lost"), 502, "server n2 was lost\n"),
    ] {
        let (response, ()) = tokio::join!(served.ask(POST, "abc"), async {
            let mut run = runs.next().await;
            run.part(Part::Begun("r1")).await;
            run.finish(exit, message).await;
        });
        assert_eq!((response.status, response.text().as_str()), (status, said));
        assert_eq!(response.header("pipes-status"), Some(exit.to_string().as_str()));
        assert_eq!(response.header("pipes-run"), Some("r1"));
    }
    served.stop().await;
}

#[tokio::test]
async fn a_run_that_fails_later_breaks_the_body_off_or_says_so_behind_it() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let trailers = format!("{POST}\nte: trailers");
    for (head, exit, message, end) in [
        (POST, 3, None, None),
        (POST, 0, None, Some("")),
        (&trailers, 3, None, Some("pipes-status: 3")),
        (&trailers, 0, None, Some("pipes-status: 0")),
        (&trailers, 125, None, Some("pipes-status: 125")),
        (
            &trailers,
            124,
            Some("the timeout ran out"),
            Some("pipes-status: 124"),
        ),
        (&trailers, 125, Some("server n2 was lost"), None),
    ] {
        let (response, ()) = tokio::join!(served.ask(head, "abc"), async {
            let mut run = runs.next().await;
            run.part(Part::Stdout(b"out")).await;
            run.finish(exit, message).await;
        });
        let (bytes, found) = response.chunks();
        assert_eq!(
            (response.status, &bytes[..]),
            (200, &b"out"[..]),
            "{exit} {message:?}"
        );
        assert_eq!(found.as_deref(), end, "{exit} {message:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_of_http_1_0_never_takes_a_broken_body_for_a_whole_one() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let request = "POST /w/pipe HTTP/1.0\r\ncontent-length: 1\r\n\r\na";
    let client = async {
        let mut stream = served.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    };
    let (read, ()) = tokio::join!(client, async {
        let mut run = runs.next().await;
        run.part(Part::Stdout(b"out")).await;
        run.finish(3, None).await;
    });
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    served.stop().await;
}

/// Plays `cat`: gives credit for what it took, and writes only what there is credit for.
async fn cat(mut run: FakeRun) {
    let mut room = keyword(&run.kwargs, "credit").unwrap().as_u64().unwrap();
    let mut waiting = std::collections::VecDeque::new();
    let mut is_over = false;
    run.part(Part::Credit(1 << 20)).await;
    loop {
        while let Some(bytes) = waiting.pop_front() {
            let bytes: Vec<u8> = bytes;
            if (bytes.len() as u64) > room {
                waiting.push_front(bytes);
                break;
            }
            room -= bytes.len() as u64;
            run.part(Part::Stdout(&bytes)).await;
            if !is_over {
                run.part(Part::Credit(bytes.len() as u64)).await;
            }
        }
        if is_over && waiting.is_empty() {
            return run.finish(0, None).await;
        }
        match run.next().await {
            Said::Input(bytes) => waiting.push_back(bytes),
            Said::Credit(bytes) => room += bytes,
            Said::Eof => is_over = true,
            Said::Gone => panic!("the gateway gave the run up"),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index / 7 + index / 65_537) as u8)
        .collect()
}

#[tokio::test]
async fn who_sends_all_before_it_reads_gets_all_and_nothing_lies_around() {
    const LENGTH: usize = 100_000_000;
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let client = async {
        let mut stream = served.connect().await;
        let head = format!(
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(LENGTH)).await.unwrap();
        read_all(&mut stream).await
    };
    let (response, ()) = tokio::join!(client, async { cat(runs.next().await).await });
    let (bytes, end) = response.chunks();
    assert_eq!(end.as_deref(), Some(""));
    assert!(bytes == pattern(LENGTH), "{} bytes came back", bytes.len());
    assert_eq!(
        std::fs::read_dir(served.folder.path().join("spool"))
            .unwrap()
            .count(),
        0
    );
    served.stop().await;
}

#[tokio::test]
async fn a_run_that_ends_early_is_answered_whole_to_who_still_sends() {
    const LENGTH: usize = 20_000_000;
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let client = async {
        let mut stream = served.connect().await;
        let head = format!(
            "POST /w/pipe HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(LENGTH)).await.unwrap();
        read_all(&mut stream).await
    };
    let (response, ()) = tokio::join!(client, async {
        let mut run = runs.next().await;
        run.part(Part::Credit(1_000)).await;
        run.next().await;
        run.part(Part::Stdout(b"first line\n")).await;
        run.finish(0, None).await;
    });
    assert_eq!(response.chunks(), (b"first line\n".to_vec(), Some(String::new())));
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_run_with_it() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let head =
        |length: usize| format!("POST /w/pipe HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    // Whole and waiting; in the middle; with a body that nobody reads.
    for (length, sent, credit) in [(3, 3, 100), (1_000_000, 40_000, 1 << 20), (1_000_000, 100_000, 1)] {
        let mut stream = served.connect().await;
        stream.write_all(head(length).as_bytes()).await.unwrap();
        stream.write_all(&pattern(sent)).await.unwrap();
        let mut run = runs.next().await;
        run.part(Part::Credit(credit)).await;
        if length > 3 {
            assert!(matches!(run.next().await, Said::Input(_)));
        }
        drop(stream);
        let gone = async { while run.next().await != Said::Gone {} };
        timeout(Duration::from_secs(2), gone)
            .await
            .expect("the run is given up");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_while_output_comes_takes_its_run_with_it() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let mut stream = served.connect().await;
    stream.write_all(request(POST, "abc").as_bytes()).await.unwrap();
    let mut run = runs.next().await;
    run.part(Part::Stdout(b"out")).await;
    stream.read_exact(&mut [0; 12]).await.unwrap();
    drop(stream);
    let gone = async { while run.next().await != Said::Gone {} };
    timeout(Duration::from_secs(2), gone)
        .await
        .expect("the run is given up");
    served.stop().await;
}

#[tokio::test]
async fn a_refused_run_is_told_before_its_body_is_asked_for() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let head = "POST /w/pipe HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    for (uri, status) in [
        ("pipes.error.busy", "429"),
        ("pipes.error.unavailable", "503"),
        ("pipes.error.unknown_service", "502"),
    ] {
        let (response, ()) = tokio::join!(served.exchange(head), async {
            runs.next().await.refuse(uri, "not now").await;
        });
        assert!(
            response.head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{response:?}"
        );
        assert_eq!(response.text(), "not now\n");
        assert_eq!(response.header("retry-after").is_some(), status == "429");
    }
    // Asked for once the run takes it.
    let client = async {
        let mut stream = served.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = [0; 25];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"hello").await.unwrap();
        read_all(&mut stream).await
    };
    let (response, ()) = tokio::join!(client, async { cat(runs.next().await).await });
    assert_eq!(response.chunks().0, b"hello");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_has_said_all_and_reads_has_the_whole_output() {
    let served = Served::start(vec![workflow("w")]).await;
    let mut runs = served.runs();
    let mut stream = served.connect().await;
    stream.write_all(request(POST, "abc").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let (response, ()) = tokio::join!(read_all(&mut stream), async {
        let mut run = runs.next().await;
        // For longer than one is waited for that takes nothing.
        for _ in 0..6 {
            run.part(Part::Stdout(b"more ")).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        run.finish(0, None).await;
    });
    assert_eq!(response.chunks().0, b"more more more more more more ");
    served.stop().await;
}
