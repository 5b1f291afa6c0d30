//! How often clients' certificates are renewed: over all so many in a second, and for one key one in a while, since
//! the cluster agrees on something for each, in a log that is kept whole.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kontiki_transport::{Certificate, Pace};

use crate::limits::{
    RENEWAL_KEPT, RENEWAL_LOST, RENEWAL_TURN_MAX, RENEWALS_IN_A_BURST, RENEWALS_KEPT_MAX,
    RENEWALS_PER_SECOND,
};

/// It.
pub(crate) struct Renewals {
    pace: Pace,
    /// For how long who asks again gets what it got.
    kept: Duration,
    /// By the keys that they are for.
    given: Mutex<HashMap<[u8; 32], Given>>,
}

/// What a key was given.
struct Given {
    until: Instant,
    /// For this it was.
    shown: Certificate,
    /// The authority that signs.
    by: String,
    /// None while it is being made, and for a while where nothing came of it.
    certificate: Option<String>,
}

/// What becomes of somebody who asks.
pub(crate) enum Turn<'a> {
    /// It gets what it got.
    Again(String),
    /// It is made one.
    New(Place<'a>),
    /// It has just asked, or too many others wait.
    Busy,
}

/// The place of a key for which a certificate is being made.
pub(crate) struct Place<'a> {
    renewals: &'a Renewals,
    key: [u8; 32],
    is_spent: bool,
}

impl Renewals {
    /// Of certificates that are good for so long.
    pub(crate) fn new(valid_for: Duration) -> Self {
        Self {
            pace: Pace::new(RENEWALS_PER_SECOND, RENEWALS_IN_A_BURST),
            kept: RENEWAL_KEPT.min(valid_for / 30),
            given: Mutex::default(),
        }
    }

