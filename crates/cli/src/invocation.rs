//! What holds for every verb of this run: where output goes, and which cluster is meant.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use kontiki_client::{Client, ConnectError, Context, Contexts, ProducerConfig};
use tokio::time::timeout;

use crate::{
    exit::Failure,
    moment::parse_span,
    output::Output,
    renewal::{renew_in_passing, shown_by},
};

/// Time for the farewell to leave this machine.
const FAREWELL: Duration = Duration::from_millis(10);

/// The global options, understood.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// Where output goes.
    pub(crate) output: Output,
    /// The context named, as a file or by name.
    pub(crate) context: Option<String>,
    /// How long to wait for members, a leader, a quorum.
    pub(crate) timeout: Option<Duration>,
    /// What to log, in the words of `tracing`'s filters.
    pub(crate) log: Option<String>,
}

impl Invocation {
    /// A client of the cluster that is meant.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let context = Context::load(self.context_file()?)?;
        let mut options = context.options()?.name("kontiki");
        if let Some(deadline) = self.timeout {
            options = options
                .deadline(deadline)
                .producer(ProducerConfig::new().delivery_timeout(deadline));
        }
        match Client::connect(options).await {
            Ok(client) => {
                renew_in_passing(&client, &context, self.output).await;
                Ok(client)
            }
            Err(error) => {
                let strangers = matches!(error, ConnectError::Strangers { .. });
                Err(advised(Failure::from(error), &context, strangers))
            }
        }
    }

    /// The file of the context that is meant.
    pub(crate) fn context_file(&self) -> Result<PathBuf, Failure> {
        Ok(Contexts::of_user()?.find(self.context.as_deref())?)
    }
}

/// With what to do about a certificate that has expired, or that the cluster does not take any more.
fn advised(failure: Failure, context: &Context, strangers: bool) -> Failure {
    let expired = shown_by(context).is_some_and(|shown| shown.not_after <= SystemTime::now());
    match expired {
        false if strangers => failure.advise(
            "if the cluster's authorities were replaced since this context was used last, log in anew with a token \
             from an operator (`kontiki login TOKEN`)",
        ),
        true => failure.advise(
            "log in anew with a token from an operator (`kontiki login TOKEN`), or, where the authorities are, sign \
             another one: `kontiki cert renew --ca DIR`",
        ),
        false => failure,
    }
}

/// Tells the members that this client goes, without waiting until they have heard it: what is worth
/// waiting for has been waited for, and a member that misses it finds out by itself.
pub(crate) async fn leave(client: &Client) {
    let _ = timeout(FAREWELL, client.close()).await;
}

/// `500ms`, `10s`, `1m30s`, or a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    seconds
        .or_else(|| parse_span(text))
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is no time to wait; write it like 10, 500ms, 10s or 1m"))
}

/// Lets the context in use reach the members there are now: it was made when there were others. A context that
/// cannot be written is as good as before.
pub(crate) async fn refresh_context(client: &Client, invocation: &Invocation) {
    let Ok(members) = client.admin().members().await else {
        return;
    };
    let addresses: Vec<String> = members.into_iter().map(|member| member.address).collect();
    let loaded = invocation
        .context_file()
        .map(|file| (Context::load(&file), file));
    if let Ok((Ok(mut context), file)) = loaded
        && !addresses.is_empty()
        && context.addresses != addresses
    {
        context.addresses = addresses;
        let _ = context.save(&file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_wait_are_seconds_or_spans() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "0", "0s", "-1", "1.5", "soon"] {
            parse_duration(wrong).unwrap_err();
        }
    }
}
