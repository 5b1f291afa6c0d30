//! What is said by and to those who join.

use bytes::BytesMut;

use super::{Sample, epoch, frame, member, sample};
use crate::{
    ids::ClusterId,
    join::{Birth, Claim, Join, Joined, Seat, Welcome},
    refusal::Refusal,
    version::Versions,
};

pub(super) fn samples() -> Vec<Sample> {
    let mut samples = requests();
    samples.extend(answers());
    samples
}

fn requests() -> Vec<Sample> {
    fn encode(seat: &Seat) -> Vec<u8> {
        let join = Join {
            claim: Claim {
                token: 0x1122_3344_5566_7788,
                name: "n4".to_owned(),
                seat: seat.clone(),
            },
            key: [0xaa; 32],
            signature: [0xbb; 64],
        };
        let mut out = BytesMut::new();
        join.encode(&mut out);
        assert_eq!(Join::decode(&frame(out.clone())), Ok(join));
        out.to_vec()
    }
    every! { Seat, "join", encode;
        "member" Seat::Member { .. } => Seat::Member {
            address: "10.0.0.4:7400".to_owned(),
            peer_address: "10.0.0.4:7401".to_owned(),
            versions: Versions::default(),
        };
        "client" Seat::Client => Seat::Client;
    }
}

fn answers() -> Vec<Sample> {
    fn encode(joined: &Joined) -> Vec<u8> {
        let mut out = BytesMut::new();
        joined.encode(&mut out);
        assert_eq!(Joined::decode(&frame(out.clone())).as_ref(), Ok(joined));
        out.to_vec()
    }
    every! { Joined, "joined", encode;
        "welcome" Joined::Welcome(_) => Joined::Welcome(Box::new(Welcome {
            cluster: ClusterId(7),
            certificate: "leaf".to_owned(),
            client_roots: "clients".to_owned(),
            members: vec![member()],
            birth: Some(Birth {
                founders: vec![member()],
                auto_create: true,
                epoch: epoch(),
                version: 1,
                me: member(),
                again: true,
            }),
        }));
        "elsewhere" Joined::Elsewhere { .. } => Joined::Elsewhere {
            addresses: vec!["10.0.0.1:7400".to_owned()],
        };
        "refused" Joined::Refused(_) => Joined::Refused(Refusal::Busy);
    }
}
