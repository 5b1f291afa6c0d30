//! `kontiki cert`: what certificates say.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use kontiki_client::Context;
use kontiki_transport::Certificate;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    moment::format_micros,
    output::Paint,
};

/// What can be done with certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show who a certificate says one is, and until when
    Show {
        /// A certificate's PEM file; the one of the context in use if not given
        file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    identity: String,
    cluster_id: String,
    role: &'static str,
    name: &'a str,
    serial: &'a str,
    not_before: String,
    not_after: String,
    expired: bool,
    fingerprint_sha256: &'a str,
}

/// Does it.
pub(crate) fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let Verb::Show { file } = verb;
    let file = match file {
        Some(file) => file,
        None => Context::load(invocation.context_file()?)?.certificate,
    };
    let pem = fs::read_to_string(&file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let certificate = Certificate::from_pem(&pem)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    show(&file, &certificate, invocation)?;
    Ok(Exit::Done)
}

fn show(file: &Path, certificate: &Certificate, invocation: &Invocation) -> Result<(), Failure> {
    let identity = &certificate.identity;
    let shown = Shown {
        file,
        identity: identity.to_string(),
        cluster_id: identity.cluster.to_string(),
        role: identity.role.as_str(),
        name: &identity.name,
        serial: &certificate.serial,
        not_before: rfc3339(certificate.not_before),
        not_after: rfc3339(certificate.not_after),
        expired: certificate.not_after < SystemTime::now(),
        fingerprint_sha256: &certificate.fingerprint,
    };
    invocation.output.say(&shown, |output| {
        let until = if shown.expired {
            output.paint(Paint::Bad, &format!("{} (expired)", shown.not_after))
        } else {
            shown.not_after.clone()
        };
        [
            output.paint(Paint::Bold, &shown.identity),
            format!("  file         {}", shown.file.display()),
            format!("  role         {}", shown.role),
            format!("  name         {}", shown.name),
            format!("  valid from   {}", shown.not_before),
            format!("  valid until  {until}"),
            format!("  serial       {}", shown.serial),
            format!("  sha-256      {}", shown.fingerprint_sha256),
        ]
        .join("\n")
    })
}

/// Certificates count whole seconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = since.as_secs().saturating_mul(1_000_000);
    format_micros(micros).replace(".000000Z", "Z")
}
