//! The first frames of a connection: who speaks, of which cluster, in which version, and for what.
//!
//! ```text
//! dialler                                                              listener
//! Hello { version 1, cluster, node 2, name "n2", class Raft }  ->
//!                                        <-  HelloAnswer::Ok { node 1, name "n1", member true } | Refused { reason }
//! ```
//!
//! Always: (1) `Hello` begins with its version and `HelloAnswer` never changes, so that two versions can at least say so;
//! (2) the name is the certificate's; (3) who turns away says why, to the peer and in its own log; (4) all of it, TLS
//! included, is over within [`LIMIT`].

use std::time::Duration;

use pipes_membership::Identity;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::admitted::Admitted;
use super::class::Class;
use super::identity::Local;
use super::{Error, frame};

/// The version of everything that agents say to one another.
pub const VERSION: u16 = 1;

/// How long a connection may take from its first octet to the answer; then it is closed. Long enough for a machine under
/// load, short enough that silent connections do not add up.
pub const LIMIT: Duration = Duration::from_secs(5);

/// What the dialler says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the dialler; stays the first field for ever.
    pub version: u16,
    /// Id of its cluster.
    pub cluster: String,
    /// Its node; 0 while it is no member.
    pub node: u64,
    /// Its node's name.
    pub name: String,
    /// What the connection is for.
    pub class: Class,
}

/// What the listener answers. Never changes, only grows at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// The class' frames may come.
    Ok(Welcome),
    /// The connection ends.
    Refused {
        /// In words for the dialler's log.
        reason: String,
    },
}

/// What the listener says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its node; 0 while it is no member.
    pub node: u64,
    /// Its node's name.
    pub name: String,
    /// Whether it has a log of the cluster.
    pub member: bool,
}

impl Hello {
    /// What `local` says as it dials a connection of `class`.
    fn of(local: &Local, class: Class) -> Hello {
        Hello {
            version: VERSION,
            cluster: local.cluster().to_owned(),
            node: local.node(),
            name: local.name().to_owned(),
            class,
        }
    }
}

impl Welcome {
    /// What `local` answers.
    fn of(local: &Local) -> Welcome {
        Welcome {
            node: local.node(),
            name: local.name().to_owned(),
            member: local.is_member(),
        }
    }
}

/// The dialler's side: introduces `local` and reads the answer.
pub async fn introduce<S>(stream: &mut S, local: &Local, class: Class) -> Result<Welcome, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    introduce_as(stream, &Hello::of(local, class)).await
}

/// The dialler's side with a `Hello` of one's own: tests say there what no agent says.
pub async fn introduce_as<S>(stream: &mut S, hello: &Hello) -> Result<Welcome, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frame::write(stream, hello).await?;
    match frame::read_value(stream).await? {
        HelloAnswer::Ok(welcome) => Ok(welcome),
        HelloAnswer::Refused { reason } => Err(Error::Refused(reason)),
    }
}

/// The listener's side: reads who speaks, judges it by the certificate `peer` and answers.
pub async fn receive<S>(
    stream: &mut S,
    local: &Local,
    peer: &Identity,
    class: Class,
    admitted: &Admitted,
) -> Result<Hello, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = Vec::new();
    if !frame::read(stream, &mut body).await? {
        return Err(Error::Gone);
    }
    match judge(&body, local, peer, class).and_then(|hello| on_the_list(hello, local, admitted)) {
        Ok(hello) => {
            frame::write(stream, &HelloAnswer::Ok(Welcome::of(local))).await?;
            Ok(hello)
        }
        Err(error) => {
            // That the peer may not read it changes nothing: it is turned away all the same.
            let _ = frame::write(
                stream,
                &HelloAnswer::Refused {
                    reason: error.to_string(),
                },
            )
            .await;
            let _ = stream.shutdown().await;
            Err(error)
        }
    }
}

fn on_the_list(hello: Hello, local: &Local, admitted: &Admitted) -> Result<Hello, Error> {
    match admitted.has(&hello.name) {
        true => Ok(hello),
        false => Err(Error::Foreign(format!(
            "{} is none of the nodes that {} knows: it was removed, or never added",
            hello.name,
            local.name()
        ))),
    }
}

