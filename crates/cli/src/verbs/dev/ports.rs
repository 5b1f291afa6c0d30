//! Free ports for a whole cluster on this machine.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::exit::Failure;

/// Members that `dev` can start; the peers' ports lie this far above the clients'.
pub(crate) const DEV_MEMBERS_MAX: u16 = 9;
const PEERS_ABOVE: u16 = 10;
/// How far the next attempt lies above a taken range.
const STEP: u16 = 20;
const ATTEMPTS: u16 = 50;

/// Where one member listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// For clients.
    pub(crate) clients: SocketAddr,
    /// For the other members.
    pub(crate) peers: SocketAddr,
}

/// Places for `members` from `first` up, or from the next range above in which all are free.
pub(crate) fn find_places(first: u16, members: u16) -> Result<Vec<Place>, Failure> {
    find_free(first, members, |address| UdpSocket::bind(address).is_ok())
}

fn find_free(
    first: u16,
    members: u16,
    is_free: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<Place>, Failure> {
    assert!(
        members <= DEV_MEMBERS_MAX,
        "clients' and peers' ports do not overlap"
    );
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for attempt in 0..ATTEMPTS {
        let Some(base) = STEP
            .checked_mul(attempt)
            .and_then(|above| first.checked_add(above))
        else {
            break;
        };
        if base.checked_add(PEERS_ABOVE + members).is_none() {
            break;
        }
        let places: Vec<Place> = (0..members)
            .map(|member| Place {
                clients: at(base + member),
                peers: at(base + member + PEERS_ABOVE),
            })
            .collect();
        if places
            .iter()
            .all(|place| is_free(place.clients) && is_free(place.peers))
        {
            return Ok(places);
        }
    }
    Err(Failure::new(format!(
        "no range of free UDP ports was found from {first} up"
    ))
    .advise("name another first port with --port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(first: u16, members: u16, taken: &[u16]) -> Option<Vec<(u16, u16)>> {
        let places = find_free(first, members, |address| !taken.contains(&address.port())).ok()?;
        Some(
            places
                .iter()
                .map(|place| (place.clients.port(), place.peers.port()))
                .collect(),
        )
    }

    #[test]
    fn the_first_range_is_taken_if_all_of_it_is_free() {
        assert_eq!(
            bases(7401, 3, &[7404, 7410]),
            Some(vec![(7401, 7411), (7402, 7412), (7403, 7413)])
        );
    }

    #[test]
    fn one_taken_port_moves_the_whole_cluster_up() {
        assert_eq!(bases(7401, 1, &[7401]), Some(vec![(7421, 7431)]));
        assert_eq!(
            bases(7401, 3, &[7413, 7422]),
            Some(vec![(7441, 7451), (7442, 7452), (7443, 7453)])
        );
    }

    #[test]
    fn the_end_of_all_ports_is_said() {
        assert_eq!(bases(65_520, 9, &[]), None);
        assert_eq!(bases(65_520, 5, &[]).unwrap().len(), 5);
    }
}
