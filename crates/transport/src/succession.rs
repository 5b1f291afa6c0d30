//! One authority's word for another that takes its place: a certificate for the other's name and key.
//!
//! Whoever believes the old one needs nobody else's word for the new one: not that of the member that hands it on,
//! and not the cluster's. It comes beside a leaf that the new one has signed, or as part of what is agreed on.

use std::time::SystemTime;

use kontiki_wire::{ClusterId, Handover, limits::AUTHORITY_BYTES_MAX};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::{
    Authority, Error,
    certificate::{self, parse, sha256, to_pem},
    credentials::{Root, root, roots},
    voucher::{Signs, is_voucher},
};

impl Authority {
    /// This one's word for another that takes its place.
    pub fn hand_over(
        &self,
        to: &Self,
        cluster: ClusterId,
        signs: Signs,
    ) -> Result<Handover, Error> {
        let handover = Handover {
            old: self.fingerprint(),
            new: to.fingerprint(),
            authority: to.der().to_vec(),
            voucher: self.vouch_for(to, signs.scope(cluster))?,
        };
        let longest = handover.authority.len().max(handover.voucher.len());
        if longest > AUTHORITY_BYTES_MAX {
            return Err(Error::Credentials(format!(
                "an authority's certificate would have {longest} bytes, the limit is {AUTHORITY_BYTES_MAX}"
            )));
        }
        believe(self.certificate_pem(), &handover, cluster, signs)?;
        Ok(handover)
    }
}

/// These authorities, and before them the one that takes the place of one of them, if that vouches for it.
pub fn believe(
    roots_pem: &str,
    handover: &Handover,
    cluster: ClusterId,
    signs: Signs,
) -> Result<String, Error> {
    let unfit =
        |why: &str| Error::Credentials(format!("the authority that is to be believed {why}"));
    let believed = roots("the authorities", roots_pem)?;
    if has(&believed, &handover.new) {
        return Ok(roots_pem.to_owned());
    }
    let to = CertificateDer::from(handover.authority.as_slice());
    if sha256(&to) != handover.new {
        return Err(unfit("is another than the one that is named"));
    }
    root(&to).map_err(|why| unfit(&why))?;
    let voucher = CertificateDer::from(handover.voucher.as_slice());
    if vouched(&voucher, &believed, cluster, signs).is_none() {
        return Err(unfit(
            "is vouched for by none that is believed here: nobody else's word counts",
        ));
    }
    let read = |der| parse(der).map_err(|why| unfit(&why));
    let (to_read, said) = (read(&handover.authority)?, read(&handover.voucher)?);
    let same_key = to_read.public_key().raw == said.public_key().raw;
    let own_issuer = to_read.issuer().as_raw() == to_read.subject().as_raw();
    if !same_key || !own_issuer || to_read.subject().as_raw() != said.subject().as_raw() {
        return Err(unfit("is not the one that is vouched for"));
    }
    Ok(to_pem(&to) + roots_pem)
}

/// These authorities without the one of this fingerprint.
pub fn disbelieve(roots_pem: &str, fingerprint: &[u8; 32]) -> Result<String, Error> {
    let believed = roots("the authorities", roots_pem)?;
    if !has(&believed, fingerprint) {
        return Ok(roots_pem.to_owned());
    }
    let left = believed.iter().map(|root| &root.certificate);
    let left: String = left
        .filter(|der| sha256(der) != *fingerprint)
        .map(|der| to_pem(der))
        .collect();
    match left.is_empty() {
        true => Err(Error::Credentials(
            "the authority that is to be taken away is the only one".to_owned(),
        )),
        false => Ok(left),
    }
}

/// A handover's voucher, to be put behind a leaf that the new authority has signed.
#[must_use]
pub fn voucher_pem(handover: &Handover) -> String {
    to_pem(&handover.voucher)
}

fn has(roots: &[Root], fingerprint: &[u8; 32]) -> bool {
    let mut roots = roots.iter();
    roots.any(|root| sha256(&root.certificate) == *fingerprint)
}