    /// Whoever shows this asks for another of this authority. What it was given is to be good still.
    pub(crate) async fn turn(
        &self,
        shown: &Certificate,
        by: &str,
        is_good: impl Fn(&str) -> bool,
    ) -> Turn<'_> {
        if let Err(given) = self.take_place(shown, by, is_good, Instant::now()) {
            return given.map_or(Turn::Busy, Turn::Again);
        }
        let place = Place {
            renewals: self,
            key: shown.key_fingerprint,
            is_spent: false,
        };
        match self.pace.turn_within(RENEWAL_TURN_MAX).await {
            true => Turn::New(place),
            false => Turn::Busy,
        }
    }

    /// Takes the place of a key, unless it has one: then says what it was given, if it was.
    fn take_place(
        &self,
        shown: &Certificate,
        by: &str,
        is_good: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Result<(), Option<String>> {
        let mut given = self.lock();
        given.retain(|_, given| now < given.until);
        if let Some(given) = given.get(&shown.key_fingerprint) {
            let before = (
                &given.shown.identity,
                &given.shown.topics,
                given.by.as_str(),
            );
            let is_like = before == (&shown.identity, &shown.topics, by);
            match &given.certificate {
                None => return Err(None),
                Some(kept) if is_like && is_good(kept) => return Err(Some(kept.clone())),
                Some(_) => {}
            }
        }
        if given.len() >= RENEWALS_KEPT_MAX {
            let oldest = given.iter().min_by_key(|(_, given)| given.until);
            let oldest = oldest.map(|(key, _)| *key);
            given.remove(&oldest.expect("there are as many as there can be"));
        }
        let taken = Given {
            until: now + self.kept,
            shown: shown.clone(),
            by: by.to_owned(),
            certificate: None,
        };
        given.insert(shown.key_fingerprint, taken);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Given>> {
        self.given.lock().expect("nothing panics while holding it")
    }
}

impl Place<'_> {
    /// The cluster is asked to agree on something for it: where nothing comes of that, also because the client
    /// hangs up, it is not made one again at once.
    pub(crate) fn spend(&mut self) {
        self.is_spent = true;
    }

    /// The cluster has not agreed.
    pub(crate) fn free(mut self) {
        self.is_spent = false;
    }

    /// It is given this.
    pub(crate) fn give(self, certificate: &str) {
        if let Some(given) = self.renewals.lock().get_mut(&self.key) {
            given.certificate = Some(certificate.to_owned());
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.renewals.lock();
        match all.get_mut(&self.key) {
            Some(given) if given.certificate.is_some() => {}
            Some(given) if self.is_spent => {
                let lost = Instant::now() + RENEWAL_LOST;
                given.until = given.until.min(lost);
            }
            _ => {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_transport::{Authority, Identity, JoinKey, PublicKey, Role};
    use kontiki_wire::ClusterId;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn shown(clients: &Authority, key: &JoinKey) -> Certificate {
        let shop = Identity::new(ClusterId(7), Role::Consumer, "shop").unwrap();
        let pem = clients.sign(&PublicKey::from(key), &shop, YEAR).unwrap();
        Certificate::from_pem(&pem).unwrap()
    }

    fn place(turn: Turn<'_>) -> Place<'_> {
        match turn {
            Turn::New(place) => place,
            Turn::Again(_) => panic!("it gets what it got"),
            Turn::Busy => panic!("it waits"),
        }
    }

    #[tokio::test]
    async fn a_client_that_asks_without_end_is_made_one_certificate_and_others_are_made_theirs() {
        let clients = Authority::new("clients", YEAR).unwrap();
        let [one, other] = [(), ()].map(|()| JoinKey::generate().unwrap());
        let renewals = Renewals::new(YEAR);
        let asks = async |key: &JoinKey, by: &str| {
            let shown = shown(&clients, key);
            renewals.turn(&shown, by, |kept| kept != "revoked").await
        };
        // Nothing comes of it, and nothing was agreed on: it may try again.
        drop(place(asks(&one, "a").await));
        let first = place(asks(&one, "a").await);
        assert!(matches!(asks(&one, "a").await, Turn::Busy));
        first.give("the first");
        for _ in 0..1_000 {
            let again = asks(&one, "a").await;
            assert!(matches!(again, Turn::Again(pem) if pem == "the first"));
        }
        let mut second = place(asks(&other, "a").await);
        // Other authorities are to sign from now on.
        place(asks(&one, "b").await).give("the second");
        assert!(matches!(asks(&one, "b").await, Turn::Again(pem) if pem == "the second"));
        // The cluster does not agree, and then it may have while the client hangs up.
        second.spend();
        second.free();
        let mut third = place(asks(&other, "a").await);
        third.spend();
        drop(third);
        assert!(matches!(asks(&other, "a").await, Turn::Busy));
    }

    #[tokio::test]
    async fn what_was_taken_back_is_not_given_again() {
        let clients = Authority::new("clients", YEAR).unwrap();
        let shown = shown(&clients, &JoinKey::generate().unwrap());
        let renewals = Renewals::new(YEAR);
        let asks = async || renewals.turn(&shown, "a", |kept| kept != "revoked").await;
        place(asks().await).give("revoked");
        place(asks().await).give("another");
        assert!(matches!(asks().await, Turn::Again(pem) if pem == "another"));
    }

    #[test]
    fn what_was_given_is_kept_for_a_while_and_no_more_than_so_much() {
        let clients = Authority::new("clients", YEAR).unwrap();
        let shown = shown(&clients, &JoinKey::generate().unwrap());
        let now = Instant::now();
        let take = |of: &Renewals, shown: &Certificate, at| of.take_place(shown, "a", |_| true, at);
        let mut renewals = Renewals::new(YEAR);
        assert_eq!(take(&renewals, &shown, now), Ok(()));
        let soon = now + RENEWAL_KEPT / 2;
        assert_eq!(take(&renewals, &shown, soon), Err(None));
        assert_eq!(take(&renewals, &shown, now + RENEWAL_KEPT), Ok(()));
        // One that is good for a minute is followed by another within seconds.
        renewals = Renewals::new(Duration::from_secs(60));
        assert_eq!(take(&renewals, &shown, now), Ok(()));
        let soon = now + Duration::from_secs(3);
        assert_eq!(take(&renewals, &shown, soon), Ok(()));
        renewals = Renewals::new(YEAR);
        for number in 0..2 * RENEWALS_KEPT_MAX {
            let mut other = shown.clone();
            other.key_fingerprint[..8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(take(&renewals, &other, now), Ok(()));
        }
        assert_eq!(renewals.lock().len(), RENEWALS_KEPT_MAX);
    }
}
