//! Who may do what: the one table, asked before anything of a frame's body is acted on.

use kontiki_transport::Role;
use kontiki_wire::{ClientStream, Refusal, Request};

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
    /// A request that this version does not know.
    Unknown,
}

impl Act {
    pub(crate) fn of_stream(stream: &ClientStream) -> Self {
        match stream {
            ClientStream::Requests => Self::Ask,
            ClientStream::Produce { .. } => Self::Produce,
            ClientStream::Subscribe(_) => Self::Subscribe,
        }
    }

    pub(crate) fn of_request(request: &Request) -> Self {
        match request {
            Request::Metadata | Request::Topics => Self::FindMembers,
            Request::Topic { .. } => Self::FindTopic,
            Request::OffsetAt { .. } => Self::FindOffset,
            Request::CreateTopic { .. } => Self::CreateTopic,
            Request::DeleteTopic { .. } => Self::DeleteTopic,
            Request::Status | Request::Recoveries => Self::SeeStatus,
            Request::TransferLeader { .. } => Self::TransferLeader,
            Request::Walk { .. } => Self::Verify,
            Request::Finalize => Self::ChangeMembers,
            Request::EditTopic { .. } => Self::EditTopic,
            Request::RemoveMember { .. }
            | Request::SetStanding { .. }
            | Request::SetBalance { .. } => Self::ChangeMembers,
            Request::CreateToken(_) | Request::RevokeToken { .. } | Request::Tokens => {
                Self::ManageTokens
            }
            _ => Self::Unknown,
        }
    }

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
            Self::Unknown => "ask this",
        }
    }
}

/// Whether a bearer of this role may do this. In a cluster that makes topics on first use, a producer's
/// first append is that use.
pub(crate) fn permit(role: Role, act: Act, auto_create: bool) -> Result<(), Refusal> {
    let permitted = match (role, act) {
        (Role::Operator, _) => true,
        (_, Act::Ask | Act::FindMembers | Act::FindTopic) => role != Role::Node,
        (Role::Producer, Act::Produce) => true,
        (Role::Producer, Act::CreateTopic) => auto_create,
        (Role::Consumer, Act::Subscribe | Act::FindOffset) => true,
        _ => false,
    };
    if permitted {
        return Ok(());
    }
    let bearer = match role {
        Role::Node => "a member",
        Role::Producer => "a producer",
        Role::Consumer => "a consumer",
        Role::Operator => "an operator",
    };
    Err(Refusal::NotPermitted {
        what: format!("{bearer} may not {}", act.words()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: [Act; 15] = [
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
        Act::Unknown,
    ];

    fn permitted(role: Role, auto_create: bool) -> Vec<Act> {
        let may = |act: &Act| permit(role, *act, auto_create).is_ok();
        ACTS.into_iter().filter(may).collect()
    }

    #[test]
    fn each_role_may_do_what_is_written_here_and_nothing_else() {
        use Act::{Ask, CreateTopic, FindMembers, FindOffset, FindTopic, Produce, Subscribe};
        assert_eq!(permitted(Role::Operator, false), ACTS);
        assert_eq!(permitted(Role::Node, true), []);
        assert_eq!(
            permitted(Role::Consumer, true),
            [Ask, Subscribe, FindMembers, FindTopic, FindOffset]
        );
        assert_eq!(
            permitted(Role::Producer, false),
            [Ask, Produce, FindMembers, FindTopic]
        );
        assert_eq!(
            permitted(Role::Producer, true),
            [Ask, Produce, FindMembers, FindTopic, CreateTopic]
        );
    }

    #[test]
    fn refusal_says_who_may_not_do_what() {
        assert_eq!(
            permit(Role::Consumer, Act::Produce, true),
            Err(Refusal::NotPermitted {
                what: "a consumer may not append".to_owned()
            })
        );
    }
}
