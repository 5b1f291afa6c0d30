//! Reaches a peer by its name: that may mean an address of each family, of which one is listened at.

use std::net::SocketAddr;

use kontiki_transport::{Connection, Endpoint, Error, Expect};
use tokio::{net::lookup_host, task::JoinSet};

use crate::limits::DIAL_ADDRESSES_MAX;

/// Dials all that `host:port` means at once. The first that answers as expected is taken, the other
/// dials are given up.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    address: &str,
    expect: &Expect,
) -> Result<Connection, Error> {
    let found = lookup_host(address).await;
    let found = found.map_err(|why| Error::Lost(format!("cannot find {address}: {why}")))?;
    let nothing = Error::Lost(format!("cannot find {address}: it has no address"));
    first_of(endpoint, found.take(DIAL_ADDRESSES_MAX), expect, nothing).await
}

async fn first_of(
    endpoint: &Endpoint,
    addresses: impl Iterator<Item = SocketAddr>,
    expect: &Expect,
    nothing: Error,
) -> Result<Connection, Error> {
    let mut attempts = JoinSet::new();
    for to in addresses {
        let (endpoint, expect) = (endpoint.clone(), expect.clone());
        attempts.spawn(async move { endpoint.connect(to, expect).await });
    }
    let mut last = nothing;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(why)) => last = why,
            Err(why) => last = Error::Lost(why.to_string()),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, time::Duration};

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
        let nothing = || Error::Lost("nothing".to_owned());
        let expect = Expect::Node("n2".to_owned());
        let dialled = first_of(&me, [here_not, there].into_iter(), &expect, nothing()).await;
        assert_eq!(dialled.unwrap().remote_address(), there);
        let dialled = first_of(&me, [].into_iter(), &expect, nothing()).await;
        assert_eq!(dialled.err().unwrap().to_string(), "nothing");
    }
}
