//! How somebody without a certificate gets one: with a token, from whichever member signs.

use std::{
    collections::VecDeque,
    fmt::Display,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kontiki_transport::{
    Applicant, Certificate, Error, Identity, authority_fingerprint, authority_fingerprints,
};
use kontiki_wire::{
    Claim, Join, Joined, MemberInfo, TokenId, TokenSpec, Trust, Welcome,
    limits::{MEMBERS_MAX, TOKEN_ADDRESSES_MAX, WELCOME_BYTES_MAX},
};
use thiserror::Error;
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

use crate::{backoff::Backoff, client::Client, error::AdminError};

pub use kontiki_transport::{JoinKey, Role, Token};
pub use kontiki_wire::{Seat, Versions};

/// Addresses of one host that are dialled.
const ADDRESSES_MAX: usize = 4;
/// How long one member may take to answer: it may have to hear from a majority first.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);
/// Between two rounds of asking all.
const PAUSE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

impl Client {
    /// Makes a token: whoever has it gets a certificate in this role, once, within `life` (30 days at most) of
    /// now. It is for operators. Its text, made by `to_string`, is the secret: the cluster keeps only what
    /// recognises it.
    pub async fn invite(&self, role: Role, life: Duration) -> Result<Token, AdminError> {
        let Reception {
            authority,
            addresses,
        } = self.reception().await?;
        let token = Token::new(self.cluster_id(), authority, role, addresses).map_err(unmade)?;
        let spec = TokenSpec {
            id: TokenId(token.id),
            hash: token.hash(),
            role,
            topics: Vec::new(),
            life_seconds: life.as_secs(),
        };
        self.admin().create_token(spec).await?;
        Ok(token)
    }

    /// Where tokens are taken to now. It is for operators.
    pub async fn reception(&self) -> Result<Reception, AdminError> {
        let admin = self.admin();
        let (members, trust) = (admin.members().await?, admin.trust().await?);
        reception_of(members, &trust, &self.node_roots_pem()).map_err(unmade)
    }
}

/// Of the authorities that the operator trusts, the one that the first to be asked says has signed it. What a
/// member says of itself nobody else vouches for: it chooses among those, and adds none.
fn reception_of(
    mut members: Vec<MemberInfo>,
    trust: &Trust,
    roots_pem: &str,
) -> Result<Reception, Error> {
    let first = authority_fingerprint(roots_pem)?;
    let trusted = authority_fingerprints(roots_pem)?;
    // Whoever does not sign says who does.
    members.sort_by_key(|member| !member.signs);
    let shown = |member: &MemberInfo| {
        let papers = trust.papers_of(member.id)?;
        (papers.signed_by != [0; 32]).then_some(papers.signed_by)
    };
    let mut said = members.iter().filter_map(shown);
    let authority = said.find(|one| trusted.contains(one)).unwrap_or(first);
    // Who shows what the one has signed that takes its place shows its word for that, too.
    let turnover = trust
        .turnover()
        .filter(|one| !one.finished && one.old == authority);
    let fits = |shown| shown == authority || turnover.is_some_and(|one| one.new == shown);
    members.retain(|member| shown(member).is_none_or(fits));
    let addresses = members.into_iter().map(|member| member.address);
    Ok(Reception {
        authority,
        addresses: addresses.take(TOKEN_ADDRESSES_MAX).collect(),
    })
}

fn unmade(error: Error) -> AdminError {
    AdminError::Refused {
        why: error.to_string().into(),
    }
}

/// Where a token is taken to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Reception {
    /// SHA-256 of the authority by which members are known to who has no certificate yet. While one takes the
    /// place of another, members show certificates of either, and a token names one.
    pub authority: [u8; 32],
    /// Who is known by it: those who sign first, and then the others, for one may have been configured to since.
    pub addresses: Vec<String>,
}

/// What a token was exchanged for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Admitted {
    /// What the cluster says.
    pub welcome: Welcome,
    /// Who signs nodes' certificates, as PEM: the authority that the token names, and, before it, the one for which
    /// that vouches, if there is one that takes its place.
    pub node_roots_pem: String,
}

/// Why a token was exchanged for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The cluster refuses, and will again.
    #[error("{why}")]
    Refused {
        /// Why, and what would be right.
        why: String,
    },
    /// Somebody answers who is not a member of the token's cluster. It was told nothing.
    #[error("{why}: nothing was said to it; check the addresses of the token with whoever made it")]
    Impostor {
        /// Who was found where, and what is wrong with it.
        why: String,
    },
    /// No member could do it within the deadline. It may have been done: the same key asks again and is
    /// told.
    #[error("nobody who signs answered within {waited_ms} ms ({last})")]
    Unavailable {
        /// The deadline.
        waited_ms: u64,
        /// The last failure.
        last: String,
    },
    /// The key or what was answered cannot be used.
    #[error("{why}")]
    Unusable {
        /// What is wrong with it.
        why: String,
    },
}

