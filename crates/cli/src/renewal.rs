//! Renews the certificate of a context, in its files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kontiki_client::{Client, Context};
use kontiki_transport::{Certificate, Credentials};
use tokio::time::timeout;

use crate::{exit::Failure, output::Output};

/// How long a verb that has other work waits for another certificate.
const IN_PASSING: Duration = Duration::from_secs(2);

fn is_due(certificate: &Certificate) -> bool {
    let life = certificate.not_after.duration_since(certificate.not_before);
    let left = certificate.not_after.duration_since(SystemTime::now());
    left.unwrap_or_default() < life.unwrap_or_default() / 3
}

/// The certificate of a context, if it can be read.
pub(crate) fn shown_by(context: &Context) -> Option<Certificate> {
    let pem = fs::read_to_string(&context.certificate).ok()?;
    Certificate::from_pem(&pem).ok()
}

/// Another certificate for a context, from a member that signs.
pub(crate) async fn renew(client: &Client, context: &Context) -> Result<(), Failure> {
    let renewed = client.admin().renew_certificate().await?;
    put(context, &renewed.certificate_pem, &renewed.node_roots_pem)
}

/// Renews the certificate of the context in use if it is time. A verb has other work, and does it without as
/// well: what cannot be renewed is told of.
pub(crate) async fn renew_in_passing(client: &Client, context: &Context, output: Output) {
    if !shown_by(context).is_some_and(|shown| is_due(&shown)) {
        return;
    }
    let renewed = timeout(IN_PASSING, renew(client, context)).await;
    let why = match renewed {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => "no member that signs answers".to_owned(),
    };
    output.note(format_args!(
        "the certificate of this context ends soon and could not be renewed ({why}); `kontiki cert renew` tries again"
    ));
}

/// Puts a certificate where the context's lies, once it is known to fit, and the authorities that come with it.
pub(crate) fn put(
    context: &Context,
    certificate_pem: &str,
    node_roots_pem: &str,
) -> Result<(), Failure> {
    let key = fs::read_to_string(&context.key);
    let key = key.map_err(|error| unwritten("read", &context.key, &error))?;
    Credentials::from_pem(certificate_pem, &key, node_roots_pem, "").map_err(|error| {
        Failure::new(format!("the cluster answers what cannot be used: {error}"))
    })?;
    // The authorities first: who has them can tell members by the old certificate, too.
    for (path, text) in [
        (&context.ca, node_roots_pem),
        (&context.certificate, certificate_pem),
    ] {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
        written.map_err(|error| unwritten("write", path, &error))?;
    }
    Ok(())
}

pub(crate) fn unwritten(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {doing} {}: {error}", path.display()))
}
