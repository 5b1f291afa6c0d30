//! Two who want the same thing at once.

use kontiki_wire::{ClusterCommand, Request, Response, Role, TokenId, TokenSpec};

use crate::world::{Faults, World};

const ROUGH: Faults = Faults {
    lost: 20,
    doubled: 20,
    delay_max: 6_000,
    sync_max: 9_000,
};

#[test]
fn a_token_that_two_use_at_two_members_at_once_admits_one_of_them_a_thousand_times() {
    const RACES: u64 = 1_000;
    let mut world = World::new(0x70_4e, 3);
    world.faults = ROUGH;
    let mut won_by = [0, 0];
    for race in 0..RACES {
        let token = TokenId(race);
        let made = world.ask(&Request::CreateToken(TokenSpec {
            id: token,
            hash: [7; 32],
            role: Role::Producer,
            topics: Vec::new(),
            life_seconds: 60,
        }));
        assert!(matches!(made, Response::Token(_)), "{made:?}");
        let spend = |name: &str, mark| ClusterCommand::SpendToken {
            token,
            name: name.to_owned(),
            mark,
        };
        let tickets = [
            world.submit(race as usize % 3, &spend("one", 1)),
            world.submit((race as usize + 1) % 3, &spend("two", 2)),
        ];
        let tickets = tickets.map(|ticket| ticket.expect("nobody is down"));
        for _ in 0..200 {
            if tickets.iter().all(|one| world.responses.contains_key(one)) {
                break;
            }
            world.run(100_000);
        }
        let won = tickets.map(|ticket| match world.responses.get(&ticket) {
            Some(Response::Token(_)) => true,
            Some(Response::Refused(_)) => false,
            other => panic!("race {race}: {other:?}"),
        });
        assert_ne!(won[0], won[1], "race {race}");
        won_by[usize::from(won[1])] += 1;
    }
    assert!(won_by.iter().all(|count| *count > 0), "{won_by:?}");
}
