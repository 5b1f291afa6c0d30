//! How somebody without a certificate asks for one, on a stream of its own, once.

use bytes::BytesMut;

use crate::{
    codec::{self, Decode, Encode},
    epoch::Epoch,
    frame::{Frame, FrameKind, encode_frame},
    ids::ClusterId,
    limits::{
        ADDRESS_BYTES_MAX, JOIN_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, PEM_BYTES_MAX,
        WELCOME_BYTES_MAX,
    },
    malformed::Malformed,
    member::MemberInfo,
    refusal::Refusal,
    scan::within,
    version::Versions,
};

/// What somebody asks for who has a token.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Join {
    /// What is asked for.
    pub claim: Claim,
    /// The public key of the token.
    pub key: [u8; 32],
    /// Its signature of what binds the claim to this connection.
    pub signature: [u8; 64],
}

/// Who somebody asks to be. Its bytes are part of what binds it to its connection.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Claim {
    /// The token's number.
    pub token: u64,
    /// The name to be borne.
    pub name: String,
    /// What for.
    pub seat: Seat,
}

/// What a name is to be borne for.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Seat {
    /// To be a member.
    Member {
        /// Where clients will reach it, `host:port`.
        address: String,
        /// Where peers will reach it, `host:port`.
        peer_address: String,
        /// What its build can do.
        versions: Versions,
    },
    /// To be a client, of the token's role.
    Client,
}

/// What somebody who asked to join is told.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Joined {
    /// It is in.
    Welcome(Box<Welcome>),
    /// This member does not sign; those do that are reached here.
    Elsewhere {
        /// Where, `host:port`.
        addresses: Vec<String>,
    },
    /// It is not in, and why.
    Refused(Refusal),
}

/// What somebody needs who is in, and does not know already.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Welcome {
    /// The cluster.
    pub cluster: ClusterId,
    /// The certificate for the key of the connection, as PEM.
    pub certificate: String,
    /// Who signs clients' certificates, as PEM; for members only.
    pub client_roots: String,
    /// The members there are.
    pub members: Vec<MemberInfo>,
    /// What a new member begins with.
    pub birth: Option<Birth>,
}

/// What a member begins with that was not there when the cluster was born: who was. The cluster's own
/// log is read from there.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Birth {
    /// The members that the cluster was born with.
    pub founders: Vec<MemberInfo>,
    /// Whether topics are made on first use.
    pub auto_create: bool,
    /// Which life of the cluster it is.
    pub epoch: Epoch,
    /// The version that the cluster was born at.
    pub version: u16,
    /// The member that this one is now.
    pub me: MemberInfo,
    /// Whether it was one before it asked: nobody knows what it has promised since.
    pub again: bool,
}

impl Claim {
    /// Its bytes: two claims have the same only if they are the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    fn check(&self) -> Result<(), Malformed> {
        let name = self.name.len() as u64;
        within("the length of a name", name, NAME_BYTES_MAX)?;
        match &self.seat {
            Seat::Member {
                address,
                peer_address,
                versions: _,
            } => is_address(address).and_then(|()| is_address(peer_address)),
            Seat::Client => Ok(()),
        }
    }
}

impl Join {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Join, &codec::encode(self), out);
    }

    /// Reads it from its frame.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Join)?;
        let join: Self = codec::decode("a request to join", payload, JOIN_BYTES_MAX)?;
        join.claim.check()?;
        Ok(join)
    }
}

impl Joined {
    /// Appends its frame to `out`; a refusal's texts are cut to their bound.
    pub fn encode(&self, out: &mut BytesMut) {
        let payload = match self {
            Self::Refused(refusal) => codec::encode(&Self::Refused(refusal.bounded())),
            other => codec::encode(other),
        };
        encode_frame(FrameKind::Joined, &payload, out);
    }

    /// Reads it from its frame.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Joined)?;
        let joined: Self = codec::decode("a welcome", payload, WELCOME_BYTES_MAX)?;
        match &joined {
            Self::Welcome(welcome) => welcome.check()?,
            Self::Elsewhere { addresses } => {
                let count = addresses.len() as u64;
                within("the number of addresses", count, MEMBERS_MAX)?;
                addresses
                    .iter()
                    .try_for_each(|address| is_address(address))?;
            }
            Self::Refused(refusal) => refusal.check()?,
        }
        Ok(joined)
    }
}

impl Welcome {
    fn check(&self) -> Result<(), Malformed> {
        for pem in [&self.certificate, &self.client_roots] {
            within(
                "the length of a certificate",
                pem.len() as u64,
                PEM_BYTES_MAX,
            )?;
        }
        let founders = self.birth.iter().flat_map(|birth| &birth.founders);
        let count = founders.clone().count().max(self.members.len());
        within("the number of members", count as u64, MEMBERS_MAX)?;
        let me = self.birth.iter().map(|birth| &birth.me);
        self.members
            .iter()
            .chain(founders)
            .chain(me)
            .try_for_each(is_member)
    }
}

fn is_member(member: &MemberInfo) -> Result<(), Malformed> {
    let name = member.name.len() as u64;
    within("the length of a name", name, NAME_BYTES_MAX)?;
    is_address(&member.address)?;
    is_address(&member.peer_address)
}

fn is_address(address: &str) -> Result<(), Malformed> {
    let bytes = address.len() as u64;
    within("the length of an address", bytes, ADDRESS_BYTES_MAX).map(|_| ())
}

#[cfg(test)]
mod tests;
