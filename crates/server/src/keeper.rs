//! Keeps what a member shows good while it runs: has its certificate renewed before it ends, takes what is put
//! into its folder, applies what the cluster takes back, and tells the cluster what it shows.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use kontiki_broker::Members;
use kontiki_raft::NodeRef;
use kontiki_transport::{Certificate, Credentials, Endpoint};
use kontiki_wire::{ClusterCommand, Papers, Renew, Renewed, Rotation, RotationStage};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use crate::{
    agreed::Agreed,
    belief,
    driver::Order,
    limits::{
        CERTIFY_PAUSE, KEEPER_LOOK, RENEWAL_ANSWER_MAX, RENEWAL_COMPLAINS, RENEWAL_PAUSE_FIRST,
        RENEWAL_PAUSE_LONGEST,
    },
    member::{MemberFile, write_durably},
    own,
    own::{due, how_to_mend, life},
    papers::{Stamp, stamp_of},
    service::Service,
    signing::Signing,
};

/// What peers say of certificates.
pub(crate) enum Said {
    /// One whose link has shown this asks for another like it.
    Asked(NodeRef, Box<Certificate>),
    /// One that was asked has answered.
    Answered(NodeRef, Renewed),
}

/// What the keeper is made of.
pub(crate) struct Keeper {
    pub(crate) dir: PathBuf,
    pub(crate) member: Arc<MemberFile>,
    pub(crate) endpoints: [Endpoint; 2],
    pub(crate) signing: Signing,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) agreed: watch::Receiver<Arc<Agreed>>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) service: Service,
    pub(crate) said: mpsc::Receiver<Said>,
}

/// How far the renewal of one certificate is.
struct Renewal {
    /// Between 0 and 1: members that began together do not all ask at once.
    jitter: f64,
    next: Instant,
    pause: Duration,
    /// Who was asked, and has not answered.
    asked: Option<(NodeRef, Instant)>,
    attempts: usize,
    trouble: Option<String>,
    complained: Option<Instant>,
}

impl Renewal {
    fn new() -> Self {
        let mut byte = [0];
        // Without randomness there is no jitter, which costs nothing but coincidence.
        let _ = getrandom::fill(&mut byte);
        Self {
            jitter: f64::from(byte[0]) / 256.0,
            next: Instant::now(),
            pause: RENEWAL_PAUSE_FIRST,
            asked: None,
            attempts: 0,
            trouble: None,
            complained: None,
        }
    }

    /// It came off. Where clocks differ by much the new one may be due at once: it has its time all the same.
    fn after(life: Duration) -> Self {
        let mut renewal = Self::new();
        renewal.next += longest_pause(life);
        renewal
    }

    /// It did not come off this time.
    fn failed(&mut self, certificate: &Certificate, why: String) {
        self.asked = None;
        self.next = Instant::now() + self.pause;
        let longest = longest_pause(life(certificate));
        self.pause = (self.pause * 2).min(longest).max(RENEWAL_PAUSE_FIRST);
        self.trouble = Some(why);
    }
}

/// How far this member has followed the replacing of authorities.
#[derive(Default)]
struct Following {
    stage: Option<RotationStage>,
    /// What was agreed on and is done.
    done: Option<Rotation>,
    trouble: Option<String>,
}

/// Between two certificates of such a life, or two questions for one.
fn longest_pause(life: Duration) -> Duration {
    RENEWAL_PAUSE_LONGEST.min(life / 30)
}

