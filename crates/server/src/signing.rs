//! Signs certificates, where this member has the authorities: for who joins, and anew for whom it knows.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kontiki_transport::{
    Certificate, Credentials, Identity, PublicKey, Revoked, Signs, Terms, voucher_pem,
};
use kontiki_wire::{Refusal, Rotation, RotationStage, TopicPattern};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use crate::{agreed::Agreed, authorities::Authorities, succession::Vault};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) vault: Option<Arc<Vault>>,
    /// For how long what is signed is good.
    pub(crate) valid_for: Duration,
    /// What this member trusts.
    pub(crate) credentials: watch::Receiver<Credentials>,
    /// What was revoked, as far as this member has applied it: live connections are told a moment later.
    pub(crate) agreed: watch::Receiver<Arc<Agreed>>,
}

impl Signing {
    /// The authorities, if this member signs.
    pub(crate) fn authorities(&self) -> Result<Arc<Authorities>, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable {
            why: why.to_owned(),
        };
        let vault = self.vault()?;
        let signing = vault.signing(self.agreed.borrow().trust.rotation.as_ref());
        signing.ok_or_else(|| {
            unavailable(
                "this member has the authorities that were replaced, and not those that sign now: copy the folder \
                 with the keys from the member that made them, and restart this one",
            )
        })
    }

    /// Where they lie, if this member signs.
    pub(crate) fn vault(&self) -> Result<&Arc<Vault>, Refusal> {
        self.vault.as_ref().ok_or_else(|| Refusal::Unavailable {
            why: "this member does not sign".to_owned(),
        })
    }

    /// What is agreed on about the replacing of authorities.
    pub(crate) fn rotation(&self) -> Option<Rotation> {
        self.agreed.borrow().trust.rotation.clone()
    }

    /// A certificate for a key that somebody has shown to hold. Where what the name had was just taken back, this
    /// waits until the new one is good. While the authority that signs it takes the place of another, the word of
    /// that one for it follows.
    pub(crate) async fn sign(
        &self,
        key: &PublicKey,
        identity: &Identity,
        topics: Vec<TopicPattern>,
    ) -> Result<String, Refusal> {
        let authorities = self.authorities()?;
        let authority = match Signs::of(identity.role) {
            Signs::Nodes => &authorities.nodes,
            Signs::Clients => &authorities.clients,
        };
        let latest = self.revoked().latest(identity.role, &identity.name);
        if let Some(latest) = latest {
            let good = latest + Duration::from_secs(1);
            let left = good.duration_since(SystemTime::now()).unwrap_or_default();
            sleep(left.min(Duration::from_secs(1))).await;
        }
        let terms = Terms {
            valid_for: self.valid_for,
            topics,
            after: latest,
        };
        let leaf = authority.sign_on(key, identity, &terms).map_err(|error| {
            warn!(%error, %identity, "a certificate cannot be signed");
            Refusal::Unavailable {
                why: error.to_string(),
            }
        })?;
        let handover = self
            .rotation()
            .filter(|rotation| rotation.stage == RotationStage::Signing);
        let handover = handover.map(|rotation| match Signs::of(identity.role) {
            Signs::Nodes => rotation.to.nodes,
            Signs::Clients => rotation.to.clients,
        });
        let by = authority.fingerprint();
        let handover = handover.filter(|handover| handover.new == by);
        let voucher = handover.map(|handover| voucher_pem(&handover));
        Ok(leaf + &voucher.unwrap_or_default())
    }

    /// Another certificate like one that is live here. One that was taken back, and whose connection is ended in
    /// a moment, is not made good by it.
    pub(crate) async fn renew(&self, shown: &Certificate) -> Result<String, Refusal> {
        self.check(shown)?;
        let key = PublicKey::of(shown).map_err(|error| Refusal::Unfit {
            why: error.to_string(),
        })?;
        self.sign(&key, &shown.identity, shown.topics.clone()).await
    }

    /// Refuses what was taken back.
    pub(crate) fn check(&self, shown: &Certificate) -> Result<(), Refusal> {
        let revoked = self.revoked();
        if revoked.has(shown) || revoked.has_key(shown) {
            return Err(Refusal::NotPermitted {
                what: format!(
                    "the certificate of {} was revoked, and is not renewed",
                    shown.identity
                ),
            });
        }
        Ok(())
    }

    fn revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.agreed.borrow().revoked)
    }

    /// The authorities of the clients, as PEM.
    pub(crate) fn client_roots(&self) -> String {
        self.credentials.borrow().client_roots_pem()
    }
}