/// Exchanges a token for a certificate of this key, which bears `name`. Asked again with the same key and
/// name, it is told the same, also if the first answer was lost. To be called within a tokio runtime.
pub async fn join(
    token: &Token,
    key: &JoinKey,
    name: &str,
    seat: Seat,
    deadline: Duration,
) -> Result<Admitted, JoinError> {
    let claim = Claim {
        token: token.id,
        name: name.to_owned(),
        seat,
    };
    let mut asking = Asking {
        token,
        key,
        claim,
        next: token.addresses.iter().cloned().collect(),
        known: token.addresses.clone(),
        impostor: None,
    };
    let mut last = "nobody was asked".to_owned();
    let rounds = async {
        let mut pause = PAUSE.clone();
        loop {
            match asking.round(&mut last).await {
                Some(outcome) => return outcome,
                None => sleep(pause.delay()).await,
            }
        }
    };
    let begun = Instant::now();
    match timeout(deadline, rounds).await {
        Ok(outcome) => outcome,
        Err(_) => Err(JoinError::Unavailable {
            waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            last,
        }),
    }
}

/// What one member's answer means for the others.
enum Said {
    /// This is the end of it.
    Ended(Box<Result<Admitted, JoinError>>),
    /// Those may know more.
    Elsewhere(Vec<String>),
    /// Ask others, and this one later.
    Later(String),
    /// It is none.
    Impostor(String),
}

impl Said {
    fn failed(error: JoinError) -> Self {
        Self::Ended(Box::new(Err(error)))
    }
}

struct Asking<'a> {
    token: &'a Token,
    key: &'a JoinKey,
    claim: Claim,
    next: VecDeque<String>,
    known: Vec<String>,
    impostor: Option<String>,
}

