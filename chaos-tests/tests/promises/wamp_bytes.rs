//! A payload is passed on as bytes: what its author wrote is what arrives, in one shard and across.

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::wamp::{Address, Session, assemble, map, pack};
use rmpv::Value;

/// `[args, kwargs]` that no encoder would write: integers longer than need be, a NaN with payload bits, a map whose
/// key comes twice, text in a longer form than need be.
fn strange_payload() -> (Vec<u8>, Vec<u8>) {
    let mut arguments = vec![0xdc, 0x00, 0x05];
    arguments.extend_from_slice(&[0xd3, 0, 0, 0, 0, 0, 0, 0, 1]); // 1 as int 64
    arguments.extend_from_slice(&[0xcd, 0x00, 0x07]); // 7 as uint 16
    arguments.extend_from_slice(&[0xcb, 0x7f, 0xf8, 0xde, 0xad, 0xbe, 0xef, 0x00, 0x01]); // a NaN that says something
    arguments.extend_from_slice(&[0xd9, 0x01, b'a']); // "a" as str 8
    arguments.extend_from_slice(&[0xc6, 0, 0, 0, 2, 0xff, 0x00]); // two octets as bin 32
    let keywords = vec![0xde, 0x00, 0x02, 0xa1, b'k', 0x01, 0xa1, b'k', 0x02]; // {"k": 1, "k": 2}
    (arguments, keywords)
}

fn default_realm(cluster: &Cluster, node: usize) -> Result<Session> {
    Session::join(
        &Address::Tcp(cluster.nodes[node].wamp()),
        "default",
        "anonymous",
        None,
    )
}

/// Registers at one node, calls at another; both ways must carry the same octets.
fn passes(cluster: &Cluster, callee_node: usize, caller_node: usize, filler: usize) -> Result<()> {
    let procedure = format!("com.example.echo.{callee_node}.{caller_node}.{filler}");
    let mut callee = default_realm(cluster, callee_node)?;
    callee.register(&procedure)?.map_err(anyhow::Error::msg)?;
    let mut caller = default_realm(cluster, caller_node)?;
    let (mut arguments, keywords) = strange_payload();
    if filler > 0 {
        // A sixth argument that makes the message cross in pieces.
        arguments[2] = 6;
        arguments.push(0xc6);
        arguments.extend_from_slice(&u32::try_from(filler)?.to_be_bytes());
        arguments.extend(std::iter::repeat_n(0x5a, filler));
    }
    let request = caller.request();
    let head = [
        pack(&48.into()),
        pack(&request.into()),
        pack(&map(vec![])),
        pack(&procedure.as_str().into()),
    ]
    .concat();
    caller
        .stream
        .send(&assemble(6, &[&head, &arguments, &keywords]))?;

    let invocation = callee.receive()?;
    assert_eq!(invocation.kind(), 68, "{:?}", invocation.items);
    let payload = [arguments.as_slice(), &keywords].concat();
    assert!(
        invocation.bytes.ends_with(&payload),
        "the payload arrived changed: {:02x?}",
        &invocation.bytes[..invocation.bytes.len().min(200)]
    );
    assert_eq!(invocation.items.len(), 6);

    let head = [
        pack(&70.into()),
        pack(&invocation.number(1).into()),
        pack(&map(vec![])),
    ]
    .concat();
    callee
        .stream
        .send(&assemble(5, &[&head, &arguments, &keywords]))?;
    let result = caller.receive()?;
    assert_eq!(result.kind(), 50, "{:?}", result.items);
    assert!(result.bytes.ends_with(&payload), "the result arrived changed");
    assert_eq!(result.items.len(), 5);
    Ok(())
}

#[test]
fn a_strange_payload_arrives_octet_by_octet() -> Result<()> {
    let cluster = Cluster::start(3)?;
    passes(&cluster, 0, 0, 0).context("in one shard")?;
    passes(&cluster, 0, 1, 0).context("across")?;
    passes(&cluster, 2, 1, 0).context("across")?;
    passes(&cluster, 0, 0, 300_000).context("in one shard, 300 kB")?;
    passes(&cluster, 1, 2, 300_000).context("across in pieces")?;
    cluster.finish()
}

#[test]
fn what_is_registered_anywhere_is_called_anywhere_at_once() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut callers: Vec<Session> = (0..3)
        .map(|node| default_realm(&cluster, node))
        .collect::<Result<_>>()?;
    for number in 0..30 {
        let mut callee = default_realm(&cluster, number % 3)?;
        let procedure = format!("com.example.number.{number}");
        callee.register(&procedure)?.map_err(anyhow::Error::msg)?;
        // REGISTERED was answered: from this moment it can be called at every other agent.
        for caller in &mut callers {
            let request = caller.begin(&procedure, vec![number.into()], vec![])?;
            let invocation = callee.receive()?;
            assert_eq!(invocation.kind(), 68, "{:?}", invocation.items);
            let answer = vec![
                70.into(),
                invocation.number(1).into(),
                map(vec![]),
                Value::Array(vec![number.into()]),
            ];
            callee.send(&Value::Array(answer))?;
            assert_eq!(caller.outcome(request)?.done()?, [Value::from(number)]);
        }
    }
    // And what a dead agent's clients had registered goes with its link.
    let mut callee = default_realm(&cluster, 2)?;
    callee
        .register("com.example.mortal")?
        .map_err(anyhow::Error::msg)?;
    cluster.kill(2)?;
    pipes_chaos::wait::wait_for(
        "the dead agent's procedure is gone",
        std::time::Duration::from_secs(5),
        || {
            let uri = callers[0].call("com.example.mortal", vec![], vec![])?.failed()?;
            anyhow::ensure!(uri == "wamp.error.no_such_procedure", "{uri}");
            Ok(())
        },
    )?;
    cluster.finish()
}

#[test]
fn a_call_whose_agent_dies_is_answered() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut callee = default_realm(&cluster, 2)?;
    callee.register("com.example.slow")?.map_err(anyhow::Error::msg)?;
    let mut caller = default_realm(&cluster, 0)?;
    let request = caller.begin("com.example.slow", vec![], vec![])?;
    assert_eq!(callee.receive()?.kind(), 68);
    cluster.kill(2)?;
    let uri = caller.outcome(request)?.failed()?;
    assert!(uri.starts_with("wamp.error."), "{uri}");
    cluster.finish()
}