#[cfg(test)]
mod tests {
    use kontiki_transport::{JoinKey, Role};
    use kontiki_wire::{ClusterId, Revocation, Trust, Whom};
    use tempfile::TempDir;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// The leaf of a role, and its key.
    fn leaf(authorities: &Authorities, role: Role) -> (Certificate, String, String) {
        let authority = match role {
            Role::Node => &authorities.nodes,
            _ => &authorities.clients,
        };
        let identity = Identity::new(ClusterId(7), role, "shop").unwrap();
        let issued = authority.issue(&identity, DAY).unwrap();
        let certificate = Certificate::from_pem(&issued.certificate_pem).unwrap();
        (certificate, issued.certificate_pem, issued.key_pem)
    }

    fn signing() -> (TempDir, Signing, watch::Sender<Arc<Agreed>>) {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca");
        Authorities::new(ClusterId(7)).unwrap().write(&ca).unwrap();
        let vault = Vault::open(&ca).unwrap();
        let authorities = vault.signing(None).unwrap();
        let (_, chain, key) = leaf(&authorities, Role::Node);
        let credentials = Credentials::from_pem(
            &chain,
            &key,
            authorities.nodes.certificate_pem(),
            authorities.clients.certificate_pem(),
        );
        let agreed = watch::Sender::new(Arc::default());
        let signing = Signing {
            vault: Some(Arc::new(vault)),
            valid_for: DAY,
            credentials: watch::Sender::new(credentials.unwrap()).subscribe(),
            agreed: agreed.subscribe(),
        };
        (folder, signing, agreed)
    }

    #[tokio::test]
    async fn the_word_of_the_one_that_is_replaced_follows_what_the_new_one_signs() {
        let (_folder, signing, agreed) = signing();
        let to = signing.vault().unwrap().successors(ClusterId(7)).unwrap();
        let old = &to.nodes.old;
        let before = signing.authorities().unwrap();
        let roots = before.nodes.certificate_pem().to_owned();
        let key = JoinKey::generate().unwrap();
        let identity = Identity::new(ClusterId(7), Role::Node, "n2").unwrap();
        for stage in [
            RotationStage::Trusting,
            RotationStage::Signing,
            RotationStage::Finished,
        ] {
            let rotation = Some(Rotation {
                stage,
                to: to.clone(),
            });
            agreed.send_replace(Arc::new(Agreed::new(Trust {
                rotation,
                ..Trust::default()
            })));
            let key_shown = PublicKey::from(&key);
            let signed = signing.sign(&key_shown, &identity, Vec::new());
            let signed = signed.await.unwrap();
            let count = if stage == RotationStage::Signing {
                2
            } else {
                1
            };
            assert_eq!(signed.matches("BEGIN").count(), count, "{stage:?}");
            let shown = Credentials::from_pem(&signed, &key.pem(), &roots, "").unwrap();
            let by_old = shown.signed_by().ok() == Some(*old);
            assert_eq!(by_old, stage == RotationStage::Trusting, "{stage:?}");
        }
    }

    #[tokio::test]
    async fn what_was_taken_back_is_not_renewed() {
        let (_folder, signing, agreed) = signing();
        let authorities = &signing.authorities().unwrap();
        let (shop, ..) = leaf(authorities, Role::Producer);
        let (node, ..) = leaf(authorities, Role::Node);
        let name = "shop".to_owned();
        for (whom, shown) in [
            (Whom::Name { role: None, name }, &shop),
            (Whom::Serial(shop.serial.clone()), &shop),
            (Whom::Key(node.mark()), &node),
        ] {
            agreed.send_replace(Arc::default());
            let renewed = signing.renew(shown).await.unwrap();
            assert_ne!(
                Certificate::from_pem(&renewed).unwrap().serial,
                shown.serial
            );
            let revoked = vec![Revocation {
                whom: whom.clone(),
                at: u64::MAX / 2,
                until: u64::MAX,
            }];
            let trust = Trust {
                revoked,
                ..Trust::default()
            };
            agreed.send_replace(Arc::new(Agreed::new(trust)));
            let refused = signing.renew(shown).await.unwrap_err();
            assert!(
                matches!(refused, Refusal::NotPermitted { .. }),
                "{whom:?}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_was_taken_back_gets_a_certificate_that_is_good() {
        let (_folder, signing, agreed) = signing();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at = u64::try_from(now.unwrap().as_micros()).unwrap();
        let whom = Whom::Name {
            role: None,
            name: "shop".to_owned(),
        };
        let revoked = vec![Revocation {
            whom,
            at,
            until: u64::MAX,
        }];
        let trust = Trust {
            revoked,
            ..Trust::default()
        };
        agreed.send_replace(Arc::new(Agreed::new(trust)));
        let key = PublicKey::from(&JoinKey::generate().unwrap());
        let identity = Identity::new(ClusterId(7), Role::Producer, "shop").unwrap();
        let signed = signing.sign(&key, &identity, Vec::new()).await.unwrap();
        let signed = Certificate::from_pem(&signed).unwrap();
        assert!(!signing.revoked().has(&signed));
        assert!(signed.not_before <= SystemTime::now(), "it is good already");
    }
}
