//! One authority takes the place of another: who believes the old one alone takes what the new one has signed on the
//! old one's word, and on nobody else's.

use kontiki_transport::{
    Applicant, Authority, Credentials, Endpoint, Error, Expect, Identity, JoinKey, Plane, Role,
    Signs, Token, believe, disbelieve, voucher_pem,
};
use kontiki_wire::Handover;

use crate::cluster::{CLUSTER, Cluster, DAY, loopback, soon};

/// A node's certificate that an authority has signed, with this behind it, and whom it believes.
fn node(by: &Authority, behind: &str, nodes: &str, clients: &str) -> Credentials {
    let identity = Identity::new(CLUSTER, Role::Node, "n1").expect("a name");
    let issued = by.issue(&identity, DAY).expect("a leaf");
    let chain = issued.certificate_pem + behind;
    Credentials::from_pem(&chain, &issued.key_pem, nodes, clients).expect("good credentials")
}

fn successor(of: &Authority, signs: Signs) -> (Authority, Handover) {
    let new = Authority::new("the next of a test", DAY).expect("an authority");
    let handover = of.hand_over(&new, CLUSTER, signs).expect("its word");
    (new, handover)
}

#[tokio::test]
async fn who_knows_the_old_one_takes_the_new_one_on_its_word() {
    let cluster = Cluster::new();
    let (nodes, clients) = (&cluster.nodes, &cluster.clients);
    let (new, handover) = successor(nodes, Signs::Nodes);
    let (new_clients, of_clients) = successor(clients, Signs::Clients);
    let roots = nodes.certificate_pem();
    let both = believe(roots, &handover, CLUSTER, Signs::Nodes).expect("vouched for");
    let shown = node(
        &new,
        &voucher_pem(&handover),
        &both,
        clients.certificate_pem(),
    );
    for plane in [Plane::Peers, Plane::Clients] {
        let listener = Endpoint::listen(loopback(), plane, &shown).expect("a free port");
        // It knows the old one alone.
        let dialer = cluster.dialer(plane);
        let dialed = dialer.connect(listener.local_address(), Expect::Node("n1".to_owned()));
        soon("a dial", dialed)
            .await
            .expect("taken on the old one's word");
        soon("an arrival", listener.accept()).await.expect("open");
    }
    // And a client that the new one has signed is let in by who knows the old one alone.
    let identity = Identity::new(CLUSTER, Role::Operator, "ops").expect("a name");
    let issued = new_clients.issue(&identity, DAY).expect("a leaf");
    let listener = cluster.listener(Plane::Clients);
    let dial = async |behind: &str| {
        let chain = issued.certificate_pem.clone() + behind;
        let client = Credentials::from_pem(&chain, &issued.key_pem, roots, "");
        let dialer = Endpoint::dialer(Plane::Clients, &client.expect("good")).expect("a port");
        let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
        soon("a dial", dialed).await.map(|_| ())
    };
    dial(&voucher_pem(&of_clients)).await.expect("vouched for");
    for (wrong, behind) in [
        ("nothing behind it", String::new()),
        ("a word for another plane", {
            let handover = clients.hand_over(&new_clients, CLUSTER, Signs::Nodes);
            voucher_pem(&handover.expect("a word"))
        }),
    ] {
        // What vouches for another plane is no part of a chain here at all.
        let refused = match Credentials::from_pem(
            &(issued.certificate_pem.clone() + &behind),
            &issued.key_pem,
            roots,
            "",
        ) {
            Ok(_) => dial(&behind).await.expect_err(wrong).to_string(),
            Err(error) => error.to_string(),
        };
        let told = ["no root that is trusted here", "must be one certificate"];
        assert!(
            told.iter().any(|told| refused.contains(told)),
            "{wrong}: {refused}"
        );
    }
}

