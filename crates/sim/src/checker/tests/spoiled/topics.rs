//! The lists of topics are wrong.

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use super::always;
use crate::{
    checker::Code,
    history::{Order, Ordered},
};

#[test]
fn a_topic_that_is_gone_without_an_order_is_found() {
    always(Code::Durability, |history, _| {
        for catalogue in &mut history.catalogues {
            catalogue.topics.remove(0);
        }
        Some(())
    });
}

#[test]
fn a_topic_that_nobody_made_is_found() {
    always(Code::Origin, |history, _| {
        for catalogue in &mut history.catalogues {
            catalogue
                .topics
                .push(("phantom".parse().unwrap(), GroupId(9)));
        }
        Some(())
    });
}

#[test]
fn a_topic_that_was_removed_and_is_there_is_found() {
    always(Code::Origin, |history, _| {
        let removed = history.orders.iter().find(|one| one.removes)?.name.clone();
        let made = history.orders.iter().find(|one| one.name == removed)?;
        let Some((_, Ordered::Made(group))) = made.ended else {
            return None;
        };
        for catalogue in &mut history.catalogues {
            catalogue.topics.push((removed.clone(), group));
        }
        Some(())
    });
}

#[test]
fn lists_that_differ_are_found() {
    always(Code::Replicas, |history, chance| {
        let at = chance.below(3) as usize;
        history.catalogues[at].topics.pop()?;
        Some(())
    });
}

#[test]
fn a_group_with_two_names_is_found() {
    always(Code::Agreement, |history, _| {
        let at = Micros(7);
        history.orders.push(Order {
            name: "other".parse().unwrap(),
            removes: false,
            asked: at,
            ended: Some((at, Ordered::Existed(GroupId(1)))),
        });
        Some(())
    });
}

#[test]
fn an_order_that_never_ends_is_found() {
    always(Code::Liveness, |history, _| {
        history.orders.push(Order {
            name: "other".parse().unwrap(),
            removes: false,
            asked: Micros(7),
            ended: None,
        });
        Some(())
    });
}