impl Asking<'_> {
    /// Asks everybody once. `None` if another round may help.
    async fn round(&mut self, last: &mut String) -> Option<Result<Admitted, JoinError>> {
        let mut honest = false;
        while let Some(address) = self.next.pop_front() {
            match self.ask(&address).await {
                Said::Ended(outcome) => return Some(*outcome),
                Said::Elsewhere(others) => {
                    honest = true;
                    *last = format!("the member at {address} does not sign");
                    self.learn(others);
                }
                Said::Later(why) => {
                    honest = true;
                    *last = why;
                }
                Said::Impostor(why) => self.impostor = Some(why),
            }
        }
        self.next = self.known.iter().cloned().collect();
        match self.impostor.take() {
            // Waiting makes no member of an impostor.
            Some(why) if !honest => Some(Err(JoinError::Impostor { why })),
            _ => None,
        }
    }

    fn learn(&mut self, others: Vec<String>) {
        for other in others {
            if !self.known.contains(&other) && self.known.len() < MEMBERS_MAX {
                self.next.push_back(other.clone());
                self.known.push(other);
            }
        }
    }

    async fn ask(&self, address: &str) -> Said {
        let found = match lookup_host(address).await {
            Ok(found) => found,
            Err(why) => return Said::Later(format!("{address} cannot be looked up: {why}")),
        };
        let mut said = Said::Later(format!("{address} means no address"));
        for to in found.take(ADDRESSES_MAX) {
            said = match Applicant::dial(to, self.token, self.key).await {
                Ok(applicant) => return self.ask_member(&applicant, address).await,
                Err(Error::Identity(why)) => {
                    Said::Impostor(format!("who answers at {address} is refused: {why}"))
                }
                Err(Error::Credentials(why)) => Said::failed(JoinError::Unusable { why }),
                Err(why) => Said::Later(format!("{address}: {why}")),
            };
        }
        said
    }

    async fn ask_member(&self, applicant: &Applicant, address: &str) -> Said {
        let later = |why: &dyn Display| Said::Later(format!("{address}: {why}"));
        match timeout(ANSWER_TIME_MAX, self.exchange(applicant)).await {
            Err(_) => later(&"it does not answer"),
            Ok(Err(error)) => later(&error),
            Ok(Ok(Joined::Elsewhere { addresses })) => Said::Elsewhere(addresses),
            Ok(Ok(Joined::Refused(refusal))) if refusal.is_retryable() => later(&refusal),
            Ok(Ok(Joined::Refused(refusal))) => Said::failed(JoinError::Refused {
                why: refusal.to_string(),
            }),
            Ok(Ok(Joined::Welcome(welcome))) => {
                let (from, pinned) = (applicant.member(), applicant.authority_pem());
                Said::Ended(Box::new(self.accept(from, pinned, *welcome)))
            }
        }
    }

    async fn exchange(&self, applicant: &Applicant) -> Result<Joined, Error> {
        let binding = applicant.binding(&self.claim.to_bytes())?;
        let proof = self.token.prove(&binding);
        let join = Join {
            claim: self.claim.clone(),
            key: proof.key,
            signature: proof.signature,
        };
        let (mut writer, mut reader) = applicant.open().await?;
        let mut out = BytesMut::new();
        join.encode(&mut out);
        writer.write(out.freeze()).await?;
        writer.finish();
        match reader.next(WELCOME_BYTES_MAX).await? {
            Some(frame) => Ok(Joined::decode(&frame)?),
            None => Err(Error::Lost("it ended without an answer".to_owned())),
        }
    }

    /// A welcome, if it is for this key and says what was asked for.
    fn accept(
        &self,
        from: &Identity,
        pinned: &str,
        welcome: Welcome,
    ) -> Result<Admitted, JoinError> {
        let unusable = |why: String| JoinError::Unusable {
            why: format!("{from} answers what cannot be used: {why}"),
        };
        let leaf = Certificate::from_pem(&welcome.certificate);
        let leaf = leaf.map_err(|error| unusable(error.to_string()))?;
        let wanted = (self.token.cluster, self.token.role, &*self.claim.name);
        let identity = &leaf.identity;
        if (identity.cluster, identity.role, &*identity.name) != wanted
            || welcome.cluster != self.token.cluster
        {
            return Err(unusable(format!("a certificate of {identity}")));
        }
        if welcome.birth.is_some() != (self.token.role == Role::Node) {
            return Err(unusable("what one of another role begins with".to_owned()));
        }
        debug_assert!(
            authority_fingerprints(pinned).is_ok_and(|all| all.contains(&self.token.authority))
        );
        Ok(Admitted {
            welcome,
            node_roots_pem: pinned.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use kontiki_transport::Authority;
    use kontiki_wire::{ClusterId, Papers, Standing};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const CLUSTER: ClusterId = ClusterId(7);

    fn member(id: u64, signs: bool) -> MemberInfo {
        MemberInfo {
            id,
            incarnation: id,
            name: format!("n{id}"),
            address: format!("n{id}:7400"),
            peer_address: format!("n{id}:7401"),
            signs,
            standing: Standing::default(),
            versions: Versions::MINE,
        }
    }

    fn papers(member: u64, by: &Authority) -> Papers {
        Papers {
            member,
            signed_by: by.fingerprint(),
            ..Papers::default()
        }
    }

    #[test]
    fn a_token_names_an_authority_that_the_operator_trusts_whatever_a_member_says() {
        let [old, new, foreign] =
            ["old", "new", "foreign"].map(|name| Authority::new(name, HOUR).unwrap());
        let members = || vec![member(1, true), member(2, false), member(3, true)];
        let reception = |shown: [&Authority; 3], roots: &str| {
            let papers = (1..).zip(shown).map(|(id, by)| papers(id, by)).collect();
            let trust = Trust {
                papers,
                ..Trust::default()
            };
            let at = reception_of(members(), &trust, roots).unwrap();
            (at.authority, at.addresses.join(" "))
        };
        let [one, both] = [
            old.certificate_pem().to_owned(),
            format!("{}{}", new.certificate_pem(), old.certificate_pem()),
        ];
        // The first to be asked says the hash of an authority of its own: it is passed over.
        let (authority, addresses) = reception([&foreign, &old, &old], &one);
        assert_eq!(authority, old.fingerprint());
        assert_eq!(addresses, "n3:7400 n2:7400");
        let (authority, _) = reception([&foreign, &foreign, &foreign], &one);
        assert_eq!(authority, old.fingerprint());
        // While one takes the place of another, it is the one that who signs shows.
        let (authority, addresses) = reception([&new, &old, &new], &both);
        assert_eq!(authority, new.fingerprint());
        assert_eq!(addresses, "n1:7400 n3:7400");
        let (authority, _) = reception([&old, &old, &new], &both);
        assert_eq!(authority, old.fingerprint());
    }

    #[test]
    fn who_is_let_in_trusts_the_authority_of_its_token_and_none_that_an_answer_adds() {
        let [pinned, foreign] =
            ["nodes", "foreign"].map(|name| Authority::new(name, HOUR).unwrap());
        let address = vec!["n1:7400".to_owned()];
        let token = Token::new(CLUSTER, pinned.fingerprint(), Role::Consumer, address).unwrap();
        let key = JoinKey::generate().unwrap();
        let claim = Claim {
            token: token.id,
            name: "shop".to_owned(),
            seat: Seat::Client,
        };
        let asking = Asking {
            token: &token,
            key: &key,
            claim,
            next: VecDeque::new(),
            known: Vec::new(),
            impostor: None,
        };
        let me = Identity::new(CLUSTER, Role::Consumer, "shop").unwrap();
        let welcome = Welcome {
            cluster: CLUSTER,
            certificate: foreign.issue(&me, HOUR).unwrap().certificate_pem,
            client_roots: String::new(),
            members: Vec::new(),
            birth: None,
        };
        let from = Identity::new(CLUSTER, Role::Node, "n4").unwrap();
        let admitted = asking
            .accept(&from, pinned.certificate_pem(), welcome)
            .unwrap();
        assert_eq!(admitted.node_roots_pem, pinned.certificate_pem());
    }
}