/// Whom this vouches for, if one of these authorities has signed it and both are good now.
pub(crate) fn vouched(
    voucher: &CertificateDer<'_>,
    believed: &[Root],
    cluster: ClusterId,
    signs: Signs,
) -> Option<Root> {
    if !is_voucher(voucher, cluster, signs) {
        return None;
    }
    let said = parse(voucher).ok()?;
    let now = SystemTime::now();
    let good = |from: SystemTime, until: SystemTime| from <= now && now <= until;
    let by = |by: &&Root| {
        let signed = |by: X509Certificate<'_>| {
            by.subject().as_raw() == said.issuer().as_raw()
                && said.signature_algorithm == said.tbs_certificate.signature
                && said.verify_signature(Some(by.public_key())).is_ok()
        };
        good(by.not_before, by.not_after) && parse(&by.certificate).is_ok_and(signed)
    };
    believed.iter().find(by)?;
    let anchor = webpki::anchor_from_trusted_cert(voucher).ok()?.to_owned();
    let (not_before, not_after) = certificate::validity(voucher).ok()?;
    good(not_before, not_after).then(|| Root {
        certificate: voucher.clone().into_owned(),
        anchor,
        not_before,
        not_after,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authority_fingerprints;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const CLUSTER: ClusterId = ClusterId(7);

    fn authority(name: &str) -> Authority {
        Authority::new(name, DAY).expect("an authority")
    }

    #[test]
    fn the_one_that_takes_anothers_place_is_believed_before_it_and_later_instead_of_it() {
        let (old, new) = (authority("old"), authority("new"));
        let handover = old
            .hand_over(&new, CLUSTER, Signs::Nodes)
            .expect("its word");
        let both = believe(old.certificate_pem(), &handover, CLUSTER, Signs::Nodes);
        let both = both.expect("vouched for");
        let order = authority_fingerprints(&both).expect("two");
        assert_eq!(order, [new.fingerprint(), old.fingerprint()]);
        let again = believe(&both, &handover, CLUSTER, Signs::Nodes);
        assert_eq!(again.expect("believed already"), both);
        let one = disbelieve(&both, &old.fingerprint()).expect("one is left");
        let left = authority_fingerprints(&one).expect("one");
        assert_eq!(left, [new.fingerprint()]);
        assert_eq!(disbelieve(&one, &old.fingerprint()).expect("gone"), one);
        disbelieve(&one, &new.fingerprint()).expect_err("the only one");
    }

    #[test]
    fn nobody_is_believed_for_whom_the_wrong_one_vouches_or_not_for_this() {
        let (old, new, foreign) = (authority("old"), authority("new"), authority("foreign"));
        let roots = old.certificate_pem();
        let good = old.hand_over(&new, CLUSTER, Signs::Nodes).expect("good");
        let refused = |handover: &Handover, signs| {
            let refused = believe(roots, handover, CLUSTER, signs);
            refused.expect_err("not believed").to_string()
        };
        let by_foreign = foreign.hand_over(&new, CLUSTER, Signs::Nodes);
        let none = "vouched for by none";
        assert!(refused(&by_foreign.expect("a word"), Signs::Nodes).contains(none));
        assert!(refused(&good, Signs::Clients).contains(none));
        let elsewhere = old.hand_over(&new, ClusterId(8), Signs::Nodes);
        assert!(refused(&elsewhere.expect("a word"), Signs::Nodes).contains(none));
        // Another's certificate beside a good word, and a good one under a wrong name.
        let swapped = Handover {
            authority: foreign.der().to_vec(),
            new: foreign.fingerprint(),
            ..good.clone()
        };
        assert!(refused(&swapped, Signs::Nodes).contains("is not the one that is vouched for"));
        let misnamed = Handover {
            new: foreign.fingerprint(),
            ..good.clone()
        };
        assert!(refused(&misnamed, Signs::Nodes).contains("another than the one"));
        // The new one's own certificate is nobody's word, and neither is a spoiled one.
        let alone = Handover {
            voucher: good.authority.clone(),
            ..good.clone()
        };
        assert!(refused(&alone, Signs::Nodes).contains(none));
        for at in 0..good.voucher.len() {
            let mut spoiled = good.clone();
            spoiled.voucher[at] ^= 1;
            let judged = believe(roots, &spoiled, CLUSTER, Signs::Nodes);
            assert!(judged.is_err(), "byte {at} may be any");
        }
    }
}
