//! What a member asks of whoever leads the cluster's own group: to have that group agree on a command.
//! Lost, doubled or late, it does no harm: who asks does so until the cluster's state shows it.

use bytes::BytesMut;

use crate::{
    codec,
    command::ClusterCommand,
    frame::{Frame, FrameKind, encode_frame},
    limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, REQUEST_BYTES_MAX},
    malformed::Malformed,
    scan::within,
};

/// A command from another member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// One of those that members ask for themselves.
    pub command: ClusterCommand,
}

impl Relay {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Relay, &codec::encode(&self.command), out);
    }

    /// Reads it. Refuses what only clients may ask for, and what is longer than it can be.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Relay)?;
        let command = codec::decode("a relayed command", payload, REQUEST_BYTES_MAX)?;
        let name =
            |name: &String| within("the length of a name", name.len() as u64, NAME_BYTES_MAX);
        match &command {
            ClusterCommand::Settled { .. }
            | ClusterCommand::Prefer { .. }
            | ClusterCommand::ReportCopy { .. }
            | ClusterCommand::StateVersions { .. }
            | ClusterCommand::Confirm { .. } => {}
            ClusterCommand::SpendToken { name: of, .. } => {
                name(of)?;
            }
            ClusterCommand::Admit(admission) => {
                name(&admission.name)?;
                for address in [&admission.address, &admission.peer_address] {
                    let bytes = address.len() as u64;
                    within("the length of an address", bytes, ADDRESS_BYTES_MAX)?;
                }
            }
            ClusterCommand::Certify(papers) => papers.check()?,
            _ => {
                return Err(Malformed::Inconsistent {
                    what: "a relayed command that no member asks for itself",
                });
            }
        }
        Ok(Self { command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::Admission, ids::GroupId, limits::CLIENT_FRAME_BYTES_MAX, token::TokenId,
        version::Versions,
    };

    fn heard(command: ClusterCommand) -> Result<Relay, Malformed> {
        let mut out = BytesMut::new();
        Relay { command }.encode(&mut out);
        Relay::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
    }

    #[test]
    fn only_what_members_ask_for_themselves_is_relayed() {
        let group = GroupId(3);
        let placement = 1;
        assert!(heard(ClusterCommand::Settled { group, placement }).is_ok());
        let prefer = ClusterCommand::Prefer {
            group,
            preferred: 2,
            expect: placement,
        };
        assert!(heard(prefer).is_ok());
        assert!(heard(ClusterCommand::Confirm { mark: 7 }).is_ok());
        let place = ClusterCommand::Place {
            group,
            replicas: vec![2],
            preferred: 2,
            expect: placement,
        };
        assert!(heard(place).is_err(), "no member moves topics by it");
        let revoke = ClusterCommand::RevokeToken { id: TokenId(1) };
        assert!(heard(revoke).is_err());
        assert!(heard(ClusterCommand::DropMember { member: 1 }).is_err());
    }

    #[test]
    fn who_asks_to_be_admitted_has_a_name_and_addresses_of_bounded_length() {
        let admit = |name: usize, address: usize| {
            heard(ClusterCommand::Admit(Admission {
                token: TokenId(1),
                name: "n".repeat(name),
                incarnation: 2,
                address: String::new(),
                peer_address: "a".repeat(address),
                versions: Versions::default(),
            }))
        };
        assert!(admit(NAME_BYTES_MAX, ADDRESS_BYTES_MAX).is_ok());
        assert!(admit(NAME_BYTES_MAX + 1, 0).is_err());
        assert!(admit(1, ADDRESS_BYTES_MAX + 1).is_err());
    }
}