fn judge(body: &[u8], local: &Local, peer: &Identity, class: Class) -> Result<Hello, Error> {
    let version = body.first_chunk().map(|octets| u16::from_le_bytes(*octets));
    match version {
        Some(VERSION) => {}
        Some(theirs) => {
            return Err(Error::Foreign(format!(
                "version {theirs} of the mesh is spoken by {}, version {VERSION} by {}",
                peer.name,
                local.name()
            )));
        }
        None => return Err(Error::Malformed("too short for a greeting".to_owned())),
    }
    let hello: Hello = frame::decode(body)?;
    if hello.cluster != local.cluster() {
        return Err(Error::Foreign(format!(
            "{} is a member of cluster {}, {} of cluster {}",
            hello.name,
            hello.cluster,
            local.name(),
            local.cluster()
        )));
    }
    if hello.name != peer.name {
        return Err(Error::Foreign(format!(
            "it says that it is {}, its certificate is {}'s",
            hello.name, peer.name
        )));
    }
    if hello.class != class {
        return Err(Error::Malformed(format!(
            "a connection made for {class:?} is greeted for {:?}",
            hello.class
        )));
    }
    if hello.node != 0 && hello.node == local.node() {
        return Err(Error::Foreign(format!(
            "{} and {} are both node {}",
            hello.name,
            local.name(),
            hello.node
        )));
    }
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: &str, name: &str) -> Identity {
        Identity {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
        }
    }

    /// What the dialler and the listener see when `hello` is said with a certificate of n2.
    async fn meet_listed(hello: Hello, names: &[&str]) -> (Result<Welcome, Error>, Result<Hello, Error>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let listener = Local::new(identity("c", "n1"));
        listener.is_node(1);
        let certificate = identity("c", "n2");
        let (_told, admitted) = Admitted::first(names.iter().map(|name| (*name).to_owned()).collect());
        tokio::join!(
            introduce_as(&mut near, &hello),
            receive(&mut far, &listener, &certificate, Class::Raft, &admitted)
        )
    }

    async fn meet(hello: Hello) -> (Result<Welcome, Error>, Result<Hello, Error>) {
        meet_listed(hello, &["n1", "n2"]).await
    }

    #[tokio::test]
    async fn a_node_that_was_never_added_is_turned_away_and_told_why() {
        let (welcome, _) = meet_listed(hello(), &["n1", "n3"]).await;
        let because = "n2 is none of the nodes that n1 knows: it was removed, or never added";
        assert_eq!(
            welcome.unwrap_err().to_string(),
            format!("turned away: {because}")
        );
    }

    fn hello() -> Hello {
        Hello::of(&Local::new(identity("c", "n2")), Class::Raft)
    }

    #[tokio::test]
    async fn members_of_one_cluster_learn_of_each_other() {
        let (welcome, hello) = meet(hello()).await;
        assert_eq!(
            welcome.unwrap(),
            Welcome {
                node: 1,
                name: "n1".to_owned(),
                member: true
            }
        );
        assert_eq!(hello.unwrap().name, "n2");
    }

    async fn turned_away(hello: Hello, because: &str) {
        let (dialler, listener) = meet(hello).await;
        assert_eq!(
            dialler.unwrap_err().to_string(),
            format!("turned away: {because}")
        );
        assert_eq!(listener.unwrap_err().to_string(), because);
    }

    #[tokio::test]
    async fn another_version_is_turned_away() {
        let because = "version 9 of the mesh is spoken by n2, version 1 by n1";
        turned_away(
            Hello {
                version: 9,
                ..hello()
            },
            because,
        )
        .await;
    }

    #[tokio::test]
    async fn another_cluster_is_turned_away() {
        let because = "n2 is a member of cluster d, n1 of cluster c";
        turned_away(
            Hello {
                cluster: "d".to_owned(),
                ..hello()
            },
            because,
        )
        .await;
    }

    #[tokio::test]
    async fn another_name_than_the_certificates_is_turned_away() {
        let because = "it says that it is n3, its certificate is n2's";
        turned_away(
            Hello {
                name: "n3".to_owned(),
                ..hello()
            },
            because,
        )
        .await;
    }

    #[tokio::test]
    async fn a_second_holder_of_ones_id_is_turned_away() {
        turned_away(Hello { node: 1, ..hello() }, "n2 and n1 are both node 1").await;
    }
}
