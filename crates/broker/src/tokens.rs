//! How commands make, spend and forget tokens. Time is that of the entries, so that every member finds
//! the same ones expired.

use kontiki_raft::Micros;
use kontiki_wire::{
    Refusal, Role, Spent, Token, TokenId, TokenSpec,
    limits::{TOKEN_LIFE_SECONDS_MAX, TOKENS_MAX},
};

use crate::cluster::{Change, Cluster, unfit};

impl Cluster {
    /// Makes a token that lives from now on; the same one again is answered as it is.
    pub(crate) fn create_token(&mut self, spec: TokenSpec, now: Micros) -> Change {
        self.expire(now);
        let life = spec.life_seconds;
        if life == 0 || life > TOKEN_LIFE_SECONDS_MAX || spec.check().is_err() {
            return unfit(format!(
                "a token lives 1 to {TOKEN_LIFE_SECONDS_MAX} seconds and names few topics"
            ));
        }
        if let Ok(at) = self.token_at(spec.id) {
            let known = &self.state.tokens[at];
            if known.revoked {
                return unfit(format!("token {} was revoked: make another", spec.id));
            }
            let same =
                (known.hash, known.role, &known.topics) == (spec.hash, spec.role, &spec.topics);
            return match same {
                true => Change::Token(known.clone()),
                false => unfit(format!("there is another token {} already", spec.id)),
            };
        }
        if self.state.tokens.len() >= TOKENS_MAX && !self.forget_a_revoked_one() {
            return Change::Void(Refusal::TooLarge {
                what: "tokens that have not expired".to_owned(),
                limit: TOKENS_MAX as u64,
            });
        }
        let token = Token {
            id: spec.id,
            hash: spec.hash,
            role: spec.role,
            topics: spec.topics,
            issued_at: now.0,
            expires_at: now.0.saturating_add(life * 1_000_000),
            spent: None,
            revoked: false,
        };
        let at = self.token_at(spec.id).unwrap_or_else(|at| at);
        self.state.tokens.insert(at, token.clone());
        Change::Token(token)
    }

    /// Its number is remembered until it would have expired, as long as there is room: a request to make it that
    /// was on its way for long does not make it anew.
    pub(crate) fn revoke_token(&mut self, id: TokenId, now: Micros) -> Change {
        let change = match self.token_at(id) {
            Ok(at) if !self.state.tokens[at].revoked => {
                self.state.tokens[at].revoked = true;
                Change::TokenGone
            }
            _ => Change::Void(no_such_token(id)),
        };
        self.expire(now);
        change
    }

    /// Spends a token for a client.
    pub(crate) fn spend_token(&mut self, id: TokenId, spent: Spent, now: Micros) -> Change {
        let role = self.token(id).map_or(Role::Consumer, |token| token.role);
        if role == Role::Node {
            return unfit(format!(
                "token {id} admits a member and no client: join with it, or ask for one of another role"
            ));
        }
        match self.spend(id, role, spent, now) {
            Ok(token) => Change::Token(token),
            Err(refused) => Change::Void(refused),
        }
    }

    /// Spends a token that is good for this role: once, but for the same one as often as it asks.
    pub(crate) fn spend(
        &mut self,
        id: TokenId,
        role: Role,
        spent: Spent,
        now: Micros,
    ) -> Result<Token, Refusal> {
        let found = self.spendable(id, role, &spent, now).map(|at| {
            let token = &mut self.state.tokens[at];
            token.spent = Some(spent);
            token.clone()
        });
        self.expire(now);
        found
    }

    fn spendable(
        &self,
        id: TokenId,
        role: Role,
        spent: &Spent,
        now: Micros,
    ) -> Result<usize, Refusal> {
        let refused = |why| Err(Refusal::Unfit { why });
        let Ok(at) = self.token_at(id) else {
            return Err(no_such_token(id));
        };
        let token = &self.state.tokens[at];
        if token.revoked {
            return Err(no_such_token(id));
        }
        if token.role != role {
            return refused(format!(
                "token {id} admits a {}, not a {role}: ask for one of that role",
                token.role
            ));
        }
        if token.expires_at <= now.0 {
            return refused(format!("token {id} has expired: ask for a new one"));
        }
        match &token.spent {
            Some(by) if by != spent => refused(format!(
                "token {id} was spent by {}, and admits nobody else: ask for a new one",
                by.name
            )),
            _ => Ok(at),
        }
    }

    /// Makes room by forgetting the revoked token that would expire next, if there is one.
    fn forget_a_revoked_one(&mut self) -> bool {
        let tokens = self.state.tokens.iter().enumerate();
        let revoked = tokens.filter(|(_, token)| token.revoked);
        let Some((at, _)) = revoked.min_by_key(|(_, token)| token.expires_at) else {
            return false;
        };
        self.state.tokens.remove(at);
        true
    }

    /// Forgets the tokens whose time is over, spent or not.
    fn expire(&mut self, now: Micros) {
        self.state.tokens.retain(|token| token.expires_at > now.0);
    }

    pub(crate) fn token(&self, id: TokenId) -> Option<&Token> {
        let token = self.token_at(id).ok().map(|at| &self.state.tokens[at]);
        token.filter(|token| !token.revoked)
    }

    fn token_at(&self, id: TokenId) -> Result<usize, usize> {
        self.state
            .tokens
            .binary_search_by_key(&id, |token| token.id)
    }
}

pub(crate) fn no_such_token(id: TokenId) -> Refusal {
    Refusal::Unfit {
        why: format!("there is no token {id}: it has expired or was revoked; ask for a new one"),
    }
}

#[cfg(test)]
mod tests;
