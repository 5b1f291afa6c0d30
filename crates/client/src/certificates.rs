//! Administration of certificates: one's own is renewed, others are taken back, and authorities are replaced.

use std::{collections::BTreeSet, time::Duration};

use kontiki_transport::{Signs, believe};
use kontiki_wire::{Handover, Refusal, Request, Response, Rotate, Successors, Trust, Whom};

use crate::{
    admin::{Admin, refused},
    error::AdminError,
};

/// Another certificate for the key and the name that one has.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Renewed {
    /// It, as PEM, as the member said it: whoever keeps it looks first whether it is like the one before.
    pub certificate_pem: String,
    /// The authority of the members that takes the place of another, if one does: it is believed only if the one that
    /// is believed already vouches for it ([`kontiki_transport::believe`]).
    pub handover: Option<Handover>,
}

/// How long a member may take to make authorities.
const MAKING_MAX: Duration = Duration::from_secs(5);
/// How long a member may take to say who is connected to it.
const OUTDATED_TIME_MAX: Duration = Duration::from_secs(1);

impl Admin {
    /// Another certificate like the one that this client shows, from a member that signs. The client goes on with
    /// the one that it has: whoever keeps certificates in files puts it there.
    pub async fn renew_certificate(&self) -> Result<Renewed, AdminError> {
        let asked = self.routing.ask_any(&Request::Renew, self.until()).await;
        match asked.map_err(|why| self.no_answer(why, false))? {
            Response::Renewed {
                certificate,
                handover,
            } => Ok(Renewed {
                certificate_pem: certificate,
                handover,
            }),
            other => Err(refused(other)),
        }
    }

    /// What the cluster has agreed on about certificates: what was taken back, and what members show.
    pub async fn trust(&self) -> Result<Trust, AdminError> {
        match self.ask_leader(None, &Request::Trust).await? {
            (Response::Trust(trust), _) => Ok(trust),
            (other, _) => Err(refused(other)),
        }
    }

    /// Takes certificates back: every member ends the connections of whoever bears one within seconds, and lets
    /// it in no more.
    pub async fn revoke_certificates(&self, whom: Whom) -> Result<(), AdminError> {
        match self.ask_leader(None, &Request::Revoke(whom)).await? {
            (Response::Done, _) => Ok(()),
            (other, _) => Err(refused(other)),
        }
    }
    /// Has a member that signs make the authorities that are to take the place of those that do. Nothing is agreed on
    /// by it; asked again, it is told the same. What the authority that this client believes does not vouch for is not
    /// taken, whoever offers it.
    pub async fn make_successors(&self) -> Result<Successors, AdminError> {
        // So that all members are known.
        self.members().await?;
        let roots = self.routing.node_roots_pem();
        let cluster = self.routing.cluster();
        let answers = self.routing.ask_all(&Request::MakeSuccessors, MAKING_MAX);
        let mut why: Option<Response> = None;
        let mut silent = Vec::new();
        for (member, answer) in answers.await {
            match answer {
                Ok(Response::Successors(made)) => {
                    match believe(&roots, &made.nodes, cluster, Signs::Nodes) {
                        Ok(_) => return Ok(*made),
                        Err(unfit) => silent.push(format!("{}: {unfit}", member.name())),
                    }
                }
                // Of those who do not sign there are many, and one reason says more than theirs.
                Ok(refused) if why.as_ref().is_none_or(says_little) => why = Some(refused),
                Ok(_) => {}
                Err(no_answer) => silent.push(no_answer.to_string()),
            }
        }
        match why {
            Some(refusal) if !says_little(&refusal) => Err(refused(refusal)),
            _ => Err(AdminError::Refused {
                why: no_maker(&silent).into(),
            }),
        }
    }

    /// The clients that are connected and show what an authority has signed that is being replaced, each as
    /// `role/name`; of a member that does not answer within a second those are not known.
    pub async fn outdated_clients(&self) -> BTreeSet<String> {
        let answers = self.routing.ask_all(&Request::Outdated, OUTDATED_TIME_MAX);
        let named = answers
            .await
            .into_iter()
            .filter_map(|(_, answer)| match answer {
                Ok(Response::Outdated(clients)) => Some(clients),
                _ => None,
            });
        named.flatten().collect()
    }

    /// Goes on with the replacing of authorities; refused with the reason where that is not safe yet.
    pub async fn rotate(&self, rotate: Rotate) -> Result<(), AdminError> {
        match self.ask_leader(None, &Request::Rotate(rotate)).await? {
            (Response::Done, _) => Ok(()),
            (other, _) => Err(refused(other)),
        }
    }
}

fn says_little(response: &Response) -> bool {
    matches!(response, Response::Refused(Refusal::Unavailable { .. }))
}

fn no_maker(silent: &[String]) -> String {
    let others = match silent.is_empty() {
        true => String::new(),
        false => format!(" ({})", silent.join("; ")),
    };
    format!("no member that answers has the keys of the authorities that sign{others}")
}
