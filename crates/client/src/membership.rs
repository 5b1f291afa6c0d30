//! Administration of who is a member, who may become one, and who keeps what.

use kontiki_wire::{
    MemberInfo, Recovery, Refusal, Request, Response, Standing, TokenId, TokenInfo, TokenSpec,
    TopicInfo, TopicName, TopicSettings,
};

use crate::{
    admin::{Admin, refused},
    error::AdminError,
};

impl Admin {
    /// All members, by number, as the leader of the cluster's own group knows them.
    pub async fn members(&self) -> Result<Vec<MemberInfo>, AdminError> {
        let metadata = self.routing.topics(self.until()).await;
        let mut members = metadata.map_err(|why| self.no_answer(why, false))?.members;
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    /// Has a member leave: what it keeps is moved to others, and then it is a member no more. It may be
    /// dead. This has only begun when the call returns; [`status`](Self::status) tells how far it is.
    /// Unless forced, it is refused where the others could not go on without it, or, if it has answered in the last
    /// half minute, its topics would have fewer copies.
    pub async fn remove_member(&self, name: &str, force: bool) -> Result<MemberInfo, AdminError> {
        let request = Request::RemoveMember {
            name: name.to_owned(),
            force,
        };
        self.member(&request).await
    }

    /// The same where another takes its place, which has joined since: there are as many copies then as before that
    /// one came.
    pub async fn replace_member(
        &self,
        name: &str,
        with: &str,
        force: bool,
    ) -> Result<MemberInfo, AdminError> {
        let request = Request::ReplaceMember {
            name: name.to_owned(),
            with: with.to_owned(),
            force,
        };
        self.member(&request).await
    }

    /// Says whether a member is to keep topics, and to vote: those of one that drains or is demoted are
    /// moved to others. Unless forced, it is refused where the others could not go on without it, or its topics
    /// would have fewer copies.
    pub async fn set_standing(
        &self,
        name: &str,
        standing: Standing,
        force: bool,
    ) -> Result<MemberInfo, AdminError> {
        let request = Request::SetStanding {
            name: name.to_owned(),
            standing,
            force,
        };
        self.member(&request).await
    }

    /// Says whether the cluster moves topics and leaderships by itself to spread them evenly.
    pub async fn set_balance(&self, on: bool) -> Result<(), AdminError> {
        match self.ask_leader(None, &Request::SetBalance { on }).await? {
            (Response::Done, _) => Ok(()),
            (other, _) => Err(refused(other)),
        }
    }

    async fn member(&self, request: &Request) -> Result<MemberInfo, AdminError> {
        match self.ask_leader(None, request).await? {
            (Response::Member(member), _) => Ok(member),
            (other, _) => Err(refused(other)),
        }
    }

    /// Asks a topic to be something else; the cluster works toward it.
    pub async fn edit_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<TopicInfo, AdminError> {
        let request = Request::EditTopic {
            name: name.clone(),
            settings,
        };
        match self.ask_leader(None, &request).await? {
            (Response::Topic(topic), _) => Ok(topic),
            (other, _) => Err(refused(other)),
        }
    }

    /// Makes a token; the same one again is answered as it is.
    pub async fn create_token(&self, token: TokenSpec) -> Result<TokenInfo, AdminError> {
        let request = Request::CreateToken(token);
        match self.ask_leader(None, &request).await? {
            (Response::Token(token), _) => Ok(token),
            (other, _) => Err(refused(other)),
        }
    }

    /// The tokens that have not expired, spent or not, by number.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, AdminError> {
        match self.ask_leader(None, &Request::Tokens).await? {
            (Response::Tokens(tokens), _) => Ok(tokens),
            (other, _) => Err(refused(other)),
        }
    }

    /// Has the cluster come to the highest version that its members can do; says which that is. From then on no
    /// older build can be a member.
    pub async fn finalize(&self) -> Result<u16, AdminError> {
        match self.ask_leader(None, &Request::Finalize).await? {
            (Response::Version(version), _) => Ok(version),
            (other, _) => Err(refused(other)),
        }
    }

    /// How the cluster was recovered after the loss of a majority, oldest first; empty if it never was.
    pub async fn recoveries(&self) -> Result<Vec<Recovery>, AdminError> {
        match self.ask_leader(None, &Request::Recoveries).await? {
            (Response::Recoveries(recoveries), _) => Ok(recoveries),
            (other, _) => Err(refused(other)),
        }
    }

    /// Forgets a token, spent or not: it admits nobody from now on.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), AdminError> {
        match self.ask_leader(None, &Request::RevokeToken { id }).await? {
            (Response::Done, _) => Ok(()),
            // An attempt that got lost on the way has revoked it.
            (Response::Refused(Refusal::Unfit { .. }), true) => Ok(()),
            (other, _) => Err(refused(other)),
        }
    }
}
