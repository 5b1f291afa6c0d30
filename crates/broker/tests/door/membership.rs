//! Who is told what when members come and go.

use kontiki_broker::{Effect, Input, Ticket};
use kontiki_wire::{
    Admission, ClusterCommand, Request, Response, Role, TokenId, TokenSpec, Versions,
};

use crate::hand::Hand;

impl Hand {
    /// Admits a member that has never run.
    pub(crate) fn admit(&mut self, name: &str) -> Vec<Effect> {
        let token = TokenId(self.now);
        let made = self.request(Request::CreateToken(TokenSpec {
            id: token,
            hash: [7; 32],
            role: Role::Node,
            topics: Vec::new(),
            life_seconds: 60,
        }));
        assert!(matches!(made, Response::Token(_)), "{made:?}");
        let command = ClusterCommand::Admit(Admission {
            token,
            name: name.to_owned(),
            incarnation: self.now,
            address: format!("clients of {name}"),
            peer_address: format!("peers of {name}"),
            versions: Versions::MINE,
        });
        let ticket = Ticket(self.now);
        self.give(Input::Command { ticket, command })
    }
}

#[test]
fn whoever_hears_that_a_member_was_admitted_meets_a_node_that_knows_it() {
    let mut hand = Hand::alone();
    let effects = hand.admit("n2");
    let known = effects
        .iter()
        .position(|effect| matches!(effect, Effect::Members(members) if members.list.len() == 2));
    let told = effects.iter().position(|effect| {
        let Effect::Respond { response, .. } = effect else {
            return false;
        };
        matches!(response, Response::Admitted(member) if member.name == "n2")
    });
    assert!(known.unwrap() < told.unwrap(), "{effects:#?}");
}
