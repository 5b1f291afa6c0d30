//! Administration of certificates: one's own is renewed, others are taken back.

use kontiki_wire::{Request, Response, Trust, Whom};

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
}

impl Admin {
    /// Another certificate like the one that this client shows, from a member that signs. The client goes on with
    /// the one that it has: whoever keeps certificates in files puts it there.
    pub async fn renew_certificate(&self) -> Result<Renewed, AdminError> {
        let asked = self.routing.ask_any(&Request::Renew, self.until()).await;
        match asked.map_err(|why| self.no_answer(why, false))? {
            // Which authorities to trust is said there, too, but by one member alone.
            Response::Renewed { certificate, .. } => Ok(Renewed {
                certificate_pem: certificate,
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
}
