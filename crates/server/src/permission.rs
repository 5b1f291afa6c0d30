//! Who may do what: the one table, asked before anything of a frame's body is acted on.

use std::sync::Arc;

use kontiki_transport::{Certificate, Role};
use kontiki_wire::{ClientStream, Refusal, Request, TopicName, TopicPattern};

/// Who wants to do something: what the certificate of a connection says. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) certificate: Arc<Certificate>,
}

/// What a client may want to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Ask,
    Produce,
    Subscribe,
    FindMembers,
    FindTopic,
    FindOffset,
    CreateTopic,
    EditTopic,
    DeleteTopic,
    SeeStatus,
    TransferLeader,
    Verify,
    ChangeMembers,
    ManageTokens,
    ManageTrust,
    Renew,
    /// A request that this version does not know.
    Unknown,
}

/// Something to be done, and to which topic, if it is to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish<'a> {
    act: Act,
    topic: Option<&'a TopicName>,
}

impl<'a> Wish<'a> {
    pub(crate) fn of_stream(stream: &'a ClientStream) -> Self {
        let (act, topic) = match stream {
            ClientStream::Requests => (Act::Ask, None),
            ClientStream::Produce { topic, .. } => (Act::Produce, Some(topic)),
            ClientStream::Subscribe(subscribe) | ClientStream::SubscribeIfFew(subscribe) => {
                (Act::Subscribe, Some(&subscribe.topic))
            }
        };
        Self { act, topic }
    }

    pub(crate) fn of_request(request: &'a Request) -> Self {
        let (act, topic) = match request {
            Request::Metadata | Request::Topics | Request::Members => (Act::FindMembers, None),
            Request::Topic { name } => (Act::FindTopic, Some(name)),
            Request::OffsetAt { topic, .. } => (Act::FindOffset, Some(topic)),
            Request::CreateTopic { name, .. } => (Act::CreateTopic, Some(name)),
            Request::DeleteTopic { name } => (Act::DeleteTopic, Some(name)),
            Request::Status | Request::Recoveries => (Act::SeeStatus, None),
            Request::TransferLeader { topic, .. } => (Act::TransferLeader, topic.as_ref()),
            Request::Walk { .. } => (Act::Verify, None),
            Request::EditTopic { name, .. } => (Act::EditTopic, Some(name)),
            Request::RemoveMember { .. }
            | Request::ReplaceMember { .. }
            | Request::SetStanding { .. }
            | Request::SetBalance { .. }
            | Request::Finalize => (Act::ChangeMembers, None),
            Request::CreateToken(_) | Request::RevokeToken { .. } | Request::Tokens => {
                (Act::ManageTokens, None)
            }
            Request::Trust | Request::Revoke(_) | Request::MakeSuccessors | Request::Rotate(_) => {
                (Act::ManageTrust, None)
            }
            Request::Renew => (Act::Renew, None),
            _ => (Act::Unknown, None),
        };
        Self { act, topic }
    }
}

impl Act {
    fn words(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Produce => "append",
            Self::Subscribe => "read",
            Self::FindMembers => "list members and topics",
            Self::FindTopic => "look up a topic",
            Self::FindOffset => "look up an offset",
            Self::CreateTopic => "create a topic",
            Self::DeleteTopic => "delete a topic",
            Self::SeeStatus => "see a member's status",
            Self::TransferLeader => "transfer leadership",
            Self::Verify => "verify a member's log",
            Self::EditTopic => "edit a topic",
            Self::ChangeMembers => "change the members",
            Self::ManageTokens => "make, list or revoke tokens",
            Self::ManageTrust => "see or revoke certificates, or replace authorities",
            Self::Renew => "renew its certificate",
            Self::Unknown => "ask this",
        }
    }
}

impl Bearer {
    fn role(&self) -> Role {
        self.certificate.identity.role
    }

    /// Whether this bearer may know of a topic, and do to it what its role may.
    pub(crate) fn reaches(&self, topic: &TopicName) -> bool {
        let topics = &self.certificate.topics;
        topics.is_empty() || topics.iter().any(|pattern| pattern.matches(topic))
    }

    fn words(&self) -> &'static str {
        match self.role() {
            Role::Node => "a member",
            Role::Producer => "a producer",
            Role::Consumer => "a consumer",
            Role::Operator => "an operator",
        }
    }
}