impl Keeper {
    /// Until the member stops.
    pub(crate) async fn run(mut self) {
        let mut renewal = Renewal::new();
        let mut following = Following::default();
        let mut stamp = stamp_of(&self.dir);
        let (wanted, says) = watch::channel(self.papers(&renewal, &following));
        let mut publishing = JoinSet::new();
        publishing.spawn(publish(self.service.clone(), self.agreed.clone(), says));
        // One for all rounds: whatever else is heard, and however often, does not put it off.
        let mut looks = interval(KEEPER_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.agreed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let revoked = Arc::clone(&self.agreed.borrow_and_update().revoked);
                    for endpoint in &self.endpoints {
                        endpoint.set_revoked(&revoked);
                    }
                    self.follow(&mut following, &mut renewal).await;
                }
                Some(said) = self.said.recv() => match said {
                    Said::Asked(from, shown) => self.answer(from, &shown).await,
                    Said::Answered(from, renewed) => {
                        if renewal.asked.is_some_and(|(asked, _)| asked == from) {
                            self.take(renewed, &mut renewal).await;
                        }
                    }
                },
                _ = looks.tick() => {
                    if self.look_at_files(&mut stamp, &mut renewal).await {
                        following = Following::default();
                    }
                    self.follow(&mut following, &mut renewal).await;
                    self.renew_if_due(&mut renewal).await;
                    self.complain(&mut renewal);
                }
            }
            let papers = self.papers(&renewal, &following);
            wanted.send_if_modified(|told| {
                let other = *told != papers;
                *told = papers;
                other
            });
        }
    }

    fn credentials(&self) -> Credentials {
        let [_, peers] = &self.endpoints;
        peers.credentials().borrow().clone()
    }

    /// A peer asks for another certificate: its link has shown whose, and that it has the key.
    async fn answer(&self, to: NodeRef, shown: &Certificate) {
        let renewed = match self.signing.renew(shown).await {
            Ok(certificate) => {
                info!(identity = %shown.identity, "renewed the certificate of a member");
                Renewed::Signed(certificate)
            }
            Err(refusal) => Renewed::Refused(refusal.to_string()),
        };
        let mut frame = BytesMut::new();
        renewed.encode(&mut frame);
        self.say(to, frame).await;
    }

    async fn say(&self, to: NodeRef, frame: BytesMut) {
        let frame = frame.freeze();
        // Nobody sends anything any more when the member is stopping.
        let _ = self.orders.send(Order::Say { to, frame }).await;
    }

    async fn renew_if_due(&self, renewal: &mut Renewal) {
        let credentials = self.credentials();
        let certificate = credentials.certificate();
        let outdated = self.is_outdated(&credentials);
        if !outdated && SystemTime::now() < due(certificate, renewal.jitter) {
            return;
        }
        if let Some((asked, at)) = renewal.asked {
            if at.elapsed() < RENEWAL_ANSWER_MAX {
                return;
            }
            let who = self.name(asked);
            renewal.failed(
                certificate,
                format!("{who} was asked for another and does not answer"),
            );
        }
        if Instant::now() < renewal.next {
            return;
        }
        if self.signing.authorities().is_ok() {
            let renewed = match self.signing.renew(certificate).await {
                Ok(pem) => Renewed::Signed(pem),
                Err(refusal) => Renewed::Refused(refusal.to_string()),
            };
            return self.take(renewed, renewal).await;
        }
        let Some(signer) = self.signer(renewal.attempts) else {
            let why = "no other member is known, and this one does not sign".to_owned();
            return renewal.failed(certificate, why);
        };
        renewal.attempts += 1;
        renewal.asked = Some((signer, Instant::now()));
        let mut frame = BytesMut::new();
        Renew.encode(&mut frame);
        self.say(signer, frame).await;
    }

    /// Who is asked next: those who were born to sign in turn, and anybody every now and then, for one may
    /// have been configured to.
    fn signer(&self, attempts: usize) -> Option<NodeRef> {
        let me = self.member.me().node();
        let members = self.members.borrow();
        let others = members.list.iter().filter(|one| one.node() != me);
        let others: Vec<_> = others.collect();
        let born_to: Vec<_> = others.iter().filter(|one| one.signs).collect();
        let born_to = born_to.iter().map(|one| one.node());
        let all = others.iter().map(|one| one.node());
        let line: Vec<NodeRef> = born_to.chain(all).collect();
        line.get(attempts.checked_rem(line.len())?).copied()
    }

    fn name(&self, node: NodeRef) -> String {
        let members = self.members.borrow();
        let member = members.find(node.id.0);
        member.map_or_else(|| node.id.to_string(), |member| member.name.clone())
    }

    /// Uses a certificate that was signed, if it is good.
    async fn take(&self, renewed: Renewed, renewal: &mut Renewal) {
        let before = self.credentials();
        let why = match renewed {
            Renewed::Refused(why) => why,
            Renewed::Signed(pem) => match self.install(pem).await {
                Ok(credentials) => {
                    let until = credentials.certificate().not_after;
                    let days = until.duration_since(SystemTime::now()).unwrap_or_default();
                    info!(
                        days_left = days.as_secs() / 86_400,
                        "the certificate is renewed"
                    );
                    *renewal = Renewal::after(life(credentials.certificate()));
                    return;
                }
                Err(why) => why,
            },
        };
        renewal.failed(before.certificate(), why);
    }

    /// Whether the authority that has signed the own certificate is being replaced, and another signs.
    fn is_outdated(&self, credentials: &Credentials) -> bool {
        let gone = self
            .signing
            .rotation()
            .and_then(|rotation| match rotation.stage {
                RotationStage::Trusting => None,
                RotationStage::Signing | RotationStage::Finished => Some(rotation.to.nodes.old),
                // It may have renewed before it was given up, and nobody had heard of it.
                RotationStage::Abandoned => Some(rotation.to.nodes.new),
            });
        gone.is_some() && credentials.signed_by().ok() == gone
    }

    /// Believes whom the cluster has agreed to, and signs with whom it has.
    async fn follow(&self, following: &mut Following, renewal: &mut Renewal) {
        let rotation = self.signing.rotation();
        let Some(rotation) = rotation.filter(|one| following.done.as_ref() != Some(one)) else {
            return;
        };
        if following.stage != Some(rotation.stage) {
            info!(stage = ?rotation.stage, "authorities are being replaced");
            following.stage = Some(rotation.stage);
            *renewal = Renewal::new();
        }
        let (dir, member) = (self.dir.clone(), Arc::clone(&self.member));
        let (vault, agreed) = (self.signing.vault.clone(), rotation.clone());
        let followed = spawn_blocking(move || {
            if let Some(vault) = vault {
                let kept = vault.follow(&agreed);
                kept.map_err(|error| error.to_string())?;
            }
            belief::follow(&dir, &member, &agreed)
        });
        let followed = followed
            .await
            .unwrap_or_else(|error| Err(error.to_string()));
        let followed = followed.and_then(|followed| {
            let shown = followed.now.as_ref().map(|now| self.show(now));
            shown.unwrap_or(Ok(())).map(|()| followed.done)
        });
        let trouble = match followed {
            Ok(done) => {
                following.done = done.then_some(rotation);
                None
            }
            Err(why) => Some(format!("the authorities are not followed: {why}")),
        };
        if let Some(why) = &trouble
            && following.trouble != trouble
        {
            warn!("{why}");
        }
        following.trouble = trouble;
    }

    /// Keeps a certificate, and shows it from now on.
    async fn install(&self, pem: String) -> Result<Credentials, String> {
        let (dir, member) = (self.dir.clone(), Arc::clone(&self.member));
        let shown = self.credentials().certificate().serial.clone();
        let rotation = self.signing.rotation().filter(Rotation::is_signing);
        let replaced = rotation.map(|rotation| rotation.to.nodes.old);
        let kept = spawn_blocking(move || {
            let credentials = own::credentials_with(&dir, &member, Some(&pem));
            let credentials = credentials.map_err(|error| error.to_string())?;
            if credentials.certificate().serial == shown {
                return Err("it is the certificate that is shown already".to_owned());
            }
            if replaced.is_some() && credentials.signed_by().ok() == replaced {
                return Err("the authority that is being replaced has signed it".to_owned());
            }
            write_durably(&dir.join("certs"), "node.pem", pem.as_bytes())
                .map_err(|error| format!("the certificate cannot be kept: {error}"))?;
            own::credentials(&dir, &member).map_err(|error| error.to_string())
        });
        let credentials = kept.await.map_err(|error| error.to_string())??;
        self.show(&credentials)?;
        Ok(credentials)
    }

    fn show(&self, credentials: &Credentials) -> Result<(), String> {
        for endpoint in &self.endpoints {
            endpoint
                .set_credentials(credentials)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes what somebody has put into the folder, and says whether it did. What cannot be used is told of, once,
    /// and what was shown before is shown on.
    async fn look_at_files(&self, stamp: &mut Stamp, renewal: &mut Renewal) -> bool {
        let now = stamp_of(&self.dir);
        if now == *stamp {
            return false;
        }
        *stamp = now;
        let (dir, member) = (self.dir.clone(), Arc::clone(&self.member));
        let read = spawn_blocking(move || own::credentials(&dir, &member));
        let read = match read.await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let shown = self.credentials();
        let taken = read.and_then(|read| {
            let other =
                read.certificate() != shown.certificate() || read.trusted() != shown.trusted();
            if other {
                self.show(&read)?;
            }
            Ok(other)
        });
        match &taken {
            Ok(false) => {}
            Ok(true) => {
                info!("what lies in the folder of certificates is shown from now on");
                *renewal = Renewal::new();
            }
            Err(why) => warn!(%why, "what lies in the folder of certificates is not taken"),
        }
        taken.unwrap_or(false)
    }

    /// Says now and then what is wrong, as long as it is.
    fn complain(&self, renewal: &mut Renewal) {
        let credentials = self.credentials();
        let expired = credentials.certificate().not_after <= SystemTime::now();
        let Some(why) = &renewal.trouble else { return };
        if renewal
            .complained
            .is_some_and(|at| at.elapsed() < RENEWAL_COMPLAINS)
        {
            return;
        }
        let mend = how_to_mend(&self.dir);
        match expired {
            true => error!(%why, %mend, "the certificate has expired: nobody talks to this member"),
            false => warn!(%why, %mend, "the certificate is to be renewed and cannot be"),
        }
        renewal.complained = Some(Instant::now());
    }

    fn papers(&self, renewal: &Renewal, following: &Following) -> Papers {
        let credentials = self.credentials();
        let certificate = credentials.certificate();
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        let mut trusts = credentials.trusted();
        trusts.truncate(kontiki_wire::limits::PAPERS_ROOTS_MAX);
        Papers {
            member: self.member.me().id,
            serial: certificate.serial.clone(),
            mark: certificate.mark(),
            not_before: seconds(certificate.not_before),
            not_after: seconds(certificate.not_after),
            signed_by: credentials.signed_by().unwrap_or_default(),
            trusts,
            trouble: renewal
                .trouble
                .as_ref()
                .or(following.trouble.as_ref())
                .map(|why| {
                    let shown = why.chars().take(TROUBLE_CHARS_MAX);
                    shown.collect()
                }),
        }
    }
}

/// Has the cluster know what this member shows, until it does.
async fn publish(
    service: Service,
    mut agreed: watch::Receiver<Arc<Agreed>>,
    mut wanted: watch::Receiver<Papers>,
) {
    loop {
        let papers = wanted.borrow_and_update().clone();
        let known = {
            let agreed = agreed.borrow_and_update();
            agreed.trust.papers_of(papers.member) == Some(&papers)
        };
        if known {
            let changed = tokio::select! {
                changed = wanted.changed() => changed,
                changed = agreed.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            continue;
        }
        service.agree(ClusterCommand::Certify(papers)).await;
        sleep(CERTIFY_PAUSE).await;
    }
}

/// Characters of a trouble that the cluster is told.
const TROUBLE_CHARS_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_due_as_soon_as_it_is_signed_is_not_asked_for_again_at_once() {
        let before = Instant::now();
        let pause = |life| Renewal::after(Duration::from_secs(life)).next - before;
        assert!(pause(365 * 86_400) >= RENEWAL_PAUSE_LONGEST);
        assert!(pause(3_600) >= RENEWAL_PAUSE_LONGEST);
        // One of seconds is followed by another in time.
        assert!(pause(30) < Duration::from_secs(5), "{:?}", pause(30));
    }
}