#[tokio::test]
async fn connections_end_with_the_old_authority_and_those_of_the_new_one_go_on() {
    let cluster = Cluster::new();
    let (new, handover) = successor(&cluster.nodes, Signs::Nodes);
    let (new_clients, of_clients) = successor(&cluster.clients, Signs::Clients);
    let nodes = believe(
        cluster.nodes.certificate_pem(),
        &handover,
        CLUSTER,
        Signs::Nodes,
    );
    let clients = believe(
        cluster.clients.certificate_pem(),
        &of_clients,
        CLUSTER,
        Signs::Clients,
    );
    let (nodes, clients) = (nodes.expect("both"), clients.expect("both"));
    let shown = node(&new, &voucher_pem(&handover), &nodes, &clients);
    let listener = Endpoint::listen(loopback(), Plane::Clients, &shown).expect("a free port");
    let let_in = async |by: &Authority, name: &str| {
        let identity = Identity::new(CLUSTER, Role::Operator, name).expect("a name");
        let issued = by.issue(&identity, DAY).expect("a leaf");
        let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
        let client = Credentials::from_pem(chain, key, &nodes, "").expect("good");
        let dialer = Endpoint::dialer(Plane::Clients, &client).expect("a free port");
        let dialed = dialer.connect(listener.local_address(), Expect::AnyNode);
        let here = soon("a dial", dialed).await.expect("let in");
        let there = soon("an arrival", listener.accept()).await.expect("open");
        (dialer, here, there)
    };
    let late = let_in(&cluster.clients, "late").await;
    let timely = let_in(&new_clients, "timely").await;
    let nodes = disbelieve(&nodes, &handover.old).expect("one is left");
    let clients = disbelieve(&clients, &of_clients.old).expect("one is left");
    let alone = node(&new, "", &nodes, &clients);
    listener.set_credentials(&alone).expect("good ones");
    match soon("the end of the late one", late.1.closed()).await {
        Error::Closed { reason, .. } => {
            assert!(reason.contains("no root that is trusted here"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    soon("a stream", timely.1.open()).await.expect("it goes on");
}

#[tokio::test]
async fn a_token_of_the_old_authority_is_good_while_that_vouches_for_the_new_one() {
    let cluster = Cluster::new();
    let old = &cluster.nodes;
    let (new, handover) = successor(old, Signs::Nodes);
    let (foreign, _) = successor(old, Signs::Nodes);
    let forged = foreign
        .hand_over(&new, CLUSTER, Signs::Nodes)
        .expect("a word");
    let both = believe(old.certificate_pem(), &handover, CLUSTER, Signs::Nodes);
    let both = both.expect("vouched for");
    let clients = cluster.clients.certificate_pem();
    let key = JoinKey::generate().expect("a key");
    let join = async |shown: &Credentials, named: &Authority| {
        let listener = Endpoint::listen(loopback(), Plane::Clients, shown).expect("a port");
        let at = listener.local_address();
        let token = Token::new(
            CLUSTER,
            named.fingerprint(),
            Role::Node,
            vec![at.to_string()],
        );
        let token = token.expect("a token");
        let applicant = Applicant::dial(at, &token, &key);
        let applicant = soon("an applicant", applicant).await;
        applicant.map(|applicant| applicant.authority_pem().to_owned())
    };
    let handed = node(&new, &voucher_pem(&handover), &both, clients);
    let believed = join(&handed, old).await.expect("a member");
    assert_eq!(believed, both, "both, and the new one first");
    let believed = join(&handed, &new).await.expect("a member");
    assert_eq!(believed, new.certificate_pem());
    // When it is done the old one's word is not shown any more.
    let done = node(&new, "", new.certificate_pem(), clients);
    let late = join(&done, old).await.expect_err("replaced").to_string();
    assert!(late.contains("replaced since the token was made"), "{late}");
    // A member that has made an authority of its own, and speaks for it itself.
    let theirs = foreign.certificate_pem().to_owned() + old.certificate_pem();
    let stolen = node(&foreign, &voucher_pem(&forged), &theirs, clients);
    let refused = join(&stolen, old).await.expect_err("foreign").to_string();
    assert!(
        refused.contains("not the one that the token names"),
        "{refused}"
    );
}
