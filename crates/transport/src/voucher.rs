//! What a voucher is: a certificate that an authority has signed for another, and that says for what it holds.

use kontiki_wire::{ClusterId, limits::AUTHORITY_BYTES_MAX};
use x509_parser::certificate::X509Certificate;

use crate::{
    Role,
    certificate::{VOUCHER_OID, has_oid, parse},
};

/// Whose certificates an authority signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signs {
    /// Members'.
    Nodes,
    /// Clients'.
    Clients,
}

impl Signs {
    /// Those of this role, among others.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        match role {
            Role::Node => Self::Nodes,
            Role::Producer | Role::Consumer | Role::Operator => Self::Clients,
        }
    }

    /// What a voucher says that holds for these of one cluster, and for nothing else.
    pub(crate) fn scope(self, cluster: ClusterId) -> String {
        let whose = match self {
            Self::Nodes => "nodes",
            Self::Clients => "clients",
        };
        format!("kontiki://{cluster}/{whose}")
    }
}

/// Whether a certificate says that it is one authority's word for another in this cluster.
pub(crate) fn is_voucher(der: &[u8], cluster: ClusterId, signs: Signs) -> bool {
    let is = |certificate: &X509Certificate<'_>| {
        let scope = signs.scope(cluster);
        let mut said = certificate.extensions().iter();
        let said = said.find(|one| has_oid(&one.oid, VOUCHER_OID));
        certificate.is_ca() && said.is_some_and(|one| one.value == scope.as_bytes())
    };
    der.len() <= AUTHORITY_BYTES_MAX && parse(der).is_ok_and(|certificate| is(&certificate))
}
