//! Reaches a peer by its name: that may mean an address of each family, of which one is listened at.

use std::{future::Future, net::SocketAddr, pin::pin};

use kontiki_transport::{Connection, Endpoint, Error, Expect};
use tokio::{net::lookup_host, task::JoinSet};

use crate::limits::DIAL_ADDRESSES_MAX;

/// Dials all that `host:port` means at once, and the address where whoever is meant was reached before, if there
/// is one: nobody who finds names need be there for that. The first that answers as expected is taken, the other
/// dials are given up.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    (address, known): (&str, Option<SocketAddr>),
    expect: &Expect,
) -> Result<Connection, Error> {
    let found = async {
        let found = lookup_host(address).await;
        let found = found.map_err(|why| Error::Lost(format!("cannot find {address}: {why}")))?;
        let found: Vec<_> = found.take(DIAL_ADDRESSES_MAX).collect();
        match found.is_empty() {
            true => Err(Error::Lost(format!(
                "cannot find {address}: it has no address"
            ))),
            false => Ok(found),
        }
    };
    first_of(endpoint, known, found, expect).await
}

async fn first_of(
    endpoint: &Endpoint,
    known: Option<SocketAddr>,
    found: impl Future<Output = Result<Vec<SocketAddr>, Error>>,
    expect: &Expect,
) -> Result<Connection, Error> {
    let mut attempts = JoinSet::new();
    let dial = |attempts: &mut JoinSet<_>, to| {
        let (endpoint, expect) = (endpoint.clone(), expect.clone());
        let precedence = endpoint.precedence().clone();
        attempts.spawn(precedence.first(async move { endpoint.connect(to, expect).await }));
    };
    if let Some(known) = known {
        dial(&mut attempts, known);
    }
    let mut found = pin!(found);
    let mut looks = true;
    let mut last = Error::Lost("nobody is there".to_owned());
    loop {
        tokio::select! {
            found = &mut found, if looks => {
                looks = false;
                match found {
                    Ok(found) => {
                        for to in found.into_iter().filter(|to| Some(*to) != known) {
                            dial(&mut attempts, to);
                        }
                    }
                    Err(why) => last = why,
                }
            }
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(why)) => last = why,
                Err(why) => last = Error::Lost(why.to_string()),
            },
            else => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::Ipv6Addr, time::Duration};

    use kontiki_transport::{Authority, Credentials, Identity, Plane, Role};
    use kontiki_wire::ClusterId;

    use super::*;

    fn endpoint(nodes: &Authority, name: &str) -> Endpoint {
        let identity = Identity::new(ClusterId(7), Role::Node, name).unwrap();
        let issued = nodes.issue(&identity, Duration::from_secs(60)).unwrap();
        let roots = nodes.certificate_pem();
        let credentials =
            Credentials::from_pem(&issued.certificate_pem, &issued.key_pem, roots, "").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Endpoint::listen(address, Plane::Peers, &credentials).unwrap()
    }

    #[tokio::test]
    async fn peer_is_reached_although_its_name_means_first_where_nobody_can_go() {
        let nodes = Authority::new("nodes", Duration::from_secs(60)).unwrap();
        let (me, peer) = (endpoint(&nodes, "n1"), endpoint(&nodes, "n2"));
        let there = peer.local_address();
        // An endpoint of the one family cannot send to the other.
        let here_not = SocketAddr::from((Ipv6Addr::LOCALHOST, there.port()));
        let expect = Expect::Node("n2".to_owned());
        let found = async { Ok(vec![here_not, there]) };
        let dialled = first_of(&me, None, found, &expect).await;
        assert_eq!(dialled.unwrap().remote_address(), there);
        let nothing = async { Err(Error::Lost("nothing".to_owned())) };
        let dialled = first_of(&me, None, nothing, &expect).await;
        assert_eq!(dialled.err().unwrap().to_string(), "nothing");
    }

    #[tokio::test]
    async fn peer_is_reached_where_it_was_before_while_nobody_finds_names() {
        let nodes = Authority::new("nodes", Duration::from_secs(60)).unwrap();
        let (me, peer) = (endpoint(&nodes, "n1"), endpoint(&nodes, "n2"));
        let there = peer.local_address();
        let expect = Expect::Node("n2".to_owned());
        let dialled = first_of(&me, Some(there), pending(), &expect).await;
        assert_eq!(dialled.unwrap().remote_address(), there);
        let dialled = dial(&me, ("no address", Some(there)), &expect).await;
        assert_eq!(dialled.unwrap().remote_address(), there);
        // Where it was is somebody else now, and it is found.
        let other = endpoint(&nodes, "n3").local_address();
        let dialled = dial(&me, (&there.to_string(), Some(other)), &expect).await;
        assert_eq!(dialled.unwrap().remote_address(), there);
    }
}
