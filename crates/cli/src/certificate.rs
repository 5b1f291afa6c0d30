//! A certificate as people read it.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kontiki_transport::Certificate;
use serde::Serialize;

use crate::{exit::Failure, invocation::Invocation, moment::format_micros, output::Paint};

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    identity: String,
    cluster_id: String,
    role: &'static str,
    name: &'a str,
    topics: Vec<&'a str>,
    serial: &'a str,
    not_before: String,
    not_after: String,
    expired: bool,
    fingerprint_sha256: &'a str,
}

/// Says what it says.
pub(crate) fn say(
    file: &Path,
    certificate: &Certificate,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let identity = &certificate.identity;
    let shown = Shown {
        file,
        identity: identity.to_string(),
        cluster_id: identity.cluster.to_string(),
        role: identity.role.as_str(),
        name: &identity.name,
        topics: certificate
            .topics
            .iter()
            .map(|topic| topic.as_str())
            .collect(),
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
        let mut lines = vec![
            output.paint(Paint::Bold, &shown.identity),
            format!("  file         {}", shown.file.display()),
            format!("  role         {}", shown.role),
            format!("  name         {}", shown.name),
        ];
        if !shown.topics.is_empty() {
            lines.push(format!("  topics       {}", shown.topics.join(", ")));
        }
        lines.extend([
            format!("  valid from   {}", shown.not_before),
            format!("  valid until  {until}"),
            format!("  serial       {}", shown.serial),
            format!("  sha-256      {}", shown.fingerprint_sha256),
        ]);
        lines.join("\n")
    })
}

/// Certificates count whole seconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = since.as_secs().saturating_mul(1_000_000);
    format_micros(micros).replace(".000000Z", "Z")
}

/// Seconds since the epoch as a time; what no clock shows is the last that one does.
pub(crate) fn time(seconds: u64) -> SystemTime {
    const YEAR_9999: u64 = 253_370_764_800;
    UNIX_EPOCH + Duration::from_secs(seconds.min(YEAR_9999))
}
