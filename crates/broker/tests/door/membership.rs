//! Who is told what when members come and go.

use bytes::Bytes;
use kontiki_broker::{Effect, Input, Ticket};
use kontiki_raft::Kind;
use kontiki_wire::{
    Admission, ClusterCommand, GroupId, Request, Response, Role, TokenId, TokenSpec, Versions,
};

use crate::hand::{Hand, appended, boot, command, create_command, entry, settings};

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

#[test]
fn a_member_tells_by_itself_that_it_lacks_much_or_has_no_vote() {
    let own_state = |hand: &Hand, group: u64| {
        let groups = hand.status().groups.into_iter();
        let mut own = groups.filter(|one| one.group == GroupId(group));
        let replicas = own.next().unwrap().replicas;
        replicas.into_iter().map(|one| one.state).next()
    };
    let noop = entry(1, Kind::Noop, Bytes::new());
    let story = |commit| {
        let topic = command(2, &create_command("a", &[2, 1]));
        appended(0, commit, vec![noop.clone(), topic])
    };
    let mut hand = Hand::new(settings(3), vec![boot(0, Vec::new())]).unwrap();
    hand.give(story(2));
    assert_eq!(own_state(&hand, 0), None, "as it is to be");
    hand.give(appended(1, 5_000, vec![noop.clone()]));
    assert_eq!(own_state(&hand, 1).as_deref(), Some("catching-up"));
    hand.give(story(5_000));
    assert_eq!(own_state(&hand, 0).as_deref(), Some("catching-up"));

    let mut joined = settings(3);
    joined.birth.members.remove(0);
    let mut hand = Hand::new(joined, vec![boot(0, Vec::new())]).unwrap();
    hand.give(story(2));
    assert_eq!(own_state(&hand, 0).as_deref(), Some("learner"));
}
