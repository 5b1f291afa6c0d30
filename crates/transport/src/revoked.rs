//! Certificates that are good no more, although they have not expired: looked up, never walked through.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use kontiki_wire::{Revocation, Role, Whom};

use crate::Certificate;

/// What the cluster has taken back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    serials: HashSet<String>,
    /// In which role, or in any of a client's, and since when.
    names: HashMap<String, Vec<(Option<Role>, SystemTime)>>,
    keys: HashSet<u64>,
}

impl Revoked {
    /// Those of a list.
    #[must_use]
    pub fn new(list: &[Revocation]) -> Self {
        let mut revoked = Self::default();
        for Revocation { whom, at, .. } in list {
            let at = SystemTime::UNIX_EPOCH + Duration::from_micros(*at);
            match whom {
                Whom::Serial(serial) => {
                    revoked.serials.insert(serial.clone());
                }
                Whom::Name { role, name } => {
                    let named = revoked.names.entry(name.clone()).or_default();
                    named.push((*role, at));
                }
                Whom::Key(mark) => {
                    revoked.keys.insert(*mark);
                }
            }
        }
        revoked
    }

    /// Whether this certificate was taken back, by its serial number or its name.
    #[must_use]
    pub fn has(&self, certificate: &Certificate) -> bool {
        if self.serials.contains(&certificate.serial) {
            return true;
        }
        let identity = &certificate.identity;
        let meant = |role: Option<Role>| match role {
            Some(role) => role == identity.role,
            None => identity.role != Role::Node,
        };
        let named = self.names.get(&identity.name);
        named.is_some_and(|named| {
            let mut named = named.iter();
            named.any(|(role, at)| meant(*role) && certificate.not_before <= *at)
        })
    }

    /// Whether this certificate is for a key that was taken back with its member.
    #[must_use]
    pub fn has_key(&self, certificate: &Certificate) -> bool {
        certificate.identity.role == Role::Node && self.keys.contains(&certificate.mark())
    }

    /// Before when no certificate of this name may begin to be good, if it is to be: what was given to the
    /// name before was taken back.
    #[must_use]
    pub fn latest(&self, role: Role, name: &str) -> Option<SystemTime> {
        let named = self.names.get(name)?.iter();
        let meant = named.filter(|(whose, _)| match whose {
            Some(whose) => *whose == role,
            None => role != Role::Node,
        });
        meant.map(|(_, at)| *at).max()
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::ClusterId;

    use super::*;
    use crate::{Authority, Identity};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn certificate(role: Role, name: &str) -> Certificate {
        let authority = Authority::new("a test's", DAY).unwrap();
        let identity = Identity::new(ClusterId(7), role, name).unwrap();
        let issued = authority.issue(&identity, DAY).unwrap();
        Certificate::from_pem(&issued.certificate_pem).unwrap()
    }

    fn revoked(whom: Whom, at: SystemTime) -> Revoked {
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = u64::try_from(at.as_micros()).unwrap();
        Revoked::new(&[Revocation {
            whom,
            at,
            until: u64::MAX,
        }])
    }

    #[test]
    fn a_certificate_is_known_by_its_serial_its_name_and_its_key() {
        let now = SystemTime::now();
        let shop = certificate(Role::Producer, "shop");
        let node = certificate(Role::Node, "shop");
        let name = |role| Whom::Name {
            role,
            name: "shop".to_owned(),
        };
        for (whom, of_shop, of_node) in [
            (Whom::Serial(shop.serial.clone()), true, false),
            (Whom::Serial("ab".to_owned()), false, false),
            (name(None), true, false),
            (name(Some(Role::Producer)), true, false),
            (name(Some(Role::Consumer)), false, false),
            (name(Some(Role::Node)), false, true),
            (Whom::Key(node.mark()), false, false),
        ] {
            let revoked = revoked(whom.clone(), now);
            let found = (revoked.has(&shop), revoked.has(&node));
            assert_eq!(found, (of_shop, of_node), "{whom:?}");
        }
        let keys = revoked(Whom::Key(node.mark()), now);
        assert!(keys.has_key(&node) && !keys.has_key(&shop));
        // A client's key is nobody's who was a member.
        assert!(!revoked(Whom::Key(shop.mark()), now).has_key(&shop));
    }

    #[test]
    fn a_name_is_taken_back_until_then_and_no_longer() {
        let shop = certificate(Role::Producer, "shop");
        let named = |at| {
            let name = "shop".to_owned();
            revoked(Whom::Name { role: None, name }, at)
        };
        assert!(named(shop.not_before).has(&shop));
        let before = shop.not_before - Duration::from_secs(1);
        assert!(!named(before).has(&shop));
        assert_eq!(named(before).latest(Role::Consumer, "shop"), Some(before));
        assert_eq!(named(before).latest(Role::Node, "shop"), None);
        assert_eq!(named(before).latest(Role::Consumer, "other"), None);
    }
}
