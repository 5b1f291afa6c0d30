//! What the client's errors mean to a person and to a script: a sentence and an exit code.

use kontiki_client::{
    AdminError, AppendError, ConnectError, ContextError, InvalidOption, SubscribeError,
};

use crate::exit::{Exit, Failure};

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            ConnectError::Unreachable { .. } => failure.exiting(Exit::NoQuorum),
            _ => failure,
        }
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<InvalidOption> for Failure {
    fn from(error: InvalidOption) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            AppendError::NotPermitted { .. } => failure.exiting(Exit::NotPermitted),
            AppendError::NotAppended { .. } | AppendError::Ambiguous { .. } => {
                failure.exiting(Exit::NoQuorum)
            }
            _ => failure,
        }
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::NotPermitted { .. } => {
                Self::new(error.to_string()).exiting(Exit::NotPermitted)
            }
            // What the library says of polling again is of no use to a person.
            SubscribeError::Unavailable { topic, why } => {
                Self::new(format!("no member serves {topic} at the moment ({why})"))
                    .advise("`kontiki cluster status` says more")
                    .exiting(Exit::NoQuorum)
            }
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            AdminError::NotPermitted { .. } => failure.exiting(Exit::NotPermitted),
            AdminError::Unavailable { .. } => failure.exiting(Exit::NoQuorum),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_no_has_its_code() {
        let unavailable = AdminError::Unavailable {
            waited_ms: 10,
            last: "silence".into(),
            may_have_happened: false,
        };
        assert_eq!(Failure::from(unavailable).exit(), Exit::NoQuorum);
        let denied = AdminError::NotPermitted {
            what: "delete".into(),
        };
        assert_eq!(Failure::from(denied).exit(), Exit::NotPermitted);
        let unknown = AdminError::NoSuchTopic { topic: "a".into() };
        assert_eq!(Failure::from(unknown).exit(), Exit::Failed);
        let topic: kontiki_client::TopicName = "a".parse().unwrap();
        let late = AppendError::NotAppended {
            topic: topic.clone(),
            why: "no leader".into(),
        };
        assert_eq!(Failure::from(late).exit(), Exit::NoQuorum);
        let unserved = SubscribeError::Unavailable {
            topic,
            why: "no member".into(),
        };
        assert_eq!(Failure::from(unserved).exit(), Exit::NoQuorum);
    }
}
