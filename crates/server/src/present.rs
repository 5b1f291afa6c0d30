//! Which clients are connected, and what they show: whoever takes an authority away asks first whom that would cut off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kontiki_transport::{Certificate, Identity};

/// Those of one member. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Present {
    clients: Arc<Mutex<BTreeMap<u64, Arc<Certificate>>>>,
    next: Arc<AtomicU64>,
}

/// One that is connected for as long as this is held.
pub(crate) struct Stay {
    present: Present,
    id: u64,
}

impl Present {
    pub(crate) fn enter(&self, certificate: Arc<Certificate>) -> Stay {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, certificate);
        Stay {
            present: self.clone(),
            id,
        }
    }

    /// The names of those that show what another than this authority has signed, but for this one.
    pub(crate) fn not_signed_by(
        &self,
        authority_der: &[u8],
        but_for: &Identity,
    ) -> BTreeSet<String> {
        let clients = self.lock();
        let others = clients.values();
        let others = others.filter(|one| one.identity != *but_for);
        let others = others.filter(|one| !one.names_as_issuer(authority_der));
        let name = |one: &Arc<Certificate>| format!("{}/{}", one.identity.role, one.identity.name);
        others.map(name).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Certificate>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.present.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_transport::{Authority, Role, Signs};
    use kontiki_wire::ClusterId;

    use super::*;

    #[test]
    fn who_shows_what_another_has_signed_is_known_for_as_long_as_it_stays() {
        let day = Duration::from_secs(24 * 3600);
        let authority = |name| Authority::new(name, day).unwrap();
        let (old, new) = (authority("old"), authority("new"));
        let handover = old.hand_over(&new, ClusterId(7), Signs::Clients).unwrap();
        let present = Present::default();
        let enter = |by: &Authority, name| {
            let identity = Identity::new(ClusterId(7), Role::Producer, name).unwrap();
            let issued = by.issue(&identity, day).unwrap();
            let certificate = Certificate::from_pem(&issued.certificate_pem).unwrap();
            present.enter(Arc::new(certificate))
        };
        let _timely = enter(&new, "timely");
        let late = [enter(&old, "late"), enter(&old, "late")];
        let identity = |name| Identity::new(ClusterId(7), Role::Producer, name).unwrap();
        let but_for = |name| {
            let named = present.not_signed_by(&handover.authority, &identity(name));
            named.into_iter()
        };
        let named = || but_for("timely");
        assert_eq!(named().collect::<Vec<_>>(), ["producer/late"]);
        assert_eq!(but_for("late").count(), 0);
        drop(late);
        assert_eq!(named().count(), 0);
    }
}