/// Whether this bearer may do this. In a cluster that makes topics on first use, a producer's first append
/// is that use. Whoever is confined to topics may do nothing to others, and nothing to the whole cluster,
/// whether a topic is there or not.
pub(crate) fn permit(bearer: &Bearer, wish: Wish<'_>, auto_create: bool) -> Result<(), Refusal> {
    let Wish { act, topic } = wish;
    let permitted = match (bearer.role(), act) {
        (Role::Operator, _) => true,
        (role, Act::Ask | Act::FindMembers | Act::FindTopic | Act::Renew) => role != Role::Node,
        (Role::Producer, Act::Produce) => true,
        (Role::Producer, Act::CreateTopic) => auto_create,
        (Role::Consumer, Act::Subscribe | Act::FindOffset) => true,
        _ => false,
    };
    if !permitted {
        return Err(Refusal::NotPermitted {
            what: format!("{} may not {}", bearer.words(), act.words()),
        });
    }
    let confined = &bearer.certificate.topics;
    let of_all = matches!(act, Act::Ask | Act::FindMembers | Act::Renew);
    let reaches = topic.map_or(confined.is_empty() || of_all, |topic| bearer.reaches(topic));
    if reaches {
        return Ok(());
    }
    let topics: Vec<&str> = confined.iter().map(TopicPattern::as_str).collect();
    let of = topic.map_or(String::new(), |topic| format!(" ({topic})"));
    Err(Refusal::NotPermitted {
        what: format!(
            "{} that is confined to {} may not {}{of}",
            bearer.words(),
            topics.join(", "),
            act.words()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_transport::{Authority, Identity, JoinKey, PublicKey, Terms};
    use kontiki_wire::ClusterId;

    use super::*;

    const ACTS: [Act; 17] = [
        Act::Ask,
        Act::Produce,
        Act::Subscribe,
        Act::FindMembers,
        Act::FindTopic,
        Act::FindOffset,
        Act::CreateTopic,
        Act::DeleteTopic,
        Act::SeeStatus,
        Act::TransferLeader,
        Act::Verify,
        Act::EditTopic,
        Act::ChangeMembers,
        Act::ManageTokens,
        Act::ManageTrust,
        Act::Renew,
        Act::Unknown,
    ];

    fn bearer(role: Role, topics: &[&str]) -> Bearer {
        let day = Duration::from_secs(24 * 60 * 60);
        let authority = Authority::new("a test's", day).unwrap();
        let identity = Identity::new(ClusterId(7), role, "x").unwrap();
        let terms = Terms {
            topics: topics.iter().map(|topic| topic.parse().unwrap()).collect(),
            ..Terms::of(day)
        };
        let key = PublicKey::from(&JoinKey::generate().unwrap());
        let leaf = authority.sign_on(&key, &identity, &terms).unwrap();
        Bearer {
            certificate: Arc::new(Certificate::from_pem(&leaf).unwrap()),
        }
    }

    fn permitted(bearer: &Bearer, topic: Option<&str>, auto_create: bool) -> Vec<Act> {
        let topic: Option<TopicName> = topic.map(|topic| topic.parse().unwrap());
        let may = |act: &Act| {
            let topic = topic.as_ref();
            permit(bearer, Wish { act: *act, topic }, auto_create).is_ok()
        };
        ACTS.into_iter().filter(may).collect()
    }

    #[test]
    fn each_role_may_do_what_is_written_here_and_nothing_else() {
        use Act::{
            Ask, CreateTopic, FindMembers, FindOffset, FindTopic, Produce, Renew, Subscribe,
        };
        let permitted = |role, auto_create| permitted(&bearer(role, &[]), Some("a"), auto_create);
        assert_eq!(permitted(Role::Operator, false), ACTS);
        assert_eq!(permitted(Role::Node, true), []);
        assert_eq!(
            permitted(Role::Consumer, true),
            [Ask, Subscribe, FindMembers, FindTopic, FindOffset, Renew]
        );
        assert_eq!(
            permitted(Role::Producer, false),
            [Ask, Produce, FindMembers, FindTopic, Renew]
        );
        assert_eq!(
            permitted(Role::Producer, true),
            [Ask, Produce, FindMembers, FindTopic, CreateTopic, Renew]
        );
    }

    #[test]
    fn who_is_confined_may_do_to_its_topics_what_its_role_may_and_nothing_to_others() {
        for role in [Role::Producer, Role::Consumer, Role::Operator] {
            let confined = bearer(role, &["logs-*", "a"]);
            for topic in ["logs-eu", "a"] {
                let all = permitted(&bearer(role, &[]), Some(topic), true);
                assert_eq!(permitted(&confined, Some(topic), true), all);
                assert!(confined.reaches(&topic.parse().unwrap()));
            }
            for topic in ["logs", "ab", "orders"] {
                assert_eq!(permitted(&confined, Some(topic), true), []);
                assert!(!confined.reaches(&topic.parse().unwrap()));
            }
            let of_all = [Act::Ask, Act::FindMembers, Act::Renew];
            assert_eq!(permitted(&confined, None, true), of_all);
        }
    }

    #[test]
    fn refusal_says_who_may_not_do_what() {
        let refused = |bearer: &Bearer, topic: &TopicName| {
            let wish = Wish {
                act: Act::Produce,
                topic: Some(topic),
            };
            match permit(bearer, wish, true) {
                Err(Refusal::NotPermitted { what }) => what,
                other => panic!("{other:?}"),
            }
        };
        let topic = "orders".parse().unwrap();
        let consumer = bearer(Role::Consumer, &[]);
        assert_eq!(refused(&consumer, &topic), "a consumer may not append");
        let confined = bearer(Role::Producer, &["logs-*", "a"]);
        assert_eq!(
            refused(&confined, &topic),
            "a producer that is confined to logs-*, a may not append (orders)"
        );
    }
}
